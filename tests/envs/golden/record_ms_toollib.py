"""Records numbers, cascades, probabilities and solvability of ms-toollib 1.5.20 (MIT): `ms_toollib.jsonl`.

    python -m venv .venv-peers && .venv-peers/bin/pip install ms-toollib==1.5.20
    .venv-peers/bin/python tests/envs/golden/record_ms_toollib.py

One line a trace: height, width, the cells of the mines (row * width + column), the first cell, whether
ms-toollib can win from there without a guess, the cells opened in order, and some positions on the way: how
many cells had been opened by then, the board as text (rows joined by `|`, `?` hidden, `.` 0) and, on small
boards, the probability of a mine under every cell, rounded to 1e-6 (0 at open cells).
"""

import json
import random
from pathlib import Path

import ms_toollib

SIZES = [
    (5, 5, 3),
    (5, 5, 4),
    (6, 6, 3),
    (6, 6, 5),
    (8, 8, 10),
    (4, 7, 5),
    (9, 9, 10),
    (16, 16, 40),
    (12, 16, 30),
]
BOARDS_PER_SIZE = 6
HIDDEN = 10  # ms-toollib's number for a cell that is not open


def text(view: list[list[int]]) -> str:
    return "|".join("".join("?" if n >= HIDDEN else "." if n == 0 else str(n) for n in row) for row in view)


def probabilities(view: list[list[int]], num_mines: int) -> list[float]:
    """Probability by cell, 0 where it is open. cal_probability_onboard may mark cells: it gets a copy."""
    found, _ = ms_toollib.cal_probability_onboard([list(row) for row in view], num_mines)
    return [
        round(p, 6) if n >= HIDDEN else 0.0
        for row, seen in zip(found, view, strict=True)
        for p, n in zip(row, seen, strict=True)
    ]


def record(height: int, width: int, num_mines: int, rng: random.Random) -> dict | None:
    cells = list(range(height * width))
    first = rng.choice(cells)
    mines = sorted(rng.sample([cell for cell in cells if cell != first], num_mines))
    board = [[-1 if row * width + column in mines else 0 for column in range(width)] for row in range(height)]
    board = ms_toollib.cal_board_numbers(board)
    view = [[HIDDEN] * width for _ in range(height)]
    opened, positions = [], []
    while True:
        free = [c for c in cells if c not in mines and view[c // width][c % width] == HIDDEN]
        if not free:
            break
        cell = rng.choice(free) if opened else first
        view = ms_toollib.refresh_board(board, view, [divmod(cell, width)])
        view = [[HIDDEN if n >= HIDDEN else n for n in row] for row in view]
        opened.append(cell)
        small = height * width <= 64
        if len(opened) % (2 if small else 16) == 1:
            chances = probabilities(view, num_mines) if small else None
            positions.append({"opened": len(opened), "text": text(view), "probabilities": chances})
    if len(opened) == 1:  # won at once: no board of ours
        return None
    return {
        "height": height,
        "width": width,
        "mines": mines,
        "first": first,
        "solvable": ms_toollib.is_solvable(board, *divmod(first, width)),
        "opened": opened,
        "positions": positions,
    }


def main() -> None:
    rng = random.Random(20260101)
    traces = []
    for size in SIZES:
        done = 0
        while done < BOARDS_PER_SIZE:
            if trace := record(*size, rng):
                traces.append(trace)
                done += 1
    path = Path(__file__).with_name("ms_toollib.jsonl")
    path.write_text("".join(json.dumps(trace, separators=(",", ":")) + "\n" for trace in traces))
    print(f"{len(traces)} traces, {path.stat().st_size} bytes")


if __name__ == "__main__":
    main()
