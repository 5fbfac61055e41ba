"""How a run ended, in a line for its user."""

from pathlib import Path

from lamer_fast.config import Config
from lamer_fast.run.checkpoint import finished as saved_iterations


def finished(config: Config, done: int, path: Path) -> str:
    """Of a run in `path` that has nothing left to do."""
    model = path / "model"
    if config.learn.schedule == "cosine":  # its learning rates have come to their end
        more = f"to train on, take another --name with --model.path {model}"
    else:
        more = f"to train on, take --train.iterations above {done}"
    return (
        f"{path} is finished: {done} iterations are done, train.iterations = {config.train.iterations}; its "
        f"model is in {model}\nto see it: lamer-fast report {path}, lamer-fast eval {path}; {more}; to start "
        "anew: --overwrite"
    )


def lost(checkpoints: Path, done: int) -> str:
    """What an end after `done` iterations costs, without a checkpoint of its own."""
    saved = saved_iterations(checkpoints)
    n, since = done - max([0, *saved]), f"since checkpoint {saved[-1]}" if saved else "since the start"
    iterations = f"{n} iteration {since} is" if n == 1 else f"{n} iterations {since} are"
    return f"{iterations} lost; the same command goes on from there"
