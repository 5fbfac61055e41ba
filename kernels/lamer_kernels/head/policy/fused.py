"""The custom op of linear_policy_loss, and its definition by the reference."""

from collections.abc import Sequence

import torch
from torch import Tensor

from ..._core.dispatch import without_autocast
from ..._core.namespace import qualified
from ..checks import HeadInputs, head_of
from ..projection import (
    Slabs,
    accumulation_dtype,
    finish_dweight,
    max_chunk_tokens,
    new_dweight,
    scatter_rows,
)
from .forward import Wanted, forward
from .gradients import attach_gradients, stored_dtype
from .op import PolicyLoss
from .reference import PolicyLossRef, linear_policy_loss_ref
from .terms import OF_SEGMENTS, LossConfig, TokenData


def fused(
    given: HeadInputs,
    weight: Tensor,
    weight_cast: Tensor | None,
    bias: Tensor | None,
    tokens: TokenData,
    config: LossConfig,
    dweight_out: Tensor | None,
    compact: str,
    backend: str,
) -> PolicyLoss:
    leaves, with_grad = [given.hidden, weight, bias], torch.is_grad_enabled()
    needs = [with_grad and x is not None and x.requires_grad for x in leaves]
    needs[1] &= dweight_out is None
    total, *rest = _linear_policy_loss(
        given.hidden.detach(),
        weight.detach(),
        weight_cast,
        None if bias is None else bias.detach(),
        dweight_out if with_grad else None,
        [given.targets, given.token_idx, given.temperatures],
        given.numbers,
        tokens.flat(),
        config.flat(),
        needs,
        compact,
        backend,
    )
    statistics, gradients = rest[:6], rest[6:]
    pairs = [(x, g) for x, g, need in zip(leaves, gradients, needs, strict=True) if x is not None and need]
    if pairs:
        total = attach_gradients(total, [x for x, _ in pairs], [g for _, g in pairs])
    return PolicyLoss(total, *statistics)


@torch.library.custom_op(qualified("linear_policy_loss"), mutates_args=("dweight_out",))
@without_autocast
def _linear_policy_loss(
    hidden: Tensor,
    weight: Tensor,
    weight_cast: Tensor | None,
    bias: Tensor | None,
    dweight_out: Tensor | None,
    rows: Sequence[Tensor | None],
    head_numbers: Sequence[float],
    token_data: Sequence[Tensor | None],
    loss_numbers: Sequence[float],
    needs: Sequence[bool],
    compact: str,
    backend: str,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor, Tensor]:
    """loss [], logprobs, ratio, clipped, kl, entropy, kept [L], dhidden [T, H], dweight [V, H], dbias [V].

    rows: targets, token_idx, temperatures; head_numbers: HeadInputs.numbers; token_data: TokenData.flat();
    loss_numbers: LossConfig.flat(); needs: of hidden, weight, bias.
    """
    targets, token_idx, temperatures = rows
    assert targets is not None
    acc, num_tokens = accumulation_dtype(hidden.dtype), targets.shape[0]
    config, tokens = LossConfig.of_flat(loss_numbers), TokenData(*token_data)  # type: ignore[arg-type]
    need_hidden, need_weight, need_bias = needs
    workspace = int(head_numbers[-1])
    kept = tokens.kept(config) if compact != "none" else None
    idx = None  # of the tokens that are computed, in their order
    if kept is not None:
        idx = kept.nonzero().squeeze(1).to(hidden.device, non_blocking=True)
        tokens = tokens.to(hidden.new_empty(0, dtype=acc)).select(kept, idx)
    tokens = tokens.to(hidden.new_empty(0, dtype=acc))
    if config.loss in OF_SEGMENTS and tokens.present is not None:
        tokens, order = tokens.present_first(tokens.present)
        idx = order if idx is None else idx[order]
    tokens = tokens.weighed()
    if idx is not None:
        targets = targets[idx]
        token_idx = idx if token_idx is None else token_idx[idx]
        temperatures = None if temperatures is None else temperatures[idx]
    head = head_of((weight, weight_cast, bias), temperatures, head_numbers, hidden.dtype)
    x = hidden if token_idx is None else hidden[token_idx]
    dx = x.new_empty(x.shape) if need_hidden else None
    dweight = None if dweight_out is None else Slabs([dweight_out], written=True)
    if need_weight:
        stored, most = stored_dtype(weight.dtype), max_chunk_tokens(x, len(weight), workspace, backend)
        # of one chunk it is one product, which rounds its float32 sums once
        alone = x.is_cuda and stored is x.dtype and 0 < len(x) <= most
        dweight = new_dweight(weight, stored if alone else acc)
    scale = None
    if hidden.dtype is torch.float16:
        tokens, scale = tokens.scaled(config)
        if dweight_out is not None:
            dweight_out *= scale
    dbias = torch.zeros(weight.shape[0], dtype=acc, device=weight.device) if need_bias else None
    done = forward(
        x,
        targets,
        head,
        tokens,
        config,
        Wanted(dx, dweight, dbias),
        skip_idle_rows=compact == "data",
        workspace_bytes=workspace,
        backend=backend,
    )
    terms = done.terms
    total = terms.loss.sum(dtype=torch.float64)
    if scale is not None:
        total /= scale
        dx = None if dx is None else dx.to(acc)
        for gradient in (dx, dbias, *(dweight or ())):
            if gradient is not None:
                gradient /= scale
    statistics = [done.logprobs, terms.ratio, terms.clipped, terms.kl, done.entropy]
    if idx is not None:
        statistics = [s.new_zeros(num_tokens).index_copy_(0, idx, s) for s in statistics]
    if kept is not None:
        kept = kept.to(hidden.device, non_blocking=True)
    none = hidden.new_empty
    return (
        total.to(acc),
        *statistics,
        torch.ones(num_tokens, dtype=torch.bool, device=hidden.device) if kept is None else kept,
        none(0) if dx is None else scatter_rows(dx, token_idx, hidden.shape[0]),
        finish_dweight(dweight, stored_dtype(weight.dtype)) if need_weight and dweight else none(0),
        none(0) if dbias is None or bias is None else dbias.to(stored_dtype(bias.dtype)),
    )  # type: ignore[return-value]


@_linear_policy_loss.register_fake
def _(hidden, weight, weight_cast, bias, dweight_out, rows, *rest):  # type: ignore[no-untyped-def]
    needs = rest[-3]
    acc, num_tokens = accumulation_dtype(hidden.dtype), rows[0].shape[0]
    numbers = [hidden.new_empty(num_tokens, dtype=acc) for _ in range(4)]
    flags = [hidden.new_empty(num_tokens, dtype=torch.bool) for _ in range(2)]
    return (
        hidden.new_empty((), dtype=acc),
        numbers[0],
        numbers[1],
        flags[0],
        numbers[2],
        numbers[3],
        flags[1],
        *(
            x.new_empty(x.shape, dtype=stored_dtype(x.dtype)) if need else hidden.new_empty(0)
            for x, need in zip((hidden, weight, bias), needs, strict=True)
        ),
    )


def by_reference(
    given: HeadInputs,
    weight: Tensor,
    bias: Tensor | None,
    tokens: TokenData,
    config: LossConfig,
    dweight_out: Tensor | None,
) -> PolicyLoss:
    own_weight = weight if dweight_out is None else weight.detach().requires_grad_(torch.is_grad_enabled())

    def run(given: HeadInputs, tokens: TokenData) -> PolicyLossRef:
        return linear_policy_loss_ref(
            given.hidden, own_weight, given.targets, token_idx=given.token_idx,
            temperature=given.temperature, bias=bias, softcap=given.softcap, **tokens.named(), **vars(config),
        )  # fmt: skip

    tokens = tokens.weighed()
    # autograd would make NaN of 0 x NaN: a token without a coefficient is only looked at
    kept = tokens.kept(config, look=True)
    if kept is None:
        seen = ref = run(given, tokens)
    else:
        with torch.no_grad():
            seen = run(given, tokens)
        idx = kept.nonzero().squeeze(1).to(given.hidden.device)
        ref = run(given.at(idx), tokens.select(kept, idx))
    if dweight_out is not None and torch.is_grad_enabled():
        (dweight,) = torch.autograd.grad(ref.loss, own_weight, retain_graph=True)
        dweight_out += dweight
    every = torch.ones_like(given.targets, dtype=torch.bool)
    _, logprobs, ratio, clipped, kl, entropy = (None if x is None else x.detach() for x in seen)
    return PolicyLoss(ref.loss, logprobs, ratio, clipped, kl, entropy, every)  # type: ignore[arg-type]
