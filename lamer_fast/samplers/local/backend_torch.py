"""The decoder's backend in torch operations, for any device: rows are padded to a common width."""

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from lamer_fast.samplers.local.backend import KVCache, Layer, Rows, Shape


class TorchBackend:
    """`Backend` by scaled_dot_product_attention. Query heads that share a key head become queries of one
    head, so that keys and values are never repeated."""

    ragged = False

    def __init__(self, shape: Shape, cos: Tensor, sin: Tensor) -> None:
        self.shape, self._cos, self._sin = shape, cos, sin

    def new_cache(self, num_slots: int, num_layers: int) -> KVCache:
        """Keys and values [slots, kv heads, tokens, D]."""
        s = self.shape
        size = (num_slots, s.num_kv_heads, len(self._cos), s.head_size)
        tensors = [torch.zeros(size, dtype=s.dtype, device=self._cos.device) for _ in range(2 * num_layers)]
        return KVCache(tensors[:num_layers], tensors[num_layers:])

    def begin(self, rows: Rows, positions: NDArray[np.int64]) -> None:
        """The index work of a pass, the same for all layers."""
        num_rows, width = len(rows.slots), int(rows.counts.max())
        self._width, self._length = width, int((rows.starts + rows.counts).max())
        in_order = bool((rows.slots == np.arange(num_rows)).all())
        self._first_rows = num_rows if in_order else None  # slots 0..B-1: a view instead of a gather
        self._slots = self._tensor(rows.slots)
        self._token_slots = self._tensor(np.repeat(rows.slots, rows.counts))
        self._positions = self._tensor(positions)
        self._cos_now, self._sin_now = (
            self._cos[self._positions][:, None],
            self._sin[self._positions][:, None],
        )

        inside = np.arange(width) < rows.counts[:, None]
        token = np.zeros((num_rows, width), np.int64)  # of the N tokens; padding reads token 0
        token[inside] = np.arange(len(positions))
        visible = np.arange(self._length) <= np.where(inside, positions[token], 0)[:, :, None]
        group = self.shape.num_heads // self.shape.num_kv_heads
        self._mask = self._tensor(
            np.repeat(visible[:, None], group, axis=1).reshape(num_rows, 1, -1, self._length)
        )
        ragged = not bool(inside.all())
        self._pad = self._tensor(token.ravel()) if ragged else None
        self._unpad = self._tensor(np.flatnonzero(inside)) if ragged else None

    def norm(self, x: Tensor, weight: Tensor, update: Tensor | None = None) -> Tensor:
        if update is not None:
            x += update
        return F.rms_norm(x, (x.shape[-1],), weight, self.shape.eps)

    def gate(self, gate_up: Tensor) -> Tensor:
        gate, up = gate_up.chunk(2, dim=-1)
        return F.silu(gate) * up

    def attend(self, layer: Layer, qkv: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        s = self.shape
        heads = qkv.view(len(qkv), -1, s.head_size)
        values_from = s.num_heads + s.num_kv_heads
        q, k, v = heads[:, : s.num_heads], heads[:, s.num_heads : values_from], heads[:, values_from:]
        if layer.q_norm is not None:
            q = F.rms_norm(q, (s.head_size,), layer.q_norm, s.eps)
            k = F.rms_norm(k, (s.head_size,), layer.k_norm, s.eps)
        q, k = _rotate(q, self._cos_now, self._sin_now), _rotate(k, self._cos_now, self._sin_now)
        keys[self._token_slots, :, self._positions] = k
        values[self._token_slots, :, self._positions] = v

        group = s.num_heads // s.num_kv_heads
        if self._pad is not None:
            q = q.index_select(0, self._pad)
        q = q.view(-1, self._width, s.num_kv_heads, group, s.head_size).permute(0, 2, 3, 1, 4)
        q = q.reshape(-1, s.num_kv_heads, group * self._width, s.head_size)
        out = F.scaled_dot_product_attention(q, self._rows(keys), self._rows(values), attn_mask=self._mask)
        out = out.view(-1, s.num_kv_heads, group, self._width, s.head_size).permute(0, 3, 1, 2, 4)
        out = out.reshape(-1, s.num_heads * s.head_size)
        return out if self._unpad is None else out.index_select(0, self._unpad)

    def _rows(self, cached: Tensor) -> Tensor:
        cached = cached[:, :, : self._length]
        if self._first_rows is not None:
            return cached[: self._first_rows]
        return cached.index_select(0, self._slots)

    def _tensor(self, array: NDArray[np.int64] | NDArray[np.bool_]) -> Tensor:
        return torch.from_numpy(array).to(self._cos.device, non_blocking=True)


def _rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    half = x.shape[-1] // 2
    return x * cos + torch.cat((-x[..., half:], x[..., :half]), dim=-1) * sin
