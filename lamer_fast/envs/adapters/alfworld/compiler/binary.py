"""The tables of one game as the bytes that `csrc/envs/alfworld/game.h` loads; the layout is written there."""

from __future__ import annotations

import struct
from array import array
from collections import Counter
from collections.abc import Iterable
from itertools import accumulate

from lamer_fast.envs.adapters.alfworld.compiler.ground import Grounded, Lits, Operator, join
from lamer_fast.envs.adapters.alfworld.compiler.pddl import TRUE, Atom, Condition, Junction, Literal
from lamer_fast.envs.adapters.alfworld.compiler.texts import TAKEN, Cases, Program

MAGIC = 0x574C4641  # "AFLW"
VERSION = 1
ALWAYS = -1  # in place of a node
TEXT, CASES, ITEMS, END = range(4)


class Writer:
    """Numbers facts, conditions, texts and programs as they are first named."""

    def __init__(self, grounded: Grounded) -> None:
        self.grounded = grounded
        self.bits: dict[Atom, int] = {}
        self.nodes: dict[Condition, int] = {}
        self.node_kinds: list[int] = []
        self.node_items: list[list[int]] = []
        self.strings: dict[str, int] = {}
        self.programs: dict[int, int] = {}  # by identity: equal ones are the same object
        self.kept: list[Program] = []
        self.code: list[list[int]] = []

    def bit(self, atom: Atom) -> int:
        return self.bits.setdefault(atom, len(self.bits))

    def literal(self, literal: Literal) -> int:
        return self.bit(literal.atom) * 2 + literal.negated

    def node(self, condition: Condition) -> int:
        """A condition on fluents alone."""
        if condition == TRUE:
            return ALWAYS
        if isinstance(condition, Literal):
            condition = Junction(True, (condition,))
        if condition not in self.nodes:
            assert isinstance(condition, Junction)
            items = [
                self.literal(p) if isinstance(p, Literal) else -1 - self.node(p) for p in condition.parts
            ]
            self.nodes[condition] = len(self.node_kinds)
            self.node_kinds.append(condition.every)
            self.node_items.append(items)
        return self.nodes[condition]

    def string(self, text: str) -> int:
        return self.strings.setdefault(text, len(self.strings))

    def program(self, program: Program) -> int:
        if id(program) in self.programs:
            return self.programs[id(program)]
        code: list[int] = []
        for part in program:
            match part:
                case str(text):
                    code += [TEXT, self.string(text)]
                case Cases(cases):
                    code += [CASES, len(cases), *self._branches(cases)]
                case other:
                    around = [self.program(p) for p in (other.empty, other.separator, other.last_separator)]
                    code += [ITEMS, len(other.items), *around, *self._branches(other.items)]
        self.kept.append(program)
        self.programs[id(program)] = len(self.code)
        self.code.append([*code, END])
        return self.programs[id(program)]

    def _branches(self, branches: tuple[tuple[Condition, Program], ...]) -> Iterable[int]:
        return [number for c, p in branches for number in (self.node(c), self.program(p))]


def lits(grounded: Grounded, literals: Lits) -> Condition:
    """Of a case, what is left to ask; literals on facts that never change are decided."""
    left = []
    for literal in literals:
        if literal.atom in grounded.fluents:
            left.append(literal)
        elif literal.negated:
            return Junction(False, ())
    return join(True, left)


def encode(
    grounded: Grounded,
    spoken: list[tuple[Operator, str, Program]],
    intro: Program,
    nothing: Program,
    digest: int,
) -> bytes:
    """Args:
    spoken: every operator with its command and what is said after it.
    """
    writer = Writer(grounded)
    commands = {text: i for i, text in enumerate(sorted({command for _, command, _ in spoken}))}
    cases = [
        (number, commands[command], condition)
        for number, (op, command, _) in enumerate(spoken)
        for condition in (lits(grounded, case) for case in op.cases)
        if condition != Junction(False, ())
    ]
    key = _key_predicate(condition for _, _, condition in cases)
    first = grounded.task.init
    for _, _, condition in cases:
        for literal in _parts(condition):
            if literal.atom[0] == key and not literal.negated:
                writer.bit(literal.atom)
    num_keys = len(writer.bits)
    buckets: list[list[int]] = [[] for _ in range(1 + num_keys)]
    op_cases: list[list[int]] = [[] for _ in spoken]
    held = Counter(atom[0] for atom in first)
    for number, rank, condition in sorted(cases, key=lambda case: case[1]):
        parts = sorted(_parts(condition), key=lambda x: (held[x.atom[0]], x.negated))  # what fails first
        opens = [x for x in parts if x.atom[0] == key and not x.negated]
        rest = join(True, [x for x in parts if x not in opens[:1]])
        buckets[1 + writer.bit(opens[0].atom) if opens else 0] += [rank, writer.node(rest)]
        op_cases[number].append(writer.node(join(True, parts)))
    goal = writer.node(grounded.goal)
    op_programs = [writer.program(program) for _, _, program in spoken]
    intro_id, nothing_id = writer.program(intro), writer.program(nothing)
    command_ops: list[list[int]] = [[] for _ in commands]
    for number, (_, command, _) in enumerate(spoken):
        command_ops[commands[command]].append(number)
    while True:  # a condition of a change may name a fact that nothing else asks for
        known = len(writer.bits)
        changes = [_changes(writer, op) for op, _, _ in spoken]
        if known == len(writer.bits):
            break
    command_strings = [writer.string(text) for text in commands]
    texts = [text.encode() for text in writer.strings]
    initial = [bit for atom, bit in writer.bits.items() if atom in first]
    head = [len(writer.bits), num_keys, intro_id, nothing_id, goal]
    sections: list[Iterable[int]] = [
        head,
        initial,
        writer.node_kinds,
        *_rows(writer.node_items),
        command_strings,
        *_rows(command_ops),
        op_programs,
        *_rows(op_cases),
        *_rows(changes),
        *_rows(buckets),
        *_rows(writer.code),
        [0, *accumulate(len(text) for text in texts)],
    ]
    body = b"".join(_section(section) for section in sections) + b"".join(texts)
    return struct.pack("<IIQ", MAGIC, VERSION, digest) + body


def _key_predicate(conditions: Iterable[Condition]) -> str:
    """What nearly every action asks for, with few facts that hold at a time: where the agent is."""
    counts = Counter(x.atom[0] for c in conditions for x in _parts(c) if not x.negated)
    return max(counts, key=lambda p: (counts[p], p), default="")


def _parts(condition: Condition) -> list[Literal]:
    if isinstance(condition, Literal):
        return [condition]
    assert isinstance(condition, Junction)
    return [part for part in condition.parts if isinstance(part, Literal)]


def _changes(writer: Writer, op: Operator) -> list[int]:
    """Pairs of a condition and a bit with its new value, first what is taken away."""
    pairs: list[tuple[int, int]] = []
    for change in op.changes:
        atom, value = change.literal.atom, not change.literal.negated
        condition = lits(writer.grounded, change.when)
        if condition == Junction(False, ()):
            continue
        taken = (TAKEN + atom[0], *atom[1:])
        for fact, now in ((atom, value), (taken, not value)):
            if fact in writer.bits:
                pairs.append((writer.node(condition), writer.bits[fact] * 2 + now))
    return [number for pair in sorted(pairs, key=lambda pair: pair[1] % 2) for number in pair]


def _rows(rows: list[list[int]]) -> tuple[list[int], list[int]]:
    return [0, *accumulate(len(row) for row in rows)], [x for row in rows for x in row]


def _section(values: Iterable[int]) -> bytes:
    numbers = array("i", [int(value) for value in values])
    return struct.pack("<I", len(numbers)) + numbers.tobytes()
