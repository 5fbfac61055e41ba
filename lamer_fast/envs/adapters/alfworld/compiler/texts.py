"""The grammar's texts, worked out as far as a game allows: what is left depends on the state's facts alone.

TextWorld answers the queries of its grammar anew each time, in the order of the facts' names. That order and
the names never change, so a query becomes a list of its possible answers, each with the facts it needs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

from lamer_fast.envs.adapters.alfworld.compiler.grammar import (
    Each,
    Grammar,
    Listed,
    Name,
    Placeholder,
    Query,
    Symbols,
    Text,
    Value,
    read_query,
)
from lamer_fast.envs.adapters.alfworld.compiler.ground import FALSE, Grounded, join
from lamer_fast.envs.adapters.alfworld.compiler.pddl import TRUE, Condition, GameError, Junction, Literal

Mapping = dict[Placeholder, str]  # placeholder -> object
TAKEN = "not_"  # prefix of a predicate that holds where an action has taken the fact away


@dataclass(frozen=True)
class Cases:
    """The first text whose condition holds; the last one's always does."""

    cases: tuple[tuple[Condition, Program], ...]


@dataclass(frozen=True)
class Items:
    """Those texts whose conditions hold, with separators between, or the text for none."""

    items: tuple[tuple[Condition, Program], ...]
    empty: Program
    separator: Program
    last_separator: Program


Program = tuple["str | Cases | Items", ...]


class Texts:
    """Programs for the texts of one game.

    Args:
        names: object -> how the game calls it.
    """

    def __init__(self, grounded: Grounded, grammar: Grammar, names: dict[str, str]) -> None:
        self.grounded, self.grammar, self.names = grounded, grammar, names
        self.task = grounded.task
        self._memo: dict[object, Program] = {}
        self._scopes: dict[str, tuple[frozenset[str], frozenset[str]]] = {}
        self._tables: dict[tuple[str, tuple[int, ...]], dict[tuple[str, ...], list[tuple[str, ...]]]] = {}

    def program(self, symbols: Symbols, mapping: Mapping) -> Program:
        parts: list[str | Cases | Items] = []
        for symbol in symbols:
            match symbol:
                case Text(text):
                    parts.append(text)
                case Name(name):
                    parts += self._rule(name, mapping)
                case Value(expression):
                    parts.append(self._value(expression, mapping))
                case Each(inner, given):
                    answers = self._answers(given, mapping)
                    if len(answers) != 1 or answers[0][1] != TRUE:
                        items = tuple((c, self.program((inner,), m)) for m, c in answers)
                        parts.append(Items(items, (), (), ()))
                    else:
                        parts += self.program((inner,), answers[0][0])
                case Listed(each):
                    parts += self._listed(each, mapping)
        return _merged(parts)

    def _listed(self, each: Each, mapping: Mapping) -> Program:
        answers = self._answers(each.given, mapping)
        items = tuple((c, self.program((each.inner,), m)) for m, c in answers)
        if not items:
            return self._rule("list_empty", mapping)
        if len(items) == 1 and items[0][0] == TRUE:
            return items[0][1]
        empty = () if any(c == TRUE for c, _ in items) else self._rule("list_empty", mapping)
        if len(items) == 1:
            return (Items(items, empty, (), ()),)
        separator, last = (self._rule(f"list_{kind}", mapping) for kind in ("separator", "last_separator"))
        return (Items(items, empty, separator, last),)

    def _rule(self, name: str, mapping: Mapping) -> Program:
        key = self._key(name, mapping)
        if key not in self._memo:
            self._memo[key] = self._cases(name, mapping)
        return self._memo[key]

    def _cases(self, name: str, mapping: Mapping) -> Program:
        if name not in self.grammar.rules:
            raise GameError(f"the game's grammar has no rule {name!r}")
        cases: list[tuple[Condition, Program]] = []
        for rule in self.grammar.rules[name]:
            answers = [] if rule.condition is None else self._answers(rule.condition, mapping)
            condition = TRUE if rule.condition is None else join(False, (c for _, c in answers))
            if condition != FALSE:
                cases.append((condition, self.program(rule.symbols, mapping)))
            if condition == TRUE:
                return cases[0][1] if len(cases) == 1 else (Cases(tuple(cases)),)
        raise GameError(f"the grammar's rule {name!r} has no case that always holds")

    def _value(self, expression: str, mapping: Mapping) -> str:
        entities = {name: entity for (name, _), entity in mapping.items()}
        try:
            return str(_evaluate(_parsed(expression), entities, self.names))
        except (KeyError, TypeError, SyntaxError) as error:
            raise GameError(
                f"the grammar's expression {expression!r} cannot be worked out: {error}"
            ) from None

    def _key(self, name: str, mapping: Mapping) -> object:
        """What of a mapping can make a difference to a rule."""
        used, kinds = self._scope(name)
        own = tuple(sorted((p, entity) for p, entity in mapping.items() if p[0] in used))
        taken = {e for e in mapping.values() if self.task.objects[e] in kinds}
        return name, own, frozenset(taken)

    def _scope(self, name: str) -> tuple[frozenset[str], frozenset[str]]:
        """The variables that a rule and those it leads to name, and the types that their queries look for."""
        if name not in self._scopes:
            names, kinds, seen, left = set(), set(), set(), [name]
            while left:
                rule_name = left.pop()
                if rule_name in seen:
                    continue
                seen.add(rule_name)
                for rule in self.grammar.rules.get(rule_name, ()):
                    queries = [rule.condition] if rule.condition else []
                    inner: list[object] = [*rule.symbols]
                    while inner:
                        match inner.pop():
                            case Listed(each):
                                inner.append(each)
                                left += ["list_empty", "list_separator", "list_last_separator"]
                            case Each(what, given):
                                inner.append(what)
                                queries += [given] if given else []
                            case Name(other):
                                left.append(other)
                            case Value(expression):
                                names |= {
                                    n.id for n in ast.walk(_parsed(expression)) if isinstance(n, ast.Name)
                                }
                    for fact in (fact for query in queries for fact in read_query(query)):
                        names |= {p for p, _ in fact.placeholders}
                        wanted = {kind for _, kind in fact.placeholders}
                        kinds |= {
                            k for k in self.task.objects.values() for w in wanted if self.task.is_kind(k, w)
                        }
            self._scopes[name] = frozenset(names), frozenset(kinds)
        return self._scopes[name]

    def _answers(self, given: str | None, mapping: Mapping) -> list[tuple[Mapping, Condition]]:
        if given is None:
            return [(mapping, TRUE)]
        return list(self._extend(read_query(given), 0, mapping, {}))

    def _extend(
        self, query: Query, depth: int, mapping: Mapping, needs: dict[Condition, None]
    ) -> Iterator[tuple[Mapping, Condition]]:
        """Every way to satisfy the query from `depth` on. Two placeholders never stand for one object."""
        if depth == len(query):
            yield mapping, join(True, needs)
            return
        fact = query[depth]
        fixed = tuple(i for i, p in enumerate(fact.placeholders) if p in mapping)
        key = tuple(mapping[fact.placeholders[i]] for i in fixed)
        kinds = [kind for _, kind in fact.placeholders]
        for arguments in self._table(fact.predicate, fixed).get(key, ()):
            if not all(
                self.task.is_kind(self.task.objects[a], k) for a, k in zip(arguments, kinds, strict=True)
            ):
                continue
            new, taken = dict(mapping), set(mapping.values())
            for placeholder, entity in zip(fact.placeholders, arguments, strict=True):
                if placeholder not in new and entity not in taken:
                    new[placeholder] = entity
                    taken.add(entity)
                elif new.get(placeholder) != entity:
                    break
            else:
                condition = self._condition(fact.predicate, arguments)
                yield from self._extend(query, depth + 1, new, needs | {condition: None})

    def _table(self, predicate: str, fixed: tuple[int, ...]) -> dict[tuple[str, ...], list[tuple[str, ...]]]:
        """Arguments of every fact there can be, in order, by those at the fixed places."""
        if (predicate, fixed) not in self._tables:
            known = self._known(predicate)
            kinds = {tuple(self.task.objects[a] for a in arguments) for arguments in known}
            if len(kinds) > 1:
                raise GameError(f"a text asks for {predicate}, whose facts are of several types")
            table: dict[tuple[str, ...], list[tuple[str, ...]]] = {}
            for arguments in known:
                table.setdefault(tuple(arguments[i] for i in fixed), []).append(arguments)
            self._tables[predicate, fixed] = table
        return self._tables[predicate, fixed]

    def _known(self, predicate: str) -> list[tuple[str, ...]]:
        grounded = self.grounded
        bare = predicate.removeprefix(TAKEN)
        if bare in grounded.conditional:
            raise GameError(f"a text asks for {bare}, which changes under conditions of its own")
        if bare != predicate:
            return sorted(atom[1:] for atom in grounded.removed if atom[0] == bare)
        return sorted(atom[1:] for atom in grounded.facts.get(predicate, ()))

    def _condition(self, predicate: str, arguments: tuple[str, ...]) -> Condition:
        atom = (predicate, *arguments)
        changes = predicate.startswith(TAKEN) or atom in self.grounded.fluents
        return Literal(atom) if changes else TRUE


@lru_cache(1024)
def _parsed(expression: str) -> ast.expr:
    return ast.parse(expression.strip(), mode="eval").body


def _evaluate(node: ast.expr, entities: dict[str, str], names: dict[str, str]) -> str:
    match node:
        case ast.Constant(str(text)):
            return text
        case ast.Name(name):
            return names[entities[name]]
        case ast.Attribute(ast.Name(name), attribute):
            entity = entities[name]
            return {"name": names[entity], "id": entity, "definite": "the", "indefinite": "a"}[attribute]
        case ast.BinOp(left, ast.Add(), right):
            return _evaluate(left, entities, names) + _evaluate(right, entities, names)
        case ast.BoolOp(ast.Or(), values):
            texts = [_evaluate(value, entities, names) for value in values]
            return next((text for text in texts if text), texts[-1])
    raise TypeError(f"a {type(node).__name__} is not supported")


def _merged(parts: list[str | Cases | Items]) -> Program:
    merged: list[str | Cases | Items] = []
    for part in parts:
        if isinstance(part, str) and merged and isinstance(merged[-1], str):
            merged[-1] += part
        elif part != "":
            merged.append(part)
    return tuple(merged)


def static_text(program: Program) -> str | None:
    """The text of a program that does not depend on the state."""
    match program:
        case ():
            return ""
        case (str(text),):
            return text
    return None


__all__ = ["TAKEN", "Cases", "Items", "Junction", "Program", "Texts", "static_text"]
