"""SkyRL 0.3, step-wise: the credit of turns, over episodes, in place of one number for a whole trajectory.

    class Trainer(TurnCredit, RayPPOTrainer):
        credit = {"gamma_traj": 0.6}  # switches of meta_advantages

    class Experiment(BasePPOExp):  # its get_trainer makes the trainer of a run
        def get_trainer(self, *args, **named): return Trainer(*args, **named)

with ``generator.step_wise_trajectories=true``: a row per turn. A trajectory of SkyRL is a trial: its
environment goes on over episodes, and its ``get_metrics()`` holds ``turns``, a record of each turn as
`turns.Turn` has it, but for the reward, which is that of the row.
"""

from typing import Any, ClassVar

import torch
from torch import Tensor

from .turns import turn_advantages


class TurnCredit:
    """Before SkyRL's trainer in the list of bases; its own estimator still runs, for what it logs."""

    credit: ClassVar[dict[str, Any]] = {}

    def convert_to_training_input(self, generator_output: Any, uids: list[str]) -> Any:
        data = super().convert_to_training_input(generator_output, uids)  # type: ignore[misc]
        metrics = generator_output.get("env_metrics") or [{}] * len(uids)
        data.metadata["lamer_turns"] = [
            row.get("turns") for row in metrics
        ]  # of a trajectory, on its last row
        return data

    def compute_advantages_and_returns(self, data: Any) -> Any:
        turns, ends = data.metadata.pop("lamer_turns"), data.metadata.get("is_last_step")
        if ends is None:
            raise ValueError("credit of turns needs generator.step_wise_trajectories=true, a row per turn")
        uids = data.metadata["uids"]
        data = super().compute_advantages_and_returns(data)  # type: ignore[misc]
        rows = turn_credit(data["rewards"].sum(-1), turns, ends[: len(turns)], uids, **self.credit)
        mask = data["response_mask"].float()
        spread = torch.zeros_like(mask)  # rows that only fill the batch stay 0
        spread[: len(rows)] = rows.to(mask)[:, None] * mask[: len(rows)]
        data["advantages"] = data["returns"] = spread
        said = spread[mask.bool()]
        logged = {"avg_advantages": said.mean().item(), "avg_advantages_abs": said.abs().mean().item()}
        data.metadata.setdefault("metrics", {}).update(logged)
        return data


def turn_credit(
    rewards: Tensor, turns: list[Any], ends: list[bool], uids: list[str], **switches: Any
) -> Tensor:
    """Args: of each row its reward, the records of its trajectory (on the last row, else None), whether it is
    the last one, and its group. Returns [rows] float64.

    Raises:
        ValueError: as many records as rows are needed; what `turn_advantages` refuses.
    """
    trials: list[list[dict[str, Any]]] = []
    groups, start = [], 0
    for last, (end, records) in enumerate(zip(ends, turns, strict=True)):
        if not end:
            continue
        given = rewards[start : last + 1].tolist()
        if records is None or len(records) != len(given):
            found = "none" if records is None else len(records)
            raise ValueError(
                f"get_metrics()['turns'] must hold a record per turn, got {found} of {len(given)}"
            )
        pairs = zip(records, given, strict=True)
        trials.append([{**record, "reward": reward} for record, reward in pairs])
        groups.append(uids[last])
        start = last + 1
    credit = turn_advantages(trials, groups, **switches)
    return torch.cat(credit) if credit else torch.zeros(0, dtype=torch.float64)
