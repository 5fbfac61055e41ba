"""Loss and gradients of linear_policy_loss in one sweep over token chunks.

A token's loss needs its log-prob and entropy only, so its row of logits can become its row of dlogits while
it is at hand: 3 GEMMs. For gspo and its kin the ratio needs the whole segment first: all log-probs, then
all gradients; 3 GEMMs if the logits of all tokens fit the workspace, else 4.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from ..logprob.cpu import RowGrads, RowStats
from ..logprob.plans import add_gradients, row_passes
from ..projection import (
    Head,
    Slabs,
    accumulation_dtype,
    max_chunk_tokens,
    new_logits,
    token_chunks,
    write_logits,
)
from .terms import OF_SEGMENTS, LossConfig, Terms, TokenData, policy_terms


class Wanted(NamedTuple):
    """Where gradients go; None computes none. ``x`` is written, ``weight`` (slabs) and ``bias`` added to."""

    x: Tensor | None
    weight: Slabs | None
    bias: Tensor | None


class Result(NamedTuple):
    logprobs: Tensor
    entropy: Tensor
    terms: Terms


def forward(
    x: Tensor,
    targets: Tensor,
    head: Head,
    tokens: TokenData,
    config: LossConfig,
    wanted: Wanted,
    *,
    skip_idle_rows: bool,
    workspace_bytes: int,
    backend: str,
) -> Result:
    """x: [L, H] the selected rows.

    skip_idle_rows: rows without a gradient (clipped, advantage 0) skip the backward GEMMs; synchronises.
    """
    sweep = _Sweep(x, targets, head, wanted, skip_idle_rows, workspace_bytes, backend)
    if config.loss not in OF_SEGMENTS:
        return sweep.chunk_by_chunk(tokens, config)
    return sweep.segments_first(tokens, config)


class _Sweep:
    def __init__(
        self,
        x: Tensor,
        targets: Tensor,
        head: Head,
        wanted: Wanted,
        skip_idle_rows: bool,
        workspace_bytes: int,
        backend: str,
    ) -> None:
        self.x, self.targets, self.head, self.wanted = x, targets, head, wanted
        self.skip_idle_rows = skip_idle_rows
        self.passes = row_passes(backend, x.dtype, head)
        self.fused_rows = None
        if self.passes.__name__.endswith("launch"):
            from .launch import policy_rows

            self.fused_rows = policy_rows
        self.needs_gradients = any(g is not None for g in wanted)
        vocab = head.weight.shape[0]
        self.max_tokens = max(1, min(x.shape[0], max_chunk_tokens(x, vocab, workspace_bytes, backend)))
        self.buffer = new_logits(x, self.max_tokens if x.shape[0] else 0, vocab, backend)

    def chunk_by_chunk(self, tokens: TokenData, config: LossConfig) -> Result:
        parts = []
        for rows in token_chunks(self.x.shape[0], self.max_tokens):
            logits = self.logits(rows)
            if self.needs_gradients and self.fused_rows is not None:
                temperature = self.head.temperature_of(rows)
                logprobs, entropy, terms, dlogits = self.fused_rows(
                    logits, self.targets[rows], self.head, temperature, tokens[rows], config, self.x.dtype
                )
                idle = _row_grads(terms).idle()
                live = (~idle).nonzero().squeeze(1) if self.skip_idle_rows else None
                self.add_gradients(rows, dlogits if live is None else dlogits[live], idle, live)
            else:
                stats = self.stats(rows, logits)
                logprobs, entropy = stats.logprobs, _given(stats.entropy)
                terms = policy_terms(config, logprobs, entropy, tokens[rows])
                if self.needs_gradients:
                    self.add_row_gradients(rows, logits, stats, terms)
            parts.append(Result(logprobs, entropy, terms))
        return _concatenate(parts) if parts else self.empty(tokens, config)

    def segments_first(self, tokens: TokenData, config: LossConfig) -> Result:
        chunks = list(token_chunks(self.x.shape[0], self.max_tokens))
        parts = []
        for rows in chunks:
            logits = self.logits(rows)
            parts.append(self.stats(rows, logits))
        if not parts:
            return self.empty(tokens, config)
        columns = zip(*parts, strict=True)
        stats = RowStats(*(None if c[0] is None else torch.cat(c) for c in columns))  # type: ignore[arg-type]
        terms = policy_terms(config, stats.logprobs, stats.entropy, tokens)
        if self.needs_gradients:
            for rows in chunks:
                if len(chunks) > 1:
                    logits = self.logits(rows)
                self.add_row_gradients(rows, logits, stats.at(rows), terms.at(rows))
        return Result(stats.logprobs, _given(stats.entropy), terms)

    def logits(self, rows: slice) -> Tensor:
        logits = self.buffer[: rows.stop - rows.start]
        write_logits(logits, self.x[rows], self.targets[rows], self.head)
        return logits

    def stats(self, rows: slice, logits: Tensor) -> RowStats:
        temperature = self.head.temperature_of(rows)
        stats: RowStats = self.passes.row_stats(
            logits, self.targets[rows], self.head, temperature, entropy=True, sum_sq=False
        )
        return stats

    def add_row_gradients(self, rows: slice, logits: Tensor, stats: RowStats, terms: Terms) -> None:
        grads, targets, temperature = _row_grads(terms), self.targets[rows], self.head.temperature_of(rows)
        idle = grads.idle()
        live = (~idle).nonzero().squeeze(1) if self.skip_idle_rows else None
        if live is not None:
            logits, targets, stats, grads = logits[live], targets[live], stats.at(live), grads.at(live)
            temperature = temperature[live] if isinstance(temperature, Tensor) else temperature
        dlogits = self.passes.write_dlogits(
            None, logits, targets, stats, grads, self.head, temperature, self.x.dtype
        )
        self.add_gradients(rows, dlogits, idle, live)

    def add_gradients(self, rows: slice, dlogits: Tensor, idle: Tensor, live: Tensor | None) -> None:
        """dlogits: of all rows of the chunk, or of its rows ``live``; the rows ``idle`` have gradient 0."""
        x = self.x[rows]
        dx = None if self.wanted.x is None else self.wanted.x[rows]
        if live is None:
            add_gradients(dlogits, x, self.head.weight, dx, self.wanted.weight, self.wanted.bias, idle=idle)
            return
        x = x[live]
        live_dx = None if dx is None else x.new_empty(x.shape)
        add_gradients(dlogits, x, self.head.weight, live_dx, self.wanted.weight, self.wanted.bias, idle=None)
        if dx is not None and live_dx is not None:
            dx.zero_().index_copy_(0, live, live_dx)

    def empty(self, tokens: TokenData, config: LossConfig) -> Result:
        logprobs, entropy = (self.x.new_empty(0, dtype=accumulation_dtype(self.x.dtype)) for _ in range(2))
        return Result(logprobs, entropy, policy_terms(config, logprobs, entropy, tokens))


def _row_grads(terms: Terms) -> RowGrads:
    return RowGrads(terms.grad_logprobs, terms.grad_entropy)


def _concatenate(parts: list[Result]) -> Result:
    if len(parts) == 1:
        return parts[0]
    columns = zip(*(p.terms for p in parts), strict=True)
    terms = Terms(*(None if c[0] is None else torch.cat(c) for c in columns))  # type: ignore[arg-type]
    return Result(torch.cat([p.logprobs for p in parts]), torch.cat([p.entropy for p in parts]), terms)


def _given(entropy: Tensor | None) -> Tensor:
    assert entropy is not None  # row_stats was asked for it
    return entropy
