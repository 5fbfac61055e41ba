"""The native games as a `TextBatchEnv`: replies in, texts out. Parsing and playing are native."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.batch import Batch, Style, make, native_game
from lamer_fast.envs.protocol import TurnOut

PROMPTS = ("full", "compact")


def text_env(
    name: str,
    num_envs: int,
    *,
    split: str | None = None,
    prompt: str = "full",
    moves_per_turn: int | None = None,
    style: Style | None = None,
    num_threads: int | None = None,
    **config: Any,
) -> NativeTextEnv:
    """Boards of "sokoban" or "minesweeper" for the trainer.

    Args:
        name, num_envs, split, num_threads, **config: as in `make`.
        prompt: "full" (rules and legend) or "compact" (a few words, for tiny models).
        moves_per_turn: most moves that one reply may hold, further ones are dropped. Sokoban: 3 by default;
            Minesweeper: always 1.
        style: of the observations; by default "numbered" with prompt "full", "compact" with "compact".

    Raises:
        ValueError, TypeError: an unknown word, or a configuration that no board meets; names both values.
    """
    if prompt not in PROMPTS:
        raise ValueError(f"prompt must be one of {PROMPTS}, got {prompt!r}")
    game = native_game(name)
    usual, most = game.moves_per_turn
    if moves_per_turn is None:
        moves_per_turn = usual
    if not isinstance(moves_per_turn, int) or not 1 <= moves_per_turn <= most:
        expected = "1" if most == 1 else f"an int from 1 to {most}"
        raise ValueError(f"moves_per_turn of {name} must be {expected}, got {moves_per_turn}")
    if config.get("autoreset", "none") != "none":
        raise ValueError(f"autoreset must be 'none' here: done is absorbing; got {config['autoreset']!r}")
    style = style or ("numbered" if prompt == "full" else "compact")
    batch = make(name, num_envs, num_threads=num_threads, split=split, style=style, **config)
    env: NativeTextEnv = game.text_env(batch, prompt=prompt, moves_per_turn=moves_per_turn)
    return env


class NativeTextEnv(ABC):
    """Implements `TextBatchEnv` with all of its optional members; build it with `text_env`.

    A reply is read from behind its last `</think>` on, and leniently: the text between the first `<action>`
    and the last `</action>`, there the first move word of each comma-separated piece, or the first
    "(row, column)". An unparsable reply is action -1: the board stays, the reward is `invalid` of the reward
    set. A cell off the board is parsable, and -1 too.
    """

    def __init__(self, batch: Batch, *, prompt: str, moves_per_turn: int) -> None:
        self.batch = batch
        self.num_envs = batch.num_envs
        self.prompt = prompt
        self.moves_per_turn = moves_per_turn

    def reset(self, seeds: NDArray[np.uint64], env_idx: NDArray[np.int64] | None = None) -> None:
        self.batch.reset(seeds, env_idx)

    def restart(self, env_idx: NDArray[np.int64]) -> None:
        self.batch.restart(env_idx)

    def step(self, replies: Sequence[str], env_idx: NDArray[np.int64]) -> TurnOut:
        if isinstance(replies, str):
            raise TypeError(f"replies must be a sequence of texts, got one text, {replies[:40]!r}")
        if len(replies) != len(env_idx):
            raise ValueError(f"replies has {len(replies)} texts, env_idx names {len(env_idx)} boards")
        actions, lengths, valid = self.batch.parse(list(replies), max_actions=self.moves_per_turn)
        out = self.batch.step(actions, lengths, env_idx)
        truncated = np.zeros(len(replies), bool)
        return TurnOut(out.rewards, out.done, truncated, out.success, valid, [None] * len(replies))

    def observe(self, env_idx: NDArray[np.int64]) -> list[str]:
        return self.batch.texts(env_idx)

    @abstractmethod
    def task_prompt(self) -> str: ...

    def anchors(self, env_idx: NDArray[np.int64]) -> NDArray[np.int64]:
        return self.batch.anchors(env_idx)

    def tasks(self, env_idx: NDArray[np.int64]) -> NDArray[np.uint64]:
        return self.batch.tasks(env_idx)

    def snapshot(self, env_idx: NDArray[np.int64]) -> bytes:
        return self.batch.snapshot(env_idx)

    def restore(self, data: bytes, env_idx: NDArray[np.int64]) -> None:
        self.batch.restore(data, env_idx)

    def legal_actions(self, env_idx: NDArray[np.int64]) -> list[list[str]]:
        """One action a reply. Sokoban: moves that do something, and `still`; Minesweeper: closed cells."""
        mask = self.batch.legal_actions(env_idx)
        replies = [self.reply([action]) for action in range(self.batch.num_actions)]
        return [[replies[a] for a in np.flatnonzero(row)] for row in mask]

    def expert_replies(
        self, env_idx: NDArray[np.int64], noise: float | NDArray[np.float32], seeds: NDArray[np.uint64]
    ) -> list[str]:
        """The expert's next `moves_per_turn` actions, each a random legal one with probability `noise`.

        Where the expert knows nothing (a dead Sokoban board) the action is random too; a done board, whose
        reply is ignored anyway, gets action 0. The boards are as before when this returns.

        Args:
            noise: a number in [0, 1], or [B] of them.
            seeds: [B] uint64; same state, noise and seed: same reply.
        """
        noise = np.asarray(noise, np.float64)
        if noise.shape not in ((), (len(env_idx),)) or len(seeds) != len(env_idx):
            raise ValueError(
                f"noise has shape {noise.shape} and seeds {len(seeds)} values, "
                f"env_idx names {len(env_idx)} boards"
            )
        noise = np.broadcast_to(noise, (len(env_idx),))
        wrong = ~((noise >= 0) & (noise <= 1))
        if wrong.any():
            raise ValueError(f"noise must lie in [0, 1], got {noise[wrong][:4].tolist()}")
        before = self.batch.snapshot(env_idx)
        done = self.batch.flags(env_idx)[0]
        replies: list[list[int]] = [[0] if over else [] for over in done]
        for turn in range(self.moves_per_turn):
            actions = self.batch.expert_actions(env_idx)
            legal = self.batch.legal_actions(env_idx)
            draws, picks = _uniform(seeds, 2 * turn), _uniform(seeds, 2 * turn + 1)
            random = ((draws < noise) | (actions < 0)) & legal.any(axis=1)
            ranks = np.cumsum(legal, axis=1)
            nth = np.floor(picks * ranks[:, -1]).astype(np.int64)
            actions = np.where(random, (ranks <= nth[:, None]).sum(axis=1), actions).astype(np.int32)
            for reply, action, over in zip(replies, actions.tolist(), done, strict=True):
                if not over:
                    reply.append(max(action, 0))
            if self.moves_per_turn > 1:
                done = self.batch.step(actions[:, None], None, env_idx).done
        self.batch.restore(before, env_idx)
        return [self.reply(actions) for actions in replies]

    @abstractmethod
    def reply(self, actions: Sequence[int]) -> str:
        """The reply that `step` parses to these actions."""


def _uniform(seeds: NDArray[np.uint64], counter: int) -> NDArray[np.float64]:
    """[B] in [0, 1): number `counter` of each seed's own stream (the finaliser of SplitMix64)."""
    x = np.asarray(seeds, np.uint64) * np.uint64(0x9E3779B97F4A7C15) + np.uint64(counter)
    for _ in range(2):
        x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        x = x ^ (x >> np.uint64(31))
    return (x >> np.uint64(11)).astype(np.float64) / 2.0**53
