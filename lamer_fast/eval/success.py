"""success@k of a policy over trials, beside K independent attempts of the same policy on the same boards.

The second curve is the honest baseline: whatever a trial's later episodes gain over mere repetition is
what memory and reflection are worth. Both are measured on distinct tasks, one trial and K attempts each, so
that differences are paired by task and intervals are clustered by it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.config import Config, EvalConfig
from lamer_fast.envs.panel import Panel, panel
from lamer_fast.eval.intervals import Estimate, difference, share
from lamer_fast.samplers.protocol import Sampling
from lamer_fast.samplers.roles import Roles
from lamer_fast.say import log

if TYPE_CHECKING:
    from lamer_fast.learn.ranks import Ranks


@dataclass(frozen=True)
class ByTask:
    """success@k of each task, in the order of the panel: the numbers that an evaluation averages."""

    tasks: list[str]  # [tasks] ids, those of a panel as 16 hexadecimal digits
    trial: list[list[float]]  # [tasks][K], the share of a task's trials that won within k episodes
    independent: list[list[float]]  # [tasks][K'], pass@k of its independent attempts


@dataclass(frozen=True)
class Evaluation:
    """One policy on one set of boards; success fractions in 0..1."""

    split: str
    num_tasks: int
    episodes: int
    trial: list[Estimate]  # success@1..K over trials, reflections and memory on
    independent: list[Estimate]  # success@1..K' of independent attempts; empty where none were made
    gain_over_independent: (
        Estimate | None
    )  # (success@K - success@1) of trials minus that of attempts, by task
    panel: str = ""  # digest of the tasks, in order
    lost: int = 0  # trials and attempts that the environment or the endpoint failed: counted as not solved
    usage: dict[str, dict[str, float]] | None = (
        None  # what trials and attempts took, where the sampler counts
    )
    by_task: ByTask | None = None
    bound: list[float] | None = None  # the greatest success@1..K of any player, where the world knows it
    regret: list[Estimate] = field(default_factory=list)  # that less success@1..K over trials, by task

    def to_json(self) -> dict[str, Any]:
        return asdict(self)


def success_within(successes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """success@1..K of a trial, from `successes` [tasks, K]: was episode k won."""
    return np.asarray(np.logical_or.accumulate(successes, axis=1), dtype=np.float64)


def pass_at(successes: NDArray[np.bool_]) -> NDArray[np.float64]:
    """Unbiased pass@1..K per task from `successes` [tasks, K] of K independent attempts.

    pass@k = 1 - C(K - c, k) / C(K, k) with c successes (Chen et al., arXiv 2107.03374): unlike the running
    maximum it does not depend on the order in which the attempts happen to be stored.
    """
    K = successes.shape[1]
    failures = K - successes.sum(axis=1)
    miss = np.ones((len(successes), K))
    running = np.ones(len(successes))
    for k in range(K):
        running = running * np.maximum(failures - k, 0) / (K - k)
        miss[:, k] = running
    return 1.0 - miss


def first_attempts(successes: NDArray[np.bool_], trials_per_group: int) -> list[float] | None:
    """pass@1..K of the first episodes of each group, which know as little of one another as attempts do.

    Args:
        successes: [M, K] of trials, those of a group neighbours.

    Returns:
        Means over groups, beside success@1..K of the trials; None of groups with fewer than K trials.
    """
    K = successes.shape[1]
    if trials_per_group < K:
        return None
    first = successes[:, 0].reshape(-1, trials_per_group)
    means: list[float] = pass_at(first)[:, :K].mean(axis=0).tolist()
    return means


def compare(
    split: str, trial_successes: NDArray[np.bool_], attempt_successes: NDArray[np.bool_]
) -> Evaluation:
    """Both arguments [tasks, K], row i of both on the same board; no attempts at all: [tasks, 0]."""
    if attempt_successes.shape not in (trial_successes.shape, (len(trial_successes), 0)):
        raise ValueError(f"trials {trial_successes.shape} and attempts {attempt_successes.shape} do not pair")
    passes = pass_at(attempt_successes)
    return summarize(split, success_within(trial_successes), passes, attempts_per_task=passes.shape[1])


def summarize(
    split: str,
    within: NDArray[np.float64],
    passes: NDArray[np.float64],
    *,
    trials_per_task: int = 1,
    attempts_per_task: int = 1,
    tasks: Sequence[str] = (),
    panel: str = "",
) -> Evaluation:
    """Means over tasks with their intervals.

    Args:
        within: [tasks, K], the share of each task's trials that won within k episodes; K is 0 without trials.
        passes: [tasks, K'], pass@k of each task's independent attempts; K' is 0 without any.
        trials_per_task, attempts_per_task: the fewest behind each share.
        tasks: their ids, [tasks]; without them the numbers of each task are not kept.
    """
    num_tasks, K = within.shape
    gain = None
    if 0 < K <= passes.shape[1]:
        gain = difference((within[:, -1] - within[:, 0]) - (passes[:, K - 1] - passes[:, 0]))
    return Evaluation(
        split=split,
        num_tasks=num_tasks,
        episodes=max(K, passes.shape[1]),
        trial=[share(within[:, k], trials_per_task) for k in range(K)],
        independent=[share(passes[:, k], attempts_per_task // (k + 1)) for k in range(passes.shape[1])],
        gain_over_independent=gain,
        panel=panel,
        by_task=ByTask(list(tasks), within.tolist(), passes.tolist()) if tasks else None,
    )


def evaluate(
    sampler: Any,
    renderer: Any,
    config: Config,
    *,
    split: str,
    tasks: int | None,
    seed: int = 0,
    attempts: bool = True,
    played: Panel | None = None,
    progress: Callable[[int, int], None] | None = None,
    keep: Callable[[list[dict[str, Any]]], None] | None = None,
    ranks: Ranks | None = None,
) -> Evaluation:
    """Plays one trial and K independent attempts on each of `tasks` distinct boards of `split`.

    Args:
        sampler, renderer: those of training, or of an endpoint; or who plays each phase, `Roles`.
        config: names the environment, the rollout, and in `eval` how tokens are drawn.
        tasks: None means all there are.
        attempts: False: trials alone.
        played: the panel of these boards, where it is there already.
        progress: is called with (trials and attempts finished, all of them).
        keep: gets the transcripts of trials, ready for JSON, as they come.
        ranks: each calls it, plays its share of every collection, and gets the whole result; None: alone.
    """
    config = config.evaluation()
    played = played or panel(config.env, split, tasks)
    boards = played.seeds
    K = config.rollout.episodes
    attempt = replace(config, rollout=replace(config.rollout, episodes=1, reflect=False))
    total = len(boards) * (1 + (K if attempts else 0))
    report = progress or (lambda done, all_: None)

    def play(config: Config, seeds: NDArray[np.uint64], salt: int, before: int) -> Played:
        return play_boards(
            sampler, renderer, config, seeds, split=split, seed=seed + salt,
            progress=lambda n: report(before + n, total), keep=keep if salt == 0 else None, ranks=ranks,
        )  # fmt: skip

    counts: list[Any] = [getattr(sampler, "usage", None)]
    trials = play(config, boards, 0, 0)
    counts.append(getattr(sampler, "usage", None))
    alone = Played(np.zeros((len(boards), 0), bool), 0)
    if attempts:
        alone = play(attempt, np.repeat(boards, K), 1, len(boards))
    passes = pass_at(alone.won.reshape(len(boards), -1))
    found = summarize(
        split, success_within(trials.won), passes, attempts_per_task=passes.shape[1],
        tasks=[f"{task:016x}" for task in played.tasks.tolist()], panel=played.digest,
    )  # fmt: skip
    counts.append(getattr(sampler, "usage", None))
    usage = None
    if counts[0] is not None:
        usage = {k: asdict(counts[i + 1] - counts[i]) for i, k in enumerate(("trial", "independent"))}
    return replace(found, lost=trials.lost + alone.lost, usage=usage)


@dataclass(frozen=True)
class Played:
    won: NDArray[np.bool_]  # [boards, K], episode won
    lost: int  # boards whose trial the environment or the endpoint failed


def eval_sampling(config: EvalConfig) -> Sampling:
    return Sampling(config.temperature, config.top_p, config.top_k, config.min_tokens)


def play_boards(
    sampler: Any,
    renderer: Any,
    config: Config,
    seeds: NDArray[np.uint64],
    *,
    split: str,
    seed: int,
    progress: Callable[[int], None] = lambda n: None,
    keep: Callable[[list[dict[str, Any]]], None] | None = None,
    ranks: Ranks | None = None,
) -> Played:
    """One trial on each board, in collections of training's size, divided over the ranks.

    Tokens are drawn as `config.eval` says. `keep` gets the transcripts of each collection.

    Raises:
        EnvError: on every rank, when the environment of one broke the protocol.
        AllLostError: every board was lost.
    """
    from lamer_fast.envs.contract import AllLostError, EnvError

    own, failure = Played(np.zeros((len(seeds), config.rollout.episodes), bool), 0), None
    messages: list[str] = []
    try:
        own = play_share(
            sampler, renderer, config, seeds,
            split=split, seed=seed, progress=progress, keep=keep, ranks=ranks, messages=messages,
        )  # fmt: skip
    except EnvError as error:
        if ranks is None:
            raise
        failure = error
    parts = [(own, failure, messages)] if ranks is None else ranks.gather((own, failure, messages))
    for _, of_rank, _ in parts:
        if of_rank is not None:
            raise of_rank
    won = np.logical_or.reduce([part.won for part, _, _ in parts])
    found = Played(won, sum(part.lost for part, _, _ in parts))
    messages = [message for *_, noted in parts for message in noted]
    if 0 < len(seeds) == found.lost:
        raise AllLostError(messages[-1])
    for message in messages:
        log.warning(f"counted as not solved: {message}")
    return found


def play_share(
    sampler: Any,
    renderer: Any,
    config: Config,
    seeds: NDArray[np.uint64],
    *,
    split: str,
    seed: int,
    progress: Callable[[int], None],
    keep: Callable[[list[dict[str, Any]]], None] | None,
    ranks: Ranks | None,
    messages: list[str],
) -> Played:
    """Rows of boards that other ranks play stay False; `messages` gets what was lost."""
    from lamer_fast.agent.agent import Agent
    from lamer_fast.envs.registry import make_env
    from lamer_fast.rollout.boards import Boards
    from lamer_fast.rollout.collect import play_trials
    from lamer_fast.samplers.notes import ExchangedNotes

    sampling = eval_sampling(config.eval)
    size = config.rollout.groups * config.rollout.trials_per_group
    won = np.zeros((len(seeds), config.rollout.episodes), dtype=bool)
    num_lost, (rank, world) = 0, (ranks.rank, ranks.world) if ranks is not None else (0, 1)
    env = make_env(config.env, -(-min(size, len(seeds)) // world), split=split)
    agent = Agent(renderer, env, config)
    if isinstance(sampler, Roles):
        sampler = sampler.on(env, agent)
    if config.eval.notes != "own":
        sampler = ExchangedNotes(sampler, config.eval.notes, agent)
    for start in range(0, len(seeds), size):
        part = seeds[start : start + size]
        boards = Boards(part, np.arange(len(part), dtype=np.int32)).share(rank, world)
        transcripts: list[dict[str, Any]] | None = None if keep is None else []
        try:
            batch = play_trials(
                sampler, env, agent, boards, config.rollout, seed=seed + 1_000_003 * start,
                sampling=sampling, record=transcripts, num_recorded=len(part),
                progress=lambda done, all_, tokens, before=start: progress(before + done),  # type: ignore[misc]
            )  # fmt: skip
            num_lost += len(batch.errors)
            won[start + boards.trial] = batch.success_by_episode
        finally:
            if keep is not None and transcripts:
                keep([t | {"group": start + t["group"], "trial": start + t["trial"]} for t in transcripts])
        if batch.errors:
            messages.append(batch.lost())
        progress(start + len(part))
    return Played(won, num_lost)
