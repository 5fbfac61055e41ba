"""Batched text environments: native Sokoban and Minesweeper, and the protocol that others follow."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lamer_fast.envs.batch import Batch, StepOut, distinct_seeds, iterate_tasks, make, num_tasks
    from lamer_fast.envs.check import check_env
    from lamer_fast.envs.expert import with_noise
    from lamer_fast.envs.native.text_env import NativeTextEnv, text_env
    from lamer_fast.envs.options import EnvOptions
    from lamer_fast.envs.protocol import TextBatchEnv, TextEnv, Turn, TurnOut
    from lamer_fast.fields import Range

# name -> module; imported when asked for, so that options can be read where the native module is missing
_EXPORTS = {
    "Batch": "batch",
    "EnvOptions": "options",
    "NativeTextEnv": "native.text_env",
    "Range": ".fields",
    "StepOut": "batch",
    "TextBatchEnv": "protocol",
    "TextEnv": "protocol",
    "Turn": "protocol",
    "TurnOut": "protocol",
    "check_env": "check",
    "distinct_seeds": "batch",
    "iterate_tasks": "batch",
    "make": "batch",
    "num_tasks": "batch",
    "text_env": "native.text_env",
    "with_noise": "expert",
}

__all__ = [
    "Batch",
    "EnvOptions",
    "NativeTextEnv",
    "Range",
    "StepOut",
    "TextBatchEnv",
    "TextEnv",
    "Turn",
    "TurnOut",
    "check_env",
    "distinct_seeds",
    "iterate_tasks",
    "make",
    "num_tasks",
    "text_env",
    "with_noise",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_EXPORTS[name]}", __name__), name)


def __dir__() -> list[str]:
    return sorted(__all__)
