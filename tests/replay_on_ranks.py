"""A rank that trains on trials made by hand: `torchrun ... replay_on_ranks.py OUT SHARD ESTIMATOR`.

Rank 0 leaves the losses, gradient norms and masters in OUT/losses.json and OUT/masters.safetensors. Estimator
gae has a critic that values the turns of all ranks; else advantages are drawn.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file

from lamer_fast.algo.gae import Credit
from lamer_fast.algo.packing import pack
from lamer_fast.config import AlgoConfig, Config, LearnConfig, RolloutConfig, TrainConfig
from lamer_fast.learn.critic import make_critic, turn_values
from lamer_fast.learn.policy import Policy
from lamer_fast.learn.ranks import Ranks, join_ranks
from lamer_fast.learn.rows import whole
from lamer_fast.learn.update import LearnStats, score, update
from lamer_fast.leave import leave
from lamer_fast.run.loop import aim_critic
from lamer_fast.run.state import make_algorithm
from lamer_kernels import register_attention
from tests.hand_made import make_trials
from tests.tiny import tiny_model

CONFIG = Config(
    rollout=RolloutConfig(max_sequence_tokens=200, max_reply_tokens=10, max_reflection_tokens=10),
    algo=AlgoConfig(entropy_coef=0.0),
    learn=LearnConfig(minibatches=2, max_microbatch_tokens=300, lr=1e-5),
    train=TrainConfig(device="cpu"),
)
ITERATIONS = 3


def replay(ranks: Ranks, shard: str = "none", estimator: str = "gigpo"):
    """Losses and gradient norms, [ITERATIONS] each, and the policy; minibatch 1 is rank 0's alone."""
    config = replace(CONFIG, algo=replace(CONFIG.algo, estimator=estimator))
    model = tiny_model()
    model.set_attn_implementation(register_attention())
    policy = Policy(model, None, torch.float32)
    critic = make_critic(config.algo, policy)
    for module in (policy, critic) if shard == "optimizer" else ():
        if module is not None:
            module.masters.shard(ranks)
    algorithm = make_algorithm(config, policy, 2 * ITERATIONS, critic)
    found = []
    for iteration in range(ITERATIONS):
        trials = make_trials(iteration, groups=3)
        advantages = np.random.default_rng(iteration).normal(size=trials.num_turns).astype(np.float32)
        advantages[trials.group == 1] = 0.0
        group = np.zeros(trials.num_sequences, np.int64)
        group[trials.sequence] = trials.group
        held = group % ranks.world == ranks.rank if iteration else np.full(len(group), ranks.is_first)
        trials = replace(trials, held=held)
        stats, credit = LearnStats(), Credit(advantages)
        if critic is not None:
            values = turn_values(critic, pack(trials, advantages, config), trials.num_turns, ranks)
            credit = algorithm.credit(trials, values=values)
        minibatches = pack(trials, credit.advantages, config, iteration=iteration)
        score(policy, minibatches, config.algo)
        aim_critic(minibatches, credit, stats)
        for minibatch in minibatches:
            assert update(algorithm, minibatch, stats, ranks) == "applied"
        found.append([stats.mean(key) for key in sorted(stats.sums) if "loss" in key or "norm" in key])
    return found, policy


if __name__ == "__main__":
    ranks = join_ranks(CONFIG)
    losses, policy = replay(ranks, *sys.argv[2:])
    masters = {name: whole(master) for name, master in policy.masters.items()}
    assert all(torch.equal(weight, masters[name]) for name, weight in policy.named_weights())
    if ranks.is_first:
        (Path(sys.argv[1]) / "losses.json").write_text(json.dumps(losses))
        save_file(masters, Path(sys.argv[1]) / "masters.safetensors")
    leave(0)
