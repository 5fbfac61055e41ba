"""Batched text environments: native Sokoban and Minesweeper, and the protocol that others follow."""

from lamer_fast.envs.protocol import TextBatchEnv, TurnOut

__all__ = ["TextBatchEnv", "TurnOut"]
