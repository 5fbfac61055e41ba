"""Trace: what a side computed for the tokens of one sequence, operation by operation."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor

from lamer_fast.model.decoder import Attention, Decoder

# of a layer, in the order in which they are computed; each with a row per token
STREAM, QUERIES, KEYS, VALUES, ATTENDED, OUT, INNER, DOWN = (
    "stream", "queries", "keys", "values", "attended", "out", "inner", "down"
)  # fmt: skip
Rows = tuple[Tensor, Tensor]  # (rows of a pass, the tokens of the sequence that they are), [m] int64 each


class Trace:
    """`values[layer, point]` [n, ...] in the side's dtype, of the tokens where `seen[layer, point]` [n]."""

    def __init__(self, num_tokens: int, num_layers: int) -> None:
        self.num_tokens, self.num_layers = num_tokens, num_layers
        self.values: dict[tuple[int, str], Tensor] = {}
        self.seen: dict[tuple[int, str], Tensor] = {}
        self.logprobs: dict[int, Tensor] = {}  # place -> [V]

    def put(self, layer: int, point: str, rows: Rows, values: Tensor) -> None:
        key = (layer, point)
        if key not in self.values:
            self.values[key] = values.new_zeros(self.num_tokens, *values.shape[1:])
            self.seen[key] = torch.zeros(self.num_tokens, dtype=torch.bool)
        self.values[key][rows[1]] = values.detach()[rows[0]]
        self.seen[key][rows[1].cpu()] = True


class _Watched:
    """An attention, and what goes through it."""

    def __init__(self, inner: Attention, note: Callable[[int, Tensor, Tensor, Tensor], None]) -> None:
        self.positions, self.length, self.wanted = inner.positions, inner.length, inner.wanted
        self.inner, self._note = inner, note

    def __call__(self, layer: int, q: Tensor, k: Tensor, v: Tensor, scale: float) -> Tensor:
        self._note(layer, q, k, v)
        return self.inner(layer, q, k, v, scale)


@contextmanager
def traced_decoder(decoder: Decoder, trace: Trace, rows_of: Callable[[Any], Rows | None]) -> Iterator[None]:
    """Fills `trace` from the passes of a decoder. Changes nothing of what is computed.

    Args:
        rows_of: an `Attention` -> which of its rows are the sequence's, None for none of them.
    """
    last = trace.num_layers - 1
    now: dict[str, Any] = {"rows": None, "wanted": None}

    def note(layer: int, q: Tensor, k: Tensor, v: Tensor) -> None:
        if now["rows"] is not None:
            for point, x in ((QUERIES, q), (KEYS, k), (VALUES, v)):
                trace.put(layer, point, now["rows"], x)

    def begin(block: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        x, update, cos, sin, attention = args
        if block.index == 0:
            now["rows"] = rows_of(attention)
            now["wanted"] = _wanted(now["rows"], attention.wanted)
        if now["rows"] is not None:
            trace.put(block.index, STREAM, now["rows"], x if update is None else x.double() + update.double())
        return x, update, cos, sin, _Watched(attention, note)

    def end(block: Any, args: tuple[Any, ...], out: tuple[Tensor, Tensor]) -> None:
        if block.index == last and now["wanted"] is not None:
            trace.put(trace.num_layers, STREAM, now["wanted"], out[0].double() + out[1].double())

    def projected(layer: int, before: str, after: str) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...], out: Tensor) -> None:
            out_rows = now["wanted"] if layer == last else now["rows"]
            in_rows = now["rows"] if before == ATTENDED and layer < last else out_rows
            if out_rows is not None:
                trace.put(layer, before, in_rows, args[0])
                trace.put(layer, after, out_rows, out)

        return hook

    with ExitStack() as stack:
        for i, block in enumerate(decoder.blocks):
            stack.enter_context(removed(block.register_forward_pre_hook(begin)))
            stack.enter_context(removed(block.register_forward_hook(end)))
            for module, before, after in (
                (block.layer.self_attn.o_proj, ATTENDED, OUT),
                (block.layer.mlp.down_proj, INNER, DOWN),
            ):
                stack.enter_context(removed(module.register_forward_hook(projected(i, before, after))))
        yield


@contextmanager
def removed(handle: Any) -> Iterator[None]:
    try:
        yield
    finally:
        handle.remove()


def _wanted(rows: Rows | None, wanted: Tensor | None) -> Rows | None:
    """The rows of a pass of which only the wanted tokens are left: (their rows then, their tokens)."""
    if rows is None or wanted is None:
        return rows
    token_of = dict(zip(rows[0].tolist(), rows[1].tolist(), strict=True))
    kept = [(j, token_of[row]) for j, row in enumerate(wanted.tolist()) if row in token_of]
    if not kept:
        return None
    at, tokens = zip(*kept, strict=True)
    return torch.tensor(at), torch.tensor(tokens)


@contextmanager
def traced_module(model: Any, trace: Trace, rows_of: Callable[[int], Rows | None]) -> Iterator[None]:
    """The same of a Hugging Face model that runs its own forward pass over one sequence.

    Args:
        rows_of: number of tokens of a pass -> its rows and their tokens.
    """
    from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

    trunk, config = model.get_decoder(), model.config
    now: dict[str, Any] = {"rows": None}
    chosen = config._attn_implementation
    plain = None if chosen == "eager" else ALL_ATTENTION_FUNCTIONS[chosen]

    def watched(module: Any, q: Tensor, k: Tensor, v: Tensor, mask: Any, *args: Any, **kwargs: Any) -> Any:
        count = q.shape[2]  # [1, heads, T, D]; keys and values of a cache come first
        if now["rows"] is not None:
            for point, x in ((QUERIES, q), (KEYS, k), (VALUES, v)):
                trace.put(module.layer_idx, point, now["rows"], x[0, :, -count:].transpose(0, 1))
        inner = plain or _eager_of(module)
        return inner(module, q, k, v, mask, *args, **kwargs)

    def begin(i: int) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            x = args[0] if args else kwargs["hidden_states"]
            if i == 0:
                now["rows"] = rows_of(x.shape[1])
            if now["rows"] is not None:
                trace.put(i, STREAM, now["rows"], x[0])

        return hook

    def end(module: Any, args: tuple[Any, ...], out: Any) -> None:
        if now["rows"] is not None:
            trace.put(trace.num_layers, STREAM, now["rows"], args[0][0])

    def projected(layer: int, before: str, after: str) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...], out: Tensor) -> None:
            if now["rows"] is not None:
                trace.put(layer, before, now["rows"], args[0][0])
                trace.put(layer, after, now["rows"], out[0])

        return hook

    with ExitStack() as stack:
        for i, layer in enumerate(trunk.layers):
            handle = layer.register_forward_pre_hook(begin(i), with_kwargs=True)
            stack.enter_context(removed(handle))
            hooks = (
                (layer.self_attn.o_proj, ATTENDED, OUT),
                (layer.mlp.down_proj, INNER, DOWN),
            )
            for module, before, after in hooks:
                stack.enter_context(removed(module.register_forward_hook(projected(i, before, after))))
        stack.enter_context(removed(trunk.norm.register_forward_hook(end)))
        stack.enter_context(_attention_of(config, watched, ALL_ATTENTION_FUNCTIONS))
        yield


def _eager_of(module: Any) -> Any:
    """transformers keeps the plain attention of a family beside its modules."""
    import sys

    return sys.modules[type(module).__module__].eager_attention_forward


WATCHED = "lamer_fast_audit"


@contextmanager
def _attention_of(config: Any, watched: Any, functions: Any) -> Iterator[None]:
    from transformers.masking_utils import ALL_MASK_ATTENTION_FUNCTIONS as MASKS

    chosen = config._attn_implementation
    functions.register(WATCHED, watched)
    MASKS.register(WATCHED, MASKS[chosen])
    config._attn_implementation = WATCHED
    try:
        yield
    finally:
        config._attn_implementation = chosen
