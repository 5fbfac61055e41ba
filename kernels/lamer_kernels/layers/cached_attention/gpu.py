"""Triton: attention over a cache of slots.

One program takes one key head and a tile of new tokens of one row, with all the query heads that share that
key head, and walks over the slot's blocks of keys once (online softmax). Which row a tile belongs to is found
on the device from cu_seqlens, so that the host never waits for lengths.
Axis letters: N new tokens, B rows, H key heads, G query heads per key head, D head size.
"""

import triton
import triton.language as tl

from ..._core.dispatch import interpreting
from ..._core.launch import launch
from .reference import BLOCK

LOG2_E = 1.4426950408889634


@triton.jit(do_not_specialize=["num_blocks"])
def write_slots_kernel(
    k_ptr, v_ptr, slots_ptr, positions_ptr, keys_ptr, values_ptr, num_blocks,
    H: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, BLOCK_HD: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    slot, at = tl.load(slots_ptr + token), tl.load(positions_ptr + token)
    offs = tl.arange(0, BLOCK_HD)
    m = (offs < H * D) & (slot + offs * 0 >= 0)  # a block: Triton 3.9's interpreter takes no scalar in a mask
    h, d = offs // D, offs % D
    head = slot * H + h
    k = tl.load(k_ptr + token * H * D + offs, mask=m)
    tl.store(keys_ptr + ((head * num_blocks + at // BLOCK) * D + d) * BLOCK + at % BLOCK, k, mask=m)
    v = tl.load(v_ptr + token * H * D + offs, mask=m)
    tl.store(values_ptr + (head * num_blocks * BLOCK + at) * D + d, v, mask=m)


@triton.jit(do_not_specialize=["B", "num_blocks"])
def cached_attention_kernel(
    q_ptr, keys_ptr, values_ptr, slots_ptr, positions_ptr, cu_seqlens_ptr, out_ptr,
    B, num_blocks, scale_log2,
    H: tl.constexpr, G: tl.constexpr, D: tl.constexpr, BLOCK: tl.constexpr, BLOCK_D: tl.constexpr,
    TOKENS: tl.constexpr, BLOCK_M: tl.constexpr, EXACT: tl.constexpr,
):  # fmt: skip
    """TOKENS: new tokens of a tile; BLOCK_M >= TOKENS * G: rows of its products, in float32 if EXACT."""
    program = tl.program_id(0).to(tl.int64)
    tile, h = program // H, program % H
    row, first, count = tile, tile, tile * 0 + 1  # one new token per row
    begin = tile * 0
    if TOKENS > 1:
        # rows before r have at most cu_seqlens[r] // TOKENS + r tiles, which is where r's tiles begin
        low, high = tile * 0, tile * 0 + B
        while low < high:
            mid = (low + high) // 2
            if tl.load(cu_seqlens_ptr + mid) // TOKENS + mid <= tile:
                low = mid + 1
            else:
                high = mid
        row = low - 1
        first = tl.load(cu_seqlens_ptr + row).to(tl.int64)
        count = tl.load(cu_seqlens_ptr + row + 1) - first
        begin = (tile - first // TOKENS - row) * TOKENS
    if begin < count:
        m = tl.arange(0, BLOCK_M)
        token = begin + m // G
        valid = (m < TOKENS * G) & (token < count)
        position = tl.load(positions_ptr + first + token, mask=valid, other=0)
        last = tl.load(positions_ptr + first + tl.minimum(count, begin + TOKENS) - 1)
        slot = tl.load(slots_ptr + first)
        last = tl.where(slot < 0, -1, last)  # padding sees nothing
        d, j = tl.arange(0, BLOCK_D), tl.arange(0, BLOCK)
        in_head = d < D
        rows = ((first + token) * H * G + h * G + m % G) * D
        both = valid[:, None] & in_head[None, :]
        q = tl.load(q_ptr + rows[:, None] + d[None, :], mask=both, other=0.0)
        k_tile = keys_ptr + (slot * H + h) * num_blocks * D * BLOCK + d[:, None] * BLOCK + j[None, :]
        v_tile = values_ptr + (slot * H + h) * num_blocks * BLOCK * D + j[:, None] * D + d[None, :]
        top = tl.full([BLOCK_M], float("-inf"), tl.float32)
        total = tl.zeros([BLOCK_M], tl.float32)
        mean = tl.zeros([BLOCK_M, BLOCK_D], tl.float32)
        for block in range(0, ((last + BLOCK) // BLOCK).to(tl.int32)):
            at = block * BLOCK + j
            written = at <= last
            k = tl.load(k_tile, mask=in_head[:, None] & written[None, :], other=0.0)
            v = tl.load(v_tile, mask=written[:, None] & in_head[None, :], other=0.0)
            if EXACT:
                q, k, v = q.to(tl.float32), k.to(tl.float32), v.to(tl.float32)
            scores = tl.dot(q, k, input_precision="ieee") * scale_log2
            scores = tl.where(at[None, :] <= position[:, None], scores, float("-inf"))
            new_top = tl.maximum(top, tl.max(scores, 1))
            p = tl.exp2(scores - new_top[:, None])
            shrink = tl.exp2(top - new_top)
            total = total * shrink + tl.sum(p, 1)
            mean = mean * shrink[:, None] + tl.dot(p.to(v.dtype), v, input_precision="ieee")
            top = new_top
            k_tile += D * BLOCK
            v_tile += BLOCK * D
        out = mean / tl.where(total > 0, total, 1.0)[:, None]
        tl.store(out_ptr + rows[:, None] + d[None, :], out.to(out_ptr.dtype.element_ty), mask=both)


def forward(q, k, v, keys, values, slots, positions, cu_seqlens, scale):
    """As in ``cpu.py``."""
    (N, H, D), G, B = k.shape, q.shape[1] // k.shape[1], len(cu_seqlens) - 1
    out = q.new_empty(q.shape)
    num_blocks = keys.shape[2]
    launch(
        write_slots_kernel, N, k, v, slots, positions, keys, values, num_blocks,
        H=H, D=D, BLOCK=BLOCK, BLOCK_HD=triton.next_power_of_2(H * D),
    )  # fmt: skip
    exact = q.element_size() == 4 or interpreting()  # the interpreter has no products of bfloat16
    tokens = 1 if N == B else max(2, (16 if exact else 64) // G)
    num_tiles = N if tokens == 1 else N // tokens + B
    launch(
        cached_attention_kernel, num_tiles * H, q, keys, values, slots, positions, cu_seqlens, out,
        B, num_blocks, scale * LOG2_E, **constants(H, G, D, tokens, exact),
    )  # fmt: skip
    return out


def constants(H: int, G: int, D: int, tokens: int, exact: bool) -> dict:
    power = triton.next_power_of_2
    rows, columns = max(16, power(tokens * G)), max(16, power(D))
    wide = rows * columns >= 64 * 128 or (exact and columns >= 128)  # 4 warps would spill registers
    return {
        "H": H, "G": G, "D": D, "BLOCK": BLOCK, "BLOCK_D": columns, "TOKENS": tokens, "BLOCK_M": rows,
        "EXACT": exact, "num_warps": 8 if wide else 4, "num_stages": 1 if exact else 2,
    }  # fmt: skip
