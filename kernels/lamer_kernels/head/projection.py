"""What the loss-head ops share: the head, its GEMMs, and token chunks that fit a workspace.

Axis letters: T packed tokens, L loss tokens, C tokens of one chunk, H hidden, V vocabulary.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

HEAD_DTYPES = (torch.bfloat16, torch.float16, torch.float32, torch.float64)
MAX_WORKSPACE_BYTES = {"cuda": 2_500_000_000, "cpu": 64 << 20}  # fewer passes over dW gain little beyond
SLAB_BYTES = 33 << 20
CACHED_ELEMENTS = 1 << 20


@dataclass(frozen=True)
class Head:
    """``logits = softcap * tanh((x @ weight.T + bias) / softcap) / temperature`` of hidden rows ``x``.

    Attributes:
        weight: [V, H] in hidden's dtype, the dtype of the GEMMs.
        bias: [V] in the accumulation dtype, or None.
        softcap: None leaves the tanh out.
        temperature: one value, or [L] in the accumulation dtype.
    """

    weight: Tensor
    bias: Tensor | None
    softcap: float | None
    temperature: float | Tensor

    def temperature_of(self, rows: slice) -> float | Tensor:
        return self.temperature if isinstance(self.temperature, float) else self.temperature[rows]


def make_head(
    weight: Tensor,
    bias: Tensor | None,
    softcap: float | None,
    temperature: float | Tensor,
    dtype: torch.dtype,
) -> Head:
    acc = accumulation_dtype(dtype)
    if bias is not None:
        bias = bias.detach().to(acc)
    if isinstance(temperature, Tensor):
        temperature = temperature.to(acc)
    return Head(weight.detach().to(dtype), bias, softcap, temperature)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    return torch.float64 if dtype is torch.float64 else torch.float32


def logits_dtype(x: Tensor, backend: str) -> torch.dtype:
    """float32 on CUDA; on a CPU the GEMMs write hidden's dtype (there is no bf16 x bf16 -> float32 GEMM)."""
    return accumulation_dtype(x.dtype) if x.is_cuda or backend == "triton" else x.dtype


ROW_MULTIPLE = 16  # numbers: what a row must be aligned to, so that a thread moves 16 bytes at a time


def new_logits(x: Tensor, num_rows: int, vocab: int, backend: str) -> Tensor:
    """[rows, V] of `logits_dtype`, uninitialised. On a GPU each row begins at a multiple of ROW_MULTIPLE: the
    row passes, and cuBLAS, read and write odd vocabularies as fast as others."""
    width = -(-vocab // ROW_MULTIPLE) * ROW_MULTIPLE if x.is_cuda or backend == "triton" else vocab
    return x.new_empty(num_rows, width, dtype=logits_dtype(x, backend))[:, :vocab]


@cache
def default_workspace_bytes(device: torch.device) -> int:
    """On a GPU a 32nd of its memory, up to the bound."""
    if device.type != "cuda":
        return MAX_WORKSPACE_BYTES["cpu"]
    return min(MAX_WORKSPACE_BYTES["cuda"], torch.cuda.get_device_properties(device).total_memory // 32)


def max_chunk_tokens(x: Tensor, vocab: int, workspace_bytes: int, backend: str) -> int:
    return max(1, workspace_bytes // (vocab * logits_dtype(x, backend).itemsize))


def token_chunks(num_tokens: int, max_tokens: int) -> Iterator[slice]:
    """Evenly sized chunks, so that no ragged tail pays a whole pass over the weight."""
    num_chunks = -(-num_tokens // max_tokens)
    size = -(-num_tokens // max(num_chunks, 1))
    for start in range(0, num_tokens, max(size, 1)):
        yield slice(start, min(start + size, num_tokens))


def write_logits(out: Tensor, x: Tensor, targets: Tensor, head: Head) -> None:
    """out [C, V] = x @ weight.T, up to a constant per row where ``out`` is a 16-bit type.

    A 16-bit logit of size 20 is off by up to 0.06. Softmax does not see a constant, so the target's logit is
    taken off inside the GEMM (as its additive term, before the rounding): the logits near the target's are
    then small and exact, and the error of the log-prob falls by more than ten. A softcap would see it.
    """
    if out.dtype is x.dtype and out.dtype.itemsize == 2 and head.softcap is None:
        shift = torch.linalg.vecdot(x.float(), head.weight[targets].float()).to(out.dtype)
        out.copy_(shift.neg_().unsqueeze(1).expand_as(out))
        out.addmm_(x, head.weight.T)
        return
    for columns in column_parts(out.shape[1], x):
        part, weight = out[:, columns], head.weight[columns]
        if out.dtype is x.dtype:
            torch.mm(x, weight.T, out=part)
        elif x.is_cuda:
            torch.mm(x, weight.T, out_dtype=out.dtype, out=part)
        else:  # the interpreter's stand-in for the line above
            torch.mm(x.to(out.dtype), weight.T.to(out.dtype), out=part)


def column_parts(vocab: int, x: Tensor) -> list[slice]:
    """The columns of a product of ``vocab`` of them: on a GPU the rest of an odd number stands alone, since
    cuBLAS takes four to five times longer where a size is no multiple of 8."""
    whole = vocab // ROW_MULTIPLE * ROW_MULTIPLE if x.is_cuda else vocab
    return [part for part in (slice(0, whole), slice(whole, vocab)) if part.stop > part.start]


def write_dx(dx: Tensor, dlogits: Tensor, weight: Tensor) -> None:
    """dx [C, H] = dlogits [C, V] @ weight [V, H]."""
    *whole, rest = column_parts(dlogits.shape[1], dlogits)
    torch.mm(dlogits[:, rest], weight[rest], out=dx)
    for columns in whole:  # last, so that the sum is rounded once
        dx.addmm_(dlogits[:, columns], weight[columns])


class Slabs(list[Tensor]):
    """A sum [V, H] in slabs of rows; ``written`` is False while they hold nothing, not even zeros."""

    def __init__(self, slabs: list[Tensor], *, written: bool) -> None:
        super().__init__(slabs)
        self.written = written


def new_dweight(weight: Tensor, dtype: torch.dtype) -> Slabs:
    """Like ``weight`` [V, H] in ``dtype``: zeros in slabs of rows where a CPU will have to cast them, else
    one slab that the first product writes. (On a GPU zeros would be written, and read, for nothing.)

    Each slab is a memory map of its own (glibc maps all above 32 MiB): it can be given back as soon as it is
    cast, and the peak is that of ``dtype`` alone.
    """
    vocab, hidden = weight.shape
    num_slabs = 1
    if weight.dtype is not dtype and weight.device.type == "cpu":
        num_slabs = max(1, vocab * hidden * dtype.itemsize // SLAB_BYTES)
    sizes = [vocab // num_slabs + (i < vocab % num_slabs) for i in range(num_slabs)]
    if weight.is_cuda:
        return Slabs(
            [torch.empty(n, hidden, dtype=dtype, device=weight.device) for n in sizes], written=False
        )
    return Slabs([torch.zeros(n, hidden, dtype=dtype, device=weight.device) for n in sizes], written=True)


def add_dweight(slabs: Slabs, dlogits: Tensor, x: Tensor) -> None:
    """slabs [V, H] += dlogits.T @ x, accumulated in their dtype (float32 under 16-bit operands)."""
    start = 0
    for slab in slabs:
        columns = dlogits[:, start : start + len(slab)]
        start += len(slab)
        for rows in column_parts(len(slab), x):
            _add_product(slab[rows], columns[:, rows].T, x, written=slabs.written)
    slabs.written = True


def _add_product(total: Tensor, a: Tensor, x: Tensor, *, written: bool) -> None:
    """total [V, H] += a [V, C] @ x [C, H]; not ``written``: it holds nothing yet."""
    if total.dtype is x.dtype:
        total.addmm_(a, x) if written else torch.mm(a, x, out=total)
    elif not written:
        torch.mm(a, x, out_dtype=total.dtype, out=total)
    elif x.is_cuda:
        torch.addmm(total, a, x, out_dtype=total.dtype, out=total)
    else:
        block = max(1, CACHED_ELEMENTS // x.shape[1])  # the 16-bit product of a block stays in the cache
        for first in range(0, len(total), block):
            rows = slice(first, first + block)
            total[rows] += a[rows] @ x


def finish_dweight(slabs: Slabs, dtype: torch.dtype) -> Tensor:
    """[V, H] of ``dtype``; empties the list."""
    if not slabs.written:  # no token has a gradient
        for slab in slabs:
            slab.zero_()
    if len(slabs) == 1:
        return slabs.pop().to(dtype)
    out = slabs[0].new_empty(sum(map(len, slabs)), slabs[0].shape[1], dtype=dtype)
    start = 0
    while slabs:
        slab = slabs.pop(0)
        out[start : start + len(slab)] = slab
        start += len(slab)
    return out


def scatter_rows(rows: Tensor, token_idx: Tensor | None, num_tokens: int) -> Tensor:
    """[T, H] with ``rows [L, H]`` added at ``token_idx``, zero elsewhere."""
    if token_idx is None:
        return rows
    return rows.new_zeros(num_tokens, rows.shape[1]).index_add_(0, token_idx, rows)
