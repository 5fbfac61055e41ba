"""rms_norm, rotary, swiglu, embedding: values and gradients against float64, on each back end, in any layout.

Runs on a CPU, on a GPU, and (TRITON_INTERPRET=1, `-m interpret`) as Triton kernels on a CPU.
"""

import pytest
import torch

from lamer_kernels._core.dispatch import interpreting
from lamer_kernels.layers import add_rms_norm, embedding, rms_norm, rotary, swiglu
from lamer_kernels.layers.embedding import embedding_ref
from lamer_kernels.layers.rms_norm import add_rms_norm_ref, rms_norm_ref
from lamer_kernels.layers.rotary import rotary_ref
from lamer_kernels.layers.swiglu import swiglu_ref
from tests.kernels.head import relative_error

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
TRITON = pytest.param("triton", marks=pytest.mark.gpu if CUDA else pytest.mark.interpret)
BACKENDS = [TRITON] if CUDA else ["cpu", TRITON]
# one rounding of the output; gradients of weights are sums that are rounded once
ROUNDING = {torch.float32: 1e-6, torch.bfloat16: 4e-3, torch.float16: 5e-4}


def randn(*shape, seed):
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)).bfloat16().double()


def check_op(op, ref, tensors, dtype, *, backend, **fixed):
    """op and its gradients are at most twice as far from float64 as the reference in `dtype` is."""
    results = []
    for function, kind, options in (
        (ref, torch.float64, {}),
        (ref, dtype, {}),
        (op, dtype, {"backend": backend}),
    ):
        leaves = [t.detach().to(DEVICE, kind).requires_grad_() for t in tensors]
        moved = {k: v.to(DEVICE) if isinstance(v, torch.Tensor) else v for k, v in fixed.items()}
        out = function(*leaves, **moved, **options)
        outs = out if isinstance(out, tuple) else (out,)
        upstream = [randn(*x.shape, seed=7).to(x) for x in outs]
        results.append([*outs, *torch.autograd.grad(outs, leaves, upstream)])
    for i, (truth, plain, ours) in enumerate(zip(*results, strict=True)):
        assert ours.dtype is dtype and ours.shape == truth.shape
        assert relative_error(ours, truth) <= 2 * relative_error(plain, truth) + ROUNDING[dtype], i


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("T", "H"), [(1, 16), (5, 61), (300, 128), (3, 2560)])
def test_rms_norm(T, H, dtype, backend):
    tensors = [randn(T, H, seed=0), randn(H, seed=1)]
    check_op(rms_norm, rms_norm_ref, tensors, dtype, eps=1e-5, backend=backend)
    tensors.insert(1, randn(T, H, seed=2))
    check_op(add_rms_norm, add_rms_norm_ref, tensors, dtype, eps=1e-5, backend=backend)


def table(positions, R):
    angles = torch.arange(positions)[:, None] * 10.0 ** -torch.arange(R)
    return {"cos": angles.cos(), "sin": angles.sin()}


def rotary_of(norms, function):
    def call(qkv, *weights, **options):
        given = dict(zip(("q_norm", "k_norm"), weights, strict=True)) if norms else {}
        return function(qkv, **given, **options)

    return call


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("norms", [False, True])
@pytest.mark.parametrize(
    ("heads", "kv_heads", "D", "R"), [(4, 2, 16, 8), (3, 1, 24, 4), (1, 1, 8, 0), (14, 2, 64, 32)]
)
def test_rotary(heads, kv_heads, D, R, norms, dtype, backend):
    T = 19 if D < 64 else 5
    tensors = [randn(T, heads + 2 * kv_heads, D, seed=0)]
    tensors += [randn(D, seed=1), randn(D, seed=2)] if norms else []
    positions = torch.randint(30, (T,), generator=torch.Generator().manual_seed(3))
    fixed = dict(positions=positions, num_kv_heads=kv_heads, eps=1e-5, **table(30, R))
    check_op(rotary_of(norms, rotary), rotary_of(norms, rotary_ref), tensors, dtype, backend=backend, **fixed)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("T", "F"), [(1, 1), (7, 61), (3, 1025)])
def test_swiglu(T, F, dtype, backend):
    check_op(swiglu, swiglu_ref, [3 * randn(T, 2 * F, seed=0)], dtype, backend=backend)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize(("V", "H", "T"), [(7, 5, 60), (40, 300, 19), (9, 16, 1)])
def test_embedding(V, H, T, dtype, backend):
    ids = torch.randint(V, (T,), generator=torch.Generator().manual_seed(1))
    ids[: T // 2] = 3  # a token that is read often; some are never read
    weight = randn(V, H, seed=0)

    def call(function):
        return lambda w, ids, **options: function(ids, w, **options)

    check_op(call(embedding), call(embedding_ref), [weight], dtype, backend=backend, ids=ids)
    if dtype is torch.bfloat16:
        # the sum of many equal small numbers, which sums in 16 bits would stop at 256 times one of them
        leaf = weight.to(DEVICE, dtype).requires_grad_()
        many = torch.full((520,), 2, device=DEVICE)
        embedding(many[None], leaf, backend=backend).sum().backward()
        assert (leaf.grad[2] == 520).all() and not leaf.grad[3:].any()


@pytest.mark.parametrize("backend", BACKENDS)
def test_embedding_same_bits_twice(backend):
    ids = torch.randint(5, (90,), generator=torch.Generator().manual_seed(1)).to(DEVICE)
    weight, upstream = randn(5, 8, seed=0).float().to(DEVICE), randn(90, 8, seed=1).float().to(DEVICE)
    grads = []
    for _ in range(2):
        leaf = weight.clone().requires_grad_()
        embedding(ids, leaf, backend=backend).backward(upstream)
        grads.append(leaf.grad)
    assert torch.equal(*grads)


def layouts(x):
    """The same values as the tensor of a user: transposed, strided, expanded in front."""
    yield "transposed", x.mT.contiguous().mT
    wide = x.new_zeros(*x.shape[:-1], 2 * x.shape[-1])
    wide[..., ::2] = x
    yield "strided", wide[..., ::2]
    yield "more dimensions", x[None].expand(3, *x.shape)


@pytest.mark.parametrize("backend", BACKENDS)
def test_any_layout(backend):
    x, update, weight = randn(6, 10, seed=0).float(), randn(6, 10, seed=1).float(), randn(10, seed=2).float()
    x, update, weight = (t.to(DEVICE) for t in (x, update, weight))
    options = {"eps": 1e-6, "backend": backend}
    norm, (total, normed) = rms_norm(x, weight, **options), add_rms_norm(x, update, weight, **options)
    gated = swiglu(x, backend=backend)
    for name, y in layouts(x):
        more = update.expand(y.shape)
        assert torch.equal(rms_norm(y, weight, **options), norm.expand(y.shape)), name
        for ours, plain in zip(add_rms_norm(y, more, weight, **options), (total, normed), strict=True):
            assert torch.equal(ours, plain.expand(y.shape)), name
        assert torch.equal(swiglu(y, backend=backend), gated.expand(*y.shape[:-1], 5)), name


@pytest.mark.parametrize("backend", BACKENDS)
def test_an_expanded_upstream_gradient_and_no_rows(backend):
    x = randn(6, 10, seed=0).float().to(DEVICE).requires_grad_()
    weight = torch.ones(10, device=DEVICE, requires_grad=True)
    grads = [
        torch.autograd.grad(f(x).sum() if ones is None else f(x), (x,), ones)[0]
        for f in (lambda y: rms_norm(y, weight, eps=1e-6, backend=backend),)
        for ones in (None, torch.ones(6, 10, device=DEVICE))
    ]
    assert torch.equal(*grads)
    empty = rms_norm(x[:0], weight, eps=1e-6, backend=backend)
    assert empty.shape == (0, 10)
    empty.sum().backward()
    assert not weight.grad.any()
    assert swiglu(x[:0], backend=backend).shape == (0, 5)


@pytest.mark.skipif(interpreting(), reason="opcheck traces, the interpreter runs")
def test_custom_ops_pass_opcheck():
    from lamer_kernels.layers.embedding.op import embedding_op
    from lamer_kernels.layers.rms_norm.op import add_norm_op, norm_op
    from lamer_kernels.layers.rotary.op import rotary_op
    from lamer_kernels.layers.swiglu.op import swiglu_op

    backend = "triton" if CUDA else "cpu"

    def leaf(*shape):
        return randn(*shape, seed=0).float().to(DEVICE).requires_grad_()

    t = {name: x.to(DEVICE) for name, x in table(9, 4).items()}
    positions = torch.arange(5, device=DEVICE)
    calls = [
        (norm_op, (leaf(5, 8), leaf(8), 1e-6, backend)),
        (add_norm_op, (leaf(5, 8), leaf(5, 8), leaf(8), 1e-6, backend)),
        (rotary_op, (leaf(5, 4, 8), positions, t["cos"], t["sin"], 1, None, None, 1e-6, backend)),
        (rotary_op, (leaf(5, 4, 8), positions, t["cos"], t["sin"], 1, leaf(8), leaf(8), 1e-6, backend)),
        (swiglu_op, (leaf(5, 8), backend)),
        (embedding_op, (positions, leaf(7, 8), backend)),
    ]
    for op, args in calls:
        torch.library.opcheck(op, args)


def test_a_layer_compiles_whole():
    weight = torch.ones(8, device=DEVICE)

    def layer(x, update):
        total, normed = add_rms_norm(x, update, weight, eps=1e-6)
        return total.sum() + swiglu(normed).sum()

    x, update = (randn(5, 8, seed=s).float().to(DEVICE).requires_grad_() for s in (0, 1))
    eager = torch.autograd.grad(layer(x, update), (x, update))
    compiled = torch.autograd.grad(
        torch.compile(layer, fullgraph=True, backend="aot_eager")(x, update), (x, update)
    )
    for a, b in zip(eager, compiled, strict=True):
        torch.testing.assert_close(a, b)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda x: rms_norm(x, x[0, :4], eps=1e-6), r"weight must have shape \(8\), got \(4,\)"),
        (lambda x: rms_norm(x, x[0].bfloat16(), eps=1e-6), "weight must be float32, got bfloat16"),
        (lambda x: add_rms_norm(x, x[:1], x[0], eps=1e-6), "update must have shape"),
        (lambda x: swiglu(x[:, :7]), r"two halves in its last dimension, got \(5, 7\)"),
        (lambda x: swiglu(x.long()), "gate_up must be"),
        (lambda x: embedding(x, x), "ids must be int64, got float32"),
        (lambda x: embedding(torch.arange(3), x[0]), r"weight must have shape \(any, any\), got \(8,\)"),
        (lambda x: rotary(x[:, None], torch.arange(5), x, x, num_kv_heads=1), "leaves no query head"),
        (
            lambda x: rotary(x[:, None].expand(5, 3, 8), torch.arange(5), x, x, num_kv_heads=1),
            "cos has 8 columns, a head of 8 numbers has only 4 pairs",
        ),
    ],
)
def test_refused_by_name(call, message):
    with pytest.raises(ValueError, match=message):
        call(torch.ones(5, 8))
