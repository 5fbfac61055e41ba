"""Products over an odd vocabulary go in two parts on a GPU; here the same split on a CPU."""

import pytest
import torch

from lamer_kernels import linear_logprob, linear_policy_loss
from lamer_kernels.head import projection
from tests.kernels.head import make_inputs

V = 61


def results(dtype):
    """Outputs and gradients of both ops, the second one with a sum over two micro-batches."""
    inputs = make_inputs(V=V, bias=True).to(dtype)
    out = linear_logprob(inputs.hidden, inputs.weight, inputs.targets, entropy=True, **inputs.options)
    grads = torch.autograd.grad(out.logprobs.sum() + out.entropy.sum(), inputs.leaves())
    acc = torch.float64 if dtype is torch.float64 else torch.float32
    total = torch.zeros(V, inputs.hidden.shape[1], dtype=acc)
    for _ in range(2):
        loss = linear_policy_loss(
            inputs.hidden, inputs.weight, inputs.targets, inputs.old_logprobs, inputs.advantages,
            entropy_coef=0.1, dweight_out=total, workspace_bytes=5 * V * 8, **inputs.options,
        ).loss  # fmt: skip
    leaves = [x for x in inputs.leaves() if x is not inputs.weight]
    return [out.logprobs, out.entropy, *grads, loss, total, *torch.autograd.grad(loss, leaves)]


@pytest.mark.parametrize("whole", [0, 16, 48, 60])
def test_two_parts_give_what_one_gives(whole, monkeypatch):
    one = results(torch.float64)
    seen = []

    def parts(vocab, x):
        seen.append(vocab)
        return [p for p in (slice(0, whole), slice(whole, vocab)) if p.stop > p.start]

    monkeypatch.setattr(projection, "column_parts", parts)
    for x, y in zip(results(torch.float64), one, strict=True):
        torch.testing.assert_close(x, y)
    assert len(seen) >= 9  # logits, dx and dweight of either op


def test_parts_on_a_gpu_and_on_a_cpu():
    class OnGpu:
        is_cuda = True

    assert projection.column_parts(151_669, OnGpu()) == [slice(0, 151_664), slice(151_664, 151_669)]
    assert projection.column_parts(151_936, OnGpu()) == [slice(0, 151_936)]
    assert projection.column_parts(5, OnGpu()) == [slice(0, 5)]
    assert projection.column_parts(151_669, torch.zeros(1)) == [slice(0, 151_669)]
