"""The package and the native stepper side by side, on every game of a split: is there a difference?"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from lamer_fast.envs.adapters.alfworld.board import Board
from lamer_fast.envs.adapters.alfworld.games import games
from lamer_fast.envs.adapters.alfworld.native import NativeAlfworld
from lamer_fast.envs.protocol import Turn

TOLD_EVERY = 20  # games
ODD = (
    "",
    "<action>look\0</action>",
    "<action>fly</action>",
    "<action> LOOK  </action>",
    "<action>help</action>",
)
ONE = np.zeros(1, np.int64)


def compare(data: str | None, names: Sequence[str], turns: int, seed: int) -> Iterator[str]:
    """Plays each game twice: by its walkthrough, where it has one, and by random commands.

    Yields:
        lines of what has been found equal.

    Raises:
        ValueError: the first difference, with the game and the turn.
    """
    package, native = Board(games(data), names, "full"), NativeAlfworld(data, names, 1, "full")
    played = 0
    for number in range(len(names)):
        walkthrough = games(data).content(names[number]).get("walkthrough") or []
        rng = np.random.default_rng([seed, number])
        for plan in (walkthrough, None):
            played += _walk(package, native, number, plan, turns, rng)
        if (number + 1) % TOLD_EVERY == 0 or number + 1 == len(names):
            yield f"{number + 1:,} of {len(names):,} games, {played:,} turns: equal"


def _walk(
    package: Any, native: Any, number: int, plan: Sequence[str] | None, turns: int, rng: np.random.Generator
) -> int:
    package.reset(number)
    native.reset(np.array([number], np.uint64))
    history = ["reset"]
    turn: Turn | None = None
    _equal(history, native.names[number], turn, turn, package, native)
    left = [f"<action>{command}</action>" for command in plan] if plan is not None else None
    while len(history) <= (turns if left is None else 10_000) and not (turn and turn.done):
        if left is not None and not left:
            break
        odd = rng.random() < 0.1
        menu = ODD if odd else package.legal_actions()
        reply = str(menu[int(rng.integers(len(menu)))]) if odd or left is None else left.pop(0)
        history.append(reply)
        turn, out = package.step(reply), native.step([reply], ONE)
        if out.error[0] is not None:
            raise ValueError(f"game {native.names[number]}: {out.error[0]}")
        ours = Turn(float(out.rewards[0]), bool(out.done[0]), bool(out.success[0]), valid=bool(out.valid[0]))
        _equal(history, native.names[number], turn, ours, package, native)
    return len(history)


def _equal(
    history: Sequence[str], name: str, theirs: Turn | None, ours: Turn | None, package: Any, native: Any
) -> None:
    pairs = {
        "turn": (theirs, ours),
        "text": (package.observe(), native.observe(ONE)[0]),
        "commands": (package.legal_actions(), native.legal_actions(ONE)[0]),
        "task": (package.task_text(), native.task_texts(ONE)[0]),
        "id": (package.task(), int(native.tasks(ONE)[0])),
    }
    for what, (expected, got) in pairs.items():
        if expected != got:
            raise ValueError(
                f"game {name}, after {len(history) - 1} replies, the last {history[-1]!r}: the {what} of "
                f"the package is {expected!r}, the native stepper's {got!r}"
            )
