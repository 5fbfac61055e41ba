"""From ALFRED's identifiers, which hold coordinates, to the short names of the texts: `cabinet 3`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable

_SIGNS = {"-": "_minus_", "|": "_bar_", "+": "_plus_", ".": "_dot_", ",": "_comma_"}


def mangled(identifier: str) -> str:
    """`Mug|+00.10|-01.00` as PDDL can write it."""
    return "".join(_SIGNS.get(sign, sign) for sign in identifier)


def short_names(identifiers: Iterable[str]) -> dict[str, str]:
    """Of mangled identifiers in lower case, which PDDL reads them as, to names.

    The first in alphabetical order has the highest number of its kind: that is the rule of alfworld, as is
    that what belongs to a basin is called one, and that what has no place (the agent) ends with a blank.
    """
    ordered = sorted(identifiers)
    kinds = {
        name: name.partition("_bar_")[0] + "basin" * ("basin" in name) for name in ordered if "_bar_" in name
    }
    left = Counter(kinds.values())
    names = {}
    for name in ordered:
        if kind := kinds.get(name):
            names[name] = f"{kind} {left[kind]}"
            left[kind] -= 1
        else:
            names[name] = f"{_plain(name)} "
    return names


def _plain(name: str) -> str:
    for sign, word in _SIGNS.items():
        name = name.replace(word, sign)
    return name
