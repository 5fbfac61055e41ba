"""Digests of what the environments do, one a configuration: `digests.json` beside this file.

    PYTHONPATH=. python tests/envs/golden/record_digests.py

They are equal on every machine, compiler and number of threads. A changed digest means that every recorded
seed now stands for another board: a new file belongs into a commit that says so.
"""

import hashlib
import json
from pathlib import Path

import numpy as np

from lamer_fast.envs import make

PATH = Path(__file__).with_name("digests.json")
STYLES = ("compact", "numbered", "peers")
LEVELS = ["#######\n#@ $. #\n#  $. #\n#######", "######\n#@$. #\n######"]

CONFIGS = {
    "sokoban": ("sokoban", {}),
    "sokoban 1 box": ("sokoban", {"num_boxes": 1}),
    "sokoban 3 boxes": ("sokoban", {"num_boxes": 3, "min_moves": 8, "max_moves": 40}),
    "sokoban 8x8": ("sokoban", {"height": 8, "width": 8, "rewards": "sparse"}),
    "sokoban 10x10, 4 boxes": ("sokoban", {"height": 10, "width": 10, "num_boxes": 4}),
    "sokoban 5x9 train": ("sokoban", {"height": 5, "width": 9, "num_boxes": 1, "split": "train"}),
    "sokoban test, dead": ("sokoban", {"split": "test", "track_dead": True, "end_on_dead": True}),
    "sokoban levels": ("sokoban", {"levels": LEVELS}),
    "sokoban official turns": ("sokoban", {"stop_at_done": False, "turn_reward": "last"}),
    "sokoban same": ("sokoban", {"autoreset": "same", "num_boxes": 1}),
    "sokoban permuted": ("sokoban", {"controls": "permuted", "num_boxes": 1, "split": "valid"}),
    "sokoban held-out rules": (
        "sokoban",
        {"controls": "broken", "held_out_rules": True, "split": "test", "num_boxes": 1},
    ),
    "sokoban sticky": (
        "sokoban",
        {"controls": "permuted", "sticky": 0.25, "show_moves": True, "num_boxes": 1},
    ),
    "minesweeper": ("minesweeper", {}),
    "minesweeper 4x4 train": ("minesweeper", {"height": 4, "width": 4, "num_mines": 2, "split": "train"}),
    "minesweeper 8x8": ("minesweeper", {"height": 8, "width": 8, "num_mines": 10, "rewards": "sparse"}),
    "minesweeper 16x16": ("minesweeper", {"height": 16, "width": 16, "num_mines": 40}),
    "minesweeper 9x9 agent": (
        "minesweeper",
        {"height": 9, "width": 9, "num_mines": 10, "first_click": "agent"},
    ),
    "minesweeper no-guess": ("minesweeper", {"no_guess": True}),
    "minesweeper next": ("minesweeper", {"autoreset": "next"}),
}


def digest(key: str, *, num_boards: int = 96, num_threads: int = 1, chunk: int | None = None) -> str:
    """SHA-256 of boards, texts, rewards, flags, anchors and tasks over 8 random turns.

    Args:
        chunk: play the boards in batches of so many, instead of in one; the digest is the same.
    """
    name, config = CONFIGS[key]
    parts: dict[int, list[bytes]] = {}
    chunk = chunk or num_boards
    for first in range(0, num_boards, chunk):
        size = min(chunk, num_boards - first)
        batch = make(name, size, num_threads=num_threads, **config)
        batch.reset(np.arange(first, first + size, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        for turn in range(8):
            columns = [np.array(batch.texts(style=style), dtype=object) for style in STYLES]
            columns += [batch.anchors(), batch.tasks(), batch.legal_actions()]
            draws = np.random.default_rng(turn).integers(-1, batch.num_actions, (num_boards, 3))
            columns += list(batch.step(draws[first : first + size].astype(np.int32)))
            for i in range(size):
                row = [c[i].encode() if isinstance(c[i], str) else c[i].tobytes() for c in columns]
                parts.setdefault(first + i, []).extend(row)
    return hashlib.sha256(b"".join(b"".join(parts[i]) for i in sorted(parts))).hexdigest()


if __name__ == "__main__":
    PATH.write_text(json.dumps({key: digest(key) for key in CONFIGS}, indent=1) + "\n")
