"""The terms of the losses by Triton: by themselves, or between the two halves of a row pass."""

from typing import Any

import torch
from torch import Tensor

from ..._core.launch import launch
from ..logprob.launch import blocks, overlay, per_row, scalars, width
from ..projection import Head
from .gpu import policy_rows_kernel, policy_terms_kernel
from .terms import LossConfig, Terms, TokenData


def policy_rows(
    logits: Tensor,
    targets: Tensor,
    head: Head,
    temperature: float | Tensor,
    tokens: TokenData,
    config: LossConfig,
    dtype: torch.dtype,
) -> tuple[Tensor, Tensor, Terms, Tensor]:
    """logprobs, entropy [C], terms, and dlogits [C, V] of ``dtype`` over the memory of ``logits``."""
    num_rows, vocab = logits.shape
    out = overlay(logits, dtype)
    logprobs, entropy = (logits.new_empty(num_rows, dtype=torch.float32) for _ in range(2))
    terms = _new_terms(logprobs, tokens, config)
    launch(
        policy_rows_kernel, num_rows, logits, out, targets, head.bias, per_row(temperature),
        *_constants(tokens), logprobs, entropy, *_outputs(terms),
        vocab, width(logits, out), logits.stride(0), out.stride(0), **scalars(head, temperature),
        **_switches(tokens, config), **blocks(vocab),
    )  # fmt: skip
    return logprobs, entropy, terms, out


def policy_terms(config: LossConfig, logprobs: Tensor, entropy: Tensor | None, tokens: TokenData) -> Terms:
    """As in ``terms.py``, for float32 and losses whose tokens stand alone."""
    terms = _new_terms(logprobs, tokens, config)
    launch(
        policy_terms_kernel, len(logprobs), logprobs, entropy, *_constants(tokens), *_outputs(terms),
        **_switches(tokens, config), HAS_ENTROPY=entropy is not None, num_warps=1,
    )  # fmt: skip
    return terms


def _new_terms(like: Tensor, tokens: TokenData, config: LossConfig) -> Terms:
    """Still to be written, but for the gradient of the entropy, which depends on the weights alone."""
    grad_entropy = None
    if config.entropy_coef:
        grad_entropy = torch.full_like(like, -config.entropy_coef)
        if tokens.token_weights is not None:
            grad_entropy = grad_entropy * tokens.token_weights
    loss, grad, ratio, kl = (like.new_empty(like.shape) for _ in range(4))
    return Terms(loss, grad, grad_entropy, ratio, like.new_empty(like.shape, dtype=torch.bool), kl)


def _constants(tokens: TokenData) -> list[Tensor | None]:
    return [
        tokens.old_logprobs,
        tokens.advantages,
        tokens.token_weights,
        tokens.ref_logprobs,
        tokens.importance_weights,
    ]


def _outputs(terms: Terms) -> list[Tensor]:
    return [terms.loss, terms.grad_logprobs, terms.ratio, terms.clipped.view(torch.int8), terms.kl]


def _switches(tokens: TokenData, config: LossConfig) -> dict[str, Any]:
    max_gap, max_kl = config.kl_clip or (0.0, 0.0)
    return {
        "clip_low": config.clip_low,
        "clip_high": config.clip_high,
        "dual_clip": config.dual_clip or 0.0,
        "log_ratio_clip": config.log_ratio_clip or 0.0,
        "kl_coef": config.kl_coef,
        "max_gap": max_gap,
        "max_kl": max_kl,
        "entropy_coef": config.entropy_coef,
        "tau_pos": config.tau_pos,
        "tau_neg": config.tau_neg,
        "LOSS": config.loss,
        "KL": config.kl,
        "HAS_DUAL_CLIP": config.dual_clip is not None,
        "HAS_LOG_RATIO_CLIP": config.log_ratio_clip is not None,
        "HAS_KL_CLIP": config.kl_clip is not None,
        "HAS_OLD": tokens.old_logprobs is not None,
        "HAS_WEIGHTS": tokens.token_weights is not None,
        "HAS_REF": tokens.ref_logprobs is not None,
        "HAS_IMPORTANCE": tokens.importance_weights is not None,
    }
