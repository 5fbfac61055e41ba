"""Checks of the recipe's own model: template, packing, samplers, memory, physical limits."""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from importlib.util import find_spec
from itertools import pairwise
from typing import Any

import numpy as np
import torch

from lamer_fast.algo.packing import pack
from lamer_fast.audit.of_policy import audit_policy
from lamer_fast.audit.reference import Reference
from lamer_fast.audit.replay import of_trials
from lamer_fast.config import Config
from lamer_fast.device import pick_device
from lamer_fast.doctor.check import Failed, Skipped
from lamer_fast.learn.batch import PolicyBatch
from lamer_fast.learn.disturb import disturb
from lamer_fast.learn.mismatch import Mismatch
from lamer_fast.learn.policy import Policy, compute_dtype, read_model
from lamer_fast.model.architecture import decoder_computes
from lamer_fast.rollout.boards import draw_boards
from lamer_fast.rollout.collect import collect_trials
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_fast.run.state import TrainState, build_state, make_sampler

# mean |difference| of log-probabilities between sampler and trainer, nats
MEAN_GAP = {torch.float32: 1e-4, torch.bfloat16: 5e-2}


def sampled(small: Config, config: Config) -> Config:
    """`small` with the sampler of the checks: the embedded one, or the recipe's vLLM where no other computes
    the model. A model that cannot be read at all is for the checks to find."""
    by_vllm = replace(small, rollout=replace(small.rollout, sampler="vllm"))
    try:
        only_vllm = config.rollout.sampler == "vllm" and not decoder_computes(read_model(by_vllm).config)
    except Exception:
        return small
    return by_vllm if only_vllm else small


@cache
def state_of(config: Config) -> TrainState:
    """Model, sampler, environment and agent: built once for all checks."""
    if config.rollout.sampler == "vllm" and find_spec("vllm") is None:
        raise Skipped(f"{only_vllm_samples(config)}, and it is not installed")
    return build_state(config)


def only_vllm_samples(config: Config) -> str:
    return f"only vLLM samples from model type {read_model(config).config.model_type!r}"


def chat_template(config: Config) -> str:
    by_vllm = config.rollout.sampler == "vllm"  # starts an engine: not for this
    renderer = read_model(config).renderer() if by_vllm else state_of(config).agent.renderer
    start, bridge = len(renderer.start("board")), len(renderer.bridge("board"))
    found = f"{start} ids to the first reply, {bridge} between replies, ends with {renderer.stop_ids}"
    return "; ".join((found, *renderer.notes))


def collect(state: TrainState, sampler: Any = None) -> TrialBatch:
    config = state.config
    return collect_trials(
        sampler or state.sampler, state.env, state.agent, draw_boards(config, 0), config.rollout, seed=0
    )


def packed_is_padded(config: Config) -> str:
    """Log-probabilities of the packed trunk against one ordinary forward per sequence."""
    state = state_of(config)
    trials = collect(state)
    advantages = np.ones(trials.num_turns, np.float32)
    worst = 0.0
    for minibatch in pack(trials, advantages, config):
        for batch in minibatch:
            packed = state.policy.logprobs(batch.packed, batch.temperature)
            worst = max(worst, float((packed - one_by_one(state.policy, batch)).abs().max()))
    allowed = 1e-4 if state.policy.dtype is torch.float32 else 0.25
    if not worst < allowed:
        advice = "another attention package may be at fault: uninstall flash-attn, or set model.dtype float32"
        raise Failed(f"log-probabilities differ by {worst:.1e}, allowed {allowed:.0e}", advice)
    return f"largest difference {worst:.1e} nats over {trials.num_sequences} sequences"


@torch.no_grad()
def one_by_one(policy: Policy, batch: PolicyBatch) -> torch.Tensor:
    """What `policy.logprobs` should give, [L]: every sequence through the model alone."""
    packed = batch.packed
    bounds = packed.cu_seqlens.tolist()
    parts = [slice(a, b) for a, b in pairwise(bounds)]
    logits = [policy.model(input_ids=packed.input_ids[None, part]).logits[0] for part in parts]
    scaled = torch.cat(logits)[packed.token_idx, : policy.num_ids].float() / batch.temperature
    return torch.log_softmax(scaled, -1).gather(1, packed.targets[:, None])[:, 0]


def sampler_is_trainer(config: Config) -> str:
    if config.rollout.sampler == "vllm":
        raise Skipped(f"{only_vllm_samples(config)}, as the next check does")
    return transfers(state_of(config), state_of(config).sampler)


def vllm_is_trainer(config: Config, needed: bool) -> str:
    """`needed`: the recipe samples with vLLM."""
    if find_spec("vllm") is None:
        if needed:
            raise Failed(
                "rollout.sampler = 'vllm', but vLLM is not installed",
                "pip install 'lamer-fast[vllm]', or set rollout.sampler torch",
            )
        raise Skipped("vLLM is not installed, and this recipe does not need it")
    state = state_of(config)
    if config.rollout.sampler == "vllm":
        return transfers(state, state.sampler)
    by_vllm = replace(config, rollout=replace(config.rollout, sampler="vllm"))
    return transfers(state, make_sampler(by_vllm, state.policy))


def transfers(state: TrainState, sampler: Any) -> str:
    """Mismatch before and after other weights have been transferred; the weights are put back."""
    policy, gaps = state.policy, []
    weights = {name: master.clone() for name, master in policy.masters.saved().items()}
    try:
        for version in (0, 1):
            if version:
                disturb_masters(policy)
            sampler.load_weights(policy.weights_for(sampler), version=version)
            trials = collect(state, sampler)
            minibatches = pack(trials, np.ones(trials.num_turns, np.float32), state.config)
            batches = [batch for minibatch in minibatches for batch in minibatch]
            gaps.append(
                Mismatch.of((policy.logprobs(b.packed, b.temperature), b.rollout_logprobs) for b in batches)
            )
    finally:
        policy.masters.load(weights)
        state.sampler.load_weights(policy.weights_for(state.sampler), version=0)
    allowed = MEAN_GAP[policy.dtype]
    before, after = gaps
    numbers = (
        f"mean gap {before.mean:.1e} nats before a transfer, {after.mean:.1e} after (max {after.max:.1e})"
    )
    if not max(before.mean, after.mean) < allowed:
        raise Failed(f"{numbers}, allowed {allowed:.0e}", "the sampler runs other weights: please report it")
    return numbers


def disturb_masters(policy: Policy) -> None:
    generator = torch.Generator().manual_seed(0)
    for master in policy.masters.values():
        disturb(master, generator)
    policy.masters.publish()


def audit(config: Config) -> str:
    """Whole distributions and every layer, by the recipe's own model."""
    state = state_of(config)
    try:
        Reference.check(state.policy.model.config)
    except ValueError as error:
        raise Skipped(str(error)) from None
    replays = of_trials(collect(state), sequences=2, tokens_per_turn=3)
    found = audit_policy(state.sampler, state.policy, replays, config.rollout.temperature)
    if found.finding is not None:
        raise Failed(str(found.finding), "lamer-fast audit RECIPE shows more")
    places = sum(distance.places for distance in found.kinds.values())
    layers = state.policy.model.config.num_hidden_layers
    gap = f"largest gap {found.max_gap:.1e} nats over {places} whole distributions"
    return f"{gap}, rounding allows {found.tolerance:.1e}; {layers} layers agree"


def memory(config: Config) -> str:
    from lamer_fast.cost.estimate import estimate
    from lamer_fast.device import GIB

    memory = estimate(config).memory
    try:
        memory.check(config)
    except ValueError as error:
        raise Failed(str(error), "see lamer-fast train RECIPE --dry-run for each part") from None
    return f"the recipe needs {memory.total() / GIB:.2f} GiB of {memory.available / GIB:.1f} GiB"


def physical_limit(config: Config) -> str:
    """Upper bounds: tokens per second that this device can sample and train on with this model."""
    from lamer_fast.cost.limits import decode_seconds, measure, shape_of, training_flop

    device = pick_device(config.train.device)
    dtype = compute_dtype(config.model, device)
    shape = replace(shape_of(read_model(config).shape), bytes_per_value=dtype.itemsize)
    rates = measure(dtype, device)
    batch = min(config.rollout.groups * config.rollout.trials_per_group, config.rollout.max_in_flight)
    length = config.rollout.max_sequence_tokens / 2
    sampled = batch / decode_seconds(shape, rates, batch, length)
    lengths = np.full(batch, int(length))
    trained = lengths.sum() * rates.flops / training_flop(shape, lengths, int(lengths.sum()) // 2)
    sampling = f"samples at most {sampled:,.0f} tokens/s ({batch} sequences of {length:.0f} tokens)"
    return f"{sampling}, trains at most {trained:,.0f} tokens/s"
