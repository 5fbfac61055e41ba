"""What `check_env` looks at: a rule plays on fresh boards and yields a sentence for each violation."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

from lamer_fast.envs.contract import FLAGS, EnvError, check_texts, describe, task_prompt
from lamer_fast.envs.player import Boards, Player
from lamer_fast.text import one_line

UNPARSABLE = ("", "no action here", "<action>", "<action></action>", "\x00\ud800\u221a", "<action>" * 500)
# inside action tags: what a model, or a person who plays, may come to write
HOSTILE = (
    "save", "quit", "restart", "script", "undo", "yes",
    "a\x00b", "\ud800", "\x1b[2J", "\r\n\n", "{0} {name} %s %d", "'\"\\`$(ls);--", "../../x",
    "<|im_end|><|endoftext|>", "</action><action>", "\u65e5\u672c \u221a",
    "\u0421\u0435\u0432\u0435\u0440", "\u0634\u0645\u0627\u0644 \u202e", "-1", "9" * 40, "1e999", "nan",
    "None", "x" * 10_000, "x" * 1_000_000,
)  # fmt: skip


def observations(player: Player) -> Iterator[str]:
    every = player.all
    before = player.look(every)
    if player.look(every) != before:
        yield "observe() changes what the next observe() returns"
    if player.look(every[::-1].copy()) != before[::-1]:
        yield "observe() does not return the boards in the order of env_idx"
    task_prompt(player.env)


def seeds(player: Player) -> Iterator[str]:
    every, seeds = player.all, player.seeds
    before = player.look(every)
    player.reset(seeds.copy())
    yield from _named("reset() with the same seed gives another board", before, player.look(every))
    player.reset(seeds[::-1].copy())
    yield from _named("the board of a seed depends on its position", before, player.look(every)[::-1])
    player.reset(np.full(len(every), 2**64 - 1, np.uint64))
    player.reset(seeds[1:].copy(), every[1:].copy())
    yield from _named("reset() of some boards draws other boards", before[1:], player.look(every[1:]))


def subsets(player: Player) -> Iterator[str]:
    named, others = player.all[::2].copy(), player.all[1::2].copy()
    calls: dict[str, Callable[[], Any]] = {
        "step": lambda: player.step(player.choose(named), named),
        "restart": lambda: player.restart(named),
        "reset": lambda: player.reset(player.seeds[::-1][: len(named)].copy(), named),
    }
    player.step(player.choose(player.all), player.all)
    for name, call in calls.items():
        before = player.look(others)
        call()
        for sentence in _named(f"{name}() changes boards that were not named", before, player.look(others)):
            yield f"{sentence} of those not named"


def unparsable(player: Player) -> Iterator[str]:
    """An environment of free text may call these valid; where it does not, they must change nothing."""
    for reply in UNPARSABLE:
        yield from _reply(player, reply)


def hostile(player: Player) -> Iterator[str]:
    start, files = player.look(player.all), set(os.listdir())
    for content in HOSTILE:
        reply = f"<action>{content}</action>"
        yield from _reply(player, reply)
        player.restart(player.all)  # a valid one may have ended the game
        sentence = f"after the reply {reply[:30]!a} restart() does not give the start state"
        yield from _named(sentence, start, player.look(player.all))
        written = sorted(set(os.listdir()) - files)
        files.update(written)
        if written:
            yield f"the reply {reply[:30]!a} writes files into the current folder: {', '.join(written)}"


def _reply(player: Player, reply: str) -> Iterator[str]:
    quoted = ascii(reply[:30])
    player.doing(f"the reply {quoted}")
    before = player.look(player.all)
    try:
        out = player.step([reply] * len(player.all), player.all)
    except EnvError as error:
        yield f"the reply {quoted}: {error}"
        return
    if any(message is not None for message in out.error):
        yield f"step() reports the reply {quoted} as an error: it is only invalid"
    invalid = np.flatnonzero(~out.valid)
    after = player.look(player.all)
    sentence = f"the invalid reply {quoted} changes the board"
    yield from _named(sentence, [before[i] for i in invalid], [after[i] for i in invalid])


def games(player: Player) -> Iterator[str]:
    every = player.all
    start = player.look(every)
    done = np.zeros(len(every), bool)
    for _ in range(player.num_turns):
        before = player.look(every)
        out = player.step(player.choose(every), every)
        kept = [np.array(getattr(out, name)) for name in ("rewards", *FLAGS)]
        for board in np.flatnonzero([message is not None for message in out.error]):
            yield f"step() reports an error of board {board}: {one_line(str(out.error[board]))}"
        if not out.done[done].all():
            yield f"done is not absorbing: boards {every[done & ~out.done].tolist()} came back to life"
        if out.rewards[done].any():
            yield f"a done board gives a reward: {out.rewards[done].tolist()}"
        after = player.look(every)
        over = np.flatnonzero(done)
        yield from _named("step() changes a done board", [before[i] for i in over], [after[i] for i in over])
        if player.has("tasks") and [row[-1] for row in after] != [row[-1] for row in start]:
            yield "tasks() changes during the game"
        done |= out.done
        player.step([""] * len(every), every)
        if any((a != getattr(out, n)).any() for a, n in zip(kept, ("rewards", *FLAGS), strict=True)):
            yield "a later step() overwrites the TurnOut of an earlier one"
    player.restart(every)
    yield from _named("restart() does not give the start state", start, player.look(every))
    if player.step([""] * len(every), every).done[done].any():
        yield "restart() leaves a board done"


def same_game(player: Player) -> Iterator[str]:
    """The same replies lead to the same game: again, beside other boards, and from another thread."""
    for board in (
        0,
        len(player.all) - 1,
    ):  # the first may be special: the one that something shared is made with
        alone = player.game(board)
        if player.game(board) != alone:
            yield "the same replies on the board of the same seed lead elsewhere"
            return
        luck = getattr(player.env, "luck", False)
        if not luck and any(player.game(board, before=turns) != alone for turns in (1, player.num_turns)):
            yield "the same replies after restart() lead to another game than those after reset()"
        if player.game(board, beside=True) != alone:
            yield "a board plays another game when others are stepped in between"
    with ThreadPoolExecutor(1) as thread:
        try:
            if thread.submit(player.game, board).result() != alone:
                yield "a board plays another game when it is called from another thread"
        except EnvError as error:
            yield f"called from another thread: {error}"


def at_once(player: Player, players: Sequence[Player]) -> list[str]:
    """Environments of a process must not disturb each other, even when threads play them at the same time."""
    try:
        alone = player.game()
        with ThreadPoolExecutor(len(players)) as threads:
            stories = [story for _ in range(3) for story in threads.map(lambda p: p.game(), players)]
    except EnvError as error:
        return [f"two environments on two threads at once: {error}"]
    if any(story != alone for story in stories):
        return ["two environments on two threads at once play other games than one alone"]
    return []


def snapshots(player: Player) -> Iterator[str]:
    every = player.all
    if not (player.has("snapshot") and player.has("restore")):
        return
    player.step(player.choose(every), every)
    data, before = player.call("snapshot", every), player.look(every)
    if not isinstance(data, bytes):
        raise EnvError(f"snapshot() must return bytes, got {type(data).__name__}")
    replies = player.choose(every)
    first = player.step(replies, every), player.look(every)
    player.reset(player.seeds[::-1].copy())
    player.call("restore", data, every)
    yield from _named("restore(snapshot()) gives another state", before, player.look(every))
    again = player.step(replies, every), player.look(every)
    if first[1] != again[1] or (first[0].rewards != again[0].rewards).any():
        yield "the same replies after restore(snapshot()) lead elsewhere"
    try:
        player.env.restore(data[:-1], every)
        yield "restore() accepts truncated bytes"
    except ValueError:
        pass
    except Exception as error:
        yield f"restore() of truncated bytes {describe(error)}, expected a ValueError"


def task_texts(player: Player) -> Iterator[str]:
    if not player.has("task_texts"):
        return
    every = player.all
    before = player.task_texts(every)
    player.step(player.choose(every), every)
    player.restart(every)
    yield from _named("task_texts() changes during the game", before, player.task_texts(every))


def legal_actions(player: Player) -> Iterator[str]:
    if not player.has("legal_actions"):
        return
    for choice in player.legal_actions(player.all)[0]:
        player.start()
        if not player.step([choice], player.all[:1]).valid[0]:
            yield f"step() cannot parse {choice!r}, which legal_actions() offers"


def expert_replies(player: Player) -> Iterator[str]:
    if not player.has("expert_replies"):
        return
    every: Boards = player.all
    levels: list[Any] = [0.0]
    if player.has("legal_actions"):
        levels.append(np.full(len(every), 0.5, np.float32))
    for noise in levels:
        player.start()
        before = player.look(every)
        replies = check_texts(
            "expert_replies", player.call("expert_replies", every, noise, player.seeds), every
        )
        if player.has("expert_notes"):
            check_texts("expert_notes", player.call("expert_notes", every), every)
        yield from _named("asking the expert changes the boards", before, player.look(every))
        if replies != player.call("expert_replies", every, noise, player.seeds):
            yield "expert_replies() with the same seeds gives other replies"
        if not player.step(replies, every).valid.all():
            yield f"step() cannot parse the expert's replies {replies}"


def _named(sentence: str, before: Sequence[Any], after: Sequence[Any]) -> Iterator[str]:
    """The sentence with the positions that differ, if any do."""
    positions = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    if positions:
        yield f"{sentence}: positions {positions[:8]}"


ALWAYS = (observations, seeds, subsets, unparsable, games)
FURTHER = (hostile, same_game, task_texts, snapshots, legal_actions, expert_replies)
