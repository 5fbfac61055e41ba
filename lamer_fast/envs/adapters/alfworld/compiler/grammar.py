"""The grammar of a game's texts (.twl2): its rules as symbols, read as TextWorld's parsers read them."""

from __future__ import annotations

import json
import re
import textwrap
from dataclasses import dataclass
from functools import lru_cache

from lamer_fast.envs.adapters.alfworld.compiler.pddl import GameError

Placeholder = tuple[str, str]  # name, type


@dataclass(frozen=True)
class Fact:
    """One part of a query: a predicate (`not_p`: that p was taken away) over placeholders."""

    predicate: str
    placeholders: tuple[Placeholder, ...]


Query = tuple[Fact, ...]


@dataclass(frozen=True)
class Text:
    text: str


@dataclass(frozen=True)
class Name:
    """`#name#`: what the first of its rules whose condition holds says."""

    name: str


@dataclass(frozen=True)
class Value:
    """`{expression}`: a few words about one entity."""

    expression: str


@dataclass(frozen=True)
class Each:
    """`{inner | given}`: the inner symbol once for each way to satisfy the query; without one, once."""

    inner: Name | Value
    given: str | None


@dataclass(frozen=True)
class Listed:
    """`[{...}]`: the same with separators between, or the text for an empty list."""

    each: Each


Symbol = Text | Name | Value | Each | Listed
Symbols = tuple[Symbol, ...]


@dataclass(frozen=True)
class Rule:
    condition: str | None
    """A query that can be satisfied, or none; read when it is used, since unused ones may be broken."""
    symbols: Symbols


@dataclass(frozen=True)
class Command:
    template: Symbols
    feedback: Symbols


@dataclass(frozen=True)
class Grammar:
    rules: dict[str, tuple[Rule, ...]]
    commands: dict[str, Command]
    """Action of the domain, in lower case -> what a player types, and what is said then."""


_SKIPPED = re.compile(r"(?:\s+|#.*)*")
_WORDS = re.compile(r'"""(?:.|\n)*?"""|"[^"]*"|::|[;{}]|[\w/-]+')


def read_grammar(source: str) -> Grammar:
    """GameError where the text is no grammar."""
    tokens = _tokens(source)
    rules: dict[str, object] = {}
    commands: dict[str, Command] = {}
    try:
        while tokens:
            match tokens.pop(0):
                case "grammar":
                    rules |= _block(tokens)
                case "action":
                    name = tokens.pop(0)
                    commands[name.lower()] = _command(name, tokens, rules)
                case other:
                    raise GameError(f"the game's grammar has {other[:40]!r} where an action was expected")
    except IndexError:
        raise GameError("the game's grammar ends in the middle of an action: it is cut off") from None
    except (KeyError, TypeError, AttributeError) as error:
        raise GameError(f"the game's grammar has a rule of another form: {error!r}") from None
    return Grammar({name: _rules(name, given) for name, given in rules.items()}, commands)


def _tokens(source: str) -> list[str]:
    tokens, at = [], _SKIPPED.match(source).end()  # type: ignore[union-attr]
    while at < len(source):
        found = _WORDS.match(source, at)
        if not found:
            raise GameError(f"the game's grammar cannot be read from {source[at : at + 40]!r} on")
        tokens.append(found.group())
        at = _SKIPPED.match(source, found.end()).end()  # type: ignore[union-attr]
    return tokens


def _take(tokens: list[str], expected: str) -> None:
    got = tokens.pop(0)
    if got != expected:
        raise GameError(f"the game's grammar has {got[:40]!r} where {expected!r} was expected")


def _block(tokens: list[str], comments: bool = False) -> dict[str, object]:
    _take(tokens, "::")
    text = textwrap.dedent(tokens.pop(0)[3:-3])
    _take(tokens, ";")
    if comments:
        text = "\n".join(line for line in text.split("\n") if not line.lstrip().startswith("#"))
    try:
        rules: dict[str, object] = json.loads(text)
    except ValueError as error:
        raise GameError(f"the rules of the game's grammar are no JSON: {error}") from None
    return rules


def _command(name: str, tokens: list[str], rules: dict[str, object]) -> Command:
    parts: dict[str, str] = {}
    _take(tokens, "{")
    while (word := tokens.pop(0)) != "}":
        if word == "grammar":
            rules |= _block(tokens, comments=True)
            continue
        _take(tokens, "::")
        parts[word] = tokens.pop(0)
        _take(tokens, ";")
    if "pddl" in parts or not {"template", "feedback"} <= parts.keys():
        raise GameError(f"the grammar's action {name} needs a template and a feedback alone, has {[*parts]}")
    return Command(read_symbols(parts["template"][1:-1]), read_symbols(parts["feedback"][1:-1]))


def _rules(name: str, given: object) -> tuple[Rule, ...]:
    if not isinstance(given, list) or not given:
        raise GameError(f"the grammar's rule {name!r} has no list of cases")
    return tuple(Rule(rule.get("condition") or None, read_symbols(rule["rhs"])) for rule in given)


_FACT = re.compile(r"\s*([!\w/]+)\s*\(([^()]*)\)\s*")
_PLACEHOLDER = re.compile(r"\s*([\w']+)\s*(?::\s*([\w/-]+))?\s*")


@lru_cache(4096)
def read_query(text: str) -> Query:
    """`p(a:agent, l:location) & q(l:location)`."""
    facts = []
    for part in text.split("&"):
        found = _FACT.fullmatch(part)
        arguments = [_PLACEHOLDER.fullmatch(a) for a in found[2].split(",")] if found else [None]
        if not found or not all(arguments):
            raise GameError(f"the grammar's condition {text!r} cannot be read")
        facts.append(Fact(found[1], tuple((a[1], a[2] or a[1].rstrip("'")) for a in arguments if a)))
    return tuple(facts)


_TABS = re.compile(r"[\t]+")
_LINE_START = re.compile(r"(?://.*|\s*)\n?")
_TAG = re.compile(r"[\w()/!<>\-\s,.]+")
_GIVEN = re.compile(r"[^;|{}\n\[\]#]+")
_STATEMENT = re.compile(r"[^|\[\]{}\n<>]+")
_LITERAL = re.compile(r'[^;|"<>\[\]#{}]*')
_BAR = re.compile(r"\s*\|\s*")


def read_symbols(text: str) -> Symbols:
    """The symbols of a right-hand side; from the first character on that begins none the rest is dropped.

    Tabs between symbols, and white space at the start of a line there, do not count.
    """
    reader, symbols, start = _Reader(text), [], -1
    while reader.at != start:
        start = reader.at
        symbols.append(reader.symbol())
    return tuple(s for s in symbols if s != Text(""))


class _Reader:
    def __init__(self, text: str) -> None:
        self.text, self.at = text, 0

    def symbol(self) -> Symbol:
        start = self.at
        for read in (self._listed, self._each, self._name, self._quoted):
            try:
                return read()
            except _NoSymbolError:
                self.at = start
        self._skip()
        return Text(self._match(_LITERAL))

    def _skip(self) -> None:
        before = -1
        while before != self.at:
            before = self.at
            while self.at == 0 or self.text[self.at - 1] == "\n":
                found = _LINE_START.match(self.text, self.at)
                if not found or found.end() == self.at:
                    break
                self.at = found.end()
            if tabs := _TABS.match(self.text, self.at):
                self.at = tabs.end()

    def _match(self, pattern: re.Pattern[str]) -> str:
        found = pattern.match(self.text, self.at)
        if not found:
            raise _NoSymbolError
        self.at = found.end()
        return found.group()

    def _take(self, token: str) -> None:
        self._skip()
        if not self.text.startswith(token, self.at):
            raise _NoSymbolError
        self.at += len(token)

    def _word(self, pattern: re.Pattern[str]) -> str:
        self._skip()
        return self._match(pattern)

    def _listed(self) -> Symbol:
        self._take("[")
        each = self._each()
        self._take("]")
        return Listed(each)

    def _each(self) -> Each:
        self._take("{")
        start = self.at
        inner: Name | Value
        try:
            inner = self._name()
        except _NoSymbolError:
            self.at = start
            inner = Value(self._word(_STATEMENT))
        before, given = self.at, None
        try:
            self._match(_BAR)
            given = self._word(_GIVEN)
        except _NoSymbolError:
            self.at = before
        self._take("}")
        return Each(inner, given)

    def _name(self) -> Name:
        self._take("#")
        name = self._word(_TAG)
        self._take("#")
        return Name(name)

    def _quoted(self) -> Text:
        self._take('"')
        text = self._match(_LITERAL)
        self._take('"')
        return Text(text)


class _NoSymbolError(Exception):
    """No symbol of the wanted kind starts here."""
