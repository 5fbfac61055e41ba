"""Sokoban once more, in plain Python and independent of the native code: rules and shortest solutions."""

from collections import deque

MOVES = {0: (-1, 0), 1: (1, 0), 2: (0, -1), 3: (0, 1)}
TO_XSB = str.maketrans("#_OX*PS", "# .$*@+")


def parse(compact: str) -> tuple[list[str], int, frozenset[int], frozenset[int]]:
    """Compact text -> (rows, player, boxes, targets); a cell is row * width + column."""
    rows = compact.split("\n")
    cells = "".join(rows)
    player = next(i for i, c in enumerate(cells) if c in "PS")
    boxes = frozenset(i for i, c in enumerate(cells) if c in "X*")
    targets = frozenset(i for i, c in enumerate(cells) if c in "O*S")
    return rows, player, boxes, targets


def shortest_solution(compact: str) -> int | None:
    """Moves (walks and pushes) of a shortest solution by forward breadth-first search; None: unsolvable."""
    rows, player, boxes, targets = parse(compact)
    width = len(rows[0])
    walls = frozenset(i for i, c in enumerate("".join(rows)) if c == "#")
    steps = (-width, width, -1, 1)
    start = (player, boxes)
    seen = {start}
    frontier = deque([(start, 0)])
    while frontier:
        (player, boxes), depth = frontier.popleft()
        if boxes == targets:
            return depth
        for step in steps:
            to = player + step
            if to in walls:
                continue
            after = boxes
            if to in boxes:
                beyond = to + step
                if beyond in walls or beyond in boxes:
                    continue
                after = (boxes - {to}) | {beyond}
            state = (to, after)
            if state not in seen:
                seen.add(state)
                frontier.append((state, depth + 1))
    return None
