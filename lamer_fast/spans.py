"""Named ranges of a trace. Where nothing traces they are a look at a variable."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext

Marker = Callable[[str], AbstractContextManager[object]]

_marker: Marker | None = None
_nothing = nullcontext()


def span(name: str) -> AbstractContextManager[object]:
    """`with span("micro-batch"): ...` is a range of that name in a trace that goes on."""
    return _nothing if _marker is None else _marker(name)


@contextmanager
def marking(marker: Marker) -> Iterator[None]:
    """Inside it `marker` makes the ranges."""
    global _marker
    before, _marker = _marker, marker
    try:
        yield
    finally:
        _marker = before
