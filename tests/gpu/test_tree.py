"""tree_attention on a GPU against its definition, by both implementations, forward and backward."""

import pytest
import torch

from lamer_kernels import prefix_tree, tree_attention
from lamer_kernels.layers.tree import tree_attention_ref

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]
DTYPES = {"float32": torch.float32, "float16": torch.float16, "bfloat16": torch.bfloat16}
ROUNDING = {torch.float32: 1e-5, torch.float16: 2e-3, torch.bfloat16: 1.5e-2}


def make_case(dtype, heads=8, kv_heads=2, dim=64):
    g = torch.Generator().manual_seed(0)
    trunk = torch.randint(50, (900,), generator=g)
    parts = [
        torch.cat([trunk[:n], torch.randint(50, (n // 3,), generator=g)]) for n in (900, 880, 401, 33, 400)
    ]
    cu = torch.tensor([0, *map(len, parts)]).cumsum(0)
    tree = prefix_tree(torch.cat(parts).cuda(), cu.cuda())
    sizes = [(len(tree.source), n, dim) for n in (heads, kv_heads, kv_heads, heads)]
    q, k, v, upstream = (torch.randn(size, generator=g).to("cuda", dtype) for size in sizes)
    return [x.requires_grad_() for x in (q, k, v)], tree.subtree_end, upstream


@pytest.fixture(autouse=True)
def as_it_is_by_default():
    before = torch.are_deterministic_algorithms_enabled()
    torch.use_deterministic_algorithms(False)
    yield
    torch.use_deterministic_algorithms(before)


@pytest.mark.parametrize("dtype", DTYPES.values(), ids=DTYPES)
@pytest.mark.parametrize("name", ["nodes", "flex"])
def test_matches_the_definition(name, dtype):
    qkv, subtree_end, upstream = make_case(dtype)
    truth = [x.detach().double().requires_grad_() for x in qkv]
    ref = tree_attention_ref(*truth, subtree_end)
    exact = [ref.detach(), *torch.autograd.grad(ref, truth, upstream.double())]
    out = tree_attention(*qkv, subtree_end, implementation=name)
    for x, y in zip([out.detach(), *torch.autograd.grad(out, qkv, upstream)], exact, strict=True):
        assert x.dtype == dtype
        assert (x.double() - y).norm() <= ROUNDING[dtype] * y.norm()
