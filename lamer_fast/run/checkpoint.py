"""Checkpoints: atomic folders with everything that the future of a run depends on.

`checkpoints/000040/` = the state after 40 iterations. A folder under that name is complete: it is written
beside it, synced to the disk and renamed. Random numbers are functions of (seed, iteration): no generator is
stored.
"""

from collections.abc import Callable
from pathlib import Path

from lamer_fast.files import discard, replace_folder, size_text, writing
from lamer_fast.learn.state import TrainState
from lamer_fast.run.content import Content, name_of, read


def save(state: TrainState, folder: Path, score: float) -> Path:
    """Writes `folder/ITERATION`, then removes all but the latest few and the best.

    Args:
        folder: the run's checkpoints/.
        score: what `best` is judged by, higher is better.

    Raises:
        CannotWrite: the disk is full or not writable; earlier checkpoints are intact.
        RuntimeError: weights or optimizer are not finite; likewise.
    """
    if not state.best or score > state.best["score"]:
        state.best = {"iteration": state.iteration, "score": score}
    target, content = folder / name_of(state.iteration), Content.of(state)
    try:
        content.check(state)
    except ValueError as error:
        raise RuntimeError(f"the state after iteration {state.iteration} is not saved: {error}") from None
    replace_folder(target, content.write, num_bytes(state))
    keep = {*finished(folder)[-state.config.train.keep_checkpoints :], state.best["iteration"]}
    _discard(folder, lambda iteration: iteration not in keep)
    return target


def load(state: TrainState, folder: Path, number: int | None = None) -> bool:
    """Puts a checkpoint under `folder` into `state`: `number`, or the latest; False when there is none.

    Raises:
        ValueError: there is no such checkpoint, or it cannot be used; names one that can. `state` is intact.
    """
    iterations = finished(folder)
    if number is None and not iterations:
        return False
    if number is not None and number not in iterations:
        raise ValueError(f"{folder} has no checkpoint {number}; there are: {iterations or 'none'}")
    chosen = iterations[-1] if number is None else number
    try:
        content = read(folder / name_of(chosen), state)
    except ValueError as error:
        others = [n for n in reversed(iterations) if n != chosen]
        raise ValueError(f"{error}; {_way_out(state, folder, others)}") from None
    content.put(state)
    return True


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
    _discard(folder, lambda later: later > iteration)


def _discard(folder: Path, unwanted: Callable[[int], bool]) -> None:
    for iteration in filter(unwanted, finished(folder)):
        with writing(folder / name_of(iteration)):
            discard(folder / name_of(iteration))


def num_bytes(state: TrainState) -> int:
    """Of one checkpoint."""
    masters = sum(master.nbytes for master in state.policy.masters.values())
    return masters + state.optimizer.num_state_bytes()


def model_bytes(state: TrainState) -> int:
    """Of the model that a run leaves."""
    return sum(weight.nbytes for _, weight in state.policy.named_weights())


def disk_needs(state: TrainState, folder: Path) -> tuple[int, str]:
    """Most bytes that checkpoints and the model will add until the end of the run, and what they are."""
    t, have = state.config.train, len(finished(folder))
    saves = -(-(t.iterations - state.iteration) // t.save_every)  # an old one goes once the new one is there
    more = min(saves, max(1, t.keep_checkpoints + 1 - have))
    what = f"{more} checkpoints of {size_text(num_bytes(state))} and the model"
    return max(0, more) * num_bytes(state) + model_bytes(state), what
