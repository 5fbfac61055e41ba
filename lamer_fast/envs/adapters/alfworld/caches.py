"""What the package computes again for every text and every start, computed once. The texts stay the same.

Its grammar is parsed anew for each text, its contexts are copied to the ground, and a start translates the
same problem twice: a step takes a tenth of the time without that, a restart a fifth. Whatever the package
writes into is copied before it is handed out. The tests compare texts and commands with recorded ones.
"""

from __future__ import annotations

import copy
from functools import cache, lru_cache
from typing import Any

GAMES_KEPT = 64  # boards of a process that are on different games


def install() -> None:
    """Puts the caches in; once a process."""
    import fast_downward
    from textworld.envs.pddl import logic, textgen
    from textworld.logic import Rule

    if hasattr(textgen, "lamer_fast_caches"):
        return
    textgen.lamer_fast_caches = True
    parse = cache(textgen._parse_and_convert)

    def parsed(text: str, rule_name: str = "symbols", trace: bool = False) -> list[Any]:
        return _fresh(parse(text, rule_name=rule_name, trace=trace))

    textgen._parse_and_convert = parsed
    textgen.copy_context = _copy_context
    textgen.Symbol.copy = _copy_symbol
    Rule.parse_conjunctive_query = staticmethod(cache(Rule.parse_conjunctive_query))
    logic._parse_and_convert = lru_cache(GAMES_KEPT)(logic._parse_and_convert)
    fast_downward.pddl2sas = lru_cache(2 * GAMES_KEPT)(fast_downward.pddl2sas)


def _fresh(symbols: list[Any]) -> list[Any]:
    """Symbols with contexts of their own: a list's is its inner symbol's too."""
    copies = []
    for symbol in symbols:
        made = copy.copy(symbol)
        for name in ("symbol", "expression"):
            if hasattr(inner := getattr(symbol, name, None), "context"):
                setattr(made, name, copy.copy(inner))
        copies.append(made)
    return copies


def _copy_context(context: dict[str, Any]) -> dict[str, Any]:
    """Its dicts are added to; what is in them never changes."""
    return context | {key: dict(context[key]) for key in ("variables", "mapping")}


def _copy_symbol(self: Any, context: dict[str, Any]) -> Any:
    made = copy.copy(self)
    made.context = _copy_context(context)
    return made
