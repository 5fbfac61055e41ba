"""Warm start: supervised training of a small model on expert trials, so that it can play, badly."""

from collections.abc import Sequence


def run(argv: Sequence[str]) -> int:
    from lamer_fast.warmstart.command import run

    return run(argv)
