"""A training run around the loop: its folder, its ranks, going on, interruption, and what comes out of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

from lamer_fast.config import Config
from lamer_fast.cost.estimate import estimate
from lamer_fast.cost.limits import Limits
from lamer_fast.cost.tokens import say_notes
from lamer_fast.device import GIB, prepare_process
from lamer_fast.fields import to_flat
from lamer_fast.files import CannotWrite, free_bytes
from lamer_fast.learn.ranks import Ranks, join_ranks
from lamer_fast.run import checkpoint, outcome, records
from lamer_fast.run.display import Display
from lamer_fast.run.folder import RunFolder
from lamer_fast.run.loop import train, transfer
from lamer_fast.run.no_folder import NoFolder
from lamer_fast.run.output import silent, without_reader
from lamer_fast.run.saved_model import gather_weights, model_bytes, save_model
from lamer_fast.run.starts import write_start
from lamer_fast.run.state import TrainState, build_state
from lamer_fast.run.stop import INTERRUPTED, StopRequest
from lamer_fast.say import log
from lamer_fast.strict_json import json_text


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


def dry_run(
    config: Config, *, runs: Path = Path("runs"), overwrite: bool = False, gpu_gib: float | None = None
) -> int:
    """Prints the resolved configuration, what the run will take, and what makes it fit if it does not.

    Args:
        gpu_gib: memory of a GPU that need not be here; None plans for this machine's device.

    Raises:
        ValueError, CannotWrite: the run would not fit, or could not begin in its folder.
    """
    print(json_text(to_flat(config), indent=1))
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
