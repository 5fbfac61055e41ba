"""tree_attention: contract, checks and registration."""

import torch
from torch import Tensor

from ..._core.autocast import autocast_off
from ..._core.checks import check_choice, check_tensor, has_values
from ..._core.namespace import qualified
from .._choose import check_heads
from . import nodes
from .reference import tree_attention_ref

HALF_DTYPES = (torch.float16, torch.bfloat16)
NAMES = ("nodes", "flex", "reference")


def tree_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    subtree_end: Tensor,
    *,
    scale: float | None = None,
    implementation: str = "auto",
) -> Tensor:
    """Causal attention of sequences whose common beginnings are stored once: token j sees token i if
    ``i <= j < subtree_end[i]``.

    Args:
        q: [U, Hq, D]; k, v: [U, Hkv, D], Hq a multiple of Hkv. Float, one dtype, any strides; differentiable.
        subtree_end: [U] int32 or int64, of `prefix_tree`: i < subtree_end[i] <= U, and no token's end lies
            beyond that of one it continues. Read and checked on a CPU, and by "nodes" everywhere.
        scale: of the scores; None is D ** -0.5.
        implementation: "nodes" (each stretch without a branch over the keys of its ancestors; any device and
            dtype), "flex" (``torch.nn.attention.flex_attention``, compiled; CUDA, 16 and 32 bit) or
            "reference". auto: flex on CUDA in 16 bit, unless
            ``torch.use_deterministic_algorithms`` is on, else nodes.

    Returns:
        [U, Hq, D] in q's dtype, computed in it whatever ``torch.autocast`` says.

    Raises:
        ValueError: shapes, dtypes, devices or values disagree; the message names both.
    """
    num_tokens, _ = check_heads(q, k, v)
    check_tensor("subtree_end", subtree_end, shape=(num_tokens,), dtypes=(torch.int32, torch.int64), like=q)
    check_choice("implementation", implementation, ("auto", *NAMES))
    name = implementation
    deterministic = torch.are_deterministic_algorithms_enabled()
    if name == "auto":
        fits = q.device.type == "cuda" and q.dtype in HALF_DTYPES and num_tokens and not deterministic
        name = "flex" if fits else "nodes"
    if name == "flex" and deterministic:  # torch 2.11 cannot trace it then: it fills an empty leaf in place
        raise ValueError("implementation 'flex' cannot run under torch.use_deterministic_algorithms(True)")
    if name == "flex" and (q.device.type != "cuda" or q.dtype is torch.float64):
        raise ValueError(
            f"implementation 'flex' needs CUDA tensors of 16 or 32 bit, got {q.dtype} on {q.device}"
        )
    scale = q.shape[-1] ** -0.5 if scale is None else float(scale)
    if name == "nodes":
        out: Tensor = _tree_attention(q, k, v, subtree_end, scale)[0]
        return out
    with autocast_off(q):
        if name == "flex":
            from . import flex

            return flex.attention(q, k, v, subtree_end, scale)
        if has_values(subtree_end) and q.device.type == "cpu":
            list(nodes.blocks(subtree_end))  # raises where they are those of no tree
        return tree_attention_ref(q, k, v, subtree_end, scale=scale)


@torch.library.custom_op(qualified("tree_attention"), mutates_args=())
def _tree_attention(
    q: Tensor, k: Tensor, v: Tensor, subtree_end: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
    """out [U, Hq, D] and the log of the normaliser, [Hkv, U, Hq / Hkv]."""
    with autocast_off(q):
        return nodes.forward(q.detach(), k.detach(), v.detach(), subtree_end, scale)


@_tree_attention.register_fake
def _(q, k, v, subtree_end, scale):  # type: ignore[no-untyped-def]
    lse = (k.shape[1], q.shape[0], q.shape[1] // k.shape[1])
    return q.new_empty(q.shape), q.new_empty(lse, dtype=nodes.exact_dtype(q))


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    q, k, v, subtree_end, ctx.scale = inputs
    ctx.save_for_backward(q, k, v, *output, subtree_end)
    ctx.set_materialize_grads(False)


def _backward(ctx, dout, _):  # type: ignore[no-untyped-def]
    if dout is None:
        return (None,) * 5
    return (*_tree_attention_backward(dout, *ctx.saved_tensors, ctx.scale), None, None)


_tree_attention.register_autograd(_backward, setup_context=_setup_context)


@torch.library.custom_op(qualified("tree_attention_backward"), mutates_args=())
def _tree_attention_backward(
    dout: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, subtree_end: Tensor, scale: float
) -> tuple[Tensor, Tensor, Tensor]:
    with autocast_off(q):
        dout, q, k, v, out, lse = (x.detach() for x in (dout, q, k, v, out, lse))
        return nodes.backward(dout, q, k, v, out, lse, subtree_end, scale)


@_tree_attention_backward.register_fake
def _(dout, q, k, v, out, lse, subtree_end, scale):  # type: ignore[no-untyped-def]
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)
