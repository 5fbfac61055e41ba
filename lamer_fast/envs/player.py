"""Player: an environment with its answers checked, its calls timed, its replies chosen, for `check_env`."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.contract import EnvError, check_actions, check_array, check_texts, check_turn, describe
from lamer_fast.envs.protocol import TurnOut

Boards = NDArray[np.int64]


class Player:
    """Whatever raises or breaks the protocol is an EnvError whose message is the sentence to report."""

    def __init__(self, env: Any, replies: Sequence[str] = (), num_turns: int = 0, seed: int = 0) -> None:
        self.env, self.replies, self.num_turns, self.seed = env, replies, num_turns, seed
        self.rng = np.random.default_rng(seed)
        self.seeds = self.rng.integers(0, 2**64, env.num_envs, dtype=np.uint64, endpoint=False)
        self.all = np.arange(env.num_envs, dtype=np.int64)
        self.seconds: dict[str, list[float]] = {}
        self.longest_text = 0
        self.now = ""  # the call that is being made
        self.doing: Callable[[str], None] = lambda what: None

    def has(self, name: str) -> bool:
        return callable(getattr(self.env, name, None))

    def call(self, name: str, *arguments: Any) -> Any:
        started, self.now = time.perf_counter(), name
        try:
            return getattr(self.env, name)(*arguments)
        except (Exception, SystemExit) as error:
            raise EnvError(f"{name}() {describe(error)}") from error
        finally:
            self.seconds.setdefault(name, []).append(time.perf_counter() - started)

    def start(self) -> None:
        self.reset(self.seeds.copy())

    def reset(self, seeds: NDArray[np.uint64], *env_idx: Boards) -> None:
        self.call("reset", seeds, *env_idx)

    def restart(self, env_idx: Boards) -> None:
        self.call("restart", env_idx)

    def observe(self, env_idx: Boards) -> list[str]:
        texts = self.call("observe", env_idx)
        checked = check_texts("observe", texts, env_idx)
        self.longest_text = max(self.longest_text, *map(len, checked))
        return checked

    def step(self, replies: Sequence[str], env_idx: Boards) -> TurnOut:
        """The environment's own arrays, not copies of them."""
        out: TurnOut = self.call("step", list(replies), env_idx)
        check_turn(out, env_idx)
        return out

    def task_texts(self, env_idx: Boards) -> list[str]:
        if not self.has("task_texts"):
            return [""] * len(env_idx)
        return check_texts("task_texts", self.call("task_texts", env_idx), env_idx)

    def tasks(self, env_idx: Boards) -> NDArray[np.uint64]:
        return check_array("tasks()", "values", self.call("tasks", env_idx), np.uint64, len(env_idx)).copy()

    def legal_actions(self, env_idx: Boards) -> list[list[str]]:
        return check_actions(self.call("legal_actions", env_idx), env_idx)

    def look(self, env_idx: Boards) -> list[Any]:
        """All that can be seen of each board: its text, with its anchor and task where there are any."""
        rows: list[Any] = [[text] for text in self.observe(env_idx)]
        for name, dtype in (("anchors", np.int64), ("tasks", np.uint64)):
            if self.has(name):
                values = self.call(name, env_idx)
                check_array(f"{name}()", "values", values, dtype, len(env_idx))
                rows = [[*row, value] for row, value in zip(rows, values.tolist(), strict=True)]
        return rows

    def choose(self, env_idx: Boards, rng: np.random.Generator | None = None) -> list[str]:
        """A reply for each board that `step` should be able to parse, or "" where none is known."""
        rng = rng or self.rng
        choices: list[list[str]] = [list(self.replies)] * len(env_idx)
        if not self.replies and self.has("legal_actions"):
            choices = self.legal_actions(env_idx)
        elif not self.replies and self.has("expert_replies"):
            replies = self.call("expert_replies", env_idx, 0.0, self.seeds[: len(env_idx)])
            choices = [[reply] for reply in replies]
        return [str(rng.choice(c)) if len(c) else "" for c in choices]

    def game(self, board: int = 0, beside: bool = False, before: int = 0) -> list[Any]:
        """What a board shows and pays over a game of its own replies.

        Args:
            beside: the other boards move in between.
            before: turns of other replies that are played first, and ended by a restart.
        """
        self.start()
        own, other, first = (np.random.default_rng([self.seed, i]) for i in range(3))
        one, others = self.all[[board]], np.delete(self.all, board)
        for _ in range(before):
            self.step(self.choose(one, first), one)
        if before:
            self.restart(one)
        story = [self.look(one)]
        for _ in range(self.num_turns):
            for i in others if beside else ():
                self.step(self.choose(i[None], other), i[None])
            out = self.step(self.choose(one, own), one)
            story.append([self.look(one), out.rewards.tolist(), out.done.tolist(), out.success.tolist()])
        return story
