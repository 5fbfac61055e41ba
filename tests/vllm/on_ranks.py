"""A rank with a vLLM engine, whose weights get lost on the way to rank 1: `torchrun ... MODEL OUT`.

Each leaves in OUT/RANK.json what its probe said then, and what it sampled before that and after a transfer
that arrived.
"""

import json
import sys
from pathlib import Path

import numpy as np
import torch

from lamer_fast.config import Config, ModelConfig, RolloutConfig, TrainConfig
from lamer_fast.learn.policy import load_policy
from lamer_fast.learn.probe import check_transfer
from lamer_fast.learn.ranks import join_ranks
from lamer_fast.leave import leave
from lamer_fast.run.state import make_sampler
from tests.vllm.test_vllm_sampler import disturb, sample

PROMPT = np.arange(20, dtype=np.int32)


def tokens(sampler) -> list[list[int]]:
    return [completion.token_ids.tolist() for _, completion in sample(sampler)]


if __name__ == "__main__":
    config = Config(
        model=ModelConfig(path=sys.argv[1], dtype="float32"),
        rollout=RolloutConfig(
            sampler="vllm", groups=2, trials_per_group=4, max_sequence_tokens=512, max_in_flight=32,
        ),
        train=TrainConfig(device="cpu"),
    )  # fmt: skip
    ranks = join_ranks(config)
    policy = load_policy(config.model, torch.device("cpu"))
    sampler = make_sampler(config, policy, ranks=ranks)
    before, old = tokens(sampler), [(name, weight.clone()) for name, weight in policy.named_weights()]
    disturb(policy)
    new, lost = list(policy.named_weights()), ""
    sampler.load_weights(new if ranks.is_first else old, version=1)
    try:
        check_transfer(sampler, policy, PROMPT, 1.0)
    except RuntimeError as error:
        lost = str(error)
    sampler.load_weights(policy.named_weights(), version=2)
    check_transfer(sampler, policy, PROMPT, 1.0)
    found = {"lost": lost, "before": before, "tokens": tokens(sampler)}
    (Path(sys.argv[2]) / f"{ranks.rank}.json").write_text(json.dumps(found))
    leave(0)
