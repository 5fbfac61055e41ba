"""EnvGuard: a board that fails is found, the others go on as if nothing had happened."""

import re

import numpy as np
import pytest

from lamer_fast.rollout.guard import STEPPED, EnvGuard
from tests.scripted import PlannedEnv


class Raises(PlannedEnv):
    """Raises in `call` when board `guilty` is named, before or `after` it has stepped the others."""

    def __init__(self, call: str, guilty: int, after: bool = False) -> None:
        super().__init__([["9", "9"]] * 4)
        self.call, self.guilty, self.after = call, guilty, after

    def _check(self, call, env_idx) -> None:
        if call == self.call and self.guilty in env_idx:
            raise RuntimeError(f"board {self.guilty} is on fire")

    def step(self, replies, env_idx):
        if self.after and self.guilty in env_idx:
            self.turn[env_idx[env_idx < self.guilty]] += 1
        self._check("step", env_idx)
        return super().step(replies, env_idx)

    def observe(self, env_idx):
        self._check("observe", env_idx)
        return super().observe(env_idx)

    def restart(self, env_idx):
        self._check("restart", env_idx)
        super().restart(env_idx)


def step_all(env):
    guard, boards = EnvGuard(env), np.arange(4)
    anchors = guard.anchors(boards, PlannedEnv.observe(env, boards))
    guard.submit(["ok"] * 4, boards, anchors)
    played, out = guard.poll(0.0)
    assert played.tolist() == boards.tolist()
    return guard, (out.rewards, out.done, out.truncated, out.success, out.valid)


def test_a_raising_step_loses_the_guilty_board_only():
    env = Raises("step", guilty=2)
    guard, (rewards, done, truncated, success, valid) = step_all(env)
    assert list(guard.errors) == [2]
    assert re.fullmatch(
        r"step\(\) raised RuntimeError: board 2 is on fire \(test_env_guard.py:\d+\)", guard.errors[2]
    )
    assert env.turn.tolist() == [1, 1, 0, 1], "the others made their turn, once"
    assert done.tolist() == [False, False, True, False]
    assert valid.tolist() == [True, True, False, True]
    assert rewards[2] == 0 and not truncated.any() and not success.any()


def test_boards_that_the_failed_call_had_changed_are_lost_too():
    env = Raises("step", guilty=2, after=True)
    guard, _ = step_all(env)
    assert sorted(guard.errors) == [0, 1, 2]
    assert STEPPED in guard.errors[0] and "on fire" in guard.errors[2]
    assert env.turn.tolist() == [1, 1, 0, 1], "no board was stepped twice"


@pytest.mark.parametrize("call", ["observe", "restart"])
def test_other_calls_are_confined_as_well(call):
    env = Raises(call, guilty=1)
    guard = EnvGuard(env)
    guard.restart(np.arange(4))
    observed = guard.observe(np.arange(4))
    assert list(guard.errors) == [1]
    assert [bool(text) for text in observed] == [True, call == "restart", True, True]


def test_anchors_are_the_environments_own_or_a_hash_of_the_text():
    env = PlannedEnv([["9"]] * 3)
    texts = ["same", "other", "same"]
    hashed = EnvGuard(env).anchors(np.arange(3), texts)
    assert hashed[0] == hashed[2] != hashed[1] and hashed.dtype == np.int64
    env.anchors = lambda env_idx: env_idx * 10
    assert EnvGuard(env).anchors(np.array([2, 0]), texts[:2]).tolist() == [20, 0]
