"""Cells of a table: a value that nobody knows leaves an empty one, and the title gives the reason."""

from __future__ import annotations

import math
from dataclasses import replace

from lamer_fast.study.tables import Table

UNKNOWN = "empty: the mean is no longer than its noise, so that its direction is not known"


def with_error(value: float, error: float, digits: int = 3) -> str:
    return known(value, f".{digits}f", f" ± {error:.{digits}f}")


def known(value: float, form: str, more: str = "") -> str:
    """Empty where there is no value."""
    return "" if math.isnan(value) else f"{value:{form}}{more}"


def told(table: Table) -> Table:
    """With the reason of its empty cells, where it has any."""
    empty = any(not cell for row in table.rows for cell in row)
    return replace(table, title=f"{table.title}; {UNKNOWN}") if empty else table
