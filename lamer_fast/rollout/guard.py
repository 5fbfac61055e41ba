"""EnvGuard: a rollout's calls of an environment, failures confined to the boards that caused them."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.protocol import TextBatchEnv, TurnOut

STEPPED = "the environment raised on other boards of the call after it had changed this one"


class EnvGuard:
    """An environment should report failures in `TurnOut.error`. If a call raises instead, it is repeated
    board by board, which finds the guilty one; a board that the failed call had changed already cannot be
    played twice and is lost as well. `errors` collects board -> message.
    """

    def __init__(self, env: TextBatchEnv) -> None:
        self.env: Any = env
        self.errors: dict[int, str] = {}

    def reset(self, seeds: NDArray[np.uint64]) -> None:
        """Boards 0..M-1; a board that cannot be drawn is an error of the caller, not of a trial."""
        self.env.reset(seeds, np.arange(len(seeds)))

    def restart(self, boards: NDArray[np.int64]) -> None:
        self._each(self.env.restart, boards)

    def observe(self, boards: NDArray[np.int64]) -> list[str]:
        """Texts, empty where the board is lost."""
        return [text or "" for text in self._each(self.env.observe, boards)]

    def anchors(self, boards: NDArray[np.int64], texts: Sequence[str]) -> NDArray[np.int64]:
        """The environment's own, or a hash of what the model sees."""
        if not hasattr(self.env, "anchors"):
            hashes = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
            return np.frombuffer(b"".join(hashes), np.int64)
        return np.array([anchor or 0 for anchor in self._each(self.env.anchors, boards)], np.int64)

    def tasks(self, seeds: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """[M] canonical hashes of the tasks; the seeds where the environment has none."""
        if not hasattr(self.env, "tasks"):
            return seeds.copy()
        return np.asarray(self.env.tasks(np.arange(len(seeds))), np.uint64)

    def step(
        self, replies: Sequence[str], boards: NDArray[np.int64], anchors: NDArray[np.int64]
    ) -> tuple[NDArray[Any], ...]:
        """(rewards, done, truncated, success, valid), each [B]; zeros where the board is lost.

        Args:
            anchors: of the boards before the call.
        """
        try:
            parts = [self.env.step(list(replies), boards)]
        except Exception:
            parts = [self._step_alone(r, b, a) for r, b, a in zip(replies, boards, anchors, strict=True)]
        for b, message in zip(boards, (m for part in parts for m in part.error), strict=True):
            if message is not None:
                self.errors.setdefault(int(b), message)
        fields = ("rewards", "done", "truncated", "success", "valid")
        return tuple(np.concatenate([np.asarray(getattr(part, name)) for part in parts]) for name in fields)

    def _step_alone(self, reply: str, board: np.int64, anchor: np.int64) -> TurnOut:
        one = np.array([board])
        try:
            if self.anchors(one, self.observe(one))[0] != anchor:
                raise RuntimeError(STEPPED)
            out: TurnOut = self.env.step([reply], one)
            return out
        except Exception as error:
            no = np.zeros(1, bool)
            return TurnOut(np.zeros(1, np.float32), ~no, no, no, no, [describe(error)])

    def _each(self, call: Callable[[NDArray[np.int64]], Any], boards: NDArray[np.int64]) -> Sequence[Any]:
        if len(boards) == 0:
            return []
        try:
            out = call(boards)
            return [] if out is None else list(out)
        except Exception:
            return [self._one(call, board) for board in boards]

    def _one(self, call: Callable[[NDArray[np.int64]], Any], board: np.int64) -> Any:
        try:
            out = call(np.array([board]))
            return None if out is None else out[0]
        except Exception as error:
            self.errors.setdefault(int(board), describe(error))
            return None


def describe(error: Exception) -> str:
    return f"{type(error).__name__}: {error}"
