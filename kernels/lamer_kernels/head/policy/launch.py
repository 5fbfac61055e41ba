"""policy_rows by Triton: a chunk of logits becomes statistics, losses and dlogits in one launch."""

import torch
from torch import Tensor

from ..._core.launch import launch
from ..logprob.launch import blocks, overlay, per_row, scalars, width
from ..projection import Head
from .gpu import policy_rows_kernel
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
    logprobs, entropy, loss, grad, ratio, kl = (
        logits.new_empty(num_rows, dtype=torch.float32) for _ in range(6)
    )
    clipped = logits.new_empty(num_rows, dtype=torch.bool)
    max_gap, max_kl = config.kl_clip or (0.0, 0.0)
    launch(
        policy_rows_kernel, num_rows, logits, out, targets, head.bias, per_row(temperature),
        tokens.old_logprobs, tokens.advantages, tokens.token_weights, tokens.ref_logprobs,
        tokens.importance_weights,
        logprobs, entropy, loss, grad, ratio, clipped.view(torch.int8), kl,
        vocab, width(logits, out), logits.stride(0), out.stride(0), **scalars(head, temperature),
        clip_low=config.clip_low, clip_high=config.clip_high, dual_clip=config.dual_clip or 0.0,
        log_ratio_clip=config.log_ratio_clip or 0.0,
        kl_coef=config.kl_coef, max_gap=max_gap, max_kl=max_kl, entropy_coef=config.entropy_coef,
        tau_pos=config.tau_pos, tau_neg=config.tau_neg,
        LOSS=config.loss, KL=config.kl, HAS_DUAL_CLIP=config.dual_clip is not None,
        HAS_LOG_RATIO_CLIP=config.log_ratio_clip is not None, HAS_KL_CLIP=config.kl_clip is not None,
        HAS_OLD=tokens.old_logprobs is not None, HAS_WEIGHTS=tokens.token_weights is not None,
        HAS_REF=tokens.ref_logprobs is not None, HAS_IMPORTANCE=tokens.importance_weights is not None,
        **blocks(vocab),
    )  # fmt: skip
    grad_entropy = None
    if config.entropy_coef:
        grad_entropy = torch.full_like(grad, -config.entropy_coef)
        if tokens.token_weights is not None:
            grad_entropy = grad_entropy * tokens.token_weights
    return logprobs, entropy, Terms(loss, grad, grad_entropy, ratio, clipped, kl), out
