"""PDDL as ALFWorld's games write it: one domain and one problem, parsed to plain values.

It reads what Fast Downward's translator reads, and as it reads it: everything in lower case, comments from
`;` on, and a type that nobody has declared is a type without objects.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

Atom = tuple[str, ...]  # predicate, then its arguments
Typed = tuple[str, str]  # name, type
ROOT = "object"  # the type of which every other one is


class GameError(ValueError):
    """A game that cannot be read, or not played exactly. The message says why."""


@dataclass(frozen=True)
class Literal:
    atom: Atom
    negated: bool = False


@dataclass(frozen=True)
class Junction:
    """All of `parts`, or any of them."""

    every: bool
    parts: tuple[Any, ...]


@dataclass(frozen=True)
class Quantified:
    """`part` for every, or for some, choice of objects for `variables`."""

    every: bool
    variables: tuple[Typed, ...]
    part: Any


Condition = Literal | Junction | Quantified


@dataclass(frozen=True)
class Effect:
    condition: Condition
    literal: Literal


@dataclass(frozen=True)
class Action:
    name: str
    parameters: tuple[Typed, ...]
    precondition: Condition
    effects: tuple[Effect, ...]


@dataclass(frozen=True)
class Task:
    """A domain and a problem.

    Attributes:
        parents: type -> the type it is a kind of; ROOT has none.
        objects: name -> type.
        init: atoms that hold at first, without "=".
        mentioned: objects that the initial state names.
    """

    parents: dict[str, str]
    objects: dict[str, str]
    actions: tuple[Action, ...]
    init: frozenset[Atom]
    mentioned: frozenset[str]
    goal: Condition

    def is_kind(self, kind: str, of: str) -> bool:
        while kind != of:
            if kind not in self.parents:
                return False
            kind = self.parents[kind]
        return True

    def objects_of(self, kind: str) -> list[str]:
        return [name for name, own in self.objects.items() if self.is_kind(own, kind)]


TRUE = Junction(True, ())


def read_task(domain: str, problem: str) -> Task:
    """The two texts of a game; GameError where they are not PDDL, or use what is not supported."""
    try:
        return _read_task(_nested(domain, "pddl_domain"), _nested(problem, "pddl_problem"))
    except (IndexError, TypeError, AttributeError) as error:
        raise GameError(f"the PDDL of the game has an expression of another form: {error}") from None


def _read_task(domain: list[Any], problem: list[Any]) -> Task:
    parents: dict[str, str] = {}
    objects: dict[str, str] = {}
    predicates: dict[str, int] = {"=": 2}
    actions: list[Action] = []
    init: list[Any] = []
    goal: Any = None
    for section in (*domain[2:], *problem[2:]):
        match section[0]:
            case ":types":
                parents |= {name: kind for name, kind in _typed(section[1:]) if name != ROOT}
            case ":predicates":
                predicates |= {entry[0]: len(_typed(entry[1:])) for entry in section[1:]}
            case ":constants" | ":objects":
                objects |= dict(_typed(section[1:]))
            case ":action":
                actions.append(_action(section, predicates))
            case ":init":
                init = section[1:]
            case ":goal":
                goal = _condition(section[1], predicates)
            case ":requirements" | ":functions" | ":domain" | ":metric":
                pass
            case other:
                raise GameError(f"the game's PDDL has a section {other!r}, which is not supported")
    if goal is None:
        raise GameError("the game's problem has no :goal")
    atoms = frozenset(tuple(fact) for fact in init if fact[0] not in ("=", "not"))
    # an assignment, (= (distance a b) 5), names objects too
    named = {name for atom in atoms for name in atom[1:]}
    named |= {name for fact in init if fact[0] == "=" and isinstance(fact[1], list) for name in fact[1][1:]}
    unknown = sorted(named - objects.keys())
    if unknown:
        raise GameError(f"the game's :init names {unknown[0]!r}, which is no object of it")
    return Task(parents, objects, tuple(a for a in actions if a.effects), atoms, frozenset(named), goal)


def _nested(text: str, what: str) -> list[Any]:
    """The s-expression of a text as nested lists of lower-case words."""
    stack: list[list[Any]] = [[]]
    for line in text.split("\n"):
        code = line.split(";", 1)[0]
        if not code.isascii():
            raise GameError(f"{what} has a character that is not ASCII: {code.strip()[:60]!r}")
        for token in code.replace("(", " ( ").replace(")", " ) ").replace("?", " ?").lower().split():
            if token == "(":
                stack.append([])
            elif token != ")":
                stack[-1].append(token)
            elif len(stack) > 1:
                done = stack.pop()
                stack[-1].append(done)
            else:
                raise GameError(f"{what} closes a bracket that it has not opened")
    if len(stack) != 1 or len(stack[0]) != 1 or not isinstance(stack[0][0], list):
        raise GameError(f"{what} is no single expression in brackets: it may be cut off")
    expression: list[Any] = stack[0][0]
    if expression[:1] != ["define"]:
        raise GameError(f"{what} does not begin with (define")
    return expression


def _typed(words: list[Any]) -> list[Typed]:
    result: list[Typed] = []
    names: list[str] = []
    it: Iterator[Any] = iter(words)
    for word in it:
        if word == "-":
            kind = next(it)
            result += [(name, kind) for name in names]
            names = []
        else:
            names.append(word)
    return result + [(name, ROOT) for name in names]


def _condition(words: list[Any], predicates: dict[str, int], negated: bool = False) -> Condition:
    """In negation normal form: only atoms are negated."""
    match words:
        case ["not", part]:
            return _condition(part, predicates, not negated)
        case ["and" | "or" as kind, *parts]:
            return Junction(
                (kind == "and") != negated, tuple(_condition(p, predicates, negated) for p in parts)
            )
        case ["imply", first, second]:
            parts = [_condition(first, predicates, not negated), _condition(second, predicates, negated)]
            return Junction(negated, tuple(parts))
        case ["forall" | "exists" as kind, variables, part]:
            every = (kind == "forall") != negated
            return Quantified(every, tuple(_typed(variables)), _condition(part, predicates, negated))
        case []:
            return TRUE
    return _literal(words, predicates, negated)


def _literal(words: list[Any], predicates: dict[str, int], negated: bool = False) -> Literal:
    if words[0] == "not":
        return _literal(words[1], predicates, not negated)
    if predicates.get(words[0]) != len(words) - 1:
        raise GameError(
            f"the game uses ({' '.join(map(str, words))}), which its :predicates do not declare so"
        )
    return Literal(tuple(words), negated)


def _action(words: list[Any], predicates: dict[str, int]) -> Action:
    parts = dict(zip(words[2::2], words[3::2], strict=True))
    effects: list[Effect] = []
    for effect in _effects(parts.get(":effect", []), TRUE, predicates):
        opposite = Effect(effect.condition, Literal(effect.literal.atom, not effect.literal.negated))
        if opposite in effects and effect.literal.negated:
            continue  # what is both taken away and added is added
        effects = [e for e in effects if e != opposite and e != effect] + [effect]
    return Action(
        words[1],
        tuple(_typed(parts.get(":parameters", []))),
        _condition(parts.get(":precondition", []), predicates),
        tuple(effects),
    )


def _effects(words: list[Any], condition: Condition, predicates: dict[str, int]) -> Iterator[Effect]:
    match words:
        case [] | ["increase", *_]:
            return
        case ["and", *parts]:
            for part in parts:
                yield from _effects(part, condition, predicates)
        case ["when", when, part]:
            both = _condition(when, predicates)
            yield from _effects(
                part, both if condition == TRUE else Junction(True, (condition, both)), predicates
            )
        case ["forall", *_]:
            raise GameError("the game has an effect for all objects of a type, which is not supported")
        case _:
            yield Effect(condition, _literal(words, predicates))
