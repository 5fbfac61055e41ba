"""The global generators of `random` and numpy as values: what a board of a pool owns of its process."""

from __future__ import annotations

import base64
import random
from typing import Any

import numpy as np


class Generators:
    """Of one board. Between `take` and `keep` the process draws from them."""

    def __init__(self) -> None:
        self._python: Any = None
        self._numpy = np.random.MT19937(0)

    def seed(self, seed: int) -> None:
        random.seed(seed)
        self._numpy.state = np.random.MT19937(seed % 2**32).state

    def take(self) -> None:
        if self._python is not None:
            random.setstate(self._python)
        np.random.set_bit_generator(self._numpy)  # type: ignore[attr-defined]

    def keep(self) -> None:
        self._python = random.getstate()

    def get(self) -> tuple[Any, Any]:
        """Their states while the process draws from them."""
        return random.getstate(), self._numpy.state

    def set(self, states: tuple[Any, Any]) -> None:
        random.setstate(states[0])
        self._numpy.state = states[1]


def to_json(states: tuple[Any, Any]) -> list[Any]:
    (version, words, gauss), numpy_state = states
    inner = numpy_state["state"]
    key = np.asarray(inner["key"], np.uint32)
    return [version, _packed(np.array(words, np.uint32)), gauss, _packed(key), inner["pos"]]


def from_json(values: list[Any]) -> tuple[Any, Any]:
    version, words, gauss, key, pos = values
    inner = {"key": _unpacked(key), "pos": pos}
    return (version, tuple(_unpacked(words).tolist()), gauss), {"bit_generator": "MT19937", "state": inner}


def _packed(words: Any) -> str:
    return base64.b64encode(words.astype("<u4").tobytes()).decode()


def _unpacked(text: str) -> Any:
    return np.frombuffer(base64.b64decode(text), "<u4").astype(np.uint32)
