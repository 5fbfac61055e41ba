"""What the trainer needs of any environment: many boards, strings in and out.

An environment is a batch of `num_envs` independent boards, numbered from 0. A call names the boards it
concerns by `env_idx` ([B] int64, distinct, in any order); boards it does not name must stay as they are.
Parsing a reply is the environment's business (`replies.py` helps), limits on the number of turns are the
caller's. What fails on a board (an exception, or `TurnOut.error`) costs that board's trial; an answer of
another type, shape or value than this page says ends the run. Calls come one at a time, not always from the
same thread.
`lamer_fast.envs.check_env` tests an implementation against this page; `toy.py` is a complete example.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class TurnOut:
    """What one turn of B boards led to; entry b belongs to the board `env_idx[b]` of the call.

    An `error` is a failure of the environment itself (a lost connection, a crashed process), never of the
    reply: it costs that trial only. On an error the other entries of that board are 0, done, not successful.
    """

    rewards: NDArray[np.float32]
    """[B] float32, in the environment's own unit, at most 1e12 in size; 0 where the board was done before."""
    done: NDArray[np.bool_]
    """[B] bool: the episode is over (won, lost, or cut off). Absorbing until `restart` or `reset`."""
    truncated: NDArray[np.bool_]
    """[B] bool: over because of a limit of the environment, not of the task; implies `done`."""
    success: NDArray[np.bool_]
    """[B] bool: the task is solved; implies `done`, stays True on a board that is done."""
    valid: NDArray[np.bool_]
    """[B] bool: the reply could be parsed. An unparsable reply is a defined no-op, not an error."""
    error: list[str | None]
    """[B]: None, or what went wrong inside the environment."""


@runtime_checkable
class TextBatchEnv(Protocol):
    """The five calls every environment has. `isinstance` looks at the names, `check_env` at behaviour."""

    num_envs: int  # E boards

    def reset(self, seeds: NDArray[np.uint64], env_idx: NDArray[np.int64] | None = None) -> None:
        """Draw the board of `seeds[b]` ([B] uint64) for each `env_idx[b]`; None names all boards.

        A board is a function of its seed and the configuration alone, whatever the other seeds, the order and
        the process are.
        """
        ...

    def restart(self, env_idx: NDArray[np.int64]) -> None:
        """Put the boards back to the state that `reset` left, for another episode of the same task."""
        ...

    def step(self, replies: Sequence[str], env_idx: NDArray[np.int64]) -> TurnOut:
        """Play one turn: parse `replies[b]` and act on board `env_idx[b]`. A done board ignores its reply."""
        ...

    def observe(self, env_idx: NDArray[np.int64]) -> list[str]:
        """What the model sees of each board, [B] texts; does not change anything.

        A text that no sequence can hold ends the trial as truncated.
        """
        ...

    def task_prompt(self) -> str:
        """The rules and the reply format, the same for every board: the first thing the model reads."""
        ...


class HasSubmit(Protocol):
    """Optional, for slow boards: turns are played while others are thought about. `step` is there too."""

    def submit(self, replies: Sequence[str], env_idx: NDArray[np.int64]) -> None:
        """Begin what `step` does, and return at once. None of the boards has a turn that is not yet over."""
        ...

    def poll(self, wait_s: float = 0.0) -> tuple[NDArray[np.int64], TurnOut]:
        """(env_idx [B], their turns) that are over since the last call; B may be 0.

        Args:
            wait_s: where none is over yet, wait so long for the first.
        """
        ...


class HasTaskTexts(Protocol):
    """Optional: what the task of a board asks, where that differs from board to board (a household goal)."""

    def task_texts(self, env_idx: NDArray[np.int64]) -> list[str]:
        """[B] texts, written after `task_prompt()`; unchanged by `step` and `restart`."""
        ...


class HasAnchors(Protocol):
    """Optional: the key of step groups (without it the trainer hashes the observation)."""

    def anchors(self, env_idx: NDArray[np.int64]) -> NDArray[np.int64]:
        """[B] int64: a hash of the full visible state; equal states of one task have equal anchors."""
        ...


class HasLuck(Protocol):
    """Optional: whether every episode has luck of its own. After `restart` the same replies may then lead to
    another game; after `reset` with the same seed they lead to the same one."""

    luck: bool


class HasTasks(Protocol):
    """Optional: identity of the task, for counting distinct tasks and for disjoint splits."""

    def tasks(self, env_idx: NDArray[np.int64]) -> NDArray[np.uint64]:
        """[B] uint64: the same for the same task whatever its seed; unchanged by `step` and `restart`."""
        ...


class HasSnapshots(Protocol):
    """Optional: state as bytes, for resuming a run in the middle of a trial."""

    def snapshot(self, env_idx: NDArray[np.int64]) -> bytes:
        """The full state of the named boards, in the order of `env_idx`."""
        ...

    def restore(self, data: bytes, env_idx: NDArray[np.int64]) -> None:
        """Overwrite the boards by what `snapshot` gave for as many; ValueError on other bytes."""
        ...


class HasLegalActions(Protocol):
    """Optional: what can be done now, for prompts that list it (`env.show_actions`), for random baselines."""

    def legal_actions(self, env_idx: NDArray[np.int64]) -> list[list[str]]:
        """[B] lists of replies in the environment's own format, all parsable; [] on a done board."""
        ...


class HasExpert(Protocol):
    """Optional: a teacher, for warm starts and upper bounds. It may know what the texts do not show."""

    def expert_replies(
        self, env_idx: NDArray[np.int64], noise: float | NDArray[np.float32], seeds: NDArray[np.uint64]
    ) -> list[str]:
        """[B] replies of a strong player, each action a random legal one with probability `noise`.

        Args:
            noise: a number in [0, 1], or [B] of them; `expert.with_noise` mixes it in by `legal_actions`.
            seeds: [B] uint64, the only source of randomness: same state and seed, same reply.
        """
        ...


class HasExpertNotes(Protocol):
    """Optional, beside an expert: what it writes when it is asked for a reflection."""

    def expert_notes(self, env_idx: NDArray[np.int64]) -> list[str]:
        """[B] texts about the episodes that have just failed; without them a note is the last reply."""
        ...


@dataclass(frozen=True, slots=True)
class Turn:
    """What one reply led to on a board of a single environment."""

    reward: float
    """In the environment's own unit, at most 1e12 in size."""
    done: bool = False
    """The episode is over (won, lost, or cut off). No reply reaches the board before `restart` or `reset`."""
    success: bool = False
    """The task is solved; implies `done`."""
    truncated: bool = False
    """Over because of a limit of the environment, not of the task; implies `done`."""
    valid: bool = True
    """The reply could be parsed. An unparsable one changes nothing."""


class TextEnv(Protocol):
    """A single board, the short way to an environment of one's own: `pool.py` makes a batch of many.

    Optional: `anchor() -> int`, `task() -> int`, `task_text() -> str` and `legal_actions() -> list[str]`, for
    one board what `anchors`, `tasks`, `task_texts` and `legal_actions` are for a batch. For warm starts
    `expert() -> str`, the reply of a strong player to this state ("" where it knows none), and
    `expert_note() -> str`, what it notes of an episode that has failed; neither changes the board. With
    `snapshot() -> bytes` and `restore(data)`, of the full state and the start that `restart` goes back to, a
    board whose process is gone is not played again from its seed.
    """

    def reset(self, seed: int) -> None:
        """Draw the board of `seed` (0 to 2**64 - 1), a function of it and the options alone."""
        ...

    def restart(self) -> None:
        """Back to the state that `reset` left, its random generators too, for another episode of the task."""
        ...

    def step(self, reply: str) -> Turn:
        """Play one turn: parse `reply` and act."""
        ...

    def observe(self) -> str:
        """What the model sees; does not change anything."""
        ...

    def task_prompt(self) -> str:
        """The rules and the reply format, the same for every board."""
        ...
