"""Finds where an environment breaks the protocol of `protocol.py`, and says which call and which boards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.protocol import TurnOut

UNPARSABLE = ("", "no action here", "<action>", "<action></action>", "\x00\ud800\u221a", "<action>" * 500)
CALLS = ("reset", "restart", "step", "observe", "task_prompt")
FLAGS = ("done", "truncated", "success", "valid")


def check_env(env: Any, *, replies: Sequence[str] = (), num_turns: int = 12, seed: int = 0) -> list[str]:
    """Plays `env` on purpose-made calls; every board of it is reset.

    Args:
        env: an implementation of `TextBatchEnv`, with at least 2 boards (3 and more find more).
        replies: texts that `step` should be able to parse, played at random. Not needed when the environment
            has `legal_actions` or `expert_replies`. Without any, no finished board is ever seen.
        num_turns: turns of each random game.
        seed: of the boards and of the random replies.

    Returns:
        One sentence for each violation, in the order found; [] when there is none.
    """
    found: list[str] = []
    missing = [name for name in CALLS if not callable(getattr(env, name, None))]
    if missing:
        return [f"{name}() is missing" for name in missing]
    num_envs = getattr(env, "num_envs", None)
    if not isinstance(num_envs, int) or num_envs < 2:
        return [f"num_envs must be an int of at least 2 for this check, got {num_envs!r}"]
    for check in (_observations, _seeds, _subsets, _unparsable, _games, _snapshots, _legal_and_expert):
        try:
            found += check(_Player(env, replies, num_turns, seed))
        except _Malformed as error:
            found.append(str(error))
        except Exception as error:
            found.append(f"{check.__name__.strip('_')} check: {type(error).__name__}: {error}")
    return list(dict.fromkeys(found))


class _Malformed(Exception):
    """An answer of the wrong shape or type: nothing more can be learnt from this check."""


class _Player:
    """The environment with every answer checked for type, length and dtype."""

    def __init__(self, env: Any, replies: Sequence[str], num_turns: int, seed: int) -> None:
        self.env, self.replies, self.num_turns = env, replies, num_turns
        self.rng = np.random.default_rng(seed)
        self.seeds = self.rng.integers(0, 2**64, env.num_envs, dtype=np.uint64, endpoint=False)
        self.all = np.arange(env.num_envs, dtype=np.int64)
        env.reset(self.seeds)

    def observe(self, env_idx: NDArray[np.int64]) -> list[str]:
        texts = self.env.observe(env_idx)
        if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
            kinds = sorted({type(text).__name__ for text in texts}) if isinstance(texts, list) else ""
            raise _Malformed(f"observe() must return list[str], got {type(texts).__name__} of {kinds}")
        if len(texts) != len(env_idx):
            raise _Malformed(f"observe() of {len(env_idx)} boards returned {len(texts)} texts")
        return texts

    def step(self, replies: Sequence[str], env_idx: NDArray[np.int64]) -> TurnOut:
        out = self.env.step(list(replies), env_idx)
        if not isinstance(out, TurnOut):
            raise _Malformed(f"step() must return a TurnOut, got {type(out).__name__}")
        wanted = {"rewards": np.float32, **dict.fromkeys(FLAGS, np.bool_)}
        for name, dtype in wanted.items():
            self.array(f"step().{name}", getattr(out, name), dtype, len(env_idx))
        if not isinstance(out.error, list) or len(out.error) != len(env_idx):
            raise _Malformed(f"step().error must be a list of {len(env_idx)}, got {out.error!r}")
        return out

    def array(self, name: str, values: Any, dtype: Any, length: int) -> NDArray[Any]:
        if not isinstance(values, np.ndarray) or values.dtype != dtype or values.shape != (length,):
            got = (
                f"{values.dtype} {values.shape}" if isinstance(values, np.ndarray) else type(values).__name__
            )
            raise _Malformed(f"{name} must be {np.dtype(dtype).name} of shape ({length},), got {got}")
        return values

    def look(self, env_idx: NDArray[np.int64]) -> list[Any]:
        """All that can be seen of each board: its text, with its anchor and task where there are any."""
        rows: list[Any] = [[text] for text in self.observe(env_idx)]
        for name, dtype in (("anchors", np.int64), ("tasks", np.uint64)):
            if hasattr(self.env, name):
                values = self.array(f"{name}()", getattr(self.env, name)(env_idx), dtype, len(env_idx))
                rows = [[*row, value] for row, value in zip(rows, values.tolist(), strict=True)]
        return rows

    def choose(self, env_idx: NDArray[np.int64]) -> list[str]:
        """A reply for each board that `step` should be able to parse, or "" where none is known."""
        choices: list[list[str]] = [list(self.replies)] * len(env_idx)
        if not self.replies and hasattr(self.env, "legal_actions"):
            choices = self.env.legal_actions(env_idx)
        elif not self.replies and hasattr(self.env, "expert_replies"):
            choices = [[r] for r in self.env.expert_replies(env_idx, 0.0, self.seeds[: len(env_idx)])]
        return [str(self.rng.choice(c)) if c else "" for c in choices]


def _observations(player: _Player) -> Iterator[str]:
    env, every = player.env, player.all
    before = player.look(every)
    if player.look(every) != before:
        yield "observe() changes what the next observe() returns"
    if player.look(every[::-1].copy()) != before[::-1]:
        yield "observe() does not return the boards in the order of env_idx"
    prompt = env.task_prompt()
    if not isinstance(prompt, str) or not prompt:
        yield f"task_prompt() must return a text, got {prompt!r}"


def _seeds(player: _Player) -> Iterator[str]:
    env, every, seeds = player.env, player.all, player.seeds
    before = player.look(every)
    env.reset(seeds)
    yield from _named("reset() with the same seed gives another board", before, player.look(every))
    env.reset(seeds[::-1].copy())
    yield from _named("the board of a seed depends on its position", before, player.look(every)[::-1])
    env.reset(np.full(env.num_envs, 2**64 - 1, np.uint64))
    env.reset(seeds[1:], every[1:])
    yield from _named("reset() of some boards draws other boards", before[1:], player.look(every[1:]))


def _subsets(player: _Player) -> Iterator[str]:
    env, named, others = player.env, player.all[::2].copy(), player.all[1::2].copy()
    calls: dict[str, Callable[[], Any]] = {
        "step": lambda: player.step(player.choose(named), named),
        "restart": lambda: env.restart(named),
        "reset": lambda: env.reset(player.seeds[::-1][: len(named)].copy(), named),
    }
    player.step(player.choose(player.all), player.all)
    for name, call in calls.items():
        before = player.look(others)
        call()
        for sentence in _named(f"{name}() changes boards that were not named", before, player.look(others)):
            yield f"{sentence} of those not named"


def _unparsable(player: _Player) -> Iterator[str]:
    """An environment of free text may call these valid; where it does not, they must change nothing."""
    for reply in UNPARSABLE:
        before = player.look(player.all)
        out = player.step([reply] * player.env.num_envs, player.all)
        if any(out.error):
            yield f"step() reports the reply {reply[:20]!r} as an error: it is only invalid"
        invalid = np.flatnonzero(~out.valid)
        after = player.look(player.all)
        sentence = f"the unparsable reply {reply[:20]!r} changes the board"
        yield from _named(sentence, [before[i] for i in invalid], [after[i] for i in invalid])


def _games(player: _Player) -> Iterator[str]:
    env, every = player.env, player.all
    start = player.look(every)
    done = np.zeros(env.num_envs, bool)
    for _ in range(player.num_turns):
        before = player.look(every)
        out = player.step(player.choose(every), every)
        kept = [np.array(getattr(out, name)) for name in ("rewards", *FLAGS)]
        for name in ("success", "truncated"):
            if (getattr(out, name) & ~out.done).any():
                yield f"step().{name} without done"
        if not np.isfinite(out.rewards).all():
            yield f"step().rewards are not finite: {out.rewards}"
        if not out.done[done].all():
            yield f"done is not absorbing: boards {every[done & ~out.done].tolist()} came back to life"
        if out.rewards[done].any():
            yield f"a done board gives a reward: {out.rewards[done].tolist()}"
        after = player.look(every)
        over = np.flatnonzero(done)
        yield from _named("step() changes a done board", [before[i] for i in over], [after[i] for i in over])
        if hasattr(env, "tasks") and [row[-1] for row in after] != [row[-1] for row in start]:
            yield "tasks() changes during the game"
        done |= out.done
        player.step([""] * env.num_envs, every)
        if any((a != getattr(out, n)).any() for a, n in zip(kept, ("rewards", *FLAGS), strict=True)):
            yield "a later step() overwrites the TurnOut of an earlier one"
    env.restart(every)
    yield from _named("restart() does not give the start state", start, player.look(every))
    if player.step([""] * env.num_envs, every).done[done].any():
        yield "restart() leaves a board done"


def _snapshots(player: _Player) -> Iterator[str]:
    env, every = player.env, player.all
    if not (hasattr(env, "snapshot") and hasattr(env, "restore")):
        return
    player.step(player.choose(every), every)
    data, before = env.snapshot(every), player.look(every)
    if not isinstance(data, bytes):
        raise _Malformed(f"snapshot() must return bytes, got {type(data).__name__}")
    replies = player.choose(every)
    first = player.step(replies, every), player.look(every)
    env.reset(player.seeds[::-1].copy())
    env.restore(data, every)
    yield from _named("restore(snapshot()) gives another state", before, player.look(every))
    again = player.step(replies, every), player.look(every)
    if first[1] != again[1] or (first[0].rewards != again[0].rewards).any():
        yield "the same replies after restore(snapshot()) lead elsewhere"
    try:
        env.restore(data[:-1], every)
        yield "restore() accepts truncated bytes"
    except ValueError:
        pass


def _legal_and_expert(player: _Player) -> Iterator[str]:
    env, every = player.env, player.all
    if hasattr(env, "legal_actions"):
        lists = env.legal_actions(every)
        if len(lists) != env.num_envs:
            raise _Malformed(f"legal_actions() of {env.num_envs} boards returned {len(lists)} lists")
        for choice in lists[0]:
            env.reset(player.seeds)
            if not player.step([choice], every[:1]).valid[0]:
                yield f"step() cannot parse {choice!r}, which legal_actions() offers"
    env.reset(player.seeds)
    if hasattr(env, "expert_replies"):
        for noise in (0.0, np.full(env.num_envs, 0.5, np.float32)):
            replies = env.expert_replies(every, noise, player.seeds)
            if replies != env.expert_replies(every, noise, player.seeds):
                yield "expert_replies() with the same seeds gives other replies"
            if not player.step(replies, every).valid.all():
                yield f"step() cannot parse the expert's replies {replies}"


def _named(sentence: str, before: Sequence[Any], after: Sequence[Any]) -> Iterator[str]:
    """The sentence with the positions that differ, if any do."""
    positions = [i for i, (a, b) in enumerate(zip(before, after, strict=True)) if a != b]
    if positions:
        yield f"{sentence}: positions {positions[:8]}"
