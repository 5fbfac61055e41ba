"""The credit of turns in SkyRL's step-wise training, on its own trainer's method where SkyRL is installed."""

import sys
import typing
from types import SimpleNamespace

import pytest
import torch

from lamer_kernels.integrations.skyrl_turns import TurnCredit
from lamer_kernels.integrations.turns import turn_advantages

RECORDS = [
    {"episode": 0, "phase": 0, "anchor": "start"},
    {"episode": 1, "phase": 1, "anchor": "note"},
    {"episode": 1, "phase": 0, "anchor": "start"},
]
TRIALS = [[0.0, 0.0, 1.0], [0.0, 0.0, 0.0], [1.0]]
UIDS = ["a"] * 6 + ["b"]
CREDIT = {"gamma_traj": 0.5}


def expected():
    trials = [
        [{**record, "reward": reward} for record, reward in zip(RECORDS, rewards, strict=False)]
        for rewards in TRIALS
    ]
    return torch.cat(turn_advantages(trials, ["a", "a", "b"], **CREDIT)).float()


def batch(pad=1):
    rows = [reward for trial in TRIALS for reward in trial]
    mask = (torch.arange(5) < torch.tensor([2, 5, 1, 3, 4, 2, 5])[:, None]).long()
    rewards = torch.zeros(len(rows), 5)
    rewards[:, 0] = torch.tensor(rows)
    ends = [i == len(trial) - 1 for trial in TRIALS for i in range(len(trial))]
    output = {
        "is_last_step": ends,
        "env_metrics": [
            {"turns": RECORDS[: len(t)]} if i == len(t) - 1 else {} for t in TRIALS for i in range(len(t))
        ],
    }
    filled = [torch.cat([x, x[:1].expand(pad, -1)]) for x in (rewards, mask)]
    metadata = {
        "uids": UIDS + [f"pad{i}" for i in range(pad)], "is_last_step": ends + [True] * pad, "pad_size": pad,
        "avg_response_length": 3.0,
    }  # fmt: skip
    return output, filled, metadata


class Batch(dict):
    def __init__(self, output, filled, metadata):
        super().__init__(rewards=filled[0], response_mask=filled[1], values=None)
        self.metadata = metadata

    def to(self, device):
        return self


class Base:
    """What SkyRL's trainer does with such a batch: the last step's number for all steps."""

    def __init__(self):
        self.made = batch()

    def convert_to_training_input(self, generator_output, uids):
        return Batch(*self.made)

    def compute_advantages_and_returns(self, data):
        data["advantages"] = data["returns"] = torch.ones(data["rewards"].shape)
        data.metadata["metrics"] = {"avg_advantages": 1.0, "avg_final_rewards": 0.5}
        return data


def check(trainer):
    output, filled, _ = batch()
    data = trainer.convert_to_training_input(output, UIDS)
    data = trainer.compute_advantages_and_returns(data)
    want = torch.cat([expected(), torch.zeros(1)])[:, None] * filled[1]
    torch.testing.assert_close(data["advantages"], want)
    assert data["advantages"][0, 0] > 0 > data["advantages"][3, 0]  # the lost episode of the trial that wins
    said = want[filled[1].bool()]
    assert data.metadata["metrics"]["avg_advantages"] == pytest.approx(said.mean().item())
    assert "avg_final_rewards" in data.metadata["metrics"] and "lamer_turns" not in data.metadata


def test_each_turn_has_its_own_credit():
    class Trainer(TurnCredit, Base):
        credit = CREDIT

    check(Trainer())


def test_on_skyrls_own_trainer():
    if sys.version_info < (3, 12):  # pydantic refuses the standard library's before
        typing.TypedDict = pytest.importorskip("typing_extensions").TypedDict
    pytest.importorskip("skyrl", reason="needs SkyRL: make test-integrations")
    module = pytest.importorskip("skyrl.train.trainer", reason="needs SkyRL's requirements")
    made = batch()

    class Trainer(TurnCredit, module.RayPPOTrainer):
        credit = CREDIT

        def __init__(self):
            algorithm = SimpleNamespace(
                advantage_estimator="grpo", gamma=1.0, lambd=1.0, grpo_norm_by_std=True
            )
            self.cfg = SimpleNamespace(
                generator=SimpleNamespace(step_wise_trajectories=True),
                trainer=SimpleNamespace(algorithm=algorithm),
            )
            self.all_metrics = {}

    class Converted(Trainer):
        def convert_to_training_input(self, generator_output, uids):
            data = Batch(*made)
            data.metadata["lamer_turns"] = [row.get("turns") for row in generator_output["env_metrics"]]
            return data

    check(Converted())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"is_last_step": None}, "needs generator.step_wise_trajectories=true"),
        ({"lamer_turns": [None] * 7}, r"a record per turn, got none of 3"),
        ({"lamer_turns": [None, None, RECORDS[:2], None, None, RECORDS, RECORDS[:1]]}, "got 2 of 3"),
    ],
)
def test_what_is_missing_is_told(change, message):
    class Trainer(TurnCredit, Base):
        credit = CREDIT

    trainer = Trainer()
    data = trainer.convert_to_training_input(batch()[0], UIDS)
    data.metadata.update(change)
    with pytest.raises(ValueError, match=message):
        trainer.compute_advantages_and_returns(data)
