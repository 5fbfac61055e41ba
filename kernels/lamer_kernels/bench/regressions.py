"""Two records of one benchmark: what became slower by more than their noise."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .harness import Row, short

LEAST = 0.05  # of the old median


class Change(NamedTuple):
    text: str
    regression: bool


def read_record(path: Path, name: str, device: str) -> list[Row]:
    """Rows of an old record.

    Raises:
        ValueError: no record, one of another benchmark, or of another device: its times say nothing here.
    """
    try:
        record: dict[str, Any] = json.loads(path.read_text())
        rows = [Row(**row) for row in record["rows"]]
    except OSError as error:
        raise ValueError(f"{path} is no record of a benchmark: {error.strerror}") from None
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(f"{path} is no record of a benchmark: {error}") from error
    for key, here in (("bench", name), ("device", device)):
        if record.get(key) != here:
            raise ValueError(f"{path} has {key} {record.get(key)!r}, this run {here!r}")
    return rows


def changes(old: Sequence[Row], new: Sequence[Row]) -> list[Change]:
    """Of every row that both records have: medians more than 5 % apart whose 20..80 % do not overlap.

    A row of ours that is slower, or has lost its number, is a regression. A peer's is told, since a peer that
    changes as ours did points to the machine.
    """
    before, ours = {_key(row): row for row in old}, _first_of_each_case(new)
    found = []
    for row in new:
        past = before.get(_key(row))
        if past is None or past.p50 is None or row.provider == "roofline":
            continue
        where = f"{_title(row)}, {row.provider}, {row.metric}"
        if row.p50 is None:
            found.append(Change(f"{where}: {row.check}, was {short(past.p50)} {row.unit}", _key(row) in ours))
        elif (ratio := _slowdown(past, row)) is not None:
            spans = " -> ".join(
                f"{short(r.p50)} ({short(r.p20)}..{short(r.p80)}) {row.unit}" for r in (past, row)
            )
            word = "slower" if ratio > 1 else "faster"
            found.append(
                Change(f"{where}: {spans}, {abs(ratio - 1):.0%} {word}", ratio > 1 and _key(row) in ours)
            )
    return found


def _slowdown(old: Row, new: Row) -> float | None:
    """New time over old time, or None where the difference may be noise."""
    if not (old.p50 and new.p50) or None in (old.p20, old.p80, new.p20, new.p80):
        return None
    apart = new.p20 > old.p80 or new.p80 < old.p20  # type: ignore[operator]
    ratio = old.p50 / new.p50 if new.higher_is_better else new.p50 / old.p50
    return ratio if apart and abs(new.p50 / old.p50 - 1) > LEAST else None


def _first_of_each_case(rows: Iterable[Row]) -> set[str]:
    """Keys of the first provider's rows: ours, as `compare` has it."""
    first: dict[str, str] = {}
    for row in rows:
        first.setdefault(_title(row), row.provider)
    return {_key(row) for row in rows if first[_title(row)] == row.provider}


def _title(row: Row) -> str:
    return str(row.case.get("name") or " ".join(f"{key}={value}" for key, value in row.case.items()))


def _key(row: Row) -> str:
    return "\n".join((_title(row), row.provider, row.metric, row.unit, row.mode))
