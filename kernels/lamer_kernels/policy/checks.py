"""The checks that linear_policy_loss and policy_loss share."""

import torch
from torch import Tensor

from .._checks import check_choice, check_offsets, check_tensor
from .._head_checks import ACC_DTYPES
from .terms import KLS, LOSSES, LossConfig, TokenData


def check_config(config: LossConfig, tokens: TokenData) -> None:
    check_choice("loss", config.loss, LOSSES)
    check_choice("kl", config.kl, KLS)
    if config.clip_low < 0 or config.clip_high < 0:
        raise ValueError(f"clip_low and clip_high must be >= 0, got {config.clip_low} and {config.clip_high}")
    if config.dual_clip is not None:
        if config.loss not in ("clip", "gspo"):
            raise ValueError(f"dual_clip goes with loss 'clip' or 'gspo', got loss {config.loss!r}")
        if not config.dual_clip > 1:
            raise ValueError(f"dual_clip must be > 1, got {config.dual_clip}")
    if config.kl_coef and tokens.ref_logprobs is None:
        raise ValueError(f"kl_coef {config.kl_coef} needs ref_logprobs, got None")
    if (config.loss == "gspo") != (tokens.cu_segments is not None):
        raise ValueError(
            f"cu_segments goes with loss 'gspo' and only there, got loss {config.loss!r} "
            f"{'with' if tokens.cu_segments is not None else 'without'} cu_segments"
        )


def check_tokens(tokens: TokenData, like: Tensor, num_tokens: int, validate: bool) -> None:
    """like: a tensor on the device of the head; advantages and token_weights may be on the host."""
    for name in ("old_logprobs", "advantages", "token_weights", "ref_logprobs", "importance_weights"):
        x = getattr(tokens, name)
        if x is None:
            continue
        on_host = name in ("advantages", "token_weights") and isinstance(x, Tensor) and x.device.type == "cpu"
        check_tensor(name, x, shape=(num_tokens,), dtypes=ACC_DTYPES, like=None if on_host else like)
        if x.requires_grad:
            raise ValueError(f"{name} gets no gradient, got a tensor that requires one: detach it")
    if tokens.cu_segments is not None:
        dtypes = (torch.int64, torch.int32)
        check_tensor("cu_segments", tokens.cu_segments, shape=(None,), dtypes=dtypes, like=like)
        if validate:
            check_offsets("cu_segments", tokens.cu_segments, num_tokens)
