"""The training loop, and a run around it: folder, checkpoints, display, interruption."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.algo.gae import Credit
from lamer_fast.algo.packing import epochs, pack
from lamer_fast.config import Config
from lamer_fast.cost.estimate import estimate
from lamer_fast.cost.limits import Limits
from lamer_fast.cost.tokens import say_notes
from lamer_fast.device import GIB, prepare_process
from lamer_fast.envs.contract import EnvError
from lamer_fast.eval.success import evaluate
from lamer_fast.fields import to_flat
from lamer_fast.files import CannotWrite, free_bytes, replace_folder
from lamer_fast.learn.batch import Minibatch
from lamer_fast.learn.critic import add_targets, turn_values
from lamer_fast.learn.probe import check_transfer
from lamer_fast.learn.ranks import Ranks, join_ranks
from lamer_fast.learn.update import LearnStats, score, score_reference, update
from lamer_fast.model.adapters import adapter_settings, save_adapter
from lamer_fast.model.path import base_name
from lamer_fast.rng import sampling_seed
from lamer_fast.rollout.boards import Boards, draw_boards
from lamer_fast.rollout.collect import check_any_left, play_trials
from lamer_fast.rollout.join import join, without_tokens
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_fast.run import checkpoint, outcome, records
from lamer_fast.run.clock import Clock
from lamer_fast.run.display import Display
from lamer_fast.run.folder import RunFolder
from lamer_fast.run.measure import record_of
from lamer_fast.run.no_folder import NoFolder
from lamer_fast.run.output import silent, without_reader
from lamer_fast.run.record import Evaluated, Record
from lamer_fast.run.starts import write_start
from lamer_fast.run.state import TrainState, build_state
from lamer_fast.run.stop import INTERRUPTED, StopRequest
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
    iterations = range(state.iteration, config.train.iterations)
    for iteration in tracing(iterations, config.train.profile, folder.trace(config.train.profile or 0)):
        clock, stats = Clock(config.train.watchdog_s), LearnStats()
        ranks.waited = 0.0
        transcripts: list[dict[str, Any]] = []
        evaluations: dict[str, Evaluated] = {}
        if config.eval.every and iteration == 0:
            with clock.phase("eval"), display.phase("eval"):
                evaluations["eval_before"] = run_eval(state, display)
        try:
            with clock.phase("sample"), display.phase("sample"):
                trials = collect(state, iteration, transcripts, clock, display.trials)
        except EnvError as error:
            folder.write_trials(iteration, transcripts)
            if record is not None and iteration % config.train.save_every:
                save(state, folder, record)
            raise EnvError(f"iteration {iteration}: {error}") from error
        if trials.errors:
            log.warning(f"iteration {iteration}: {trials.lost()}")
        progress = iteration / max(1, config.train.iterations - 1)
        with clock.phase("learn"), display.phase("learn"):
            values = score_values(state, trials)
            credit = state.algorithm.credit(trials, progress, values)
            advantages = credit.advantages
            minibatches = pack(trials, advantages, config, iteration=iteration, device=state.policy.device)
            score_before_updates(state, minibatches)
            aim_critic(minibatches, credit, stats)
            updates = config.learn.epochs * len(minibatches)
            for done, minibatch in enumerate(epochs(minibatches, config.learn.epochs)):
                display.advance(done, updates, "updates")
                state.note(update(state.algorithm, minibatch, stats, ranks), minibatch)
                if state.skipped_in_row >= config.train.max_skipped_updates:
                    break
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
            iteration, trials, advantages, minibatches, stats, seconds, config, evaluations, ranks
        )
        add_values(
            transcripts, trials, advantages, minibatches, stats, config.algo, state.agent.renderer, progress
        )
        join_values(transcripts, ranks)
        folder.write_metrics(record.to_json())
        folder.write_trials(iteration, transcripts)
        display.update(record)

        broken = state.skipped_in_row >= config.train.max_skipped_updates
        stopping = ranks.any(stop.asked)
        last = state.iteration == config.train.iterations or stopping or broken or failure
        if last or state.iteration % config.train.save_every == 0:
            with clock.phase("save"), display.phase("save"):
                save(state, folder, record)
        if failure:
            raise failure
        if broken:
            raise RuntimeError(
                f"{state.skipped_in_row} updates in a row had a loss or gradient that was not finite; their "
                f"batches are in {state.dump_dir}, the last checkpoint in {folder.checkpoints}"
            )
        if stopping:
            return


def seconds_of_ranks(ranks: Ranks) -> dict[str, float]:
    """`wait`: the mean over the ranks of what they have spent on one another in this iteration."""
    if ranks.world == 1:
        return {}
    return {"wait": sum(ranks.gather(ranks.waited)) / ranks.world}


def collect(
    state: TrainState,
    iteration: int,
    transcripts: list[dict[str, Any]],
    clock: Clock,
    progress: Callable[[int, int, int], None] | None = None,
) -> TrialBatch:
    """One collection of trials; optimizer state leaves the device meanwhile if so configured.

    Raises:
        EnvError: on every rank alike.
    """
    config, boards = state.config, draw_boards(state.config, iteration)
    offload = config.learn.offload_optimizer == "rollout"
    optimizers = [trained.optimizer for trained in state.algorithm.trainables.values()] if offload else []
    for optimizer in optimizers:
        optimizer.to_host()
    played: list[dict[str, Any]] = []
    trials, failure = None, None
    try:
        trials = play_trials(
            state.sampler,
            clock.timed("env", state.env),
            state.agent,
            boards.share(state.ranks.rank, state.ranks.world),
            config.rollout,
            seed=sampling_seed(config.train.seed, iteration),
            record=played,
            num_recorded=config.train.trials_logged,
            progress=progress,
        )
    except EnvError as error:
        failure = error
    trials = of_all_ranks(state.ranks, boards, trials, failure, played, transcripts)
    if config.rollout.sleep_during_updates:
        state.sampler.sleep()
    for optimizer in optimizers:
        optimizer.to_device()
    return trials


def of_all_ranks(
    ranks: Ranks,
    boards: Boards,
    own: TrialBatch | None,
    failure: EnvError | None,
    played: list[dict[str, Any]],
    transcripts: list[dict[str, Any]],
) -> TrialBatch:
    """The turns of every rank beside this one's tokens; `transcripts` gets those that each rank `played`.

    Raises:
        EnvError: `failure` of the first rank that has one; AllLostError: no rank has a trial left.
    """
    found = ranks.gather((None if own is None else without_tokens(own), failure, played))
    transcripts.extend(sorted((t for *_, of_rank in found for t in of_rank), key=lambda t: int(t["trial"])))
    for _, error, _ in found:
        if error is not None:
            raise error
    assert own is not None
    trials = join([part for part, *_ in found if part is not None], own, ranks.rank, boards)
    check_any_left(trials)
    return trials


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


def save(state: TrainState, folder: RunFolder | NoFolder, record: Record) -> None:
    folder.sync()
    checkpoint.save(state, folder.checkpoints, record.score)


def run(
    config: Config,
    *,
    runs: Path = Path("runs"),
    overwrite: bool = False,
    from_checkpoint: int | None = None,
) -> int:
    """Trains or resumes runs/NAME, from its latest checkpoint or that of iteration `from_checkpoint`.

    Returns:
        The exit status: 0 when it ended as asked, also by a signal; 130 when it was interrupted at once, 1
        when the disk refused a write (earlier checkpoints are whole).

    Raises:
        ValueError, CannotWrite: it may not or cannot begin; nothing was removed or written.
    """
    if overwrite and from_checkpoint is not None:
        raise ValueError(
            f"--overwrite discards the checkpoints, --from-checkpoint {from_checkpoint} needs one"
        )
    prepare_process(config)
    with without_reader():
        ranks = join_ranks(config)
        if not ranks.is_first:
            return run_beside(config, ranks)
        with ExitStack() as stack:
            with telling_others(ranks):
                folder = RunFolder(config, runs, overwrite=overwrite)
                state = build_state(config, ranks=ranks)
                state.limits = Limits.of(state.policy.model, state.policy.dtype)
                say_notes(config, state.agent, state.env)
                stack.enter_context(folder)
                loaded = None if overwrite else checkpoint.load(state, folder.checkpoints, from_checkpoint)
                records.counted_metrics(folder.metrics, state.iteration)
                saved = [] if overwrite else checkpoint.finished(folder.checkpoints)
                folder.check_space(*disk_needs(state, saved))
            checkpoint.from_first(state, loaded)
            if state.iteration >= config.train.iterations:
                records.cut(folder.path, state.iteration)
                checkpoint.discard_after(folder.checkpoints, state.iteration)
                save_model(state, folder.path)
                log.info(outcome.finished(config, state.iteration, folder.path))
                return 0
            transfer(state, version=state.iteration)
            state.dump_dir = folder.path / "skipped"
            folder.start(state.iteration)
            write_start(folder.path, state)
            checkpoint.discard_after(folder.checkpoints, state.iteration)
            return iterate(state, folder)


@contextmanager
def telling_others(ranks: Ranks) -> Iterator[None]:
    """Ranks that wait for the state of this one leave in silence when its block raises."""
    try:
        yield
    except Exception:
        with suppress(RuntimeError):  # one of them has gone already
            ranks.from_first(None)
        raise


def run_beside(config: Config, ranks: Ranks) -> int:
    """What a rank does that leaves the run's folder and the terminal to rank 0; exit status likewise."""
    with silent():
        state = build_state(config, ranks=ranks)
        if not checkpoint.from_first(state):
            return 2
        if state.iteration >= config.train.iterations:
            gather_weights(state)
            return 0
        transfer(state, version=state.iteration)
        display = Display(config.name, config.train.iterations, live=False)
        try:
            with StopRequest(speaks=False) as stop:
                train(state, NoFolder(), display, stop)
                gather_weights(state)
        except KeyboardInterrupt:
            return INTERRUPTED
        return 0


def iterate(state: TrainState, folder: RunFolder) -> int:
    """The iterations that are left, in a folder that was started; exit status as that of `run`."""
    if state.iteration:
        log.info(f"{folder.path} goes on after iteration {state.iteration}")
    try:
        earlier = records.read(folder.metrics)
        display = Display(state.config.name, state.config.train.iterations, earlier=earlier)
        with StopRequest() as stop, display:
            train(state, folder, display, stop)
            save_model(state, folder.path)
    except KeyboardInterrupt:
        log.error(f"interrupted, {outcome.lost(folder.checkpoints, state.iteration)}")
        return INTERRUPTED
    except CannotWrite as error:
        log.error(f"{error}; {outcome.lost(folder.checkpoints, state.iteration)}")
        return 1
    return 0


def disk_needs(state: TrainState, saved: Sequence[int]) -> tuple[int, str]:
    trainables = state.algorithm.trainables.values()
    num_parameters = sum(trained.module.masters.num_elements for trained in trainables)
    return checkpoint.disk_needs(state.config, num_parameters, model_bytes(state), saved)


def model_bytes(state: TrainState) -> int:
    policy = state.policy
    if state.is_sharded_fully:
        return policy.masters.num_elements * policy.dtype.itemsize
    return sum(weight.nbytes for _, weight in policy.named_weights())


def gather_weights(state: TrainState) -> dict[str, Any]:
    """By name, all of them on rank 0, and there on the host where it gathers them from the others."""
    named = state.policy.named_weights()
    if not state.is_sharded_fully:
        return dict(named) if state.ranks.is_first else {}
    return {name: weight.cpu() for name, weight in named if state.ranks.is_first}


def save_model(state: TrainState, folder: Path) -> None:
    """`folder`/model: a Hugging Face folder that transformers and vLLM load, in the compute dtype; with
    adapters merged, and these as a peft folder beside it."""
    policy, weights = state.policy, gather_weights(state)

    def write(path: Path) -> None:
        policy.model.save_pretrained(path, state_dict=weights)
        policy.tokenizer.save_pretrained(path)

    def write_adapter(path: Path) -> None:
        settings = adapter_settings(state.config.model, policy.model, base_name(state.config.model.path))
        save_adapter(policy.model, settings, path)

    replace_folder(folder / "model", write, model_bytes(state))
    if policy.has_adapters:
        adapter_bytes = 4 * policy.masters.num_elements
        replace_folder(folder / "adapter", write_adapter, adapter_bytes)


def dry_run(
    config: Config, *, runs: Path = Path("runs"), overwrite: bool = False, gpu_gib: float | None = None
) -> int:
    """Prints the resolved configuration, what the run will take, and what makes it fit if it does not.

    Args:
        gpu_gib: memory of a GPU that need not be here; None plans for this machine's device.

    Raises:
        ValueError, CannotWrite: the run would not fit, or could not begin in its folder.
    """
    print(json.dumps(to_flat(config), indent=1))
    plan = estimate(config, gpu_bytes=None if gpu_gib is None else round(gpu_gib * GIB))
    print(plan)
    plan.memory.check(config)
    folder = RunFolder(config, runs, overwrite=overwrite)
    saved = [] if overwrite else checkpoint.finished(folder.checkpoints)
    weights = plan.num_parameters * plan.dtype.itemsize
    needs, what = checkpoint.disk_needs(config, plan.num_trained, weights, saved)
    print(f"disk         {what:<34} {needs / GIB:9.3f} GiB of {free_bytes(folder.path) / GIB:.1f}")
    folder.check_space(needs, what)
    return 0
