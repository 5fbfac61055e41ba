"""Checks of the plain values at the border of every op: numbers, switches, choices. No torch here."""

from collections.abc import Sequence
from numbers import Integral, Real


def check_number(name: str, value: object, interval: str) -> float:
    """``value`` as a float that lies in ``interval``, such as "[0, 1]" or "(0, inf)": a round end is outside.

    Takes numpy's numbers, but no bool and no tensor; NaN lies nowhere.
    """
    if isinstance(value, bool) or not isinstance(value, Real):
        raise TypeError(f"{name} must be a number, got {_said(value)}")
    number = float(value)
    low, high = (float(end) for end in interval[1:-1].split(","))
    above = low < number or (interval[0] == "[" and number == low)
    below = number < high or (interval[-1] == "]" and number == high)
    if not (above and below):
        raise ValueError(f"{name} must lie in {interval}, got {number}")
    return number


def check_integer(name: str, value: object, low: int, high: int | None = None) -> int:
    """``value`` as an int from low on (to high); takes numpy's integers, but no bool and no float."""
    if isinstance(value, bool) or not isinstance(value, Integral):
        raise TypeError(f"{name} must be an integer, got {_said(value)}")
    number = int(value)
    if not low <= number <= (2**63 - 1 if high is None else high):
        interval = f"[{low}, 2**63)" if high is None else f"[{low}, {high}]"
        raise ValueError(f"{name} must lie in {interval}, got {number}")
    return number


def check_flag(name: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise TypeError(f"{name} must be True or False, got {_said(value)}")
    return value


def check_choice(name: str, value: object, choices: Sequence[str | None]) -> None:
    if not (value is None or isinstance(value, str)) or value not in choices:
        raise ValueError(f"{name} must be one of {tuple(choices)}, got {_said(value)}")


def _said(value: object) -> str:
    plain = value is None or isinstance(value, str | bool | Real)
    return repr(value) if plain else type(value).__name__
