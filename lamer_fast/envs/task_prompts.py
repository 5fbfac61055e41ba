"""What a model reads first: role, legend, goal, rules, reply format. Our own wording.

`full` explains everything to a model that knows language but not the game; `compact` is a reminder of a few
words for tiny models that learn the game from scratch and pay for every token.
"""

from __future__ import annotations

PROMPTS = ("full", "compact")

# style -> wall, floor, target, box, box on target, player, player on target
SOKOBAN_SYMBOLS = {
    "compact": "#_OX*PS",
    "numbered": "#_OX*PS",
    "peers": "#_OX\u221aPS",
}
_SOKOBAN_CELLS = (
    "wall",
    "empty floor",
    "target without a box",
    "box that is not on a target",
    "box on a target",
    "you",
    "you, standing on a target",
)


def sokoban_prompt(prompt: str, style: str, moves_per_turn: int) -> str:
    """Args: `prompt` of PROMPTS; `style` of the observations; the most moves of one reply, at least 1."""
    symbols = SOKOBAN_SYMBOLS[style]
    wall, target, box, player = symbols[0], symbols[2], symbols[3], symbols[5]
    if prompt == "compact":
        rules = f"Sokoban. {player} pushes {box} to {target}, {wall} is wall."
        return f"{rules}\n<action>up</action> down left right"
    legend = "\n".join(f"{symbol} {cell}" for symbol, cell in zip(symbols, _SOKOBAN_CELLS, strict=True))
    if style != "compact":
        legend += "\nEvery row starts with its number, counted from 0 at the top."
    if moves_per_turn == 1:
        reply = "Reply with one move inside action tags, like this: <action>left</action>"
    else:
        reply = (
            f"Reply with your next moves, at most {moves_per_turn}, in the order in which you make them, "
            "separated by commas inside action tags, like this: <action>left, up</action>"
        )
    return f"""You are a warehouse keeper in a game of Sokoban.
You see the room from above, one symbol for each cell:
{legend}

Goal: every box stands on a target. It does not matter which box ends on which target.

Rules:
- The moves are up (towards the top row), down, left and right. Each goes one cell.
- Moving into a box pushes it one cell ahead, if the cell behind it has neither a wall nor another box.
- Boxes cannot be pulled, and two boxes in line cannot be pushed together.
- A move that is not possible changes nothing and still counts.
- A box in a corner that is not a target is stuck for good, so plan the pushes before you make them.

{reply}"""


def minesweeper_prompt(prompt: str, height: int, width: int, num_mines: int) -> str:
    """Args: `prompt` one of PROMPTS; size of the board in cells."""
    mines = "1 mine" if num_mines == 1 else f"{num_mines} mines"
    if prompt == "compact":
        return f"Minesweeper {height}x{width}, {mines}.\n<action>(row, column)</action>"
    example = f"<action>({min(2, height)}, {min(3, width)})</action>"
    return f"""You play Minesweeper on a board of {height} rows and {width} columns that hides {mines}. \
You see one symbol a cell:
? closed cell
. open cell without a mine next to it
1 to 8 open cell with that many mines next to it, diagonals included
* a mine that went off

Goal: open every cell that has no mine. Opening a mine loses the game at once.

Rules:
- You open one closed cell each turn. Opening a cell without a neighbouring mine opens its neighbours too.
- Opening a cell that is already open, or that is not on the board, changes nothing and costs a little.
- The numbers tell which closed cells are safe: prefer a cell that they prove to be free of a mine.

Rows are counted from 1 at the top, columns from 1 at the left.
Reply with the cell to open inside action tags, row first, like this: {example}"""
