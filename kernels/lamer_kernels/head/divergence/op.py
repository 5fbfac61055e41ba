"""linear_divergence: contract, checks, and the sweep over token chunks."""

from typing import NamedTuple

import torch
from torch import Tensor

from ..._core.checks import OFFSET_DTYPES, check_choice, check_tensor, readable
from ..._core.dispatch import resolve_backend, without_autocast
from ..._core.namespace import qualified
from ..._core.numbers import check_integer, check_number
from ..checks import ACC_DTYPES
from ..policy.gradients import attach_gradients, stored_dtype
from ..projection import (
    HEAD_DTYPES,
    accumulation_dtype,
    add_dweight,
    column_parts,
    default_workspace_bytes,
    finish_dweight,
    new_dweight,
    new_logits,
    scatter_rows,
    token_chunks,
    write_dx,
)
from .rows import Rows

KINDS = ("forward", "reverse", "jensen_shannon")
ROWS_PER_TOKEN = {"torch": 4, "triton": 2}  # of logits that a chunk holds at once


class Divergence(NamedTuple):
    """``loss`` is the scalar to differentiate; the rest are statistics per token [L]."""

    loss: Tensor
    """The weighted sum."""
    values: Tensor
    """The divergence, nats."""
    logprobs: Tensor | None
    """Of the targets, after temperature; None without targets."""
    teacher_logprobs: Tensor | None
    """The same of the teacher."""


def linear_divergence(
    hidden: Tensor,
    weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    *,
    token_idx: Tensor | None = None,
    targets: Tensor | None = None,
    token_weights: Tensor | None = None,
    kind: str = "forward",
    beta: float = 0.5,
    temperature: float = 1.0,
    workspace_bytes: int | None = None,
    backend: str = "auto",
) -> Divergence:
    """``sum_l token_weights[l] * D_l`` between the next-token distributions s of one head and t of another,
    without a [T, V] tensor, and its gradients for the first head.

    With m = beta t + (1 - beta) s, over the whole vocabulary::

        forward         KL(t || s)   the student covers what the teacher does (distillation)
        reverse         KL(s || t)   the student keeps to what the teacher does (on-policy distillation)
        jensen_shannon  beta KL(t || m) + (1 - beta) KL(s || m)   (GKD, arXiv 2306.13649)

    At beta 0 and 1 jensen_shannon is 0 and not one of the other two kinds, which have their own names. With
    ``targets`` the log-probs of both heads are returned too. Logits and sums are float32 (float64 for
    float64). If gradients are enabled, they are computed here, in the forward pass: 4 GEMMs. On a GPU one
    Triton program per token reads its two rows of logits and writes dlogits over the first.

    Args:
        hidden: [T, H]; weight: [V, H]. Float; their gradients are the student's.
        teacher_hidden: [T, H']; teacher_weight: [V, H'], in their own sizes and dtype; no gradient.
        token_idx: [L] int64 or int32 rows of both; None: all.
        targets: [L] int64 or int32, ids whose log-probs are returned too.
        token_weights: [L] fp32; None is 1 each. Weight 0 takes a token out, whatever its rows hold.
        temperature: of both distributions; > 0. D is not scaled by its square.
        workspace_bytes: for logits; default as in linear_logprob.

    Raises:
        ValueError: shapes, dtypes, devices or values disagree; the message names both.
    """
    check_tensor("hidden", hidden, shape=(None, None), dtypes=HEAD_DTYPES)
    num_tokens, size = hidden.shape
    check_tensor("weight", weight, shape=(None, size), dtypes=HEAD_DTYPES, like=hidden)
    check_tensor("teacher_hidden", teacher_hidden, shape=(num_tokens, None), dtypes=HEAD_DTYPES, like=hidden)
    check_tensor(
        "teacher_weight", teacher_weight, shape=(weight.shape[0], teacher_hidden.shape[1]),
        dtypes=(teacher_hidden.dtype,), like=hidden,
    )  # fmt: skip
    for name, x in (("teacher_hidden", teacher_hidden), ("teacher_weight", teacher_weight)):
        if x.requires_grad:
            raise ValueError(f"{name} gets no gradient, got a tensor that requires one: detach it")
    if not weight.shape[0]:
        raise ValueError(
            f"weight must have a row for each entry of the vocabulary, got {tuple(weight.shape)}"
        )
    check_choice("kind", kind, KINDS)
    beta = check_number("beta", beta, "(0, 1)")
    temperature = check_number("temperature", temperature, "(0, inf)")
    rows = None
    if token_idx is not None:
        check_tensor("token_idx", token_idx, shape=(None,), dtypes=OFFSET_DTYPES, like=hidden)
        _check_ids("token_idx", token_idx, num_tokens)
        rows = len(token_idx)
    length = (num_tokens if rows is None else rows,)
    if targets is not None:
        check_tensor("targets", targets, shape=length, dtypes=OFFSET_DTYPES, like=hidden)
        _check_ids("targets", targets, weight.shape[0])
    if token_weights is not None:
        check_tensor("token_weights", token_weights, shape=length, dtypes=ACC_DTYPES, like=hidden)
        if token_weights.requires_grad:
            raise ValueError("token_weights gets no gradient, got a tensor that requires one: detach it")
    if workspace_bytes is not None:
        check_integer("workspace_bytes", workspace_bytes, 1)
    needs = [torch.is_grad_enabled() and x.requires_grad for x in (hidden, weight)]
    total, values, logprobs, teacher_logprobs, *gradients = _linear_divergence(
        hidden.detach(), weight.detach(), teacher_hidden, teacher_weight, token_idx, targets, token_weights,
        kind, beta, temperature, workspace_bytes or default_workspace_bytes(hidden.device), needs,
        _passes(backend, hidden),
    )  # fmt: skip
    pairs = [(x, g) for x, g, need in zip((hidden, weight), gradients, needs, strict=True) if need]
    if pairs:
        total = attach_gradients(total, [x for x, _ in pairs], [g for _, g in pairs])
    if targets is None:
        return Divergence(total, values, None, None)
    return Divergence(total, values, logprobs, teacher_logprobs)


def _passes(backend: str, hidden: Tensor) -> str:
    """Triton computes in float32; on a CPU, and as the reference, torch."""
    triton = resolve_backend(backend, hidden.device) == "triton"
    return "triton" if triton and hidden.dtype is not torch.float64 else "torch"


def _check_ids(name: str, ids: Tensor, end: int) -> None:
    if readable(ids) and len(ids) and not (int(ids.min()) >= 0 and int(ids.max()) < end):
        raise ValueError(f"{name} must lie in [0, {end - 1}], got {int(ids.min())} to {int(ids.max())}")


@torch.library.custom_op(qualified("linear_divergence"), mutates_args=())
@without_autocast
def _linear_divergence(
    hidden: Tensor,
    weight: Tensor,
    teacher_hidden: Tensor,
    teacher_weight: Tensor,
    token_idx: Tensor | None,
    targets: Tensor | None,
    token_weights: Tensor | None,
    kind: str,
    beta: float,
    temperature: float,
    workspace_bytes: int,
    needs: list[bool],
    passes: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """loss [], values, logprobs, teacher_logprobs [L] (the last two empty without targets), dhidden [T, H],
    dweight [V, H] (empty where not needed)."""
    acc = accumulation_dtype(hidden.dtype)
    idx = None if token_idx is None else token_idx.long()
    x, y = (t if idx is None else t[idx] for t in (hidden, teacher_hidden))
    weights = x.new_ones(len(x), dtype=acc) if token_weights is None else token_weights.to(acc)
    own = weight.to(hidden.dtype)
    values = x.new_zeros(len(x), dtype=acc)
    logprobs, others = (x.new_zeros(len(x) if targets is not None else 0, dtype=acc) for _ in range(2))
    dx = x.new_zeros(x.shape, dtype=stored_dtype(hidden.dtype)) if needs[0] else None
    dweight = new_dweight(weight, acc) if needs[1] else None
    chunk = max(1, workspace_bytes // (ROWS_PER_TOKEN[passes] * weight.shape[0] * acc.itemsize))
    rows_of = _rows_by_triton if passes == "triton" else _rows_by_torch
    dtype = hidden.dtype if any(needs) else None
    for rows in token_chunks(len(x), chunk):
        outputs = (values[rows], logprobs[rows], others[rows])
        ids = None if targets is None else targets[rows].long()
        told = Rows(ids, weights[rows], outputs, kind, beta, temperature, dtype)
        dlogits = rows_of(x[rows], own, y[rows], teacher_weight, told)
        if dlogits is None:
            continue
        if dx is not None:
            part = x.new_empty(x[rows].shape)
            write_dx(part, dlogits, own)
            dx[rows] = part.to(dx.dtype)
        if dweight is not None:
            add_dweight(dweight, dlogits, x[rows].masked_fill((weights[rows] == 0).unsqueeze(1), 0))
    none = hidden.new_empty
    return (
        (values * weights).where(weights != 0, 0).sum(dtype=torch.float64).to(acc),
        values,
        logprobs,
        others,
        none(0) if dx is None else scatter_rows(dx, idx, len(hidden)),
        none(0) if dweight is None else finish_dweight(dweight, stored_dtype(weight.dtype)),
    )


@_linear_divergence.register_fake
def _(hidden, weight, teacher_hidden, teacher_weight, token_idx, targets, *rest):  # type: ignore[no-untyped-def]
    needs, acc = rest[-2], accumulation_dtype(hidden.dtype)
    length = len(hidden) if token_idx is None else len(token_idx)
    of_targets = [hidden.new_empty(0 if targets is None else length, dtype=acc) for _ in range(2)]
    gradients = [
        x.new_empty(x.shape, dtype=stored_dtype(x.dtype)) if need else hidden.new_empty(0)
        for x, need in zip((hidden, weight), needs, strict=True)
    ]
    return (hidden.new_empty((), dtype=acc), hidden.new_empty(length, dtype=acc), *of_targets, *gradients)


def _rows_by_torch(x: Tensor, weight: Tensor, y: Tensor, teacher_weight: Tensor, rows: Rows) -> Tensor | None:
    """Fills ``rows.outputs``; dlogits [C, V] of ``rows.dtype``, or None."""
    targets, weights, (values, *of_targets), kind, beta, temperature, dtype = rows
    s, t = (
        _write_logits(a.new_empty(len(a), len(w), dtype=weights.dtype), a, w)
        .div_(temperature)
        .log_softmax(-1)
        for a, w in ((x, weight), (y, teacher_weight))
    )
    if targets is not None:
        for out, z in zip(of_targets, (s, t), strict=True):
            out.copy_(z.gather(1, targets.unsqueeze(1)).squeeze(1))
    value, slope = _divergence(s, t, kind, beta, gradient=dtype is not None)
    values.copy_(torch.where(weights != 0, value, 0))
    if slope is None or dtype is None:
        return None
    slope.mul_((weights / temperature).unsqueeze(1))
    return slope.masked_fill_((weights == 0).unsqueeze(1), 0).to(dtype)


def _rows_by_triton(
    x: Tensor, weight: Tensor, y: Tensor, teacher_weight: Tensor, rows: Rows
) -> Tensor | None:
    """As `_rows_by_torch`, in one launch; dlogits lie over the student's logits."""
    from .launch import divergence_rows  # needs triton

    s, t = (
        _write_logits(new_logits(a, len(a), len(w), "triton"), a, w)
        for a, w in ((x, weight), (y, teacher_weight))
    )
    return divergence_rows(s, t, rows)


def _write_logits(out: Tensor, x: Tensor, weight: Tensor) -> Tensor:
    """out [C, V] = x @ weight.T in the dtype of ``out``."""
    for columns in column_parts(len(weight), x):
        part = out[:, columns]
        if x.dtype is out.dtype:
            torch.mm(x, weight[columns].T, out=part)
        elif x.is_cuda and x.dtype.itemsize == 2 and out.dtype is torch.float32:
            torch.mm(x, weight[columns].T, out_dtype=out.dtype, out=part)
        else:  # no such product
            torch.mm(x.to(out.dtype), weight[columns].T.to(out.dtype), out=part)
    return out


def _divergence(
    s: Tensor, t: Tensor, kind: str, beta: float, *, gradient: bool
) -> tuple[Tensor, Tensor | None]:
    """The divergence [C] of log-probs [C, V], and its derivative by the logits behind s.

    By the probabilities of s it is g = s - t for reverse, (1 - beta) (s - m) for jensen_shannon, up to a
    constant; by the logits then p_s (g - sum p_s g). Entries of probability 0 add nothing.
    """
    p, q = s.exp(), t.exp()
    if kind == "forward":
        value = (q * (t - s)).masked_fill_(q == 0, 0).sum(-1)
        return value, p.sub_(q) if gradient else None
    if kind == "reverse":
        pull = (s - t).masked_fill_(p == 0, 0)
        value = (p * pull).sum(-1)
        return value, pull.sub_(value.unsqueeze(1)).mul_(p) if gradient else None
    m = torch.add(p * (1 - beta), q, alpha=beta).log_()
    pull = (s - m).masked_fill_(p == 0, 0)
    own = (p * pull).sum(-1)
    value = (1 - beta) * own + beta * (q * (t - m)).masked_fill_(q == 0, 0).sum(-1)
    return value, pull.sub_(own.unsqueeze(1)).mul_(p).mul_(1 - beta) if gradient else None
