"""linear_divergence against its definition: values, gradients, chunks, what is left out, refusals."""

import math

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from lamer_kernels import linear_divergence, linear_logprob
from lamer_kernels.head.divergence import linear_divergence_ref

T, H, TEACHER, V = 23, 8, 12, 61
KINDS = ("forward", "reverse", "jensen_shannon")
OPS = torch.ops.lamer_kernels


def make_inputs(dtype=torch.float64, scale=1.0):
    g = torch.Generator().manual_seed(0)
    hidden, weight = torch.randn(T, H, generator=g), scale * torch.randn(V, H, generator=g)
    teacher = torch.randn(T, TEACHER, generator=g), scale * torch.randn(V, TEACHER, generator=g)
    return [x.to(dtype).requires_grad_() for x in (hidden, weight)], [x.to(dtype) for x in teacher]


def reference(student, teacher, idx=None, weights=None, **options):
    rows = torch.arange(T) if idx is None else idx
    values = linear_divergence_ref(student[0][rows], student[1], teacher[0][rows], teacher[1], **options)
    return (values if weights is None else values * weights).sum(), values


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("workspace", [None, 4 * V * 8 * 5])
@pytest.mark.parametrize("some", [False, True])
def test_matches_reference(kind, workspace, some):
    student, teacher = make_inputs()
    options = dict(kind=kind, beta=0.3, temperature=0.7)
    chosen = {}
    if some:  # one row twice
        idx = torch.tensor([3, 20, 3, 7, 0, 11])
        chosen = dict(idx=idx, weights=torch.tensor([0.5, 2.0, 0.0, -1.0, 1.0, 0.25]).double())
    total, values = reference(student, teacher, **chosen, **options)
    out = linear_divergence(
        *student, *teacher, token_idx=chosen.get("idx"), token_weights=chosen.get("weights"),
        workspace_bytes=workspace, **options,
    )  # fmt: skip
    torch.testing.assert_close(out.loss, total)
    present = torch.ones(len(values), dtype=torch.bool) if not some else chosen["weights"] != 0
    torch.testing.assert_close(out.values[present], values[present])
    assert out.logprobs is None and not out.values[~present].any()
    grads = [torch.autograd.grad(3 * x, student) for x in (out.loss, total)]
    for x, y in zip(*grads, strict=True):
        torch.testing.assert_close(x, y)


@pytest.mark.parametrize("kind", KINDS)
def test_gradcheck(kind):
    student, teacher = make_inputs()

    few = [teacher[0][:4], teacher[1]]
    assert torch.autograd.gradcheck(
        lambda *x: linear_divergence(*x, *few, kind=kind).loss,
        [student[0][:4].detach().requires_grad_(), student[1]],
    )


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    ("dtype", "rounding"), [(torch.float32, 1e-5), (torch.bfloat16, 1e-2), (torch.float16, 2e-3)]
)
def test_other_dtypes(kind, dtype, rounding):
    student, teacher = make_inputs(dtype)
    exact = [x.detach().double().requires_grad_() for x in student]
    total, _ = reference(exact, [x.double() for x in teacher], kind=kind)
    out = linear_divergence(*student, *teacher, kind=kind)
    assert out.loss.dtype is torch.float32
    torch.testing.assert_close(out.loss.double(), total, rtol=1e-4, atol=1e-5)
    for x, y in zip(
        *(torch.autograd.grad(z, leaves) for z, leaves in ((out.loss, student), (total, exact))), strict=True
    ):
        assert x.dtype is dtype
        assert (x.double() - y).norm() <= rounding * y.norm()


def test_zero_between_equal_heads_and_log_probs_of_both():
    student, teacher = make_inputs()
    targets = torch.randint(V, (T,), generator=torch.Generator().manual_seed(3))
    for kind in KINDS:
        own = [x.detach() for x in student]
        assert linear_divergence(*student, *own, kind=kind).loss.abs() < 1e-12
        out = linear_divergence(*student, *teacher, kind=kind, targets=targets, temperature=0.7)
        for logprobs, head in ((out.logprobs, own), (out.teacher_logprobs, teacher)):
            torch.testing.assert_close(logprobs, linear_logprob(*head, targets, temperature=0.7).logprobs)


@pytest.mark.parametrize("kind", KINDS)
def test_far_apart_distributions_stay_finite(kind):
    student, teacher = make_inputs(torch.float32, scale=300.0)
    out = linear_divergence(*student, *teacher, kind=kind)
    assert out.loss.isfinite() and all(x.isfinite().all() for x in torch.autograd.grad(out.loss, student))


def test_what_is_left_out_adds_nothing_whatever_stands_there():
    student, teacher = make_inputs(torch.float32)
    weights = torch.ones(T)
    weights[5] = 0
    clean = linear_divergence(*student, *teacher, token_weights=weights)
    grads = torch.autograd.grad(clean.loss, student)
    with torch.no_grad():
        student[0][5], teacher[0][5] = torch.nan, torch.inf
    dirty = linear_divergence(*student, *teacher, token_weights=weights)
    assert torch.equal(dirty.loss, clean.loss)
    for x, y in zip(torch.autograd.grad(dirty.loss, student), grads, strict=True):
        torch.testing.assert_close(x, y)


def test_no_tensor_of_all_tokens_and_the_whole_vocabulary():
    from lamer_kernels.head.divergence.op import _linear_divergence

    sizes = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            out = func(*args, **(kwargs or {}))
            sizes.append(out.numel() if isinstance(out, torch.Tensor) else 0)
            return out

    student, teacher = make_inputs()
    student = [x.detach() for x in student]
    chunk = 5  # tokens
    for workspace, most in ((4 * V * 8 * chunk, max(chunk, TEACHER) * V), (2**20, T * V)):
        sizes.clear()
        with Sizes():  # the function behind the op: a mode does not see what an op does inside
            _linear_divergence._init_fn(
                *student, *teacher, None, None, None, "reverse", 0.5, 1.0, workspace, [True, True], "torch"
            )
        assert max(sizes) == most


def test_frozen_parts_and_no_tokens():
    student, teacher = make_inputs()
    out = linear_divergence(student[0], student[1].detach(), *teacher)
    assert torch.autograd.grad(out.loss, student[0])[0].shape == (T, H)
    with torch.no_grad():
        assert not linear_divergence(*student, *teacher).loss.requires_grad
    none = linear_divergence(*student, *teacher, token_idx=torch.zeros(0, dtype=torch.int64))
    assert none.loss == 0 and not any(x.any() for x in torch.autograd.grad(none.loss, student))


def test_opcheck_and_compile():
    student, teacher = make_inputs(torch.float32)
    tensors = [x.detach() for x in student] + teacher
    torch.library.opcheck(
        OPS.linear_divergence.default,
        (*tensors, None, None, None, "reverse", 0.5, 1.0, 10**6, [True, True], "torch"),
    )
    compiled = torch.compile(lambda *x: linear_divergence(*x).loss, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(*student, *teacher), linear_divergence(*student, *teacher).loss)


def zeros(*shape):
    return torch.zeros(shape, dtype=torch.float64)


REFUSED = {
    "another vocabulary": (dict(teacher_weight=zeros(V + 1, TEACHER)), "teacher_weight must have shape"),
    "other tokens": (dict(teacher_hidden=zeros(T + 1, TEACHER)), "teacher_hidden must have shape"),
    "a teacher that learns": (
        dict(teacher_weight=zeros(V, TEACHER).requires_grad_()), "teacher_weight gets no gradient",
    ),
    "kind": (dict(kind="kl"), "kind must be one of"),
    "beta": (dict(kind="jensen_shannon", beta=1.0), r"beta must lie in \(0, 1\), got 1.0"),
    "temperature": (dict(temperature=0.0), "temperature must lie in"),
    "targets": (dict(targets=torch.full((T,), V)), r"targets must lie in \[0, 60\], got 61 to 61"),
    "token_idx": (dict(token_idx=torch.tensor([-1])), r"token_idx must lie in \[0, 22\], got -1 to -1"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refuses(case):
    change, message = REFUSED[case]
    student, teacher = make_inputs()
    names = ("hidden", "weight", "teacher_hidden", "teacher_weight")
    arguments = dict(zip(names, (*student, *teacher), strict=True)) | change
    with pytest.raises(ValueError, match=message):
        linear_divergence(**arguments)


def test_by_hand():
    """A coin: the student says 1/2, the teacher 9/10."""
    one = torch.ones(1, 1, dtype=torch.float64)
    student, teacher = (torch.tensor([[p], [1 - p]], dtype=torch.float64).log() for p in (0.5, 0.9))
    m = 0.25 * 0.9 + 0.75 * 0.5
    wanted = {
        "forward": 0.9 * math.log(1.8) + 0.1 * math.log(0.2),
        "reverse": 0.5 * math.log(5 / 9) + 0.5 * math.log(5),
        "jensen_shannon": 0.25 * (0.9 * math.log(0.9 / m) + 0.1 * math.log(0.1 / (1 - m)))
        + 0.75 * 0.5 * (math.log(0.5 / m) + math.log(0.5 / (1 - m))),
    }
    for kind, value in wanted.items():
        out = linear_divergence(one, student, one, teacher, kind=kind, beta=0.25)
        assert float(out.loss) == pytest.approx(value)
