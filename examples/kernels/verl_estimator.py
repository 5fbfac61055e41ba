"""verl's estimators by name, its own and ours: `algorithm.adv_estimator=lamer_grpo`.

    pip install verl
    python examples/kernels/verl_estimator.py

Installed beside verl, this package is found by itself (`verl.plugins`); the import below is for a checkout.
"""

import numpy as np
import torch
from verl import DataProto
from verl.trainer.ppo.ray_trainer import compute_advantage

import lamer_kernels.integrations.verl  # noqa: F401

NAMES = {"grpo": "lamer_grpo", "rloo": "lamer_rloo"}


def batch() -> DataProto:
    """Six rows of two questions; the reward stands at the last token."""
    rewards = torch.zeros(6, 4)
    rewards[:, -1] = torch.tensor([1.0, 0, 0, 1, 1, 0])
    tensors = {"token_level_rewards": rewards, "response_mask": torch.ones(6, 4)}
    return DataProto.from_dict(tensors, {"uid": np.array(["q1"] * 3 + ["q2"] * 3, dtype=object)})


def main() -> None:
    for theirs, ours in NAMES.items():
        a, b = (compute_advantage(batch(), name, config={}).batch["advantages"] for name in (theirs, ours))
        print(f"{theirs:5}{a[:, 0].numpy().round(4)}\n{ours:11}differs by {float((a - b).abs().max()):.1e}")


if __name__ == "__main__":
    main()
