"""linear_logprob: the custom ops, their gradient, and the public function with its checks."""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ..._core.dispatch import resolve_backend, without_autocast
from ..._core.namespace import qualified
from ..._core.numbers import check_flag
from ..checks import HeadInputs, head_inputs, head_of, left_out, spread
from ..projection import finish_dweight, logits_dtype, new_logits, scatter_rows
from . import plans
from .cpu import RowStats
from .reference import linear_logprob_ref


class LinearLogprob(NamedTuple):
    """Per loss token, float32 (float64 for float64 inputs); None where not asked for."""

    logprobs: Tensor
    entropy: Tensor | None
    sum_sq: Tensor | None


def linear_logprob(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    token_idx: Tensor | None = None,
    temperature: float | Tensor = 1.0,
    bias: Tensor | None = None,
    softcap: float | None = None,
    ignore_index: int | None = -100,
    entropy: bool = False,
    sum_sq: bool = False,
    weight_cast: Tensor | None = None,
    workspace_bytes: int | None = None,
    backend: str = "auto",
    validate: bool = False,
) -> LinearLogprob:
    """Log-probs of ``targets`` under a language-model head, without a [T, V] tensor.

    ``logits = softcap * tanh((hidden[token_idx] @ weight.T + bias) / softcap) / temperature``, computed in
    chunks of tokens. All outputs are differentiable with respect to hidden, weight and bias.

    Args:
        hidden: [..., H] bf16, fp16, fp32 or fp64, the dtype of the GEMMs; T rows, as [T, H] or [B, S, H].
        weight: [V, H] any of them; float32 master weights under bf16 hidden states are the normal case.
        targets: [L] int64 or int32. ``hidden[token_idx[l]]`` predicts ``targets[l]``: the caller has shifted.
            L may be several axes, those of hidden ([B, S]) or of token_idx: results come in their shape.
        token_idx: [L] int64 or int32, of the T rows; None means all, and targets have hidden's axes.
        temperature: one number, a 0-d tensor, or [L] float32; gets no gradient.
        bias: [V] float; -inf takes an entry out of the distribution.
        softcap: Gemma's tanh cap of the logits, before the temperature.
        ignore_index: tokens with this label are left out: results 0, and exactly no gradient. On a GPU, which
            is not waited for, they are computed and discarded: ``token_idx`` saves their cost. None: no
            label is special.
        entropy: also return the entropy, nats.
        sum_sq: also return the sum of squared probabilities.
        weight_cast: [V, H] ``weight.detach()`` in hidden's dtype, if the caller keeps one per update; without
            it each call casts anew if the dtypes differ.
        workspace_bytes: for logits; default 2.5 GB on CUDA, at most a 32nd of its memory, 64 MiB on a CPU. If
            the logits of all L tokens fit, they are kept for the backward pass (3 GEMMs), else computed again
            (4); a frozen weight needs neither (2).
        validate: also check values (targets, token_idx, temperature) on a GPU, which synchronises; on a CPU
            they always are.

    Raises:
        ValueError: shapes, dtypes, devices or (validate) values disagree; the message names both.
    """
    given = head_inputs(
        hidden, weight, targets, token_idx=token_idx, temperature=temperature, bias=bias, softcap=softcap,
        weight_cast=weight_cast, ignore_index=ignore_index, workspace_bytes=workspace_bytes,
        validate=validate,
    )  # fmt: skip
    wanted = check_flag("entropy", entropy), check_flag("sum_sq", sum_sq)
    backend = resolve_backend(backend, hidden.device)
    if left_out(given, backend):
        assert given.present is not None
        idx = given.present.nonzero().squeeze(1)
        out = _logprobs(given.at(idx), weight, weight_cast, bias, *wanted, backend)
        return LinearLogprob(*(None if x is None else spread(x, idx, given.shape) for x in out))  # type: ignore[arg-type]
    out = _logprobs(given, weight, weight_cast, bias, *wanted, backend)
    return LinearLogprob(*(None if x is None else given.shaped(x) for x in out))  # type: ignore[arg-type]


def _logprobs(
    given: HeadInputs,
    weight: Tensor,
    weight_cast: Tensor | None,
    bias: Tensor | None,
    entropy: bool,
    sum_sq: bool,
    backend: str,
) -> tuple[Tensor, Tensor | None, Tensor | None]:
    hidden, targets = given.hidden, given.targets
    if backend == "reference":
        ref = linear_logprob_ref(
            hidden, weight, targets, token_idx=given.token_idx, temperature=given.temperature, bias=bias,
            softcap=given.softcap,
        )  # fmt: skip
        return ref.logprobs, ref.entropy if entropy else None, ref.sum_sq if sum_sq else None
    if weight_cast is None and weight.dtype is not hidden.dtype:
        weight_cast = weight.detach().to(hidden.dtype)
    plan = _choose_plan(hidden, weight, bias, targets, given.workspace_bytes, backend)
    out = _linear_logprob(
        hidden, weight, weight_cast, bias, targets, given.token_idx, given.temperatures, given.numbers,
        [entropy, sum_sq], plan, backend,
    )  # fmt: skip
    return out[0], out[3] if entropy else None, out[4] if sum_sq else None


def _choose_plan(
    hidden: Tensor, weight: Tensor, bias: Tensor | None, targets: Tensor, workspace_bytes: int, backend: str
) -> str:
    head_trains = weight.requires_grad or (bias is not None and bias.requires_grad)
    if not torch.is_grad_enabled() or not (head_trains or hidden.requires_grad):
        return "values"
    if not head_trains:
        return "frozen"
    cache_bytes = targets.shape[0] * weight.shape[0] * logits_dtype(hidden, backend).itemsize
    return "cached" if cache_bytes <= workspace_bytes else "recompute"


@torch.library.custom_op(qualified("linear_logprob"), mutates_args=())
@without_autocast
def _linear_logprob(
    hidden: Tensor,
    weight: Tensor,
    weight_cast: Tensor | None,
    bias: Tensor | None,
    targets: Tensor,
    token_idx: Tensor | None,
    temperatures: Tensor | None,
    numbers: Sequence[float],
    wanted: Sequence[bool],
    plan: str,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """logprobs, lse, lse_rest, entropy, sum_sq [L], logits [L, V] (plan cached), units [n, L, H] (frozen).

    numbers: HeadInputs.numbers; wanted: entropy, sum_sq.
    """
    head = head_of((weight, weight_cast, bias), temperatures, numbers, hidden.dtype)
    x = hidden.detach() if token_idx is None else hidden.detach()[token_idx]
    done = plans.forward(
        x,
        targets,
        head,
        entropy=wanted[0],
        sum_sq=wanted[1],
        plan=plan,
        workspace_bytes=int(numbers[-1]),
        backend=backend,
    )
    stats = [x.new_empty(0) if s is None else s for s in done.stats]
    return (*stats, done.logits, done.units)  # type: ignore[return-value]


@_linear_logprob.register_fake
def _(  # type: ignore[no-untyped-def]
    hidden, weight, weight_cast, bias, targets, token_idx, temperatures, numbers, wanted, plan, backend
):
    entropy, sum_sq = wanted
    num_tokens, acc = targets.shape[0], torch.float64 if hidden.dtype is torch.float64 else torch.float32
    token = hidden.new_empty(num_tokens, dtype=acc)
    none = hidden.new_empty(0)
    num_units = 1 + entropy + sum_sq if plan == "frozen" else 0
    num_rows, vocab = (num_tokens, weight.shape[0]) if plan == "cached" else (0, 0)
    return (
        token,
        torch.empty_like(token),
        torch.empty_like(token),
        torch.empty_like(token) if entropy else none,
        torch.empty_like(token) if sum_sq else none.clone(),
        new_logits(hidden, num_rows, vocab, backend),
        hidden.new_empty(num_units, num_tokens, hidden.shape[1]),
    )


def _setup_context(ctx, inputs, output):  # type: ignore[no-untyped-def]
    *tensors, ctx.numbers, ctx.wanted, _, ctx.backend = inputs
    ctx.save_for_backward(*tensors, *output)
    ctx.set_materialize_grads(False)


def _backward(ctx, grad_logprobs, grad_lse, grad_lse_rest, grad_entropy, grad_sum_sq, *_):  # type: ignore[no-untyped-def]
    hidden, weight, weight_cast, bias, *rest = ctx.saved_tensors
    entropy, sum_sq = ctx.wanted
    upstream = [grad_logprobs, grad_entropy if entropy else None, grad_sum_sq if sum_sq else None]
    needs = [ctx.needs_input_grad[i] for i in (0, 1, 3)]
    grads = _linear_logprob_backward(
        upstream, hidden, weight, weight_cast, bias, rest[:3], rest[3:], ctx.numbers, ctx.wanted, needs,
        ctx.backend,
    )  # fmt: skip
    dhidden, dweight, dbias = (g if need else None for g, need in zip(grads, needs, strict=True))
    return (dhidden, dweight, None, dbias, *[None] * 7)


_linear_logprob.register_autograd(_backward, setup_context=_setup_context)


@torch.library.custom_op(qualified("linear_logprob_backward"), mutates_args=())
@without_autocast
def _linear_logprob_backward(
    upstream: Sequence[Tensor | None],
    hidden: Tensor,
    weight: Tensor,
    weight_cast: Tensor | None,
    bias: Tensor | None,
    rows: Sequence[Tensor | None],
    outputs: Sequence[Tensor],
    numbers: Sequence[float],
    wanted: Sequence[bool],
    needs: Sequence[bool],
    backend: str,
) -> tuple[Tensor, Tensor, Tensor]:
    """upstream: of logprobs, entropy, sum_sq; rows: targets, token_idx, temperatures; outputs: of the forward
    op, as numbers and wanted are its; needs: of hidden, weight, bias.
    """
    targets, token_idx, temperatures = rows
    assert targets is not None
    logprobs, lse, lse_rest, entropies, sums_sq, logits, units = outputs
    (entropy, sum_sq), (need_hidden, need_weight, need_bias) = wanted, needs
    head = head_of((weight, weight_cast, bias), temperatures, numbers, hidden.dtype)
    saved = plans.Forward(
        RowStats(logprobs, lse, lse_rest, entropies if entropy else None, sums_sq if sum_sq else None),
        logits,
        units,
    )
    grads = plans.backward(
        (upstream[0], upstream[1], upstream[2]),
        hidden if token_idx is None else hidden[token_idx],
        targets,
        head,
        saved,
        needs=(need_hidden, weight if need_weight else None, need_bias),
        workspace_bytes=int(numbers[-1]),
        backend=backend,
    )
    none = hidden.new_empty
    return (
        none(0) if grads.x is None else scatter_rows(grads.x, token_idx, hidden.shape[0]),
        none(0) if grads.weight is None else finish_dweight(grads.weight, weight.dtype),
        none(0) if grads.bias is None or bias is None else grads.bias.to(bias.dtype),
    )


@_linear_logprob_backward.register_fake
def _(upstream, hidden, weight, weight_cast, bias, rows, outputs, numbers, wanted, needs, backend):  # type: ignore[no-untyped-def]
    leaves = zip((hidden, weight, bias), needs, strict=True)
    return tuple(x.new_empty(x.shape) if need else hidden.new_empty(0) for x, need in leaves)
