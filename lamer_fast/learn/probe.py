"""Is the sampler on the trainer's weights? One completion, scored by both sides after a transfer."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from lamer_fast.learn.batch import Packed
from lamer_fast.samplers.protocol import Completion, Request, Sampler, Sampling

PROBE_TOKENS = 32
PROBE_ID = -1
# mean |difference| of log-probabilities, nats; measured on random models: float32 1e-6, bfloat16 1e-2
TOLERANCE = {torch.float32: 1e-3, torch.bfloat16: 8e-2}


@dataclass(frozen=True)
class Probe:
    sampler: float  # mean log-probability of the probe's tokens as the sampler reported them
    trainer: float  # of the same tokens, recomputed
    mean_difference: float
    max_difference: float


def check_transfer(sampler: Sampler, policy: Any, prompt: NDArray[np.int32], temperature: float) -> Probe:
    """RuntimeError with both numbers when sampler and trainer disagree: no training on stale weights."""
    result = probe(sampler, policy, prompt, temperature)
    tolerance = TOLERANCE[policy.dtype]
    if not result.mean_difference <= tolerance:  # nan fails too
        raise RuntimeError(
            f"after the weight transfer the sampler gives its probe {result.sampler:.4f} nats per token, the "
            f"trainer {result.trainer:.4f}: they differ by {result.mean_difference:.2e} on average, "
            f"allowed is {tolerance:.0e} for {policy.dtype}. The sampler's weights are stale"
        )
    return result


def probe(sampler: Sampler, policy: Any, prompt: NDArray[np.int32], temperature: float) -> Probe:
    """Samples PROBE_TOKENS after `prompt` ([n] token ids) and scores them with the trainer's forward pass."""
    completion = complete(sampler, prompt, temperature)
    ids = np.concatenate([prompt, completion.token_ids])
    trainer = score_tokens(policy, ids, temperature)[len(prompt) - 1 :]
    difference = np.abs(trainer - completion.logprobs)
    return Probe(
        float(completion.logprobs.mean()),
        float(trainer.mean()),
        float(difference.mean()),
        float(difference.max()),
    )


def complete(sampler: Sampler, prompt: NDArray[np.int32], temperature: float) -> Completion:
    room = sampler.max_sequence_tokens - PROBE_TOKENS
    drawn = Sampling(temperature)
    sampler.submit(Request(PROBE_ID, PROBE_ID, prompt[-room:], 0, PROBE_TOKENS, (), drawn))
    while True:
        for completion in sampler.poll():
            if completion.id == PROBE_ID:
                sampler.release(PROBE_ID)
                return completion


def score_tokens(policy: Any, ids: NDArray[np.int32], temperature: float) -> NDArray[np.float32]:
    """[n - 1] float32: log-probability of ids[1:] after `temperature`, by training's packed forward pass."""
    n = len(ids)
    input_ids = torch.as_tensor(ids.astype(np.int64), device=policy.device)
    packed = Packed(
        input_ids=input_ids,
        position_ids=torch.arange(n, device=policy.device),
        cu_seqlens=torch.tensor([0, n], dtype=torch.int32, device=policy.device),
        max_seqlen=n,
        token_idx=torch.arange(n - 1, device=policy.device),
        targets=input_ids[1:],
    )
    scores: NDArray[np.float32] = policy.logprobs(packed, temperature).float().cpu().numpy()
    return scores
