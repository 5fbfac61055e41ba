"""A decoder's passes over a cache as CUDA graphs: of a small pass most of the time is Python, layer by layer.

A graph holds addresses and sizes, and nothing of the values: tokens, positions, lengths and weights may
change in place. There is one per size of a pass, so passes are padded to few sizes
(`SlotCache.rows(pad=True)`).
"""

import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

from lamer_fast.model.cache import CachedAttention
from lamer_fast.model.decoder import Decoder
from lamer_fast.model.few_tokens import FewTokens

MAX_TOKENS = 2048  # of a pass: from there on a GPU takes longer than Python
Capture = Callable[[Callable[[], Tensor]], Callable[[], Tensor]]


class Replayed:
    """Computes what `decoder` does, in the same bits. The first pass of a size runs as it is, which compiles
    what it needs; the second one is captured; from then on it is replayed.

    The hidden states of a pass are overwritten by the next one.

    Args:
        capture: runs a function of fixed inputs once, and gives one that does the same again; None runs
            every pass as it is.
    """

    def __init__(self, decoder: Decoder, capture: Capture | None) -> None:
        self._decoder, self._capture = decoder, capture
        self._few: FewTokens | None = FewTokens(decoder) if capture is None else None
        self._graphs: dict[tuple[int, ...], Callable[[CachedAttention], Tensor] | None] = {}
        self._addresses: list[int] = []

    @property
    def num_graphs(self) -> int:
        return sum(graph is not None for graph in self._graphs.values())

    def __call__(self, attention: CachedAttention) -> Tensor:
        size = attention.sizes
        if self._few is not None and self._few.takes(attention):
            return self._few(attention)
        if self._capture is not None and size[0] <= MAX_TOKENS:
            if size in self._graphs and self._graphs[size] is None:
                self._graphs[size] = self._captured(attention)
            graph = self._graphs.setdefault(size, None)
            if graph is not None:
                return graph(attention)
        return self._decoder(attention.token_ids, attention)

    @contextmanager
    def as_it_is(self) -> Iterator[None]:
        """Within it every pass runs as it is."""
        others = self._capture, self._few
        self._capture = self._few = None
        try:
            yield
        finally:
            self._capture, self._few = others

    def forget(self) -> None:
        """The cache has moved."""
        self._graphs = dict.fromkeys(self._graphs)

    def refresh(self) -> None:
        """The weights may have moved: forgets the graphs if they have."""
        now = [p.data_ptr() for p in self._decoder.model.parameters()]
        if now != self._addresses:
            self.forget()
        self._addresses = now
        if self._few is not None:
            self._few.refresh()

    def _captured(self, attention: CachedAttention) -> Callable[[CachedAttention], Tensor] | None:
        """A pass of this size, over inputs at an address that stays."""
        assert self._capture is not None
        fixed = CachedAttention(attention.cache, attention.sizes, attention.sent.clone())
        try:
            run = self._capture(lambda: self._decoder(fixed.token_ids, fixed))
        except RuntimeError as error:
            self._capture = None
            self.forget()
            text = str(error).splitlines()[0]
            warnings.warn(f"the sampler goes on without CUDA graphs, and slower: {text}", stacklevel=2)
            return None

        def replay(attention: CachedAttention) -> Tensor:
            fixed.sent.copy_(attention.sent)
            return run()

        return replay


class CudaGraphs:
    """`Capture`; the graphs share their memory, since only one runs at a time."""

    def __init__(self) -> None:
        self._pool: Any = None  # a handle, from the first graph on

    def __call__(self, run: Callable[[], Tensor]) -> Callable[[], Tensor]:
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            out = run()
        self._pool = graph.pool()

        def replay() -> Tensor:
            graph.replay()
            return out

        return replay
