"""Cross-episode credit for trainers that keep turns as records rather than as tables."""

from collections.abc import Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ..credit.meta import meta_advantages
from .padded import dense_ids

Turn = Mapping[str, Any]
"""``reward``; ``episode`` (0, 1, ..., 0 where missing); ``phase`` (0 play, 1 reflection, 0 where missing);
``anchor``: what the agent saw before the turn, any hashable, needed by the estimator gigpo; ``valid``."""


def turn_advantages(
    trials: Sequence[Sequence[Turn]], groups: Sequence[Hashable], **switches: Any
) -> list[Tensor]:
    """`meta_advantages` of trials given as lists of turns, in time order.

    Args:
        groups: of each trial: those of one group play the same task.
        switches: of `meta_advantages`: estimator, gamma_step, gamma_traj, ...

    Returns:
        [turns] float64 for each trial.

    Raises:
        ValueError: as many trials as groups are needed; a turn without reward, or without the anchor that the
            estimator needs; what `meta_advantages` refuses.
    """
    if len(trials) != len(groups):
        raise ValueError(f"every trial needs a group, got {len(trials)} trials and {len(groups)} groups")
    turns = [(i, turn) for i, trial in enumerate(trials) for turn in trial]
    if not turns:
        return [torch.zeros(0, dtype=torch.float64) for _ in trials]
    for i, turn in turns:
        if "reward" not in turn:
            raise ValueError(f"a turn of trial {i} has no reward, only {sorted(turn)}")

    def column(name: str, default: int) -> Tensor:
        return torch.tensor([int(turn.get(name, default)) for _, turn in turns])

    if switches.get("estimator", "gigpo") == "gigpo":
        missing = next((i for i, turn in turns if "anchor" not in turn), None)
        if missing is not None:
            raise ValueError(f"estimator gigpo needs the anchor of every turn, trial {missing} has none")
        switches = {"anchors": dense_ids(turn["anchor"] for _, turn in turns)} | switches
    lengths = torch.tensor([len(trial) for trial in trials])
    advantages = meta_advantages(
        torch.tensor([float(turn["reward"]) for _, turn in turns], dtype=torch.float64),
        column("phase", 0),
        column("episode", 0),
        dense_ids(groups).repeat_interleave(lengths),
        torch.nn.functional.pad(lengths.cumsum(0), (1, 0)),
        valid=column("valid", 1).bool(),
        validate=True,
        **switches,
    )
    return list(torch.split(advantages, lengths.tolist()))
