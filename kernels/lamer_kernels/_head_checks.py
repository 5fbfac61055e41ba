"""The checks that linear_logprob and linear_policy_loss share."""

import torch
from torch import Tensor

from ._checks import check_tensor
from ._head import HEAD_DTYPES

ACC_DTYPES = (torch.float32, torch.float64)


def check_head(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    token_idx: Tensor | None,
    temperature: float | Tensor,
    bias: Tensor | None,
    softcap: float | None,
    weight_cast: Tensor | None,
    validate: bool,
) -> None:
    check_tensor("hidden", hidden, shape=(None, None), dtypes=HEAD_DTYPES)
    num_hidden = hidden.shape[1]
    check_tensor("weight", weight, shape=(None, num_hidden), dtypes=HEAD_DTYPES, like=hidden)
    vocab = weight.shape[0]
    num_tokens = hidden.shape[0] if token_idx is None else None
    check_tensor("targets", targets, shape=(num_tokens,), dtypes=(torch.int64,), like=hidden)
    if token_idx is not None:
        check_tensor("token_idx", token_idx, shape=tuple(targets.shape), dtypes=(torch.int64,), like=hidden)
    if isinstance(temperature, Tensor):
        check_tensor("temperature", temperature, shape=tuple(targets.shape), dtypes=ACC_DTYPES, like=hidden)
        if temperature.requires_grad:
            raise ValueError("temperature gets no gradient, got a tensor that requires one")
    elif not temperature > 0:
        raise ValueError(f"temperature must be > 0, got {temperature}")
    if bias is not None:
        check_tensor("bias", bias, shape=(vocab,), dtypes=HEAD_DTYPES, like=hidden)
    if softcap is not None and not softcap > 0:
        raise ValueError(f"softcap must be > 0 or None, got {softcap}")
    if weight_cast is not None:
        check_tensor(
            "weight_cast", weight_cast, shape=(vocab, num_hidden), dtypes=(hidden.dtype,), like=hidden
        )
    if validate:
        _check_ids("targets", targets, vocab)
        if token_idx is not None:
            _check_ids("token_idx", token_idx, hidden.shape[0])
        if isinstance(temperature, Tensor) and not bool((temperature > 0).all()):
            raise ValueError(f"temperature must be > 0, got {float(temperature.min())}")


def _check_ids(name: str, ids: Tensor, limit: int) -> None:
    if ids.numel() and not (int(ids.min()) >= 0 and int(ids.max()) < limit):
        raise ValueError(f"{name} must lie in [0, {limit}), got {int(ids.min())} to {int(ids.max())}")
