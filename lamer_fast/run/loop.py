"""The training loop."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.algo.gae import Credit
from lamer_fast.algo.packing import epochs, pack, pack_lessons
from lamer_fast.envs.contract import EnvError
from lamer_fast.eval.success import evaluate
from lamer_fast.learn.batch import Minibatch
from lamer_fast.learn.critic import add_targets, turn_values
from lamer_fast.learn.probe import check_transfer
from lamer_fast.learn.ranks import Ranks
from lamer_fast.learn.update import LearnStats, score, score_reference, update
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_fast.run import checkpoint
from lamer_fast.run.clock import Clock
from lamer_fast.run.collection import collect
from lamer_fast.run.display import Display
from lamer_fast.run.folder import RunFolder
from lamer_fast.run.measure import record_of
from lamer_fast.run.no_folder import NoFolder
from lamer_fast.run.record import Evaluated, Record
from lamer_fast.run.state import TrainState
from lamer_fast.run.stop import StopRequest
from lamer_fast.run.trace import tracing
from lamer_fast.run.transcripts import add_values, join_values
from lamer_fast.say import log


def train(state: TrainState, folder: RunFolder | NoFolder, display: Display, stop: StopRequest) -> None:
    """Iterates until the configured end, a stop request, or too many skipped updates in a row.

    Every rank runs it, over its share of the trials; what they decide, they decide together.

    Raises:
        EnvError: the environment broke the protocol, or failed on every board; earlier updates are saved.
    """
    config, ranks = state.config, state.ranks
    record: Record | None = None
    score = 0.0  # of its checkpoint
    iterations = range(state.iteration, config.train.iterations)
    for iteration in tracing(iterations, config.train.profile, folder.trace(config.train.profile or 0)):
        clock, stats = Clock(config.train.watchdog_s), LearnStats()
        ranks.waited = 0.0
        transcripts: list[dict[str, Any]] = []
        evaluations: dict[str, Evaluated] = {}
        if config.eval.every and iteration == 0:
            with clock.phase("eval"), display.phase("eval"):
                evaluations["eval_before"] = run_eval(state, display)
        if state.curriculum is not None:
            state.enter_stage()
            stats.of_iteration["stage"] = state.curriculum.stage + 1
        try:
            with clock.phase("sample"), display.phase("sample"):
                trials, draws = collect(state, iteration, transcripts, clock, display.trials)
        except EnvError as error:
            folder.write_trials(iteration, transcripts)
            if record is not None and iteration % config.train.save_every:
                save(state, folder, score)
            raise EnvError(f"iteration {iteration}: {error}") from error
        if trials.errors:
            log.warning(f"iteration {iteration}: {trials.lost()}")
        progress = iteration / max(1, config.train.iterations - 1)
        with clock.phase("learn"), display.phase("learn"):
            advantages, minibatches = learn(state, trials, iteration, progress, stats, display)
        with clock.phase("sync"), display.phase("sync"):
            transfer(state, version=iteration + 1)
        state.iteration = iteration + 1
        failure: EnvError | None = None
        if config.eval.every and state.iteration % config.eval.every == 0:
            try:
                with clock.phase("eval"), display.phase("eval"):
                    evaluations["eval"] = run_eval(state, display)
            except EnvError as error:  # raised when what was learnt is safe
                failure = EnvError(f"evaluation after iteration {iteration}: {error}")
        seconds = clock.seconds | seconds_of_ranks(ranks)
        if state.limits is not None:
            least = state.limits.least_seconds(trials, config.learn.epochs)
            seconds |= {phase: s / ranks.world for phase, s in least.items()}
        record = record_of(
            iteration, trials, advantages, minibatches, stats, seconds, config, evaluations, ranks, draws
        )
        add_values(
            transcripts, trials, advantages, minibatches, stats, config.algo, state.agent.renderer, progress
        )
        join_values(transcripts, ranks)
        folder.write_metrics(record.to_json())
        folder.write_trials(iteration, transcripts)
        display.update(record)
        score = record.score
        if state.curriculum is not None and state.curriculum.note(state.iteration, record.success_at[-1]):
            state.best, score = {}, -1.0  # it was on other boards: any later one is better

        broken = state.skipped_in_row >= config.train.max_skipped_updates
        stopping = ranks.any(stop.asked)
        last = state.iteration == config.train.iterations or stopping or broken or failure
        if last or state.iteration % config.train.save_every == 0:
            with clock.phase("save"), display.phase("save"):
                save(state, folder, score)
        if failure:
            raise failure
        if broken:
            raise RuntimeError(
                f"{state.skipped_in_row} updates in a row had a loss or gradient that was not finite; their "
                f"batches are in {state.dump_dir}, the last checkpoint in {folder.checkpoints}"
            )
        if stopping:
            return


def learn(
    state: TrainState, trials: TrialBatch, iteration: int, progress: float, stats: LearnStats,
    display: Display,
) -> tuple[NDArray[np.float32], list[Minibatch]]:  # fmt: skip
    """Credit, packing and updates; fewer of these where too many in a row were skipped.

    Returns:
        The advantage of each turn, [R], of all ranks; and what this rank was trained on.
    """
    config = state.config
    credit = state.algorithm.credit(trials, progress, score_values(state, trials))
    minibatches = pack(trials, credit.advantages, config, iteration=iteration, device=state.policy.device)
    score_before_updates(state, minibatches)
    aim_critic(minibatches, credit, stats)
    lessons = lessons_of(state, trials, iteration, stats)
    updates = config.learn.epochs * len(minibatches)
    both = list(zip(minibatches, lessons, strict=True))
    for done, (minibatch, beside) in enumerate(epochs(both, config.learn.epochs)):
        display.advance(done, updates, "updates")
        outcome = update(state.algorithm, minibatch, stats, state.ranks, beside)
        state.note(outcome, [*minibatch, *beside])
        if state.skipped_in_row >= config.train.max_skipped_updates:
            break
    return credit.advantages, minibatches


def seconds_of_ranks(ranks: Ranks) -> dict[str, float]:
    """`wait`: the mean over the ranks of what they have spent on one another in this iteration."""
    if ranks.world == 1:
        return {}
    return {"wait": sum(ranks.gather(ranks.waited)) / ranks.world}


def transfer(state: TrainState, version: int) -> None:
    """The policy's weights to the sampler. One that keeps a copy proves on a probe that it runs them."""
    state.sampler.load_weights(state.policy.weights_for(state.sampler), version=version)
    if not state.sampler.shares_weights:
        prompt = state.agent.renderer.start(state.env.task_prompt())
        check_transfer(state.sampler, state.policy, prompt, state.config.rollout.temperature)


def score_before_updates(state: TrainState, minibatches: list[Minibatch]) -> None:
    if state.reference is not None:
        score_reference(state.reference, minibatches)
    if state.config.algo.old_logprobs == "recompute":
        score(state.policy, minibatches, state.config.algo)


def score_values(state: TrainState, trials: TrialBatch) -> NDArray[np.float32] | None:
    """What the critic, where there is one, expects of each turn, [R]; on every rank."""
    critic = state.algorithm.critic
    if critic is None:
        return None
    nothing = np.zeros(trials.num_turns, np.float32)
    batches = pack(trials, nothing, state.config, device=state.policy.device)
    return turn_values(critic, batches, trials.num_turns, state.ranks)


def aim_critic(minibatches: list[Minibatch], credit: Credit, stats: LearnStats) -> None:
    if credit.values is None or credit.returns is None or credit.explained is None:
        return
    add_targets(minibatches, credit.values, credit.returns)
    stats.of_iteration |= {"critic_explained": credit.explained, "critic_value": float(credit.values.mean())}


def lessons_of(state: TrainState, trials: TrialBatch, iteration: int, stats: LearnStats) -> list[Minibatch]:
    """What each minibatch imitates beside it, where the configuration consolidates."""
    config = state.config
    if not config.algo.consolidation:
        return [[] for _ in range(config.learn.minibatches)]
    lessons, count = pack_lessons(trials, config, iteration=iteration, device=state.policy.device)
    stats.of_iteration["consolidated"] = count
    return lessons


def run_eval(state: TrainState, display: Display) -> Evaluated:
    """Of the policy as the sampler has it."""
    config = state.config
    found = evaluate(
        state.sampler,
        state.agent.renderer,
        config,
        split=config.eval.split,
        tasks=config.eval.tasks,
        seed=config.train.seed,
        progress=lambda done, total: display.advance(done, total, "trials and attempts"),
        ranks=state.ranks if state.ranks.world > 1 else None,
    )
    return Evaluated.of(state.iteration, found)


def save(state: TrainState, folder: RunFolder | NoFolder, score: float) -> None:
    folder.sync()
    checkpoint.save(state, folder.checkpoints, score)
