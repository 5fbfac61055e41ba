"""The operations of a trace, in order: what a side got out, and what plain torch gets from the same inputs.

Every operation is judged by the side's own inputs, so that an error shows where it is made and nowhere else.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Literal, Protocol

import torch
from torch import Tensor

from lamer_fast.audit.distances import FACTOR, unit
from lamer_fast.audit.reference import AS_IT_IS, Change, Reference
from lamer_fast.audit.replay import Replay
from lamer_fast.audit.trace import (
    ATTENDED,
    DOWN,
    INNER,
    KEYS,
    OUT,
    QUERIES,
    STREAM,
    VALUES,
    Trace,
)

Family = Literal["embedding", "projection", "turned", "attention", "linear", "inner", "residual", "head"]


@dataclass(frozen=True)
class Operation:
    where: str  # "layer 3, queries"
    layer: int
    family: Family
    got: Tensor  # [R, ...]
    tokens: Tensor  # [R] of which tokens
    expected: Callable[[torch.dtype, Change], Tensor]  # [R, ...] from the inputs that the side had
    reference: Reference
    stream: Tensor | None = None  # [R, H] that the operation norms first

    def by(self, expected: Callable[[torch.dtype, Change], Tensor]) -> "Operation":
        return replace(self, expected=expected)

    def exact(self, change: Change = AS_IT_IS) -> Tensor:
        return self.expected(torch.float64, change)

    def errors(self, wanted: Tensor, got: Tensor | None = None) -> Tensor:
        """[R]: share of a row's length; of the head, nats."""
        got = (self.got if got is None else got).double()
        if self.family == "head":
            width = max(got.shape[1], wanted.shape[1])
            a, b = (torch.nn.functional.pad(x, (0, width - x.shape[1]), value=-1e9) for x in (got, wanted))
            return (a.clamp(min=-1e9) - b.clamp(min=-1e9)).abs().amax(-1)
        got, wanted = got.flatten(1), wanted.double().flatten(1)
        lengths: Tensor = torch.linalg.vector_norm(wanted, dim=-1)
        distance: Tensor = torch.linalg.vector_norm(got - wanted, dim=-1)
        return distance / lengths.clamp(min=1e-30)

    def tolerance(self, exact: Tensor) -> float:
        """FACTOR times the rounding of plain torch in the model's dtype, plus that of the result."""
        dtype = self.reference.dtype
        rounding = float(self.errors(exact, self.expected(dtype, AS_IT_IS)).max())
        if self.family == "head":
            finite = exact[exact > -1e8]
            return FACTOR * rounding + 2 * unit(dtype) * float(finite.abs().max())
        return FACTOR * rounding + FACTOR * unit(dtype)


def _unset(dtype: torch.dtype, change: Change) -> Tensor:
    raise NotImplementedError


class Made(Protocol):
    def __call__(
        self, where: str, layer: int, family: Family, point: str, *inputs: str
    ) -> Operation | None: ...


Values = Callable[[int, str, Tensor, torch.dtype], Tensor]  # (layer, point, tokens, dtype)


def operations(trace: Trace, replay: Replay, reference: Reference) -> Iterator[Operation]:
    """Those of the tokens that the trace has, made one by one: a layer at a time is held in float64."""
    n, layers = trace.num_tokens, reference.architecture.num_layers
    device = reference.model.get_input_embeddings().weight.device
    ids, positions = torch.from_numpy(replay.token_ids).to(device), torch.arange(n, device=device)

    def made(where: str, layer: int, family: Family, point: str, *inputs: str) -> Operation | None:
        """The rows that have the point and its inputs, without what is computed from them."""
        name, layer = (where, 0) if layer < 0 else (f"layer {layer}, {where}", layer)
        keys = [(layer, p) for p in (point, *inputs)]
        if any(key not in trace.values for key in keys):
            return None
        rows = torch.stack([trace.seen[key] for key in keys]).all(0).nonzero()[:, 0]
        if len(rows) == 0:
            return None
        stream = trace.values[layer, STREAM][rows] if family in ("projection", "turned") else None
        return Operation(
            name, layer, family, trace.values[layer, point][rows], rows, _unset, reference, stream
        )

    def of(layer: int, point: str, rows: Tensor, dtype: torch.dtype) -> Tensor:
        return trace.values[layer, point][rows].to(dtype)

    def sent(t: Tensor) -> Tensor:
        return t.to(device)

    first = made("embedding", -1, "embedding", STREAM)
    if first is not None:
        yield first.by(lambda d, c: reference.embed(ids[sent(first.tokens)], d, c))
    for i in range(layers):
        yield from _of_layer(i, made, of, reference, positions, trace)
    if (layers, STREAM) not in trace.seen:
        return
    last = trace.seen[layers, STREAM]
    places = [place for place in trace.logprobs if last[place - 1]]
    if places:
        t = torch.tensor(places) - 1

        def head(dtype: torch.dtype, change: Change) -> Tensor:
            return torch.log_softmax(reference.logits(of(layers, STREAM, t, dtype), change), -1)

        got, stream = (
            torch.stack([trace.logprobs[place] for place in places]),
            trace.values[layers, STREAM][t],
        )
        yield Operation("final norm and head", layers, "head", got, t, head, reference, stream)


def _of_layer(
    i: int, made: Made, of: Values, reference: Reference, positions: Tensor, trace: Trace
) -> Iterator[Operation]:
    device, every = positions.device, torch.arange(trace.num_tokens)
    for which, point in ((2, VALUES), (1, KEYS), (0, QUERIES)):
        family: Family = "projection" if point == VALUES else "turned"
        if op := made(point, i, family, point, STREAM):
            t = op.tokens

            def qkv(d: torch.dtype, c: Change, t: Tensor = t, which: int = which) -> Tensor:
                return reference.qkv(i, of(i, STREAM, t, d), positions[t.to(device)], c)[which]

            yield op.by(qkv)
    if op := made("attention", i, "attention", ATTENDED, QUERIES, KEYS, VALUES):
        a = op.tokens

        def attend(d: torch.dtype, c: Change) -> Tensor:
            q, k, v = (of(i, point, every, d) for point in (QUERIES, KEYS, VALUES))
            return reference.attend(q, k, v, c)[a.to(device)]

        yield op.by(attend)
    if op := made("output projection", i, "linear", OUT, ATTENDED):
        o = op.tokens
        yield op.by(lambda d, c: reference.out(i, of(i, ATTENDED, o, d), c))
    if op := made("gate and up", i, "inner", INNER, STREAM, OUT):
        g = op.tokens
        yield op.by(lambda d, c: reference.inner(i, of(i, STREAM, g, d) + of(i, OUT, g, d), c))
    if op := made("down projection", i, "linear", DOWN, INNER):
        m = op.tokens
        yield op.by(lambda d, c: reference.down(i, of(i, INNER, m, d), c))
    after = trace.seen.get((i + 1, STREAM))
    if after is not None and (op := made("residual", i, "residual", DOWN, STREAM, OUT)):
        r = op.tokens[after[op.tokens]]
        if len(r):
            got = trace.values[i + 1, STREAM][r]
            yield replace(op, got=got, tokens=r).by(
                lambda d, c: of(i, STREAM, r, d) + of(i, OUT, r, d) + of(i, DOWN, r, d)
            )
