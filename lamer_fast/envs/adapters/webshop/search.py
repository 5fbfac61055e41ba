"""BM25 over the texts of the products: scores as Lucene's and bm25s' ("lucene"), ties in the products' order.

A token's share in the score of a product is computed when the index is built, so that a search adds up
columns. The index is plain arrays that processes map into memory together.
"""

from __future__ import annotations

import hashlib
import re
from array import array
from collections.abc import Callable
from functools import cache, lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

K1, B = 0.9, 0.4
MAX_QUERY_CHARS = 1000  # of a query count; no shopper's is longer
WORD = re.compile(r"\w+(?:['\u2019]\w+)?")
_STOP = """
a an and are as at be but by for if in into is it no not of on or such that the their then there these they
this to was will with
"""
STOP = frozenset(_STOP.split())
ARRAYS = ("token", "start", "product", "score")
CHUNK = 4_000_000  # words that are counted together while building


class IndexBuilder:
    """Takes texts in the order of the products."""

    def __init__(self) -> None:
        self.ids: dict[str, int] = {}  # stem -> token
        self.words: dict[str, int] = {}  # word as it stands -> token, -1: a stop word
        self.lengths = array("i")
        self._chunk, self._first = array("i"), 0
        self._counted: list[tuple[NDArray[np.int32], NDArray[np.int32], NDArray[np.int32]]] = []

    def add(self, text: str) -> None:
        before = len(self._chunk)
        for word in WORD.findall(text):
            token = self.words.get(word)
            if token is None:
                stem = _stem(word)
                token = self.words[word] = -1 if stem is None else self.ids.setdefault(stem, len(self.ids))
            if token >= 0:
                self._chunk.append(token)
        self.lengths.append(len(self._chunk) - before)
        if len(self._chunk) >= CHUNK:
            self._count()

    def _count(self) -> None:
        """Chunk of words -> (token, product, times) once each."""
        lengths = np.array(self.lengths[self._first :], np.int64)
        product = np.repeat(np.arange(self._first, self._first + len(lengths)), lengths)
        pairs = product << 32 | np.frombuffer(self._chunk, np.int32) if len(self._chunk) else product
        pairs, times = np.unique(pairs, return_counts=True)
        token = (pairs & 0xFFFFFFFF).astype(np.int32)
        self._counted.append((token, (pairs >> 32).astype(np.int32), times.astype(np.int32)))
        self._chunk, self._first = array("i"), len(self.lengths)

    def save(self, folder: Path) -> None:
        self._count()
        token, product, times = (np.concatenate(parts) for parts in zip(*self._counted, strict=True))
        hashes = np.array([hash_of(stem) for stem in self.ids], np.uint64)
        order = np.argsort(hashes)
        if (np.diff(hashes[order].view(np.int64)) == 0).any():
            raise ValueError("two words of the catalogue have the same 64-bit hash")
        rank = np.empty(len(order), np.int64)
        rank[order] = np.arange(len(order))
        row = rank[token]
        num_docs, frequency = len(self.lengths), np.bincount(row, minlength=len(order))
        idf = np.log1p((num_docs - frequency + 0.5) / (frequency + 0.5))
        lengths = np.array(self.lengths, np.float64)
        norm = K1 * (1 - B + B * lengths / max(lengths.mean(), 1e-9))
        score = (idf[row] * times / (times + norm[product])).astype(np.float32)
        by_token = np.argsort(row, kind="stable")  # within one the products stay in order
        found = (
            hashes[order],
            np.concatenate([[0], np.cumsum(frequency)]),
            product[by_token],
            score[by_token],
        )
        for name, values in zip(ARRAYS, found, strict=True):
            np.save(folder / f"index_{name}.npy", values)


class Index:
    """A built index. `search` may be called from any thread."""

    def __init__(self, folder: Path, num_products: int) -> None:
        arrays = (np.load(folder / f"index_{name}.npy", mmap_mode="r") for name in ARRAYS)
        self.token, self.start, self.product, self.score = arrays
        self.num_products = num_products
        self._add_up = _kernel()
        self.search: Callable[[str, int], tuple[int, ...]] = lru_cache(4096)(self._search)

    def _search(self, query: str, count: int) -> tuple[int, ...]:
        """The `count` products of the highest scores above 0, the best first; equal ones in their order."""
        rows = self.rows(query)
        if not len(rows):
            return ()
        best = self._add_up(rows, self.start, self.product, self.score, self.num_products, count)
        return tuple(best.tolist())

    def rows(self, query: str) -> NDArray[np.int64]:
        """The index's tokens in a query, as often as they stand in it."""
        stems = [_stem(word) for word in WORD.findall(query[:MAX_QUERY_CHARS].lower())]
        hashes = np.array([hash_of(stem) for stem in stems if stem is not None], np.uint64)
        at = np.minimum(np.searchsorted(self.token, hashes), len(self.token) - 1)
        rows: NDArray[np.int64] = at[self.token[at] == hashes]
        return rows

    def scores(self, query: str) -> NDArray[np.float32]:
        """[products] float32: of all of them, for those who want to look."""
        scores = np.zeros(self.num_products, np.float32)
        for row in self.rows(query).tolist():
            of_token = slice(self.start[row], self.start[row + 1])
            scores[self.product[of_token]] += self.score[of_token]
        return scores


def hash_of(stem: str) -> int:
    return int.from_bytes(hashlib.blake2b(stem.encode(), digest_size=8).digest(), "little")


@lru_cache(1 << 16)
def _stem(word: str) -> str | None:
    """None: a word that no search looks at."""
    word = word.removesuffix("'s").removesuffix("\u2019s")
    return None if word in STOP else str(_stemmer().stemWord(word))


@cache
def _stemmer() -> Any:
    import Stemmer

    return Stemmer.Stemmer("porter")


def _top(rows, start, product, score, num_products, count):  # type: ignore[no-untyped-def]  # for numba
    total = np.zeros(num_products, np.float32)
    for row in rows:
        for i in range(start[row], start[row + 1]):
            total[product[i]] += score[i]
    best = np.empty(count, np.int64)
    held = 0
    for p in range(num_products):
        value = total[p]
        if value <= 0 or (held == count and value <= total[best[held - 1]]):
            continue
        if held < count:
            held += 1
        at = held - 1
        while at > 0 and total[best[at - 1]] < value:
            best[at] = best[at - 1]
            at -= 1
        best[at] = p
    return best[:held]


@cache
def _kernel() -> Callable[..., NDArray[np.int64]]:
    import numba

    try:
        compiled: Callable[..., NDArray[np.int64]] = numba.njit(cache=True, nogil=True)(_top)
    except RuntimeError:  # no folder that numba may write to
        compiled = numba.njit(nogil=True)(_top)
    return compiled
