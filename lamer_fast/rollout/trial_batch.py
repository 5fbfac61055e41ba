"""TrialBatch: all turns of one collection of trials, struct of arrays, host memory.

Axis letters: M trials, K episodes, R turns, S stored sequences, T stored tokens, N groups.
"""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray


class Phase(IntEnum):
    PLAY = 0
    REFLECT = 1


@dataclass(frozen=True)
class TrialBatch:
    """All turns of one collection: M trials of up to K episodes in N groups, with R turns.

    The tokens are a store of S sequences with T tokens. Turns of a trial are contiguous and in time order;
    trials of a group need not be neighbours. A REFLECT turn carries the index of the episode that FOLLOWS it,
    turn 0, reward 0. In context `episode` its tokens stand in the sequence of the episode before it.
    """

    # token store: S sequences, one per trial, episode or turn according to the context mode
    tokens: NDArray[np.int32]  # [T]
    loss_mask: NDArray[np.bool_]  # [T] True = sampled by the policy and trained on
    rollout_logprobs: NDArray[np.float32]  # [T] nats, after temperature; 0 where not sampled
    cu_seqlens: NDArray[np.int64]  # [S+1]

    # turn table
    group: NDArray[np.int32]  # [R] 0..N-1, the draw, not the task
    trial: NDArray[np.int32]  # [R] 0..M-1
    episode: NDArray[np.int16]  # [R] 0..K-1
    turn: NDArray[np.int16]  # [R] a PLAY turn counts from 0 in its episode
    phase: NDArray[np.uint8]  # [R] Phase
    rewards: NDArray[np.float32]  # [R]
    anchors: NDArray[np.int64]  # [R] bit pattern of the state's hash before the turn; 0 on REFLECT
    valid: NDArray[np.bool_]  # [R] the reply could be parsed
    done: NDArray[np.bool_]  # [R] the episode ended with this turn
    success: NDArray[np.bool_]  # [R]
    truncated: NDArray[np.bool_]  # [R] ended by a limit (turns, tokens), not by the environment
    sequence: NDArray[np.int32]  # [R] 0..S-1
    token_start: NDArray[np.int64]  # [R] sampled tokens of the turn, offsets into the token store
    token_end: NDArray[np.int64]  # [R]
    policy_version: NDArray[np.int32]  # [R] iteration whose weights sampled the turn
    cu_trials: NDArray[np.int64]  # [M+1] into the turn table

    # per trial
    seed: NDArray[np.uint64]  # [M] rebuilds the board
    task: NDArray[np.uint64]  # [M] canonical hash of the board
    success_by_episode: NDArray[np.bool_]  # [M, K] episode k of the trial was won
    errors: dict[int, str]  # trial -> message of an environment that failed; such a trial has no turns
    held: NDArray[np.bool_] | None = None  # [S] the sequence's tokens are on this rank; None: all are

    @property
    def num_trials(self) -> int:
        return len(self.cu_trials) - 1

    @property
    def num_turns(self) -> int:
        return len(self.trial)

    @property
    def num_sampled(self) -> int:
        """Tokens that the policy sampled, on whatever rank they are."""
        return int((self.token_end - self.token_start).sum())

    @property
    def num_sequences(self) -> int:
        return len(self.cu_seqlens) - 1

    def success_at(self) -> NDArray[np.float64]:
        """success@k for k = 1..K: share of trials solved within the first k episodes; [K]."""
        return np.asarray(np.logical_or.accumulate(self.success_by_episode, axis=1).mean(axis=0))

    def lost(self) -> str:
        """How many trials their environment failed, and the first message; empty when there are none."""
        if not self.errors:
            return ""
        trial, message = next(iter(self.errors.items()))
        return f"{len(self.errors)} of {self.num_trials} trials failed, the first is trial {trial}: {message}"

    def validate(self) -> None:
        """Raises ValueError naming the two lengths or offsets that disagree."""
        T, R = len(self.tokens), self.num_turns
        for name in ("loss_mask", "rollout_logprobs"):
            if len(getattr(self, name)) != T:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, tokens has {T}")
        if self.cu_seqlens[-1] != T:
            raise ValueError(f"cu_seqlens ends at {self.cu_seqlens[-1]}, tokens has {T}")
        for name in TURN_COLUMNS:
            if len(getattr(self, name)) != R:
                raise ValueError(f"{name} has {len(getattr(self, name))} entries, trial has {R}")
        if self.cu_trials[-1] != R:
            raise ValueError(f"cu_trials ends at {self.cu_trials[-1]}, the turn table has {R} rows")


TURN_COLUMNS = (
    "group", "trial", "episode", "turn", "phase", "rewards", "anchors", "valid", "done", "success",
    "truncated", "sequence", "token_start", "token_end", "policy_version",
)  # fmt: skip
