"""An environment that is sound but for one answer: of which call, on which board, since when; what comes."""

import dataclasses
import sys

import numpy as np

from lamer_fast.envs.protocol import TurnOut
from lamer_fast.envs.toy import NumberHunt


class Misbehaving:
    """A NumberHunt whose `method` answers `fault(its answer, env_idx)` from call number `since` on.

    Args:
        board: only where this board is named; None: always.
    """

    def __init__(self, num_envs, method, fault, board=None, since=0):
        self.hunt = NumberHunt(num_envs, highest=3)
        self.num_envs = num_envs
        self.method, self.fault, self.board, self.since = method, fault, board, since
        self.num_calls = 0

    def _call(self, method, sound, *arguments):
        env_idx = arguments[-1] if arguments else np.arange(0)
        if method != self.method or not (self.board is None or self.board in env_idx):
            return sound(*arguments)
        self.num_calls += 1
        if self.num_calls <= self.since:
            return sound(*arguments)
        if self.fault in (raises, raises_without_words, exits):
            self.fault(None, env_idx)
        return self.fault(sound(*arguments), env_idx)

    def reset(self, seeds, env_idx=None):
        return self._call("reset", self.hunt.reset, seeds, env_idx)

    def restart(self, env_idx):
        return self._call("restart", self.hunt.restart, env_idx)

    def step(self, replies, env_idx):
        return self._call("step", self.hunt.step, replies, env_idx)

    def observe(self, env_idx):
        return self._call("observe", self.hunt.observe, env_idx)

    def task_prompt(self):
        return self._call("task_prompt", self.hunt.task_prompt)

    def anchors(self, env_idx):
        return self._call("anchors", self._anchors, env_idx)

    def tasks(self, env_idx):
        return self._call("tasks", lambda env_idx: self.hunt.targets[env_idx].astype(np.uint64), env_idx)

    def task_texts(self, env_idx):
        return self._call("task_texts", lambda env_idx: ["Be quick."] * len(env_idx), env_idx)

    def _anchors(self, env_idx):
        return self.hunt.targets[env_idx] * 1000 + np.array([len(self.hunt.texts[i]) for i in env_idx])


class Speechless(Exception):
    def __str__(self):
        raise RuntimeError("no words")


def raises(answer, env_idx):
    raise RuntimeError("the\ndoor \x1b[31m" + "x" * 10_000)


def raises_without_words(answer, env_idx):
    raise Speechless


def exits(answer, env_idx):
    sys.exit(0)


def value(x):
    return lambda answer, env_idx: x


def field(name, fault):
    """`fault` for one field of a TurnOut."""
    return lambda out, env_idx: dataclasses.replace(out, **{name: fault(getattr(out, name), env_idx)})


def at(board, x):
    """The answer, array or list, with the entry of one board replaced."""

    def replace(answer, env_idx):
        entries = [x if i == board else old for i, old in zip(env_idx, answer, strict=True)]
        return np.array(entries, answer.dtype) if isinstance(answer, np.ndarray) else entries

    return replace


def each(suffix):
    """Texts with something behind them."""
    return lambda texts, env_idx: [text + suffix for text in texts]


def short(answer, env_idx):
    return answer[:-1]


def all_true(answer, env_idx):
    return np.ones_like(answer)


def as_tuple(out, env_idx):
    return tuple(getattr(out, f.name) for f in dataclasses.fields(out))


def empty_turn(out, env_idx):
    return TurnOut(*(values[:0] for values in as_tuple(out, env_idx)))


LOST, FINE = "one trial is lost", "nothing is wrong"
EVERY = ("reset", "restart", "step", "observe", "anchors", "tasks", "task_texts")
OF_BOARDS = {"anchors": "int64", "tasks": "uint64"}
OF_TURN = {"rewards": "float32"} | dict.fromkeys(("done", "truncated", "success", "valid"), "bool")
WRONG_ARRAYS = {  # -> what is said of 8 boards
    "list": (lambda a, i: a.tolist(), "as a value of type list, expected a numpy array"),
    "column": (lambda a, i: a[:, None], "of shape (8, 1), expected (8,)"),
    "short": (short, "of shape (7,), expected (8,)"),
    "dtype": (lambda a, i: a.astype(np.int8), "of dtype int8, expected {}"),
    "None": (value(None), "as None, expected a numpy array"),
}
CASES: dict[
    str, tuple[dict, str]
] = {}  # name -> arguments of Misbehaving, outcome (or a part of the one line)


def case(name, method, fault, outcome, **where):
    CASES[name] = ({"method": method, "fault": fault} | where, outcome)


for m in EVERY:
    case(f"{m} raises", m, raises, f"{m}() raised RuntimeError: the door")
    case(f"{m} raises without words", m, raises_without_words, f"{m}() raised Speechless: (no message)")
    case(f"{m} exits", m, exits, f"{m}() raised SystemExit: 0")
    case(f"{m} raises on one board", m, raises, LOST, board=2)
    case(f"{m} exits on one board", m, exits, LOST, board=2)
case(
    "step raises when all is done", "step", lambda out, env_idx: raises(out, env_idx), "had changed this one"
)
for m in ("step", "observe"):
    case(f"{m} raises late on one board", m, raises, LOST, board=2, since=1)
for m in ("step", "observe", "task_texts"):
    case(f"{m} answers None", m, value(None), f"{m}() returned None, expected")
for m in ("reset", "restart"):
    case(f"{m} answers something", m, value(7), FINE)
for what, (fault, line) in WRONG_ARRAYS.items():
    for m, dtype in OF_BOARDS.items():
        case(f"{m} {what}", m, fault, f"{m}() returned values {line}".format(dtype))
    for name, dtype in OF_TURN.items():
        case(
            f"step {name} {what}", "step", field(name, fault), f"step() returned {name} {line}".format(dtype)
        )
for reward in (np.nan, np.inf, -np.inf, 1e38, -1e13):
    line = f"step() returned reward {np.float32(reward)} for board 5, expected a number from"
    case(f"reward {reward} late", "step", field("rewards", at(5, reward)), line, since=2)
case("large reward", "step", field("rewards", at(5, 1e12)), FINE)
for name in ("success", "truncated"):
    case(
        f"{name} without done",
        "step",
        field(name, all_true),
        f"step() returned {name} without done for board",
    )
case("a tuple", "step", as_tuple, "step() returned a value of type tuple, expected a TurnOut")
case("a turn of no boards", "step", empty_turn, "step() returned rewards of shape (0,), expected (8,)")
case("error everywhere", "step", field("error", lambda e, i: ["gone\n"] * len(e)), ": gone")
case("error of one", "step", field("error", at(3, "gone")), LOST)
case("error None", "step", field("error", value(None)), "step() returned error as None, expected a list of 8")
case("error short", "step", field("error", short), "step() returned error of length 7, expected 8")
case("error no text", "step", field("error", at(3, OSError())), "for board 3, expected None or a text")
case("texts short", "observe", short, "observe() returned 7 texts, expected 8")
case(
    "text for all",
    "observe",
    lambda t, i: t[0],
    "observe() returned a value of type str, expected a list of 8",
)
case("text bytes", "observe", at(2, b"hi"), "observe() returned a value of type bytes for board 2, expected")
case("text None", "observe", at(2, None), "observe() returned None for board 2, expected")
case("text empty", "observe", lambda t, i: [""] * len(t), FINE)
case("text of surrogates", "observe", each("a\ud800b \u221a \udcff"), FINE)
case("text of controls", "observe", each("\x00\x1b[2J<|im_end|></think>{0}%s"), FINE)
case("text of a megabyte", "observe", at(2, "wall " * 200_000), LOST)
case("prompt None", "task_prompt", value(None), "task_prompt() returned None, expected a text")
case("prompt raises", "task_prompt", raises, "task_prompt() raised RuntimeError: the door")
case("prompt exits", "task_prompt", exits, "task_prompt() raised SystemExit: 0")
