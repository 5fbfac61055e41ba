"""What an environment may answer: types, shapes and values of the protocol, each breach as one clear line."""

from __future__ import annotations

import traceback
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.protocol import TurnOut
from lamer_fast.text import one_line

CALLS = ("reset", "restart", "step", "observe", "task_prompt")
FLAGS = ("done", "truncated", "success", "valid")
MAX_REWARD = 1e12  # sums of squares of rewards stay finite in float32
MAX_MESSAGE = 500  # characters of an environment's own words that a line of ours quotes


class EnvError(ValueError):
    """An environment broke the protocol, or failed on every board. The message is one line."""


class BoardsLost(Exception):
    """A call names boards that failed before: `errors` says why of each. The others have not changed."""

    def __init__(self, errors: dict[int, str]) -> None:
        super().__init__("; ".join(f"board {board}: {message}" for board, message in errors.items()))
        self.errors = errors


class AllLostError(EnvError):
    """The second of the two: no trial was left."""


def check_members(env: Any) -> None:
    missing = [name for name in CALLS if not callable(getattr(env, name, None))]
    if missing:
        raise EnvError(f"the environment {type(env).__name__} has no {', '.join(f'{m}()' for m in missing)}")


def check_texts(call: str, texts: Any, env_idx: NDArray[np.int64]) -> list[str]:
    """The answer of `call` as a list of B texts. Lone surrogates, which no tokenizer takes, become `?`."""
    if not isinstance(texts, (list, tuple)):
        raise EnvError(f"{call}() returned {_a(texts)}, expected a list of {len(env_idx)} texts")
    if len(texts) != len(env_idx):
        raise EnvError(f"{call}() returned {len(texts)} texts, expected {len(env_idx)}")
    for board, text in zip(env_idx, texts, strict=True):
        if not isinstance(text, str):
            raise EnvError(f"{call}() returned {_a(text)} for board {board}, expected a text")
    return [text if text.isascii() else text.encode("utf-8", "replace").decode() for text in texts]


def check_actions(lists: Any, env_idx: NDArray[np.int64]) -> list[list[str]]:
    """The answer of `legal_actions` as B lists of texts."""
    if not isinstance(lists, (list, tuple)):
        raise EnvError(f"legal_actions() returned {_a(lists)}, expected a list of {len(env_idx)} lists")
    if len(lists) != len(env_idx):
        raise EnvError(f"legal_actions() returned {len(lists)} lists, expected {len(env_idx)}")
    for board, actions in zip(env_idx, lists, strict=True):
        if not isinstance(actions, (list, tuple)) or not all(isinstance(a, str) for a in actions):
            raise EnvError(f"legal_actions() returned no list of texts for board {board}")
    return [list(actions) for actions in lists]


def check_array(call: str, what: str, values: Any, dtype: Any, num_boards: int) -> NDArray[Any]:
    """`values` if it is an array of `dtype` and shape [num_boards]."""
    if not isinstance(values, np.ndarray):
        raise EnvError(f"{call} returned {what} as {_a(values)}, expected a numpy array")
    if values.shape != (num_boards,):
        raise EnvError(f"{call} returned {what} of shape {values.shape}, expected ({num_boards},)")
    if values.dtype != dtype:
        raise EnvError(f"{call} returned {what} of dtype {values.dtype}, expected {np.dtype(dtype)}")
    return values


def check_turn(out: Any, env_idx: NDArray[np.int64], call: str = "step") -> TurnOut:
    """The answer of `step` or `poll`, copied; a board with an `error` is done, without reward or success."""
    B = len(env_idx)
    if not isinstance(out, TurnOut):
        raise EnvError(f"{call}() returned {_a(out)}, expected a TurnOut")
    rewards = check_array(f"{call}()", "rewards", out.rewards, np.float32, B).copy()
    flags = {name: check_array(f"{call}()", name, getattr(out, name), np.bool_, B).copy() for name in FLAGS}
    error = _errors(call, out.error, env_idx)
    failed = np.array([message is not None for message in error], bool)
    rewards[failed] = 0.0
    for name, values in flags.items():
        values[failed] = name == "done"
    wrong = np.flatnonzero(~(np.abs(rewards) <= MAX_REWARD))  # also catches nan
    if wrong.size:
        raise EnvError(
            f"{call}() returned reward {rewards[wrong[0]]} for board {env_idx[wrong[0]]}, "
            f"expected a number from -{MAX_REWARD:g} to {MAX_REWARD:g}"
        )
    for name in ("success", "truncated"):
        wrong = np.flatnonzero(flags[name] & ~flags["done"])
        if wrong.size:
            raise EnvError(f"{call}() returned {name} without done for board {env_idx[wrong[0]]}")
    return TurnOut(rewards, error=error, **flags)


def _errors(call: str, error: Any, env_idx: NDArray[np.int64]) -> list[str | None]:
    if not isinstance(error, (list, tuple)):
        raise EnvError(f"{call}() returned error as {_a(error)}, expected a list of {len(env_idx)}")
    if len(error) != len(env_idx):
        raise EnvError(f"{call}() returned error of length {len(error)}, expected {len(env_idx)}")
    for board, message in zip(env_idx, error, strict=True):
        if not (message is None or isinstance(message, str)):
            raise EnvError(
                f"{call}() returned error {_a(message)} for board {board}, expected None or a text"
            )
    return [None if message is None else one_line(message, MAX_MESSAGE) for message in error]


def task_prompt(env: Any) -> str:
    """The environment's, which must be a text."""
    try:
        prompt = env.task_prompt()
    except (Exception, SystemExit) as error:
        raise EnvError(f"task_prompt() {describe(error)}") from error
    if not isinstance(prompt, str) or not prompt:
        raise EnvError(f"task_prompt() returned {one_line(repr(prompt))}, expected a text")
    return prompt


def describe(error: BaseException) -> str:
    """`raised TYPE: message (file:line)` in one line; the place is where it was raised."""
    frames = traceback.extract_tb(error.__traceback__)
    place = f" ({Path(frames[-1].filename).name}:{frames[-1].lineno})" if frames else ""
    try:
        message = str(error)
    except Exception:  # an exception may fail to say what it is
        message = "(no message)"
    return f"raised {type(error).__name__}: {one_line(message, MAX_MESSAGE)}{place}"


def _a(value: Any) -> str:
    return f"a value of type {type(value).__name__}" if value is not None else "None"
