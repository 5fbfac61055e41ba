"""Checkpoints: atomic folders with everything that the future of a run depends on.

`checkpoints/000040/` = the state after 40 iterations. A folder under that name is complete: it is written
beside it, synced to the disk and renamed. Random numbers are functions of (seed, iteration): no generator is
stored.
"""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

import torch

from lamer_fast.config import Config
from lamer_fast.files import discard, replace_folder, size_text, writing
from lamer_fast.learn.optimizer_state import STATE_BYTES
from lamer_fast.run.content import Content, name_of, read
from lamer_fast.run.state import TrainState


def save(state: TrainState, folder: Path, score: float) -> Path:
    """Writes `folder/ITERATION`, then removes all but the latest few and the best; every rank calls it.

    Args:
        folder: the run's checkpoints/.
        score: what `best` is judged by, higher is better.

    Raises:
        CannotWrite: the disk is full or not writable; earlier checkpoints are intact.
        RuntimeError: weights or optimizer are not finite; likewise.
    """
    if not state.best or score > state.best["score"]:
        state.best = {"iteration": state.iteration, "score": score}
    ranks, content = state.ranks, Content.of(state)
    wrong = next(filter(None, ranks.gather(_wrong(content, state))), "")
    if wrong:
        raise RuntimeError(f"the state after iteration {state.iteration} is not saved: {wrong}")
    target = folder / name_of(state.iteration)
    if not ranks.is_first:
        if state.is_sharded and (path := ranks.from_first(None)):
            content.write_rows(path)
        return target
    num_parameters = sum(master.numel() for master in content.masters.values())

    def write(path: Path) -> None:
        if not state.is_sharded:
            content.write(path)
            return
        content.write_rows(ranks.from_first(path.absolute()))
        content.write_counters(path)

    replace_folder(target, write, num_bytes(state.config, num_parameters))
    keep = {*finished(folder)[-state.config.train.keep_checkpoints :], state.best["iteration"]}
    for iteration in set(finished(folder)) - keep:
        with suppress(OSError):  # one too many ends no training
            discard(folder / name_of(iteration))
    return target


def _wrong(content: Content, state: TrainState) -> str:
    try:
        content.check(state)
    except ValueError as error:
        return str(error)
    return ""


def load(state: TrainState, folder: Path, number: int | None = None) -> Path | None:
    """Puts a checkpoint under `folder` into `state`: `number`, or the latest; None when there is none.

    Raises:
        ValueError: there is no such checkpoint, or it cannot be used; names one that can. `state` is intact.
    """
    iterations = finished(folder)
    if number is None and not iterations:
        return None
    if number is not None and number not in iterations:
        raise ValueError(f"{folder} has no checkpoint {number}; there are: {iterations or 'none'}")
    chosen = iterations[-1] if number is None else number
    try:
        content = read(folder / name_of(chosen), state)
    except ValueError as error:
        others = [n for n in reversed(iterations) if n != chosen]
        raise ValueError(f"{error}; {_way_out(state, folder, others)}") from None
    content.put(state)
    return folder / name_of(chosen)


def from_first(state: TrainState, loaded: Path | None = None) -> bool:
    """The state of rank 0, which `loaded` a checkpoint or none, on every rank; False: it could not begin.

    Tensors go over one by one: the folder is needed where rank 0 is. Where masters are sharded, each rank
    reads its rows.

    Raises:
        ValueError: one cannot read its rows, on every rank; or does not shard as rank 0 does.
    """
    ranks = state.ranks
    if ranks.world == 1:
        return True
    division = state.policy.masters.division
    begun = ranks.from_first((division, loaded and loaded.absolute()))
    if begun is None:
        return False
    of_first, path = begun
    if division != of_first:
        raise ValueError(
            f"learn.shard = 'auto' gave {of_first!r} on rank 0, {division!r} on rank {ranks.rank}, which see "
            "other amounts of memory: set it to 'none', 'optimizer' or 'full'"
        )
    if state.is_sharded:
        _own_rows(state, path)
        return True
    own = Content.of(state)
    counters = ranks.from_first(own.counters)
    shapes = ranks.from_first({key: (x.shape, x.dtype) for key, x in own.optimizer.items()})

    def sent(x: torch.Tensor) -> torch.Tensor:
        there = x.to(ranks.device)
        ranks.copy_first(there)
        return there

    masters = {key: sent(x) for key, x in own.masters.items()}
    optimizer = {}
    for key, (shape, dtype) in shapes.items():
        there = own.optimizer[key] if ranks.is_first else torch.empty(shape, dtype=dtype)
        optimizer[key] = sent(there)
    Content(counters, masters, optimizer).put(state)
    return True


def _own_rows(state: TrainState, loaded: Path | None) -> None:
    ranks, wrong = state.ranks, ""
    if loaded is None:
        return
    if not ranks.is_first:
        try:
            read(loaded, state).put(state)
        except ValueError as error:
            wrong = str(error)
    for rank, problem in enumerate(ranks.gather(wrong)):
        if problem:
            raise ValueError(f"rank {rank}: {problem}")
    for trained in state.algorithm.trainables.values():
        trained.module.masters.publish()


def _way_out(state: TrainState, folder: Path, others: list[int]) -> str:
    for number in others:
        try:
            read(folder / name_of(number), state)
        except ValueError:
            continue
        return (
            f"checkpoint {name_of(number)} is whole: --from-checkpoint {number} goes on from there and "
            "discards what came after"
        )
    return "there is no other that can; --overwrite starts anew, another --name keeps this run"


def finished(folder: Path) -> list[int]:
    """Iterations of the complete checkpoints, ascending."""
    if not folder.is_dir():
        return []
    numbers = {int(path.name) for path in folder.iterdir() if path.name.isdecimal()}
    return sorted(n for n in numbers if (folder / name_of(n)).is_dir())


def discard_after(folder: Path, iteration: int) -> None:
    """Removes the checkpoints of later iterations."""
    for later in finished(folder):
        if later > iteration:
            with writing(folder / name_of(later)):
                discard(folder / name_of(later))


def num_bytes(config: Config, num_parameters: int) -> int:
    """Of one checkpoint: float32 masters and what AdamW keeps of each."""
    return num_parameters * (4 + STATE_BYTES[config.learn.optimizer])


def disk_needs(
    config: Config, num_parameters: int, model_bytes: int, saved: Sequence[int] = ()
) -> tuple[int, str]:
    """Most bytes that checkpoints and the model add to the disk until the end of the run, and what they are.

    Args:
        model_bytes: of the model that the run leaves.
        saved: iterations of the checkpoints that are there.
    """
    t, each = config.train, num_bytes(config, num_parameters)
    saves = -(-(t.iterations - max([0, *saved])) // t.save_every)
    more = max(0, min(saves, max(1, t.keep_checkpoints + 1 - len(saved))))  # an old one goes after the new
    return more * each + model_bytes, f"{more} checkpoints of {size_text(each)} and the model"
