"""EnvPool: boards of a single environment (`TextEnv`), in worker processes, as a `TextBatchEnv`.

Board i lives in worker i modulo their number and knows neither. A worker plays one call after the other; what
a board shows is sent along with each answer, so that no `observe` waits for a worker. A board that raises,
answers what it may not, takes too long or ends its process is lost until its next `reset`. The other boards
of a worker that is gone are rebuilt in a new one: from the environment's own snapshot or else from their
seeds, and the replies of the episode since.
"""

from __future__ import annotations

import json
import os
import selectors
import time
import weakref
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.contract import BoardsLost, EnvError
from lamer_fast.envs.expert import with_noise
from lamer_fast.envs.options import PoolOptions
from lamer_fast.envs.pool_process import Job, WorkerProcess
from lamer_fast.envs.protocol import TurnOut
from lamer_fast.fields import to_flat
from lamer_fast.text import one_line

START_S = 120.0  # for the imports of an environment and its first board, or `timeout_s` where that is more
LOOK_S = 0.2  # how often it is looked whether a silent worker is still alive
GOODBYE_S = 0.5  # for workers to end by themselves
READ = selectors.EVENT_READ
# member of a batch -> of a single environment
OPTIONAL = {
    "anchors": "anchor", "tasks": "task", "task_texts": "task_text", "legal_actions": "legal_actions",
    "expert_replies": "expert", "expert_notes": "expert_note",
}  # fmt: skip

Boards = NDArray[np.int64]
Turn = list[Any]  # reward, done, truncated, success, valid
FAILED: Turn = [0.0, True, False, False, False]


@dataclass(slots=True)
class BoardState:
    """What the pool knows of a board."""

    draw: int = 0
    seed: int | None = None
    replies: list[str] = field(default_factory=list)  # of the episode, as far as they are answered
    state: list[Any] | None = None  # a snapshot of this episode
    num_past: int = 0  # replies that it is the state after
    start: list[Any] | None = None  # what `reset` showed
    shown: list[Any] | None = None  # what it shows to the caller: None until a reset is answered
    heard: list[Any] | None = None  # what its worker answered last
    error: str | None = None
    begun: bool = False  # a turn is under way
    said: Any = None  # what it was asked for beside its turns


class EnvPool:
    """`num_envs` boards of the single environment that `options.name` names.

    Args:
        options: of the environment, with those of a pool.
        split: handed to a factory that keeps splits apart itself.

    Raises:
        EnvError: the environment cannot be imported or made in a worker.
    """

    def __init__(self, options: PoolOptions, num_envs: int, split: str | None = None) -> None:
        self.num_envs = num_envs
        self.options = options
        self._first = {"name": options.name, "options": to_flat(options), "split": split}
        self._boards = [BoardState() for _ in range(num_envs)]
        self._over: dict[int, Turn] = {}
        self._members: list[str] = []  # of a single environment: those that are part of what is seen
        self._asked: list[str] = []  # and those that are asked for
        self._prompt = ""
        self._selector = selectors.DefaultSelector()
        num_workers = min(num_envs, options.workers or len(os.sched_getaffinity(0)))
        self._workers: list[WorkerProcess] = []
        self.close = weakref.finalize(self, _end, self._workers, self._selector, os.getpid())
        for _ in range(num_workers):
            self._workers.append(self._start())
        self._wait(lambda: not any(worker.jobs for worker in self._workers))

    def reset(self, seeds: NDArray[np.uint64], env_idx: Boards | None = None) -> None:
        boards = np.arange(self.num_envs) if env_idx is None else env_idx
        self._draw({i: BoardState(seed=s) for i, s in zip(boards.tolist(), seeds.tolist(), strict=True)})

    def restart(self, env_idx: Boards) -> None:
        """Returns at once: what a board shows then is known from its `reset`."""
        for i in env_idx.tolist():
            board = self._boards[i]
            if board.error is None and board.start is not None:
                board.shown = board.start
                self._tell(i, "restart")
        self._flush()

    def step(self, replies: Sequence[str], env_idx: Boards) -> TurnOut:
        boards = env_idx.tolist()
        self._submit(replies, boards)
        self._wait(lambda: all(i in self._over for i in boards))
        return self._turns(boards)

    def observe(self, env_idx: Boards) -> list[str]:
        return [shown[0] for shown in self._shown(env_idx)]

    def task_prompt(self) -> str:
        return self._prompt

    def snapshot(self, env_idx: Boards) -> bytes:
        self._shown(env_idx)
        self._wait(lambda: not any(worker.jobs for worker in self._workers))  # restarts, and turns
        has_own = {"snapshot", "restore"} <= set(self._asked)
        states = self._say("snapshot", env_idx) if has_own else [None] * len(env_idx)
        self._shown(env_idx)  # a board that has failed over it
        boards = [self._boards[i] for i in env_idx.tolist()]
        rows = zip(boards, states, strict=True)
        told = [[b.seed, b.replies, b.start, state] for b, state in rows]
        return json.dumps(told).encode()  # noqa: TID251  # for `restore` alone

    def restore(self, data: bytes, env_idx: Boards) -> None:
        drawn = {}
        for i, (seed, replies, start, state) in zip(env_idx.tolist(), json.loads(data), strict=True):
            num_past = 0 if state is None else len(replies)
            drawn[i] = BoardState(seed=seed, replies=replies, state=state, num_past=num_past, start=start)
        self._draw(drawn)

    def __getattr__(self, name: str) -> Any:
        """The optional members, where the environment has them."""
        known = (*self.__dict__.get("_members", ()), *self.__dict__.get("_asked", ()))
        if OPTIONAL.get(name) in known:
            return getattr(self, f"_{name}")
        raise AttributeError(f"{type(self).__name__!r} has no {name!r}")

    def _anchors(self, env_idx: Boards) -> NDArray[np.int64]:
        return np.array(self._member("anchor", env_idx), np.int64)

    def _tasks(self, env_idx: Boards) -> NDArray[np.uint64]:
        return np.array(self._member("task", env_idx), np.uint64)

    def _task_texts(self, env_idx: Boards) -> list[str]:
        return self._member("task_text", env_idx)

    def _legal_actions(self, env_idx: Boards) -> list[list[str]]:
        return self._member("legal_actions", env_idx)

    def _expert_replies(
        self, env_idx: Boards, noise: float | NDArray[np.float32], seeds: NDArray[np.uint64]
    ) -> list[str]:
        if np.any(np.asarray(noise) > 0) and "legal_actions" not in self._members:
            raise ValueError(f"noise = {noise} of an expert needs legal_actions() of the environment")
        replies = self._say("expert", env_idx)
        if "legal_actions" not in self._members:
            return replies
        alive = [i for i in env_idx.tolist() if self._boards[i].error is None]
        legal = dict(zip(alive, self._legal_actions(np.array(alive, np.int64)), strict=True))
        return with_noise(replies, [legal.get(i, []) for i in env_idx.tolist()], noise, seeds)

    def _expert_notes(self, env_idx: Boards) -> list[str]:
        return self._say("expert_note", env_idx)

    def _say(self, name: str, env_idx: Boards) -> list[Any]:
        """What the boards answer to a question; "" of a board that fails over it: its next turn tells why."""
        self._shown(env_idx)
        boards = [self._boards[i] for i in env_idx.tolist()]
        for i, board in zip(env_idx.tolist(), boards, strict=True):
            board.said = None
            self._tell(i, name)
        self._wait(lambda: all(board.said is not None or board.error for board in boards))
        return ["" if board.said is None else board.said for board in boards]

    def _member(self, name: str, env_idx: Boards) -> list[Any]:
        at = 1 + self._members.index(name)
        return [shown[at] for shown in self._shown(env_idx)]

    def _shown(self, env_idx: Boards) -> list[list[Any]]:
        boards = [self._boards[i] for i in env_idx.tolist()]
        errors = {
            i: board.error or "the board was never reset"
            for i, board in zip(env_idx.tolist(), boards, strict=True)
            if board.error or board.shown is None
        }
        if errors:
            raise BoardsLost(errors)
        return [board.shown for board in boards if board.shown is not None]

    def _draw(self, drawn: dict[int, BoardState]) -> None:
        for i, board in drawn.items():
            self._over.pop(i, None)
            board.draw = self._boards[i].draw + 1
            self._boards[i] = board
            self._make(i, "reset")
        self._wait(lambda: all(board.shown is not None or board.error for board in drawn.values()))

    def _make(self, i: int, kind: str) -> None:
        """A board in its worker, by what is known of it; also after its process was lost."""
        board = self._boards[i]
        self._tell(i, kind, board.seed, board.replies[board.num_past :], board.state)

    def _submit(self, replies: Sequence[str], boards: Sequence[int]) -> None:
        for i, reply in zip(boards, replies, strict=True):
            board = self._boards[i]
            if board.error is None and board.shown is None:
                board.error = "the board was never reset"
            if board.error is not None:
                self._over[i] = FAILED
                continue
            board.begun = True
            self._tell(i, "step", reply)
        self._flush()

    def _poll(self, wait_s: float) -> tuple[Boards, TurnOut]:
        self._wait(lambda: bool(self._over), wait_s)
        boards = list(self._over)
        return np.array(boards, np.int64), self._turns(boards)

    def _turns(self, boards: Sequence[int]) -> TurnOut:
        turns = [self._over.pop(i) for i in boards]
        errors = [self._boards[i].error for i in boards]
        flags = np.array([turn[1:] for turn in turns], np.bool_).reshape(-1, 4)
        done, truncated, success, valid = flags.T.copy()
        rewards = np.array([turn[0] for turn in turns], np.float32)
        return TurnOut(rewards, done, truncated, success, valid, errors)

    def _tell(self, i: int, kind: str, *arguments: Any) -> None:
        board = self._boards[i]
        num_calls = 1 + len(arguments[1]) if kind in ("reset", "rebuild") else 1
        job = Job(kind, i, board.draw, list(arguments), num_calls * self.options.timeout_s)
        self._workers[i % len(self._workers)].tell(job)

    def _start(self) -> WorkerProcess:
        worker = WorkerProcess()
        self._selector.register(worker, READ, worker)
        worker.tell(Job("start", -1, 0, [self._first], max(START_S, self.options.timeout_s)))
        return worker

    def _flush(self) -> None:
        for worker in self._workers:
            left = worker.flush()
            events = READ | selectors.EVENT_WRITE if left else READ
            if self._selector.get_key(worker).events != events:
                self._selector.modify(worker, events, worker)

    def _wait(self, is_enough: Callable[[], bool], wait_s: float = float("inf")) -> None:
        """Hears the workers until it is enough or the time is over."""
        until = time.monotonic() + wait_s
        self._hear(0.0)
        while not is_enough() and (left_s := until - time.monotonic()) > 0:
            self._hear(min(left_s, LOOK_S))

    def _hear(self, wait_s: float) -> None:
        self._flush()
        wait_s = max(0.0, min(wait_s, *(worker.left_s() for worker in self._workers)))
        heard = set()
        for key, _ in self._selector.select(wait_s):
            heard.add(key.fd)
            for job, answer in key.data.receive():
                self._take(job, answer)
        for slot, worker in enumerate(self._workers):
            if worker.closed or (worker.fileno() not in heard and wait_s and worker.ended()):
                self._replace(slot, "its process ended ({})")
            elif worker.left_s() <= 0:
                self._replace(
                    slot, f"no answer for {worker.jobs[0].limit_s:g} s, its process was killed ({{}})"
                )

    def _take(self, job: Job, answer: dict[str, Any]) -> None:
        if job.kind == "start":
            if "error" in answer:
                raise EnvError(f"env.name = {self.options.name!r} {one_line(answer['error'], 1000)}")
            self._members, self._asked, self._prompt = answer["has"], answer["asked"], answer["prompt"]
            return
        board = self._boards[job.board]
        if job.draw != board.draw:
            return
        view, error = answer.get("view"), answer.get("error")
        if error is None and "said" in answer:
            board.said = answer["said"]
            return
        if error is not None:
            pass
        elif job.kind == "reset":
            board.start, board.shown = answer.get("start", board.start), view
        elif job.kind == "restart":
            board.replies, board.state, board.num_past = [], None, 0
            if view != board.start:
                error = "restart() does not give the state that reset() left"
        elif job.kind == "rebuild":
            if view != board.heard:
                error = "in another process the same seed and replies led to another state"
                if board.state is not None:
                    error = "in another process restore(snapshot()) led to another state"
        elif board.begun:
            board.replies.append(job.arguments[0])
            if "state" in answer:
                board.state, board.num_past = answer["state"], len(board.replies)
            board.shown, board.begun = view, False
            self._over[job.board] = answer["turn"]
        board.heard = view
        if error is not None:
            self._lose(job.board, error)

    def _lose(self, i: int, error: str) -> None:
        board = self._boards[i]
        board.error = board.error or error
        if board.begun or i in self._over:
            self._over[i] = FAILED
        board.begun = False

    def _replace(self, slot: int, why: str) -> None:
        """A new worker in the place of one that is gone; the job that it was at work on is to blame."""
        worker = self._workers[slot]
        jobs, guilty = list(worker.jobs), worker.at_work_on()
        self._selector.unregister(worker)
        why = why.format(worker.end())
        if guilty is not None and guilty.kind == "start":
            raise EnvError(f"env.name = {self.options.name!r} cannot be made in a process of its own: {why}")
        self._workers[slot] = self._start()
        if guilty is not None and guilty.draw == self._boards[guilty.board].draw:
            call = "reset" if guilty.kind == "rebuild" else guilty.kind
            self._lose(guilty.board, f"{call}(): {why}")
        for i in range(slot, self.num_envs, len(self._workers)):
            board = self._boards[i]
            if board.error is None and board.heard is not None:
                self._make(i, "rebuild")
        for job in jobs:
            board = self._boards[job.board]
            if job.kind != "rebuild" and job.draw == board.draw and board.error is None:
                self._workers[slot].tell(job)
        self._flush()


class AsyncEnvPool(EnvPool):
    """The same, for callers that do other things while boards play."""

    def submit(self, replies: Sequence[str], env_idx: Boards) -> None:
        self._submit(replies, env_idx.tolist())

    def poll(self, wait_s: float = 0.0) -> tuple[Boards, TurnOut]:
        return self._poll(wait_s)


def _end(workers: list[WorkerProcess], selector: selectors.BaseSelector, owner: int) -> None:
    if os.getpid() != owner:  # a fork: they are not its own
        return
    selector.close()
    for worker in workers:
        worker.hang_up()
    until = time.monotonic() + GOODBYE_S
    while time.monotonic() < until and not all(worker.ended() for worker in workers):
        time.sleep(0.005)
    for worker in workers:
        worker.end()
