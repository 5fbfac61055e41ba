"""Records the rules and rewards of gym-sokoban 0.0.6 (MIT) as golden traces: `gym_sokoban.jsonl`.

    python -m venv .venv-peers && .venv-peers/bin/pip install gym-sokoban==0.0.6
    .venv-peers/bin/python tests/envs/golden/record_gym_sokoban.py

One line a trace: the level in XSB (`#` wall, ` ` floor, `.` target, `$` box, `*` box on target, `@` player,
`+` player on target; rows joined by `|`), the moves (0 up, 1 down, 2 left, 3 right, 4 still), and after each
move the room in XSB, the reward and whether the room is solved. Some traces follow a shortest solution, so
that wins occur, the others are random.
"""

import json
import random
from collections import deque
from pathlib import Path

import numpy as np
from gym_sokoban.envs.sokoban_env import SokobanEnv

MOVES = ((-1, 0), (1, 0), (0, -1), (0, 1))
ROOMS = [((6, 6), 1), ((6, 6), 2), ((6, 6), 3), ((7, 7), 2), ((8, 8), 2), ((7, 9), 2)]
ROOMS_PER_SIZE = 4
TRACE_LENGTH = 40

# Situations that random rooms seldom show: boxes already home, a row of boxes, a box leaving its target.
HANDMADE = [
    "######|#.*$@#|#   .#|# $  #|######",
    "#######|#@$$ .#|#  *  #|#. $. #|#######",
    "#####|#+$.#|# $ #|#####",
    "########|#@*  $.#|#  *   #|########",
    "#####|#   #|#@* #|# * #|#$ .#|#####",
]


def xsb(fixed: np.ndarray, state: np.ndarray) -> str:
    def symbol(target: bool, cell: int) -> str:
        return {0: "#", 1: " ", 2: ".", 3: "*", 4: "$", 5: "+" if target else "@"}[cell]

    rows = zip(fixed.tolist(), state.tolist(), strict=True)
    return "|".join("".join(symbol(f == 2, s) for f, s in zip(*row, strict=True)) for row in rows)


def load(text: str) -> SokobanEnv:
    rows = text.split("|")
    env = SokobanEnv(
        dim_room=(len(rows), len(rows[0])), num_boxes=text.count("$") + text.count("*"), reset=False
    )
    env.room_fixed = np.array([[{"#": 0, ".": 2, "*": 2, "+": 2}.get(c, 1) for c in row] for row in rows])
    env.room_state = np.array([["# .*$@+".index(c) for c in row] for row in rows])
    env.room_state[env.room_state == 6] = 5
    env.player_position = np.argwhere(env.room_state == 5)[0]
    env.boxes_on_target = text.count("*")
    env.num_env_steps, env.max_steps = 0, 10**9
    return env


def solution(text: str) -> list[int]:
    """A shortest list of moves to the solved room, [] when there is none within the bound."""
    rows = text.split("|")
    cells = {(r, c): symbol for r, row in enumerate(rows) for c, symbol in enumerate(row)}
    goals = frozenset(cell for cell, symbol in cells.items() if symbol in ".*+")
    boxes = frozenset(cell for cell, symbol in cells.items() if symbol in "$*")
    player = next(cell for cell, symbol in cells.items() if symbol in "@+")
    seen = {(player, boxes)}
    queue = deque([(player, boxes, [])])
    while queue and len(seen) < 300_000:
        (r, c), boxes, path = queue.popleft()
        if boxes == goals:
            return path
        for move, (dr, dc) in enumerate(MOVES):
            to, beyond = (r + dr, c + dc), (r + 2 * dr, c + 2 * dc)
            if cells[to] == "#" or (to in boxes and (cells[beyond] == "#" or beyond in boxes)):
                continue
            after = (boxes - {to}) | {beyond} if to in boxes else boxes
            if (to, after) not in seen:
                seen.add((to, after))
                queue.append((to, after, [*path, move]))
    return []


def trace(text: str, rng: random.Random, follow: bool) -> dict:
    env = load(text)
    out = {"level": text, "moves": [], "rooms": [], "rewards": [], "solved": []}
    planned = solution(text) if follow else []
    for t in range(TRACE_LENGTH):
        move = planned[t] if t < len(planned) else rng.randrange(5)
        # gym-sokoban: 0 nothing, 1..4 push (or move) up, down, left, right
        _, reward, done, _ = env.step((move + 1) % 5, observation_mode="tiny_rgb_array")
        out["moves"].append(move)
        out["rooms"].append(xsb(env.room_fixed, env.room_state))
        out["rewards"].append(round(float(reward), 6))
        out["solved"].append(bool(done))
        if done:
            break
    return out


def main() -> None:
    random.seed(7)
    np.random.seed(7)
    rng = random.Random(7)
    plan = [(level, follow) for level in HANDMADE for follow in (True, False, False, False)]
    for size, boxes in ROOMS:
        for i in range(ROOMS_PER_SIZE):
            env = SokobanEnv(dim_room=size, num_boxes=boxes)
            plan.append((xsb(env.room_fixed, env.room_state), i % 2 == 0))
    lines = [json.dumps(trace(level, rng, follow), separators=(",", ":")) for level, follow in plan]
    Path(__file__).with_name("gym_sokoban.jsonl").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
