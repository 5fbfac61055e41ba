"""Finds where an environment breaks the protocol of `protocol.py`, and says which call and which boards."""

from __future__ import annotations

import io
import statistics
from collections.abc import Callable, Sequence
from contextlib import nullcontext, redirect_stdout
from typing import Any

from lamer_fast.envs.contract import EnvError, check_members
from lamer_fast.envs.player import Player
from lamer_fast.envs.rules import ALWAYS, FURTHER, at_once
from lamer_fast.text import one_line

MUCH_LONGER = 10  # times `slow_s`: one call alone is then worth a sentence


def check_env(
    env: Any,
    *,
    replies: Sequence[str] = (),
    num_turns: int = 12,
    seed: int = 0,
    quick: bool = False,
    make: Callable[[int], Any] | None = None,
    slow_s: float = 1.0,
    max_chars: int = 100_000,
    doing: Callable[[str], None] = lambda what: None,
) -> list[str]:
    """Plays `env` on purpose-made calls; every board of it is reset.

    Args:
        env: an implementation of `TextBatchEnv`, with at least 2 boards (3 and more find more).
        replies: texts that `step` should be able to parse, played at random. Not needed when the environment
            has `legal_actions` or `expert_replies`. Without any, no finished board is ever seen.
        num_turns: turns of each random game.
        seed: of the boards and of the random replies.
        quick: only what a run cannot do without, as at its start. The full check also asks for the same game
            again, after a restart, beside other boards and from another thread, for hostile replies and the
            files they write, slow calls, long texts, what is printed, and the optional members.
        make: `make(num_envs)` gives another environment like `env`: two of them are then played at once.
        slow_s: a call whose median time is longer is reported, or one that takes ten times as long; it stops
            the sampling of all boards.
        max_chars: a longer observation is reported.
        doing: is told what comes next, for whoever watches a process that may die of it.

    Returns:
        One sentence for each violation, in the order found; [] when there is none.
    """
    try:
        check_members(env)
    except EnvError as error:
        return [str(error)]
    num_envs = getattr(env, "num_envs", None)
    if not isinstance(num_envs, int) or num_envs < 2:
        return [f"num_envs must be an int of at least 2 for this check, got {num_envs!r}"]
    found: list[str] = []
    player = Player(env, replies, num_turns, seed)
    player.doing = doing
    printed = _Printed(player)
    with nullcontext() if quick else redirect_stdout(printed):
        found += _play(player, quick, make)
    if printed.by:
        quoted = ascii(one_line(printed.getvalue(), 40))
        found.append(f"{printed.by}() prints to stdout, where the run shows its progress: {quoted}")
    if not quick:
        found += _slow_or_long(player, slow_s, max_chars)
    return list(dict.fromkeys(found))


class _Printed(io.StringIO):
    """Remembers which call printed first."""

    def __init__(self, player: Player) -> None:
        super().__init__()
        self.player, self.by = player, ""

    def write(self, text: str) -> int:
        self.by = self.by or self.player.now
        return super().write(text)


def _play(player: Player, quick: bool, make: Callable[[int], Any] | None) -> list[str]:
    found: list[str] = []
    doing, num_envs = player.doing, player.env.num_envs
    for rule in ALWAYS if quick else (*ALWAYS, *FURTHER):
        doing(f"check of {rule.__name__.replace('_', ' ')}")
        try:
            player.start()
            found += rule(player)
        except EnvError as error:
            found.append(str(error))
    if make is not None:
        doing("two environments at once")
        others = [make(num_envs) for _ in range(2)]
        players = [Player(other, player.replies, player.num_turns, player.seed) for other in others]
        found += at_once(player, players)
    return found


def _slow_or_long(player: Player, slow_s: float, max_chars: int) -> list[str]:
    medians = {name: statistics.median(seconds) for name, seconds in player.seconds.items()}
    found = [
        f"{name}() takes {s:.2g} s: one slow call stops the sampling of all boards"
        for name, s in medians.items()
        if s > slow_s
    ]
    found += [
        f"a call of {name}() took {max(seconds):.2g} s, half of them {medians[name]:.2g} s or less"
        for name, seconds in player.seconds.items()
        if max(seconds) > MUCH_LONGER * slow_s and medians[name] <= slow_s
    ]
    if player.longest_text > max_chars:
        found.append(f"observe() returned a text of {player.longest_text} characters, over {max_chars}")
    return found
