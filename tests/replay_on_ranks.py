"""A rank that trains on trials made by hand, each way of `WAYS` after another: `torchrun ... OUT`.

Rank 0 leaves the losses, gradient norms and masters of each in OUT/WAY.json and OUT/WAY.safetensors.
"""

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch.utils._python_dispatch import TorchDispatchMode

from lamer_fast.algo.gae import Credit
from lamer_fast.algo.packing import pack, pack_lessons
from lamer_fast.config import AlgoConfig, Config, LearnConfig, ModelConfig, RolloutConfig, TrainConfig
from lamer_fast.learn.batch import Minibatch
from lamer_fast.learn.critic import make_critic, turn_values
from lamer_fast.learn.policy import BaseOf, Policy
from lamer_fast.learn.ranks import Ranks, join_ranks
from lamer_fast.learn.update import LearnStats, score, score_reference, update
from lamer_fast.leave import leave
from lamer_fast.model.adapters import adapter_names, add_adapters
from lamer_fast.model.rows import whole
from lamer_fast.run.loop import aim_critic
from lamer_fast.run.state import make_algorithm
from lamer_kernels import register_attention
from tests.hand_made import make_trials, won_later
from tests.tiny import tiny_model

CONFIG = Config(
    rollout=RolloutConfig(max_sequence_tokens=200, max_reply_tokens=10, max_reflection_tokens=10),
    algo=AlgoConfig(entropy_coef=0.0),
    learn=LearnConfig(minibatches=2, max_microbatch_tokens=120, lr=1e-5),
    train=TrainConfig(device="cpu"),
)
ITERATIONS = 3
WAYS = (
    "none",
    "optimizer",
    "optimizer, gae",
    "full",
    "full, each micro-batch",
    "full, recomputed, untied, reference",
    "full, bfloat16",
    "full, consolidation",
)
if find_spec("peft"):
    WAYS += ("full, adapters", "full, dora adapters, bfloat16, recomputed, reference")


def make_policy(ranks: Ranks, way: str, *, frozen: bool = False) -> Policy:
    model = tiny_model("llama" if "untied" in way else "qwen3")
    model.set_attn_implementation(register_attention())
    if "recomputed" in way:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    dtype = torch.bfloat16 if "bfloat16" in way else torch.float32
    if "adapters" in way:
        add_adapters(model, ModelConfig(lora_rank=4, lora_alpha=8.0, dora="dora" in way), dtype, seed=0)
        for name in sorted(adapter_names(model)):
            if "lora_B" in name:  # which begin at zero
                torch.nn.init.normal_(model.get_parameter(name), std=0.05)
    policy = Policy(model, None, dtype, frozen=frozen).train()
    if ranks.world > 1 and way.startswith("full"):
        policy.shard_fully(ranks, reduce_every="microbatch" if "each" in way else "update")
    return policy


def replay(ranks: Ranks, way: str = "none"):
    """Losses and gradient norms, [ITERATIONS] each, and the policy; the first iteration is rank 0's alone."""
    policy, config, reference = make_policy(ranks, way), CONFIG, None
    if "gae" in way:
        config = replace(CONFIG, algo=replace(CONFIG.algo, estimator="gae"))
    critic = make_critic(config.algo, policy)
    if "consolidation" in way:
        config = replace(CONFIG, algo=replace(CONFIG.algo, consolidation=0.5))
    if "reference" in way:
        config = replace(CONFIG, algo=replace(CONFIG.algo, kl_coef=0.1))
        reference = BaseOf(policy) if policy.has_adapters else make_policy(ranks, way, frozen=True)
    for module in (policy, critic) if ranks.world > 1 and way.startswith("optimizer") else ():
        if module is not None:
            module.masters.shard(ranks)
    algorithm = make_algorithm(config, policy, 2 * ITERATIONS, critic)
    found, num_batches = [], 0
    for iteration in range(ITERATIONS):
        trials = make_trials(iteration, groups=4)
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
        if reference is not None:
            score_reference(reference, minibatches)
        aim_critic(minibatches, credit, stats)
        num_batches += sum(map(len, minibatches))
        lessons: list[Minibatch] = [[] for _ in minibatches]
        if config.algo.consolidation:
            lessons, count = pack_lessons(won_later(trials), config, iteration=iteration)
            assert count > 2
        for minibatch, beside in zip(minibatches, lessons, strict=True):
            assert update(algorithm, minibatch, stats, ranks, beside) == "applied"
        found.append([stats.mean(key) for key in sorted(stats.sums) if "loss" in key or "norm" in key])
    of_ranks, updates = ranks.gather(num_batches), ITERATIONS * CONFIG.learn.minibatches
    assert min(of_ranks) > 0 and max(of_ranks) > updates, "one has nothing to add, or there is nothing to sum"
    return found, policy


class Traffic(TorchDispatchMode):
    """Bytes of each tensor that a collective gathered, and the number of gradients' reductions."""

    def __init__(self, world: int) -> None:
        super().__init__()
        self.world, self.gathered, self.reductions = world, [0], 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        name = str(function)
        if name.startswith("_c10d_functional.all_gather"):
            self.gathered.append(args[0].nbytes * self.world)
        if name.startswith("c10d._allgather_base"):
            self.gathered.append(args[0].nbytes)
        self.reductions += name.startswith("c10d._reduce_scatter_base")
        return function(*args, **kwargs or {})


if __name__ == "__main__":
    ranks, out = join_ranks(CONFIG), Path(sys.argv[1])
    for way in sys.argv[2:] or WAYS:
        with Traffic(ranks.world) as training:
            losses, policy = replay(ranks, way)
        with Traffic(ranks.world) as publishing:
            weights = dict(policy.named_weights())
        masters = {name: whole(master.detach()) for name, master in policy.masters.items()}
        plain = {name: weight for name, weight in weights.items() if name in masters}
        assert all(torch.equal(x, masters[name].to(policy.dtype)) for name, x in plain.items())
        assert bool(plain) != policy.has_adapters
        adapters = adapter_names(policy.model)
        item = {n: 4 if n in adapters else policy.dtype.itemsize for n, _ in policy.model.named_parameters()}
        sizes = {name: p.numel() * item[name] for name, p in policy.model.named_parameters()}
        layer = sum(size for name, size in sizes.items() if ".layers.0." in name)
        most = 4 * max(p.numel() for p in policy.model.parameters())
        assert max(publishing.gathered) <= most, "more than one parameter at a time"
        rest = sum(sizes.values()) - 2 * layer
        assert max(training.gathered) <= max(layer, rest), "more than a layer or the rest"
        updates = ITERATIONS * CONFIG.learn.minibatches
        if "each" in way:
            assert training.reductions > 3 * updates
        else:
            units = 2 if policy.has_adapters else 3  # layers, and the rest where it is trained
            assert training.reductions == units * updates * way.startswith("full")
        if ranks.is_first:
            (out / f"{way}.json").write_text(json.dumps(losses))
            save_file(masters, out / f"{way}.safetensors")
    leave(0)
