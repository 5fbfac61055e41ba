"""Batched text environments: native Sokoban and Minesweeper, and the protocol that others follow."""

from lamer_fast.envs.batch import Batch, StepOut, distinct_seeds, iterate_tasks, make, num_tasks
from lamer_fast.envs.check import check_env
from lamer_fast.envs.protocol import TextBatchEnv, TurnOut
from lamer_fast.envs.text_env import NativeTextEnv, text_env

__all__ = [
    "Batch",
    "NativeTextEnv",
    "StepOut",
    "TextBatchEnv",
    "TurnOut",
    "check_env",
    "distinct_seeds",
    "iterate_tasks",
    "make",
    "num_tasks",
    "text_env",
]
