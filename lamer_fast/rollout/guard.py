"""EnvGuard: a rollout's calls of an environment. A failure costs its boards, a broken protocol the run."""

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.contract import (
    FLAGS,
    BoardsLost,
    EnvError,
    check_actions,
    check_array,
    check_members,
    check_texts,
    check_turn,
    describe,
)
from lamer_fast.envs.protocol import TextBatchEnv, TurnOut

STEPPED = "step() raised on other boards of the call after it had changed this one"

Boards = NDArray[np.int64]
Turns = tuple[Boards, TurnOut]


class EnvGuard:
    """An environment should report failures in `TurnOut.error`. If a call raises instead, it is repeated
    board by board, which finds the guilty one; a board that a failed `step` had changed already cannot be
    played twice and is lost as well. `errors` collects board -> message, in the order in which they happened.

    An answer of the wrong type, shape or value is no accident of a board but a mistake of the environment:
    it raises EnvError. The environment gets copies, and its answers are copied, so that it may keep or reuse
    any of them.

    Args:
        max_chars: a longer observation is cut there: no prompt can hold it, so that its trial is truncated,
            and nothing has to read it to the end.
    """

    def __init__(self, env: TextBatchEnv, *, max_chars: int | None = None) -> None:
        check_members(env)
        self.env: Any = env
        self.max_chars = max_chars
        self.errors: dict[int, str] = {}
        self.concurrent = callable(getattr(env, "submit", None)) and callable(getattr(env, "poll", None))
        self._over: list[Turns] = []  # turns that `submit` found over at once
        self._begun: set[int] = set()

    def reset(self, seeds: NDArray[np.uint64]) -> None:
        """Boards 0..M-1."""
        self._each("reset", np.arange(len(seeds)), lambda out, boards: [None] * len(boards), seeds)

    def restart(self, boards: Boards) -> None:
        self._each("restart", boards, lambda out, boards: [None] * len(boards))

    def observe(self, boards: Boards) -> list[str]:
        """Texts, empty where the board is lost."""
        return self._texts("observe", boards)

    def task_texts(self, boards: Boards) -> list[str]:
        """What each board's task asks; empty where the environment does not say."""
        return self._texts("task_texts", boards) if hasattr(self.env, "task_texts") else [""] * len(boards)

    def legal_actions(self, boards: Boards) -> list[list[str]]:
        """What can be done on each board; nothing where it is lost."""
        return [actions or [] for actions in self._each("legal_actions", boards, check_actions)]

    def anchors(self, boards: Boards, texts: Sequence[str]) -> NDArray[np.int64]:
        """The environment's own, or a hash of what the model sees."""
        if not hasattr(self.env, "anchors"):
            hashes = (hashlib.blake2b(text.encode(), digest_size=8).digest() for text in texts)
            return np.frombuffer(b"".join(hashes), np.int64)
        anchors = self._each("anchors", boards, _array_check("anchors", np.int64))
        return np.array([anchor or 0 for anchor in anchors], np.int64)

    def tasks(self, seeds: NDArray[np.uint64]) -> NDArray[np.uint64]:
        """[M] canonical hashes of the tasks; the seeds where the environment has none."""
        if not hasattr(self.env, "tasks"):
            return seeds.copy()
        tasks = self._each("tasks", np.arange(len(seeds)), _array_check("tasks", np.uint64))
        return np.array([s if t is None else t for s, t in zip(seeds, tasks, strict=True)], np.uint64)

    def submit(self, replies: Sequence[str], boards: Boards, anchors: NDArray[np.int64]) -> None:
        """Begins a turn of each board; an environment without `submit` plays it at once, in one `step`.

        Args:
            anchors: of the boards before the call.
        """
        if len(boards) == 0:
            return
        if not self.concurrent:
            self._over.append((boards, self._step(replies, boards, anchors)))
            return
        try:
            self.env.submit(list(replies), boards.copy())
            self._begun.update(boards.tolist())
        except EnvError:
            raise
        except (Exception, SystemExit) as error:
            self._over.append((boards, _failed(f"submit() {describe(error)}", len(boards))))

    def poll(self, wait_s: float) -> Turns:
        """(boards [B], their turns) that are over; done and zeros where the board is lost.

        Args:
            wait_s: where none is over yet, wait so long for the first.
        """
        if self._begun:
            self._over.append(self._poll(0.0 if self._over else wait_s))
        over, self._over = self._over, []
        boards = np.concatenate([np.zeros(0, np.int64), *(boards for boards, _ in over)])
        out = _joined([out for _, out in over])
        for board, message in zip(boards.tolist(), out.error, strict=True):
            if message is not None:
                self.errors.setdefault(board, message)
        return boards, out

    def _poll(self, wait_s: float) -> Turns:
        try:
            answer = self.env.poll(wait_s)
        except EnvError:
            raise
        except (Exception, SystemExit) as error:
            raise EnvError(f"poll() {describe(error)}") from error
        if not (isinstance(answer, tuple) and len(answer) == 2 and isinstance(answer[0], np.ndarray)):
            raise EnvError("poll() returned another thing than a pair of env_idx and a TurnOut")
        boards = check_array("poll()", "env_idx", answer[0], np.int64, len(answer[0])).copy()
        unasked = [board for board in boards.tolist() if board not in self._begun]
        if unasked or len(set(boards.tolist())) < len(boards):
            raise EnvError(f"poll() returned boards {boards.tolist()}, expected each once of those submitted")
        self._begun.difference_update(boards.tolist())
        return boards, check_turn(answer[1], boards, call="poll")

    def _step(self, replies: Sequence[str], boards: Boards, anchors: NDArray[np.int64]) -> TurnOut:
        try:
            return check_turn(self.env.step(list(replies), boards.copy()), boards)
        except EnvError:
            raise
        except (Exception, SystemExit) as error:
            if len(boards) == 1:
                return _failed(f"step() {describe(error)}")
        rows = zip(replies, boards, anchors, strict=True)
        return _joined([self._step_alone(reply, board, anchor) for reply, board, anchor in rows])

    def _step_alone(self, reply: str, board: np.int64, anchor: np.int64) -> TurnOut:
        one = np.array([board])
        if self.anchors(one, self.observe(one))[0] != anchor and int(board) not in self.errors:
            self.errors[int(board)] = STEPPED
        if message := self.errors.get(int(board)):
            return _failed(message)
        return self._step([reply], one, np.array([anchor]))

    def _texts(self, name: str, boards: Boards) -> list[str]:
        texts = self._each(name, boards, lambda out, boards: check_texts(name, out, boards))
        return [(text or "")[: self.max_chars] for text in texts]

    def _each(
        self, name: str, boards: Boards, check: Callable[[Any, Boards], Sequence[Any]], *columns: NDArray[Any]
    ) -> list[Any]:
        """`name(*columns, boards)` as a list; a board whose call raises is lost, its entry None."""
        if len(boards) == 0:
            return []
        try:
            out = getattr(self.env, name)(*(column.copy() for column in columns), boards.copy())
            return list(check(out, boards))
        except EnvError:
            raise
        except BoardsLost as error:
            for board, message in error.errors.items():
                self.errors.setdefault(board, message)
            kept = ~np.isin(boards, list(error.errors))
            rest = iter(self._each(name, boards[kept], check, *(c[kept] for c in columns)))
            return [next(rest) if keep else None for keep in kept]
        except (Exception, SystemExit) as error:
            if len(boards) == 1:
                self.errors.setdefault(int(boards[0]), f"{name}() {describe(error)}")
                return [None]
        rows = (slice(i, i + 1) for i in range(len(boards)))
        return [self._each(name, boards[row], check, *(c[row] for c in columns))[0] for row in rows]


def _array_check(name: str, dtype: Any) -> Callable[[Any, Boards], Sequence[Any]]:
    return lambda out, boards: check_array(f"{name}()", "values", out, dtype, len(boards)).tolist()


def _failed(message: str, num_boards: int = 1) -> TurnOut:
    no = np.zeros(num_boards, bool)
    return TurnOut(np.zeros(num_boards, np.float32), ~no, no, no, no, [message] * num_boards)


def _joined(parts: Sequence[TurnOut]) -> TurnOut:
    arrays = {
        name: np.concatenate([np.zeros(0, dtype), *(getattr(part, name) for part in parts)])
        for name, dtype in {"rewards": np.float32, **dict.fromkeys(FLAGS, np.bool_)}.items()
    }
    return TurnOut(**arrays, error=[message for part in parts for message in part.error])
