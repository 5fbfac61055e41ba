"""From a task to what can be done in it: its actions with objects put in, as conditions and effects on facts.

What Fast Downward's translator and state do, for what can be reached at all. A fact that never changes is
decided here; every other is named by its atom in the conditions that are left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import product

from lamer_fast.envs.adapters.alfworld.compiler.pddl import (
    TRUE,
    Action,
    Atom,
    Condition,
    GameError,
    Junction,
    Literal,
    Quantified,
    Task,
    Typed,
)

Lits = tuple[Literal, ...]  # all of them
Binding = dict[str, str]  # variable -> object


@dataclass(frozen=True)
class Change:
    """A fact that comes true, or stops being true, if `when` holds before the action."""

    when: Lits
    literal: Literal


@dataclass
class Operator:
    action: Action
    arguments: tuple[str, ...]
    cases: list[Lits] = field(default_factory=list)
    """It can be done where one of them holds."""
    changes: tuple[Change, ...] = ()


@dataclass
class Grounded:
    """Attributes:
    facts: predicate -> every atom of it that holds at first or can come true.
    fluents: atoms that can change; each is true or false in a state.
    removed: of these, the ones that some action takes away.
    conditional: predicates that an effect with a condition changes.
    """

    task: Task
    facts: dict[str, set[Atom]]
    fluents: set[Atom]
    removed: set[Atom]
    conditional: set[str]
    operators: list[Operator]
    goal: Condition


@dataclass(frozen=True)
class _Case:
    """One conjunction of an action's precondition: what is needed of which variables."""

    action: Action
    variables: tuple[Typed, ...]
    needs: Lits
    excludes: Lits


def ground(task: Task) -> Grounded:
    """GameError where the goal can never be met, holds already, or the domain uses what is not supported."""
    changing = {e.literal.atom[0] for action in task.actions for e in action.effects}
    cases = [case for action in task.actions for case in _cases(action)]
    facts, found = _reach(task, cases)
    operators: dict[tuple[str, tuple[str, ...]], Operator] = {}
    for case, binding in found:
        needs = _decided(case.needs, binding, facts, changing)
        excludes = _decided(case.excludes, binding, facts, changing)
        if needs is None or excludes is None:
            continue
        arguments = tuple(binding[name] for name, _ in case.action.parameters)
        changes = _changes(case.action, binding, facts, changing)
        _add_case(operators, case.action, arguments, needs + excludes, changes)
    every = [op for op in operators.values() if op.cases]
    removed = {c.literal.atom for op in every for c in op.changes if c.literal.negated}
    added = {c.literal.atom for op in every for c in op.changes if not c.literal.negated}
    fluents = {a for a in removed | added if a in removed or a not in task.init}
    conditional = {c.literal.atom[0] for op in every for c in op.changes if c.when}
    grounded = Grounded(task, facts, fluents, removed, conditional, every, TRUE)
    grounded.goal = _goal(grounded)
    return grounded


def _cases(action: Action) -> Iterator[_Case]:
    for variables, literals in _disjuncts(action.precondition):
        needs = tuple(x for x in literals if not x.negated)
        yield _Case(action, (*action.parameters, *variables), needs, tuple(x for x in literals if x.negated))


def _disjuncts(condition: Condition) -> list[tuple[tuple[Typed, ...], Lits]]:
    """The condition as one of several conjunctions, each for some choice of its variables."""
    match condition:
        case Literal():
            return [((), (condition,))]
        case Junction(True, parts):
            ways = product(*(_disjuncts(part) for part in parts))
            return [(sum((v for v, _ in way), ()), sum((x for _, x in way), ())) for way in ways]
        case Junction(False, parts):
            return [way for part in parts for way in _disjuncts(part)]
        case Quantified(False, variables, part):
            return [((*variables, *inner), literals) for inner, literals in _disjuncts(part)]
    raise GameError("an action of the game asks something of all objects of a type, which is not supported")


def _reach(task: Task, cases: list[_Case]) -> tuple[dict[str, set[Atom]], list[tuple[_Case, Binding]]]:
    """Facts that can come true if nothing is ever taken away, and the cases whose needs can be met."""
    facts: dict[str, set[Atom]] = defaultdict(set)
    for atom in task.init:
        facts[atom[0]].add(atom)
    found: list[tuple[_Case, Binding]] = []
    known: list[set[tuple[str, ...]]] = [set() for _ in cases]
    joins = [_Join(task, case) for case in cases]
    fresh = set(facts)
    while fresh:
        new: set[Atom] = set()
        for case, join, seen in zip(cases, joins, known, strict=True):
            if seen and not fresh & {x.atom[0] for x in case.needs}:
                continue
            for binding in join.bindings(facts):
                key = tuple(binding[name] for name, _ in case.variables)
                if key in seen:
                    continue
                seen.add(key)
                found.append((case, binding))
                new |= {_put(e.literal, binding) for e in case.action.effects if not e.literal.negated}
        new = {atom for atom in new if atom not in facts[atom[0]]}
        for atom in new:
            facts[atom[0]].add(atom)
        fresh = {atom[0] for atom in new}
    return facts, found


class _Join:
    """The bindings of one case: its needs one after another, each by the variables that are bound by then."""

    def __init__(self, task: Task, case: _Case) -> None:
        self.task, self.case = task, case
        self.kinds = dict(case.variables)
        if len(self.kinds) != len(case.variables):
            raise GameError(f"the action {case.action.name} uses one name for two variables")
        self.allowed = {name: set(task.objects_of(kind)) for name, kind in case.variables}

    def bindings(self, facts: dict[str, set[Atom]]) -> Iterator[Binding]:
        left = [x.atom for x in self.case.needs if x.atom[0] != "="]
        order: list[tuple[Atom, tuple[int, ...]]] = []
        bound: set[str] = set()
        while left:  # the need with the fewest facts for what is bound
            left.sort(key=lambda a: (-len(bound & {*a[1:]}), len(facts[a[0]])))
            atom = left.pop(0)
            order.append((atom, tuple(i for i, x in enumerate(atom) if x in bound or x not in self.kinds)))
            bound |= {*atom[1:]} & self.kinds.keys()
        tables = [_index(facts[atom[0]], positions) for atom, positions in order]
        free = [name for name in self.kinds if name not in bound]
        yield from self._extend({}, order, tables, free)

    def _extend(
        self,
        binding: Binding,
        order: list[tuple[Atom, tuple[int, ...]]],
        tables: list[dict[Atom, list[Atom]]],
        free: list[str],
    ) -> Iterator[Binding]:
        depth = 0
        stack = [iter(self._matches(binding, order[0], tables[0]))] if order else [iter([binding])]
        while stack:
            current = next(stack[-1], None)
            if current is None:
                stack.pop()
                depth -= 1
            elif len(stack) < len(order):
                depth += 1
                stack.append(iter(self._matches(current, order[depth], tables[depth])))
            else:
                for values in product(*(sorted(self.allowed[name]) for name in free)):
                    yield current | dict(zip(free, values, strict=True))

    def _matches(
        self, binding: Binding, need: tuple[Atom, tuple[int, ...]], table: dict[Atom, list[Atom]]
    ) -> Iterator[Binding]:
        atom, positions = need
        key = tuple(binding.get(atom[i], atom[i]) for i in positions)
        for fact in table.get(key, ()):
            new = dict(binding)
            for name, value in zip(atom[1:], fact[1:], strict=True):
                if name not in self.kinds:
                    continue  # an object; it is part of the key
                if new.setdefault(name, value) != value or value not in self.allowed[name]:
                    break
            else:
                yield new


def _index(facts: Iterable[Atom], positions: tuple[int, ...]) -> dict[Atom, list[Atom]]:
    table: dict[Atom, list[Atom]] = defaultdict(list)
    for fact in facts:
        table[tuple(fact[i] for i in positions)].append(fact)
    return table


def _put(literal: Literal, binding: Binding) -> Atom:
    return tuple(binding.get(word, word) for word in literal.atom)


def _decided(
    literals: Lits, binding: Binding, facts: dict[str, set[Atom]], changing: set[str]
) -> Lits | None:
    """What is left to ask of a state; None where it can never hold."""
    left = []
    for literal in literals:
        atom = _put(literal, binding)
        can_hold = atom[1] == atom[2] if atom[0] == "=" else atom in facts[atom[0]]
        if atom[0] in changing and can_hold:
            left.append(Literal(atom, literal.negated))
        elif can_hold == literal.negated:
            return None
    return tuple(left)


def _changes(
    action: Action, binding: Binding, facts: dict[str, set[Atom]], changing: set[str]
) -> tuple[Change, ...]:
    changes: list[Change] = []
    for effect in action.effects:
        ways = _disjuncts(effect.condition)
        if len(ways) != 1 or ways[0][0]:
            raise GameError(f"an effect of {action.name} has a condition that is no plain conjunction")
        when = _decided(ways[0][1], binding, facts, changing)
        atom = _put(effect.literal, binding)
        if when is not None and atom in facts[atom[0]]:
            changes.append(Change(when, Literal(atom, effect.literal.negated)))
    added = {(c.when, c.literal.atom) for c in changes if not c.literal.negated}
    return tuple(c for c in changes if not c.literal.negated or (c.when, c.literal.atom) not in added)


def _add_case(
    operators: dict[tuple[str, tuple[str, ...]], Operator],
    action: Action,
    arguments: tuple[str, ...],
    needs: Lits,
    changes: tuple[Change, ...],
) -> None:
    """A change to what the case asks for already is none, and a case without changes cannot be played."""
    asked = set(needs)
    if any(Literal(x.atom, not x.negated) in asked for x in asked):
        return
    left = tuple(c for c in changes if c.when or c.literal not in asked)
    operator = operators.setdefault((action.name, arguments), Operator(action, arguments))
    if not left:
        return
    if operator.changes and operator.changes != left:
        raise GameError(f"what {action.name} does depends on why it can be done, which is not supported")
    operator.changes = left
    operator.cases.append(tuple(dict.fromkeys(needs)))


def _goal(grounded: Grounded) -> Condition:
    goal = decide(grounded, grounded.task.goal, {})
    if goal == TRUE:
        raise GameError("the game's goal holds from the start: there is nothing to do")
    if goal == FALSE:
        raise GameError("the game's goal can never be met: it has no solution")
    return goal


FALSE = Junction(False, ())


def decide(grounded: Grounded, condition: Condition, binding: Binding) -> Condition:
    """The condition with objects put in and everything constant decided: TRUE, FALSE, or on fluents alone."""
    match condition:
        case Literal():
            atom = _put(condition, binding)
            if atom in grounded.fluents:
                return Literal(atom, condition.negated)
            holds = atom[1] == atom[2] if atom[0] == "=" else atom in grounded.task.init
            return FALSE if holds == condition.negated else TRUE
        case Quantified(every, variables, part):
            names = [name for name, _ in variables]
            ways = product(*(grounded.task.objects_of(kind) for _, kind in variables))
            bindings = (binding | dict(zip(names, way, strict=True)) for way in ways)
            return join(every, (decide(grounded, part, b) for b in bindings))
        case Junction(every, parts):
            cheap_first = sorted(parts, key=lambda part: not isinstance(part, Literal))
            return join(every, (decide(grounded, part, binding) for part in cheap_first))


def join(every: bool, parts: Iterable[Condition]) -> Condition:
    """All or any of the parts, without those that decide nothing."""
    neutral, deciding = (TRUE, FALSE) if every else (FALSE, TRUE)
    left: dict[Condition, None] = {}
    for part in parts:
        if part == deciding:
            return deciding
        if part != neutral:
            left[part] = None
    if len(left) == 1:
        return next(iter(left))
    return Junction(every, tuple(left)) if left else neutral
