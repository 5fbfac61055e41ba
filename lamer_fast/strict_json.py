"""JSON that every parser reads: it has no NaN and no infinity, which Python's own writer lets through.

A page's JSON.parse, jq and most other readers refuse the whole text over one of them.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any

COMPACT = ",", ":"  # `separators` of files that are many, and read by programs


def json_text(value: Any, **how: Any) -> str:
    """`json.dumps(value, **how)`; what may be unknown goes through `finite` before.

    Raises:
        ValueError: a number is not finite; names its key.
    """
    try:
        return json.dumps(value, allow_nan=False, **how)  # noqa: TID251
    except ValueError as error:
        if "float" not in str(error):  # but a list within itself
            raise
        place, number = next(_not_finite(value))
        raise ValueError(f"{place or 'the value'} is {number}, must be a finite number") from None


def finite(value: Any) -> Any:
    """The same with null for NaN and infinities: a figure that is not known."""
    if isinstance(value, dict):
        return {key: finite(v) for key, v in value.items()}
    if isinstance(value, list | tuple):
        return [finite(v) for v in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def _not_finite(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    """(`rewards.win` or `curve[3]`, the number)"""
    if isinstance(value, dict):
        for key, v in value.items():
            yield from _not_finite(v, f"{place}.{key}" if place else str(key))
    elif isinstance(value, list | tuple):
        for i, v in enumerate(value):
            yield from _not_finite(v, f"{place}[{i}]")
    elif isinstance(value, float) and not math.isfinite(value):
        yield place, value
