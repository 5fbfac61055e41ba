"""What is shown of a record of metrics.jsonl, and what goes first where room is scarce.

Numbers are never cut: a column that does not fit its terminal is left out.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from lamer_fast.run.record import Evaluated, Record
from lamer_fast.text import interval, number, percent

PHASES = ("sample", "env", "learn", "sync")
GAP = 2  # characters between columns
BAR = 26
MIN_CELLS = 4  # a shorter bar says nothing


@dataclass(frozen=True)
class Column:
    """One number of one record; of two columns the one of higher rank is left out first."""

    name: str
    unit: str
    value: str
    rank: int

    @property
    def heading(self) -> tuple[str, str]:
        """Two lines: `success@3`, `%` stand as `success` over `@3 %`."""
        name, at, k = self.name.partition("@")
        return name, f"{at}{k} {self.unit}".strip()

    def words(self) -> str:
        return f"{self.name} {self.value} {self.unit}".strip()


def training(record: Record) -> list[Column]:
    """An iteration and its training trials."""
    seconds, tokens = record.seconds, record.tokens
    spent = {phase: max(seconds.get(phase, 0.0), 1e-9) for phase in PHASES}
    total = sum(spent.values())
    row = [Column("iteration", "", str(record.iteration), 0)]
    if "stage" in record.others:  # of the curriculum
        row.append(Column("stage", "", number(record.others["stage"], 0), 4))
    row += success([percent(s) for s in record.success_at])
    row += [
        Column("return", "", number(record.return_), 5),
        Column("entropy", "nats", number(record.entropy, 3), 7),
        Column("mismatch", "nats", f"{record.mismatch.mean:.1e}", 6),
        Column("sampled", "tokens/s", number(tokens.sampled / spent["sample"], 0), 8),
        Column("trained", "tokens/s", number(tokens.trained / spent["learn"], 0), 9),
    ]
    if "least_sample" in seconds:  # how near to what the device could do
        limits = [seconds[f"least_{phase}"] / spent[phase] for phase in ("sample", "learn")]
        row.append(Column("sample/learn", "% of limit", shares(limits), 11))
    if "groups_played" in record.others:  # beyond those that are trained on; flat ones teach nothing
        found = (record.others[key] for key in ("groups_played", "groups_flat_drawn", "groups_flat"))
        row.append(Column("played/flat/left", "groups", "/".join(number(x, 0) for x in found), 13))
    row.append(Column("/".join(PHASES), "% of time", shares([s / total for s in spent.values()]), 10))
    if "wait" in seconds:  # of several ranks: for the slowest, within sample and learn
        row.append(Column("waiting", "% of time", shares([seconds["wait"] / total]), 12))
    return row


def evaluation(found: Evaluated) -> list[Column]:
    """How many iterations a policy was trained, and what it does on held-out boards, beside attempts."""
    K = len(found.success_at)

    def intervals(
        means: Sequence[float], low: Sequence[float] | None, high: Sequence[float] | None
    ) -> list[str]:
        unknown: Sequence[float | None] = [None] * K
        return [interval(*estimate) for estimate in zip(means, low or unknown, high or unknown, strict=True)]

    row = [Column("iteration", "", str(found.iteration), 0)]
    row += success(intervals(found.success_at, found.success_low, found.success_high))
    if found.success_low and found.success_high:
        drawn = bar(found.success_low[-1], found.success_at[-1], found.success_high[-1])
        row.insert(1, Column("", f"0{f'@{K}':^{BAR - 6}}100 %", drawn, 3))
    attempts = intervals(found.independent, found.independent_low, found.independent_high)
    row.append(Column(f"independent@{K}", "%", attempts[-1], 5))
    return row


def success(values: Sequence[str]) -> list[Column]:
    """Within 1..K episodes: the whole trial matters most, then the first episode."""
    ranks = [4] * len(values)
    ranks[0], ranks[-1] = 2, 1
    return [Column(f"success@{k + 1}", "%", *cell) for k, cell in enumerate(zip(values, ranks, strict=True))]


def shares(fractions: Iterable[float]) -> str:
    return "/".join(f"{100 * fraction:.0f}" for fraction in fractions)


def bar(low: float, mean: float, high: float) -> str:
    """`|....--o---......|`: a mean and its interval between 0 and 100 %."""
    cells = BAR - 2
    first, middle, last = (min(cells - 1, int(min(max(x, 0.0), 1.0) * cells)) for x in (low, mean, high))
    line = ["-" if first <= i <= last else "." for i in range(cells)]
    line[middle] = "o"
    return f"|{''.join(line)}|"


def progress(done: int, total: int, what: str, tokens: int | None) -> list[str]:
    """`40 of 128 trials` and, where they are counted, `12,345 tokens`."""
    return [f"{done:,} of {total:,} {what}", *([] if tokens is None else [f"{tokens:,} tokens"])]


def progress_line(done: int, total: int, what: str, tokens: int | None, *, width: int) -> str:
    """`[#####.....]  40 of 128 trials  12,345 tokens`: the words that fit, then as long a bar as fits."""
    words = progress(done, total, what, tokens)
    while len(words) > 1 and len((" " * GAP).join(words)) > width:
        words.pop()
    text = (" " * GAP).join(words)
    cells = min(BAR, width - len(text) - GAP) - 2
    if cells < MIN_CELLS:
        return text[:width]
    full = cells * min(done, total) // max(1, total)
    return f"[{'#' * full}{'.' * (cells - full)}]{' ' * GAP}{text}"


def table(rows: Sequence[list[Column]], width: int) -> list[str]:
    """Two lines of headings and one per row, none longer than `width`."""
    if not rows:
        return []
    values = [{column.heading: column.value for column in row} for row in rows]
    cells = [[*c.heading, *(value.get(c.heading, "") for value in values)] for c in rows[-1]]
    widths = [max(map(len, column)) for column in cells]
    kept = fitting(widths, [column.rank for column in rows[-1]], width)
    lines = ((" " * GAP).join(cells[i][n].rjust(widths[i]) for i in kept) for n in range(2 + len(rows)))
    return [line.rstrip() for line in lines]


def fitting(widths: Sequence[int], ranks: Sequence[int], room: int) -> list[int]:
    """Indices, in order, of the columns that fit `room` characters: by rank, until one does not."""
    kept: list[int] = []
    for i in sorted(range(len(widths)), key=lambda i: ranks[i]):
        room -= widths[i] + GAP * bool(kept)
        if room < 0 and kept:
            break
        kept.append(i)
    return sorted(kept)
