"""How fast, and in how much memory, is linear_policy_loss against the loss heads of TRL, Liger and verl?"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial

import torch
from torch import Tensor

from .. import linear_logprob, linear_policy_loss, token_weights
from .harness import Case, Row, compare, measured
from .head_peers import CLIP_HIGH, CLIP_LOW, HeadCase, Loss, find_peers
from .shapes import SHAPES

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32}
# Relative Frobenius error of loss and gradients between correct implementations. Where a CPU writes logits in
# bf16, the peers' logit of 8 moves by up to 0.03, its probability and gradient by 3 %.
TOLERANCE = {"bf16": 5e-2, "fp32": 1e-4}
GOALS_S = {1.0: 0.064, 0.25: 0.016}  # on a GPU, Qwen3-4B's head


def cases(device: str, shape: str | None = None, sizes: tuple[int, ...] = ()) -> list[Case]:
    """Of Qwen3-4B's head on a GPU, of SmolLM2-135M's on a CPU; sizes are tokens, multiples of 1024."""
    gpu = device.startswith("cuda")
    model = SHAPES[shape or ("Qwen3-4B" if gpu else "SmolLM2-135M")]
    vocabs = [model.vocab, 151_669] if gpu and not shape else [model.vocab]  # the ids of its tokenizer alone
    found = []
    for T in sizes or (16_384 if gpu else 2048,):
        if T % 1024:
            raise ValueError(f"a quarter of 8 sequences of turns of 32 tokens: {T} is no multiple of 1024")
        for dtype in ("bf16",) if gpu else DTYPES:
            found += [
                Case(T=T, H=model.hidden, V=vocab, dtype=dtype, loss_share=share)
                for vocab in vocabs
                for share in (1.0, 0.25)
                if vocab == model.vocab or share < 1
            ]
    return found


def make_case(case: Case, sequences: int = 8) -> HeadCase:
    """Inputs whose softmax has a few nats of entropy; loss tokens in runs of 32, like turns."""
    g = torch.Generator().manual_seed(0)
    length = case.T // sequences
    hidden = torch.randn(case.T, case.H, generator=g)
    weight = torch.randn(case.V, case.H, generator=g) * (3 / case.H**0.5)
    targets = torch.randint(case.V, (case.T,), generator=g)
    weight[targets[: case.V]] += 0.03 * hidden[: case.V]  # the sampled tokens are likely ones
    runs = torch.rand(sequences, length // 32, generator=g).argsort(1) < round(
        case.loss_share * (length // 32)
    )
    dtype = DTYPES[case.dtype]
    inputs = HeadCase(
        hidden.to(case.device, dtype).requires_grad_(),
        weight.to(case.device, dtype).requires_grad_(),
        targets.to(case.device),
        torch.empty(0),
        torch.randn(sequences, generator=g).to(case.device),
        runs.repeat_interleave(32, dim=1).to(case.device),
    )
    with torch.no_grad():
        logprobs = linear_logprob(inputs.hidden, inputs.weight, inputs.targets).logprobs
    # log ratios well inside or well outside the clip: rounding must not decide which tokens have a gradient
    log_ratios = torch.tensor([-0.5, -0.1, 0.1, 0.5])[torch.randint(4, (case.T,), generator=g)]
    inputs.old_logprobs = logprobs - log_ratios.to(case.device)
    return inputs


def ours(inputs: HeadCase, workspace_bytes: int | None = None) -> Tensor:
    idx = inputs.token_idx()
    mask = torch.ones_like(idx, dtype=torch.bool)
    return linear_policy_loss(
        inputs.hidden,
        inputs.weight,
        inputs.targets[idx],
        inputs.old_logprobs[idx],
        inputs.advantages.repeat_interleave(inputs.loss_mask.shape[1])[idx],
        token_idx=idx,
        token_weights=token_weights("token_mean", mask),
        clip_low=CLIP_LOW,
        clip_high=CLIP_HIGH,
        workspace_bytes=workspace_bytes,
    ).loss


# what a larger workspace would give: fewer passes over the float32 gradient of the weight
WORKSPACES = {f"ours, {n / 1e9:g} GB": partial(ours, workspace_bytes=int(n)) for n in (1.25e9, 5e9)}


peers_of = cache(find_peers)


def bench(case: Case) -> list[Row]:
    inputs, gpu = make_case(case), case.device.startswith("cuda")
    clock = "cuda" if gpu else "process"

    def step(loss: Loss) -> tuple[Tensor, ...]:
        inputs.hidden.grad = inputs.weight.grad = None
        value = loss(inputs)
        value.backward()  # type: ignore[no-untyped-call]
        dhidden, dweight = inputs.hidden.grad, inputs.weight.grad
        assert isinstance(dhidden, Tensor) and isinstance(dweight, Tensor)
        return value.detach(), dhidden, dweight

    losses: dict[str, Loss] = {"ours": ours, **(WORKSPACES if gpu else {}), **peers_of(case.device)}
    return [
        *compare(
            {name: partial(step, loss) for name, loss in losses.items()},
            check=partial(_agree, tolerance=TOLERANCE[case.dtype]),
            mode="fwd+bwd",
            clock=clock,
            repeats=15 if gpu else 3,
            goal=GOALS_S.get(case.loss_share) if gpu and SHAPES["Qwen3-4B"].hidden == case.H else None,
            roofline=_gemm_seconds(inputs, clock),
        ),
        *_errors(inputs),
    ]


def _agree(a: tuple[Tensor, ...], b: tuple[Tensor, ...], tolerance: float) -> bool:
    """The loss is a mean of terms of both signs and size about 1: its error is absolute."""
    loss_error = float((a[0] - b[0]).abs())
    return loss_error < tolerance and all(
        _relative_error(x, y) < tolerance for x, y in zip(a[1:], b[1:], strict=True)
    )


def _relative_error(x: Tensor, y: Tensor) -> float:
    return float((x.double() - y.double()).norm() / y.double().norm())


def _gemm_seconds(inputs: HeadCase, clock: str) -> float:
    """The three GEMMs of the loss tokens alone, in chunks as large as ours."""
    rows = inputs.hidden.detach()[inputs.token_idx()]
    weight = inputs.weight.detach()
    chunk = rows[: 2048 if rows.is_cuda else 683]
    logits = torch.mm(chunk, weight.T)
    calls: dict[str, Callable[[], Tensor]] = {"logits": lambda: torch.mm(chunk, weight.T, out=logits)}
    calls["dx"] = lambda: torch.mm(logits, weight)
    calls["dw"] = lambda: torch.mm(logits.T, chunk)
    seconds = 0.0
    for call in calls.values():
        row = compare({"gemm": call}, verify=lambda: True, clock=clock, repeats=9)[0]
        seconds += (row.p50 or 0.0) * rows.shape[0] / chunk.shape[0]
    return seconds


def _errors(inputs: HeadCase, num_tokens: int = 256) -> list[Row]:
    """Mean absolute error of log-probs against float64, ours and plain torch in the same dtype."""
    x, weight = inputs.hidden.detach()[:num_tokens], inputs.weight.detach()
    targets = inputs.targets[:num_tokens]
    truth = torch.log_softmax(x.double() @ weight.double().T, 1).gather(1, targets[:, None]).squeeze(1)
    plain = torch.log_softmax((x @ weight.T).float(), 1).gather(1, targets[:, None]).squeeze(1)
    found = {"ours": linear_logprob(x, weight, targets).logprobs, "plain torch": plain}
    return [
        measured(
            name, [float((value.double() - truth).abs().mean())], "log-prob error against float64", "nats"
        )
        for name, value in found.items()
    ]
