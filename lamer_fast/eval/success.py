"""success@k of a policy over trials, beside K independent attempts of the same policy on the same boards.

The second curve is the honest baseline: whatever a trial's later episodes gain over mere repetition is
what memory and reflection are worth. Both are measured on distinct tasks, one trial and K attempts each, so
that differences are paired by task and intervals are clustered by it.
"""

from collections.abc import Callable
from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.config import Config, EvalConfig
from lamer_fast.eval.intervals import Estimate, difference, share
from lamer_fast.samplers.protocol import Sampling


@dataclass(frozen=True)
class Evaluation:
    """One policy on one set of boards; success fractions in 0..1."""

    split: str
    num_tasks: int
    episodes: int
    trial: list[Estimate]  # success@1..K over trials, reflections and memory on
    independent: list[Estimate]  # success@1..K of K independent attempts
    gain_over_independent: Estimate  # (success@K - success@1) of trials minus that of attempts, by task
    panel: str = ""  # digest of the tasks, in order

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


def compare(
    split: str, trial_successes: NDArray[np.bool_], attempt_successes: NDArray[np.bool_]
) -> Evaluation:
    """Both arguments [tasks, K], row i of both on the same board."""
    if trial_successes.shape != attempt_successes.shape:
        raise ValueError(f"trials {trial_successes.shape} and attempts {attempt_successes.shape} do not pair")
    within, passes = success_within(trial_successes), pass_at(attempt_successes)
    gain = (within[:, -1] - within[:, 0]) - (passes[:, -1] - passes[:, 0])
    num_tasks, K = within.shape
    return Evaluation(
        split=split,
        num_tasks=num_tasks,
        episodes=K,
        trial=[share(within[:, k]) for k in range(K)],
        independent=[share(passes[:, k], trials_per_task=K // (k + 1)) for k in range(K)],
        gain_over_independent=difference(gain),
    )


def evaluate(
    sampler: Any,
    renderer: Any,
    config: Config,
    *,
    split: str,
    tasks: int | None,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> Evaluation:
    """Plays one trial and K independent attempts on each of `tasks` distinct boards of `split`.

    `tasks` None means all there are. `sampler` and `renderer` are those of training; `config` names the
    environment, the rollout, and in `eval` how tokens are drawn. `progress` is called with (trials and
    attempts finished, all of them).
    """
    from lamer_fast.envs.panel import panel

    config = config.evaluation()
    played = panel(config.env, split, tasks)
    boards = played.seeds
    K = config.rollout.episodes
    attempt = replace(config, rollout=replace(config.rollout, episodes=1, reflect=False))
    total = len(boards) * (1 + K)
    report = progress or (lambda done, all_: None)

    def play(config: Config, seeds: NDArray[np.uint64], salt: int, before: int) -> NDArray[np.bool_]:
        return play_boards(
            sampler, renderer, config, seeds, split=split, seed=seed + salt,
            progress=lambda n: report(before + n, total),
        )  # fmt: skip

    trials = play(config, boards, 0, 0)
    attempts = play(attempt, np.repeat(boards, K), 1, len(boards)).reshape(len(boards), K)
    return replace(compare(split, trials, attempts), panel=played.digest)


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
) -> NDArray[np.bool_]:
    """One trial on each board, in collections of training's size -> [len(seeds), K] bool, episode won.

    Tokens are drawn as `config.eval` says.
    """
    from lamer_fast.agent.agent import Agent
    from lamer_fast.envs.contract import AllLostError
    from lamer_fast.envs.registry import make_env
    from lamer_fast.rollout.boards import Boards
    from lamer_fast.rollout.collect import collect_trials

    sampling = eval_sampling(config.eval)
    size = config.rollout.groups * config.rollout.trials_per_group
    won = np.zeros((len(seeds), config.rollout.episodes), dtype=bool)
    num_lost = 0  # boards of parts without a single trial left
    env = make_env(config.env, min(size, len(seeds)), split=split)
    agent = Agent(renderer, env, config)
    for start in range(0, len(seeds), size):
        part = seeds[start : start + size]
        boards = Boards(part, np.arange(len(part), dtype=np.int32))
        try:
            batch = collect_trials(
                sampler, env, agent, boards, config.rollout, seed=seed + 1_000_003 * start, sampling=sampling
            )
            lost = batch.lost()
            won[start : start + len(part)] = batch.success_by_episode
        except AllLostError as error:
            lost, num_lost = str(error), num_lost + len(part)
        if num_lost == len(seeds):
            raise AllLostError(lost)
        if lost:
            print(f"note: counted as not solved: {lost}", flush=True)
        progress(start + len(part))
    return won
