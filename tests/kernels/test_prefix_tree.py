"""prefix_tree, plan_prefixes, tree_attention: what sequences share is computed once, to the same numbers."""

from itertools import pairwise

import numpy as np
import pytest
import torch

from lamer_kernels import plan_prefixes, prefix_tree, register_attention, tree_attention, varlen_attention
from lamer_kernels.layers import _flex as flex
from lamer_kernels.layers.tree import nodes, tree_attention_ref
from lamer_kernels.packing.prefixes import prefix_tree_ref

OPS = torch.ops.lamer_kernels


def sequences(lengths, num_ids, seed=0, low=0):
    g = torch.Generator().manual_seed(seed)
    ids = torch.randint(low, num_ids, (sum(lengths),), generator=g)
    return ids, torch.tensor([0, *lengths]).cumsum(0)


def branching(seed=0, trunk=150, num=9):
    """Sequences that leave a common trunk at different places, one of them twice, one that shares nothing."""
    g = torch.Generator().manual_seed(seed)
    shared = torch.randint(40, (trunk,), generator=g)
    cuts = torch.randint(trunk, (num,), generator=g).tolist()
    tails = torch.randint(200, (num,), generator=g).tolist()
    parts = [
        torch.cat([shared[:a], torch.randint(40, (b,), generator=g)])
        for a, b in zip(cuts, tails, strict=True)
    ]
    parts += [parts[0], torch.full((30,), 41), shared[:0]]
    return torch.cat(parts), torch.tensor([0, *map(len, parts)]).cumsum(0)


@pytest.mark.parametrize("seed", range(40))
def test_equals_the_trie(seed):
    g = np.random.default_rng(seed)
    ids, cu = sequences(g.integers(0, 9, g.integers(0, 12)).tolist(), 2 + seed % 3, seed, low=-1)
    tree, ref = prefix_tree(ids, cu), prefix_tree_ref(ids.tolist(), cu.tolist())
    for x, y in zip(tree, ref, strict=True):
        assert x.tolist() == y
    assert [x.dtype for x in tree] == [torch.int64, torch.int64, torch.int64, torch.int32]
    assert torch.equal(ids[tree.source][tree.row], ids)


def test_by_hand():
    ids = torch.tensor([5, 6, 7, 5, 6, 5, 6, 9])
    tree = prefix_tree(ids, torch.tensor([0, 3, 5, 8]))
    assert tree.source.tolist() == [3, 4, 2, 7]  # 5 6 7 9; the shortest of equal beginnings comes first
    assert tree.row.tolist() == [0, 1, 2, 0, 1, 0, 1, 3]
    assert tree.position_ids.tolist() == [0, 1, 2, 2]
    assert tree.subtree_end.tolist() == [4, 4, 3, 4]


@pytest.mark.parametrize("dtype", [torch.int32, torch.int64, torch.uint8])
def test_ids_of_any_integer_dtype_and_stride(dtype):
    ids, cu = sequences((4, 0, 6, 6), 2)
    strided = torch.stack((ids, ids), 1).to(dtype)[:, 0]
    for x, y in zip(prefix_tree(strided, cu.int()), prefix_tree(ids, cu), strict=True):
        assert torch.equal(x, y)


@pytest.mark.parametrize("max_tokens", [9, 14, 40, 1000])
def test_plan_keeps_the_budget_and_what_is_alike_together(max_tokens):
    ids, cu = sequences([9, 3, 8, 0, 9, 9, 2, 7, 9, 9, 5], 2, seed=3)
    bins = plan_prefixes(ids, cu, max_tokens)
    for b in range(int(bins.max()) + 1):
        parts = [
            ids[start:end] for (start, end), at in zip(pairwise(cu.tolist()), bins, strict=True) if at == b
        ]
        assert parts
        offsets = torch.tensor([0, *map(len, parts)]).cumsum(0)
        assert len(prefix_tree(torch.cat(parts), offsets).source) <= max_tokens
    if max_tokens == 1000:
        assert not bins.any()


def test_plan_names_what_does_not_fit():
    ids, cu = sequences((3, 12, 5), 9)
    with pytest.raises(ValueError, match="sequence 1 has 12 tokens, max_tokens = 11"):
        plan_prefixes(ids, cu, 11)
    with pytest.raises(ValueError, match="must run from 0 to 20, got 0 to 15"):
        plan_prefixes(ids, cu[:-1], 100)
    with pytest.raises(ValueError, match="ids must be"):
        prefix_tree(ids.float(), cu)


def attention_case(dtype, heads=(6, 2), dim=16):
    """q, k, v of the tree's tokens, an upstream gradient of every sequence's token, the tree, the offsets."""
    ids, cu = branching()
    tree = prefix_tree(ids, cu)
    g = torch.Generator().manual_seed(1)
    sizes = [(len(tree.source), n, dim) for n in (heads[0], heads[1], heads[1])]
    qkv = [torch.randn(size, generator=g).to(dtype).requires_grad_() for size in sizes]
    upstream = torch.randn(len(ids), heads[0], dim, generator=g).to(dtype)
    return qkv, upstream, tree, cu


def with_gradients(out, qkv, upstream):
    return [out.detach(), *torch.autograd.grad(out, qkv, upstream)]


# rounding of a result in units of its dtype; sums of products over some 300 keys
ROUNDING = {torch.float64: 1e-14, torch.float32: 2e-6, torch.float16: 1e-3, torch.bfloat16: 8e-3}


@pytest.mark.parametrize("heads", [(4, 4), (6, 2), (3, 1)], ids=str)
@pytest.mark.parametrize("dtype", ROUNDING, ids=str)
def test_equals_separate_sequences(dtype, heads):
    qkv, upstream, tree, cu = attention_case(dtype, heads)
    truth = [x.detach().double().requires_grad_() for x in qkv]
    whole = varlen_attention(*(x[tree.row] for x in truth), cu, int(cu.diff().max()))
    exact = with_gradients(whole, truth, upstream.double())
    ours = with_gradients(tree_attention(*qkv, tree.subtree_end)[tree.row], qkv, upstream)
    for x, y in zip(ours, exact, strict=True):
        assert x.dtype == dtype
        assert (x.double() - y).norm() <= ROUNDING[dtype] * y.norm()


def test_the_definition_equals_separate_sequences():
    qkv, upstream, tree, cu = attention_case(torch.float64)
    whole = varlen_attention(*(x[tree.row] for x in qkv), cu, int(cu.diff().max()), scale=0.3)
    ref = tree_attention_ref(*qkv, tree.subtree_end, scale=0.3)[tree.row]
    for x, y in zip(*(with_gradients(out, qkv, upstream) for out in (whole, ref)), strict=True):
        torch.testing.assert_close(x, y)


def test_blocks_of_queries_change_nothing(monkeypatch):
    qkv, _, tree, _ = attention_case(torch.float64)
    upstream = torch.ones_like(qkv[0])
    whole = with_gradients(tree_attention(*qkv, tree.subtree_end), qkv, upstream)
    monkeypatch.setattr(nodes, "MAX_BLOCK", 7)
    for x, y in zip(
        with_gradients(tree_attention(*qkv, tree.subtree_end), qkv, upstream), whole, strict=True
    ):
        torch.testing.assert_close(x, y)


def test_no_token_sees_another_branch():
    qkv, _, tree, _ = attention_case(torch.float32)
    out = tree_attention(*qkv, tree.subtree_end)
    ends, lengths = torch.unique_consecutive(tree.subtree_end, return_counts=True)
    leaf = int((lengths.cumsum(0) == ends).nonzero()[0])  # a stretch that ends with its subtree
    others = torch.ones(len(out), dtype=torch.bool)
    others[int(ends[leaf] - lengths[leaf]) : int(ends[leaf])] = False
    changed = [x.detach().clone() for x in qkv]
    for x in changed:
        x[~others] = torch.nan
    assert torch.equal(tree_attention(*changed, tree.subtree_end)[others], out[others])


def test_gradcheck_and_opcheck():
    ids, cu = sequences((4, 3, 5), 2)
    end = prefix_tree(ids, cu).subtree_end
    g = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(len(end), n, 3, generator=g).double().requires_grad_() for n in (4, 2, 2))
    assert torch.autograd.gradcheck(lambda *x: tree_attention(*x, end), (q, k, v))
    torch.library.opcheck(OPS.tree_attention.default, (q, k, v, end, 0.5))
    out, lse = OPS.tree_attention(q, k, v, end, 0.5)
    rest = [x.detach() for x in (out, q, k, v, out, lse)]
    torch.library.opcheck(OPS.tree_attention_backward.default, (*rest, end, 0.5))


def test_compiled_and_under_autocast():
    qkv, _, tree, _ = attention_case(torch.float32)
    out = tree_attention(*qkv, tree.subtree_end)
    compiled = torch.compile(tree_attention, backend="aot_eager", fullgraph=True)
    assert torch.equal(compiled(*qkv, tree.subtree_end), out)
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(tree_attention(*qkv, tree.subtree_end), out)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_no_tokens(dtype):
    q, k, v = (torch.zeros(0, n, 8, dtype=dtype, requires_grad=True) for n in (4, 2, 2))
    tree = prefix_tree(torch.zeros(0, dtype=torch.int64), torch.tensor([0, 0, 0]))
    out = tree_attention(q, k, v, tree.subtree_end)
    assert [x.shape for x in with_gradients(out, (q, k, v), out)[1:]] == [q.shape, k.shape, v.shape]


REFUSED = {
    "an end before its token": ([1, 1, 3], r"subtree_end\[1\] must lie in \[2, 3\], got 1"),
    "an end beyond what encloses it": ([2, 3, 3], r"subtree_end\[1\] must lie in \[2, 2\], got 3"),
    "an end beyond the last": ([4, 4, 4], r"subtree_end\[0\] must lie in \[1, 3\], got 4"),
    "of two tokens": ([2, 2], "subtree_end must have shape"),
}  # fmt: skip


@pytest.mark.parametrize("implementation", ["auto", "reference"])
@pytest.mark.parametrize("case", REFUSED)
def test_ends_of_no_tree_are_refused(case, implementation):
    end, message = REFUSED[case]
    q, k, v = (torch.zeros(3, n, 8) for n in (4, 2, 2))
    with pytest.raises(ValueError, match=message):
        tree_attention(q, k, v, torch.tensor(end), implementation=implementation)


def test_flex_is_refused_on_a_cpu():
    q, k, v = (torch.zeros(3, n, 8) for n in (4, 2, 2))
    with pytest.raises(
        ValueError, match=r"'flex' needs CUDA tensors of 16 or 32 bit, got torch\.float32 on cpu"
    ):
        tree_attention(q, k, v, torch.tensor([3, 3, 3]), implementation="flex")


def test_flex_is_refused_in_deterministic_mode(monkeypatch):
    monkeypatch.setattr(torch, "are_deterministic_algorithms_enabled", lambda: True)
    q, k, v = (torch.zeros(3, n, 8) for n in (4, 2, 2))
    with pytest.raises(ValueError, match=r"'flex' cannot run under torch\.use_deterministic_algorithms"):
        tree_attention(q, k, v, torch.tensor([3, 3, 3]), implementation="flex")


@pytest.mark.parametrize("seed", range(3))
def test_blocks_that_flex_skips(seed):
    ids, cu = branching(seed, trunk=400, num=12)
    end = prefix_tree(ids, cu).subtree_end
    num_blocks = -(-len(end) // flex.BLOCK)
    at = torch.arange(num_blocks * flex.BLOCK)
    padded = torch.nn.functional.pad(end, (0, len(at) - len(end)))
    seen = (at[None] <= at[:, None]) & (at[:, None] < padded[None]) & (at[:, None] < len(end))
    tiles = seen.view(num_blocks, flex.BLOCK, num_blocks, flex.BLOCK).transpose(1, 2).flatten(2)
    rows_of = torch.clamp(len(end) - torch.arange(num_blocks) * flex.BLOCK, max=flex.BLOCK)
    mask = flex.block_mask(end)
    for name, truth in (
        ("partial", tiles.any(2) & (tiles.sum(2) < rows_of[:, None] * flex.BLOCK)),
        ("whole", tiles.sum(2) == rows_of[:, None] * flex.BLOCK),
    ):
        nums, order = (
            (mask.kv_num_blocks, mask.kv_indices)
            if name == "partial"
            else (mask.full_kv_num_blocks, mask.full_kv_indices)
        )
        got = [sorted(order[0, 0, i, : nums[0, 0, i]].tolist()) for i in range(num_blocks)]
        assert got == [row.nonzero()[:, 0].tolist() for row in truth]


@pytest.mark.filterwarnings("ignore:flex_attention called without torch.compile")
def test_flex_sees_what_the_definition_sees():
    qkv, _, tree, _ = attention_case(torch.float32)
    q, k, v = (x.detach().transpose(0, 1)[None] for x in qkv)
    with torch.no_grad():
        out = flex.flex_attention(q, k, v, block_mask=flex.block_mask(tree.subtree_end), enable_gqa=True)
    torch.testing.assert_close(out[0].transpose(0, 1), tree_attention_ref(*qkv, tree.subtree_end).detach())


def test_other_trees_need_no_new_compilation():
    compiled = torch.compile(flex.flex_attention, dynamic=True, backend="eager")
    before = torch._dynamo.utils.counters["stats"]["unique_graphs"]
    for seed in range(3):
        ids, cu = branching(seed, trunk=200, num=4 + 2 * seed)
        end = prefix_tree(ids, cu).subtree_end
        g = torch.Generator().manual_seed(seed)
        q, k, v = (torch.randn(len(end), n, 16, generator=g) for n in (4, 2, 2))
        batch = (x.transpose(0, 1)[None] for x in (q, k, v))
        with torch.no_grad():
            out = compiled(*batch, block_mask=flex.block_mask(end), enable_gqa=True)
        torch.testing.assert_close(out[0].transpose(0, 1), tree_attention_ref(q, k, v, end))
    assert torch._dynamo.utils.counters["stats"]["unique_graphs"] == before + 1


@pytest.mark.parametrize("kind", ["qwen2", "qwen3", "llama"])
def test_hugging_face_models_run_over_a_tree(kind):
    transformers = pytest.importorskip("transformers")
    sizes = dict(
        vocab_size=50, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, pad_token_id=0,
    )  # fmt: skip
    torch.manual_seed(0)
    model = transformers.AutoModelForCausalLM.from_config(
        transformers.CONFIG_MAPPING[kind](**sizes), dtype=torch.float64
    )
    model.set_attn_implementation(register_attention())
    ids, cu = branching(trunk=20, num=4)
    tree = prefix_tree(ids, cu)
    assert len(tree.source) < len(ids)
    parts = [ids[None, a:b] for a, b in pairwise(cu.tolist()) if a < b]
    separate = torch.cat([model(input_ids=part, use_cache=False).logits[0] for part in parts])
    merged = model(
        input_ids=ids[tree.source][None],
        position_ids=tree.position_ids[None],
        subtree_end=tree.subtree_end,
        attention_mask=torch.empty(1, 1, 0, 0),
        use_cache=False,
    ).logits[0][tree.row]
    torch.testing.assert_close(merged, separate, rtol=1e-6, atol=1e-6)
    gradients = [torch.autograd.grad(x.square().sum(), list(model.parameters())) for x in (merged, separate)]
    for x, y in zip(*gradients, strict=True):  # transformers norms in float32
        assert (x - y).norm() <= 1e-6 * y.norm()
