"""How durations, numbers and other people's text are written for people; standard library only."""

import math
import re

ESCAPES = re.compile(
    r"\x1b\][^\x07\x1b\x9c]{0,4096}(?:\x07|\x1b\\|\x9c)"  # window titles, links, clipboard
    r"|(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]"  # colours, cursor, erasing
    r"|\x1b[ -/]*[0-~]"  # all others have two characters
)
BLANKS = str.maketrans({"\t": "    ", "\u2028": "\n", "\u2029": "\n", "\xa0": " ", "\u3000": " "})


def printable(text: str, limit: int | None = None) -> str:
    """Text of a model, an environment or a file, harmless on a terminal and in a page.

    Escape sequences go, then every character that is neither a newline nor printable: control characters,
    marks that turn the direction of writing, invisible ones, halves of surrogate pairs. Of more than
    `limit` characters the first are kept and the rest is counted.
    """
    left_out = 0
    if limit is not None and len(text) > limit:
        text, left_out = text[:limit], len(text) - limit
    text = ESCAPES.sub("", text.replace("\r\n", "\n")).translate(BLANKS)
    kept = "".join(c for c in text if c == "\n" or c.isprintable())
    return f"{kept} ... ({left_out:,} more characters)" if left_out else kept


def one_line(text: str, limit: int = 200) -> str:
    """`printable` without newlines."""
    return " ".join(printable(text, limit).split())


def duration(seconds: float) -> str:
    """`3 s`, `4 min 05 s` or `2 h 10 min`."""
    s = round(seconds)
    if s < 60:
        return f"{s} s"
    return f"{s // 60} min {s % 60:02d} s" if s < 3600 else f"{s // 3600} h {s % 3600 // 60:02d} min"


def number(value: float, decimals: int = 2) -> str:
    """At most 11 characters for up to two decimals: what they cannot show is written with an exponent."""
    size = abs(value)
    if not math.isfinite(value) or size >= 999_999 or 0 < size < 10.0**-decimals:
        return f"{value:.1e}"
    return f"{value:,.{decimals}f}"


def percent(fraction: float) -> str:
    """`76.7`: the unit stands in the heading."""
    return f"{100 * fraction:.1f}"


def shortest(value: object) -> float:
    """The number that a float32 was meant to be: -0.1, not -0.10000000149011612."""
    return float(str(value))


def interval(mean: float, low: float | None = None, high: float | None = None) -> str:
    """`76.7 [73.1, 80.0]` from fractions: percent, and the bounds where they are known."""
    return (
        percent(mean) if low is None or high is None else f"{percent(mean)} [{percent(low)}, {percent(high)}]"
    )
