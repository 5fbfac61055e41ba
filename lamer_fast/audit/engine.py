"""Traces of vLLM's own modules: its layers keep the residual apart, and its projections are fused."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from typing import Any

from torch import Tensor

from lamer_fast.audit.trace import (
    ATTENDED,
    DOWN,
    INNER,
    KEYS,
    OUT,
    QUERIES,
    STREAM,
    VALUES,
    Rows,
    Trace,
    removed,
)


@contextmanager
def traced_engine(
    model: Any, head_size: int, trace: Trace, rows_of: Callable[[Tensor], Rows | None]
) -> Iterator[None]:
    """Fills `trace` from the passes of an engine that serves one sequence, and runs its modules eagerly.

    Args:
        rows_of: positions of a pass -> the rows that are the sequence's and their tokens; None: none is.
    """
    now: dict[str, Rows | None] = {}

    def put(i: int, point: str, x: Tensor) -> None:
        if (rows := now["rows"]) is not None:
            trace.put(i, point, rows, x)

    def begin(i: int) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            positions, hidden, residual = _arguments(args, kwargs)
            if i == 0:
                now["rows"] = rows_of(positions)
            put(i, STREAM, _sum(hidden, residual))

        return hook

    def end(module: Any, args: tuple[Any, ...], out: tuple[Tensor, Tensor]) -> None:
        put(trace.num_layers, STREAM, _sum(*out))

    def attended(i: int) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Tensor, ...]) -> None:
            for point, x in zip((QUERIES, KEYS, VALUES), args[:3], strict=True):
                put(i, point, x.view(len(x), -1, head_size))

        return hook

    def projected(i: int, before: str, after: str) -> Callable[..., None]:
        def hook(module: Any, args: tuple[Any, ...], out: tuple[Tensor, Any]) -> None:
            put(i, before, args[0])
            put(i, after, out[0])

        return hook

    with ExitStack() as stack:
        layers = model.model.layers
        handles = [layers[-1].register_forward_hook(end)]
        for i, layer in enumerate(layers):
            handles += [
                layer.register_forward_pre_hook(begin(i), with_kwargs=True),
                layer.self_attn.attn.register_forward_pre_hook(attended(i)),
                layer.self_attn.o_proj.register_forward_hook(projected(i, ATTENDED, OUT)),
                layer.mlp.down_proj.register_forward_hook(projected(i, INNER, DOWN)),
            ]
        for handle in handles:
            stack.enter_context(removed(handle))
        yield


def _arguments(args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Tensor, Tensor | None]:
    named = dict(zip(("positions", "hidden_states", "residual"), args, strict=False)) | kwargs
    return named["positions"], named["hidden_states"], named.get("residual")


def _sum(hidden: Tensor, residual: Tensor | None) -> Tensor:
    return hidden.double() if residual is None else hidden.double() + residual.double()
