"""Attention functions of torch and of optional packages, which are imported on use.

flash_attn (2, 3, 4) and xformers are called by their recorded signatures; on a GPU they are untested until a
record exists.
"""

import warnings
from collections.abc import Callable
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from inspect import signature
from typing import Any, NamedTuple, TypeVar

import torch
from torch import Tensor

from ..._core.checks import has_values

# name -> (module, function)
FUNCTIONS = {
    "torch": ("torch.nn.attention.varlen", "varlen_attn"),
    "flash_attn": ("flash_attn", "flash_attn_varlen_func"),
    "flash_attn_3": ("flash_attn_interface", "flash_attn_varlen_func"),
    "flash_attn_4": ("flash_attn.cute", "flash_attn_varlen_func"),
    "xformers": ("xformers.ops", "memory_efficient_attention"),
    "flex": ("torch.nn.attention.flex_attention", "flex_attention"),
}
VENDORS = {name: ".".join(path) for name, path in FUNCTIONS.items()}

F = TypeVar("F", bound=Callable[..., Any])


def constant(function: F) -> F:
    """torch.compiler.assume_constant_result, which would import torch._dynamo, and with it triton, here."""
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


class Function(NamedTuple):
    call: Callable[..., Any]
    parameters: frozenset[str]
    deterministic: bool  # has a backward pass that is


@cache
def load(name: str) -> Function | None:
    """None where the package is absent, or does not import: half-installed, or built for another torch."""
    module, function = FUNCTIONS[name]
    try:
        if not _is_installed(module):  # which imports the packages that a module lies in
            return None
        call = getattr(import_module(module), function)
    except Exception as error:  # ImportError, but also OSError and RuntimeError of a package's own start
        warnings.warn(f"varlen_attention passes over {module}, which does not import: {error}", stacklevel=2)
        return None
    parameters = frozenset(signature(call).parameters)
    # torch's obeys torch.use_deterministic_algorithms by itself
    return Function(call, parameters, name == "torch" or "deterministic" in parameters)


def _is_installed(module: str) -> bool:
    package = module.split(".")[0]
    spec = find_spec(package)
    if spec is None:
        return False
    if module == package:  # flash-attn 4 alone leaves a folder flash_attn without code of its own
        return spec.origin is not None
    return find_spec(module) is not None


def attention(
    name: str,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    cu_seqlens: Tensor,
    max_seqlen: int,
    causal: bool,
    scale: float,
    deterministic: bool,
) -> Tensor:
    """varlen_attention by the function of that name; its arguments."""
    # gradients of a transposed layout fail in flash-attn 2 (Dao-AILab/flash-attention#2777)
    q, k, v = (x if x.stride(-1) == 1 else x.contiguous() for x in (q, k, v))
    if name == "xformers":
        return _xformers(q, k, v, cu_seqlens, causal, scale)
    if name == "flex":
        from . import flex

        return flex.attention(q, k, v, cu_seqlens, causal, scale)
    offsets = cu_seqlens.to(torch.int32).contiguous()
    if name == "torch":
        return _torch(q, k, v, offsets, max_seqlen, causal, scale)
    function = load(name)
    assert function is not None, name
    options: dict[str, Any] = {"max_seqlen_q": max_seqlen, "max_seqlen_k": max_seqlen}
    if deterministic:
        options["deterministic"] = True
    out: Tensor | tuple[Tensor, ...] = function.call(
        q,
        k,
        v,
        cu_seqlens_q=offsets,
        cu_seqlens_k=offsets,
        softmax_scale=scale,
        causal=causal,
        **{key: value for key, value in options.items() if key in function.parameters},
    )
    return out[0] if isinstance(out, tuple) else out


def _torch(
    q: Tensor, k: Tensor, v: Tensor, offsets: Tensor, max_seqlen: int, causal: bool, scale: float
) -> Tensor:
    if has_values(q) and _has_operator(q.device):  # with gradients in C++, where varlen_attn has Python's
        operator = torch.ops.aten._flash_attention_forward
        sizes = (offsets, offsets, max_seqlen, max_seqlen)
        found: Tensor = operator(q, k, v, *sizes, 0.0, causal, False, scale=scale)[0]
        return found
    from torch.nn.attention.varlen import varlen_attn

    options: dict[str, Any] = {"scale": scale, "window_size": (-1, 0) if causal else (-1, -1)}
    if q.shape[1] != k.shape[1]:
        if _accepts("torch", "enable_gqa"):
            options["enable_gqa"] = True
        else:
            repeats = q.shape[1] // k.shape[1]
            k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
    out = varlen_attn(q, k, v, offsets, offsets, max_seqlen, max_seqlen, **options)
    assert isinstance(out, Tensor)
    return out


@cache
def _has_operator(device: torch.device) -> bool:
    """Of flash attention, which varlen_attn calls: asked by a token with two heads for one key head."""
    if device.type != "cuda" or torch.version.hip is not None:
        return False
    try:
        with torch.inference_mode(False), torch.enable_grad():
            x = torch.zeros(1, 2, 64, dtype=torch.bfloat16, device=device, requires_grad=True)
            offsets, key = torch.tensor([0, 1], dtype=torch.int32, device=device), x[:, :1]
            out = torch.ops.aten._flash_attention_forward(
                x, key, key, offsets, offsets, 1, 1, 0.0, True, False, scale=1.0
            )[0]
            torch.autograd.grad(out.sum(), x)
    except (AttributeError, RuntimeError, TypeError) as error:
        warnings.warn(f"varlen_attention goes through torch's Python: {error}", stacklevel=2)
        return False
    return True


@constant
def _accepts(name: str, parameter: str) -> bool:
    function = load(name)
    return function is not None and parameter in function.parameters


@constant
def xformers_runs(capability: tuple[int, int], dtype: torch.dtype, head_dim: int) -> bool:
    """Whether the installed xformers has an operator of each pass for packed sequences on such a GPU."""
    from xformers.ops import fmha

    masks = {fmha.attn_bias.BlockDiagonalMask, fmha.attn_bias.BlockDiagonalCausalMask}

    def runs(operator: Any) -> bool:
        most = getattr(operator, "CUDA_MAXIMUM_COMPUTE_CAPABILITY", None)
        return (
            operator.is_available()
            and capability >= operator.CUDA_MINIMUM_COMPUTE_CAPABILITY
            and (most is None or capability <= most)
            and dtype in operator.SUPPORTED_DTYPES
            and head_dim <= operator.SUPPORTED_MAX_K
            and masks.issubset(operator.SUPPORTED_ATTN_BIAS_TYPES)
        )

    return any(map(runs, fmha.ALL_FW_OPS)) and any(map(runs, fmha.ALL_BW_OPS))


def _xformers(q: Tensor, k: Tensor, v: Tensor, cu_seqlens: Tensor, causal: bool, scale: float) -> Tensor:
    from xformers.ops import fmha

    bias = fmha.attn_bias.BlockDiagonalMask.from_seqlens(cu_seqlens.diff().tolist(), device=q.device)
    repeats = q.shape[1] // k.shape[1]
    if repeats > 1:
        k, v = k.repeat_interleave(repeats, dim=1), v.repeat_interleave(repeats, dim=1)
    bias = bias.make_causal() if causal else bias
    out = fmha.memory_efficient_attention(*(x.unsqueeze(0) for x in (q, k, v)), attn_bias=bias, scale=scale)
    return out.squeeze(0)  # type: ignore[no-any-return]
