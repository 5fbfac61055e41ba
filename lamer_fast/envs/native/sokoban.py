"""Sokoban: options, boards as text, what a model reads first, words and expert of a warm start."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.batch import _C, Batch
from lamer_fast.envs.expert import Expert
from lamer_fast.envs.guide import Guide
from lamer_fast.envs.native import explorer
from lamer_fast.envs.native.controls import MOVES, NOTHING, ControlsExpert, fact
from lamer_fast.envs.native.game import COMMON, REWARD, NativeGame, RewardSets
from lamer_fast.envs.native.text_env import NativeTextEnv
from lamer_fast.envs.options import EnvOptions
from lamer_fast.envs.replies import action
from lamer_fast.fields import Range

# what decides how boards are generated; given levels have their own
GENERATED = ("height", "width", "num_boxes", "min_moves", "max_moves")

Taken = tuple[int, int]  # a move: hash of the board before it, and its number

MAX_ROW = 6  # cells of a row, walls included, that is one word

# style -> wall, floor, target, box, box on target, player, player on target
SYMBOLS = {
    "compact": "#_OX*PS",
    "numbered": "#_OX*PS",
    "peers": "#_OX\u221aPS",
}
_CELLS = (
    "wall",
    "empty floor",
    "target without a box",
    "box that is not on a target",
    "box on a target",
    "you",
    "you, standing on a target",
)


_MOVES = {
    "plain": "- The moves are up (towards the top row), down, left and right. Each goes one cell.",
    "permuted": (
        "- The moves are up, down, left and right. Each goes one cell, but the words are mixed up: `up` may "
        "lead down, left or right. Each word has a direction of its own, which stays the same in every "
        "attempt at this task. What the words do you have to find out by trying them."
    ),
    "broken": (
        "- The moves are up, down, left, right and still. Four of them go one cell, one does nothing, but "
        "the words are mixed up: any of the five may lead in any direction, or nowhere. What a word does "
        "stays the same in every attempt at this task. You have to find it out by trying them."
    ),
}


@dataclass(frozen=True)
class SokobanOptions(EnvOptions):
    name: str = "sokoban"
    """This game."""
    height: Annotated[int, Range(4, 10)] = 6
    """Rows of the board, walls included."""
    width: Annotated[int, Range(4, 10)] = 6
    """Columns of the board, walls included."""
    num_boxes: Annotated[int, Range(1, 4)] = 2
    """Boxes on the board."""
    min_moves: Annotated[int, Range(1, 1000)] = 5
    """Shortest allowed optimal solution, in moves."""
    max_moves: Annotated[int, Range(1, 1000)] = 21
    """Longest allowed optimal solution, in moves."""
    controls: Literal["plain", "permuted", "broken"] = "plain"
    """Meaning of the words: plain; the four directions exchanged; or all five words exchanged."""
    held_out_rules: bool = False
    """Split the exchanges of words, too: train, valid and test have different ones."""
    sticky: Annotated[float, Range(0, 0.99)] = 0.0
    """Chance that a turn repeats the last move of the episode in place of what was said."""
    show_moves: bool = False
    """Add a last line that says what the last word did: `up: left`, or `up: nothing`."""
    levels: str | None = None
    """Play the levels of this file, in XSB or Boxoban format, with their own sizes, boxes and moves."""
    moves_per_turn: Annotated[int, Range(1, 64)] = 3
    """Maximum number of moves in a reply; further ones are dropped."""
    rewards: Literal["lamer", "sparse"] = "lamer"
    """Reward set: the official shaped rewards, or 10 for success and 0 otherwise."""
    reward_step: Annotated[float, REWARD] | None = None
    """Reward of every move, in addition to others; like all reward_*, by default that of the set."""
    reward_on: Annotated[float, REWARD] | None = None
    """Reward of a box that comes onto a target."""
    reward_off: Annotated[float, REWARD] | None = None
    """Reward of a box that leaves a target."""
    reward_win: Annotated[float, REWARD] | None = None
    """Reward of the move after which every box stands on a target."""
    reward_dead: Annotated[float, REWARD] | None = None
    """Reward of the push after which the board can no longer be solved; needs track_dead."""
    reward_invalid: Annotated[float, REWARD] | None = None
    """Reward of a reply that cannot be read."""
    turn_reward: Literal["sum", "last"] = "sum"
    """Reward of a turn with several moves: their sum, or the last one alone (the official code)."""
    stop_at_done: bool = True
    """Drop the moves after the one that ends the game; false plays them (the official code)."""
    track_dead: bool = False
    """Detect boards that can no longer be solved."""
    end_on_dead: bool = False
    """End the episode when the board can no longer be solved (the official code); needs track_dead."""
    style: Literal["numbered", "compact", "peers"] = "numbered"
    """Text style of a board."""

    def validate(self) -> None:
        if self.min_moves > self.max_moves:
            raise ValueError(
                f"env.min_moves = {self.min_moves} contradicts env.max_moves = {self.max_moves}: "
                "no board lies between them"
            )
        if self.held_out_rules and self.controls == "plain":
            raise ValueError("env.held_out_rules = True contradicts env.controls = 'plain'")
        if self.end_on_dead and not self.track_dead:
            raise ValueError("env.end_on_dead = True contradicts env.track_dead = False")
        if self.reward_dead and not self.track_dead:
            raise ValueError(f"env.reward_dead = {self.reward_dead} contradicts env.track_dead = False")
        if self.levels:
            for name in GENERATED:
                value, default = getattr(self, name), getattr(type(self), name)
                if value != default:
                    raise ValueError(f"env.{name} = {value} contradicts env.levels: levels have their own")


class SokobanBatch(Batch, _C.SokobanBatch):
    name = "sokoban"

    def __init__(self, num_envs: int, *, show_moves: bool = False, **config: Any) -> None:
        super().__init__(num_envs, show_moves=show_moves, **config)
        self.show_moves = show_moves


class SokobanText(NativeTextEnv):
    @property
    def luck(self) -> bool:
        batch: Any = self.batch
        return bool(batch.sticky > 0)

    def task_prompt(self) -> str:
        batch: Any = self.batch
        return task_prompt(
            self.prompt, batch.style, self.moves_per_turn,
            controls=batch.controls, sticky=batch.sticky, show_moves=batch.show_moves,
        )  # fmt: skip

    def reply(self, actions: Sequence[int]) -> str:
        return f"<action>{', '.join(MOVES[action] for action in actions)}</action>"


def task_prompt(
    prompt: str, style: str, moves_per_turn: int,
    *, controls: str = "plain", sticky: float = 0.0, show_moves: bool = False,
) -> str:  # fmt: skip
    """Args: `prompt` "full" or "compact"; `style` of the observations; most moves of one reply, from 1."""
    symbols = SYMBOLS[style]
    wall, target, box, player = symbols[0], symbols[2], symbols[3], symbols[5]
    if prompt == "compact":
        rules = f"Sokoban. {player} pushes {box} to {target}, {wall} is wall."
        words = {"plain": "", "permuted": " mixed up", "broken": " still mixed up"}[controls]
        return f"{rules}\n<action>up</action> down left right{words}{_told_of(sticky)}"
    legend = "\n".join(f"{symbol} {cell}" for symbol, cell in zip(symbols, _CELLS, strict=True))
    if style != "compact":
        legend += "\nEvery row starts with its number, counted from 0 at the top."
    if moves_per_turn == 1:
        reply = "Reply with one move inside action tags, like this: <action>left</action>"
    else:
        reply = (
            f"Reply with your next moves, at most {moves_per_turn}, in the order in which you make them, "
            "separated by commas inside action tags, like this: <action>left, up</action>"
        )
    moves = _MOVES[controls]
    if sticky:
        moves += (
            f"\n- The controls stick: with a chance of {100 * sticky:g} % a move is not the one that you ask "
            "for, but the last move of this attempt once more. The first move of an attempt never is."
        )
    if show_moves:
        moves += (
            "\n- A line below the room says where the last word led, such as `up: left`, or `up: nothing` "
            "if nothing moved."
        )
    return f"""You are a warehouse keeper in a game of Sokoban.
You see the room from above, one symbol for each cell:
{legend}

Goal: every box stands on a target. It does not matter which box ends on which target.

Rules:
{moves}
- Moving into a box pushes it one cell ahead, if the cell behind it has neither a wall nor another box.
- Boxes cannot be pulled, and two boxes in line cannot be pushed together.
- A move that is not possible changes nothing and still counts.
- A box in a corner that is not a target is stuck for good, so plan the pushes before you make them.

{reply}"""


class SokobanExpert(Expert):
    """Optimal moves with noise. Its note is the last reply of the episode.

    With a memory it plays the optimal move in place of a random one that it took on the same board in an
    episode of this trial that failed.
    """

    def __init__(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> None:
        super().__init__(env, noise, memory, num_trials, rng)
        self.taken: list[set[Taken]] = [set() for _ in range(num_trials)]  # in this episode
        self.failed: list[set[Taken]] = [set() for _ in range(num_trials)]  # in earlier ones

    def play(self, trials: NDArray[np.int64]) -> tuple[list[str], NDArray[np.float64] | None]:
        replies, chances = super().play(trials)
        remembering = np.flatnonzero(self.remembers[trials])
        recalled = self._recall(trials[remembering], [replies[b] for b in remembering])
        for b, reply in zip(remembering.tolist(), recalled, strict=True):
            replies[b], self.last[trials[b]] = reply, action(reply) or ""
        return replies, chances

    def reflect(self, trials: NDArray[np.int64]) -> list[str]:
        dead = self.env.batch.flags(trials)[2]
        for trial in trials.tolist():
            self.failed[trial] |= self.taken[trial]
            self.taken[trial].clear()
        return [
            f"{'stuck' if is_dead else 'too slow'}: {self.last[trial]}"
            for trial, is_dead in zip(trials.tolist(), dead, strict=True)
        ]

    def _recall(self, trials: NDArray[np.int64], replies: Sequence[str]) -> list[str]:
        """The replies, optimal from their first move on that failed before on the same board."""
        batch = self.env.batch
        before = batch.snapshot(trials)
        drawn, lengths, _ = batch.parse(replies, max_actions=self.env.moves_per_turn)
        recalled = np.zeros(len(trials), bool)
        for turn in range(drawn.shape[1]):
            best, states = batch.expert_actions(trials), batch.anchors(trials).tolist()
            for b, trial in enumerate(trials.tolist()):
                recalled[b] |= (states[b], int(drawn[b, turn])) in self.failed[trial]
                if recalled[b] and best[b] >= 0:
                    drawn[b, turn] = best[b]
                if turn < lengths[b]:
                    self.taken[trial].add((states[b], int(drawn[b, turn])))
            batch.step(drawn[:, turn, None].copy(), None, trials)
        batch.restore(before, trials)
        return [
            self.env.reply(moves[:length].tolist())
            for moves, length in zip(drawn, lengths.tolist(), strict=True)
        ]


class Sokoban(NativeGame):
    """Push every box onto a target, in generated rooms or given levels."""

    name = "sokoban"
    options = SokobanOptions
    batch_options = (
        COMMON
        | dict.fromkeys(("num_boxes", "min_moves", "max_moves"), int)
        | {"controls": str, "held_out_rules": bool, "sticky": (float, int), "show_moves": bool}
        | {"track_dead": bool, "end_on_dead": bool, "levels": (list, type(None))}
    )
    text_env = SokobanText
    moves_per_turn = 3, 1000
    reward_sets: ClassVar[RewardSets] = {
        "lamer": {"step": -0.1, "on": 1.0, "off": -1.0, "win": 10.0, "dead": 0.0, "invalid": -0.1},
        "sparse": {"win": 10.0},
    }

    def batch_class(self, config: Mapping[str, Any]) -> type[Batch]:
        for option in GENERATED:
            if option in config and config.get("levels") is not None:
                value = config[option]
                raise ValueError(f"{option}={value!r} has no effect on given levels: leave one of them out")
        return SokobanBatch

    def board_settings(self, options: SokobanOptions) -> dict[str, Any]:
        rules = {name: getattr(options, name) for name in ("controls", "held_out_rules", "sticky")}
        if options.levels:
            return rules | {"levels": [_read_levels(options.levels)]}
        return rules | {name: getattr(options, name) for name in GENERATED}

    def play_settings(self, options: SokobanOptions) -> dict[str, Any]:
        same = ("turn_reward", "stop_at_done", "show_moves", "track_dead", "end_on_dead")
        return super().play_settings(options) | {name: getattr(options, name) for name in same}

    def summary(self, options: SokobanOptions) -> str:
        controls = "" if options.controls == "plain" else f", {options.controls} controls"
        controls += f", {100 * options.sticky:g} % sticky" if options.sticky else ""
        if options.levels:
            return f"sokoban, levels of {Path(options.levels).name}{controls}"
        boxes = "1 box" if options.num_boxes == 1 else f"{options.num_boxes} boxes"
        return f"sokoban {options.height}x{options.width}, {boxes}{controls}"

    def words(self, options: SokobanOptions) -> list[str]:
        words = ["up", "down", "left", "right", ", ", "stuck: ", "too slow: ", "Sokoban. "]
        words += [" pushes ", " to ", " is wall.\n"]
        if not _hides(options):
            return words + [cell + "\n" for cell in "#_OX*PS"]
        told = range(5 if options.controls == "broken" else 4)
        words += [f"<action>{MOVES[word]}</action>" for word in told] + [" mixed up", NOTHING]
        words += [_told_of(options.sticky)] if options.sticky else []
        words += [fact(word, move) for word in told for move in told]
        words += [f"\n{MOVES[word]}: {way}" for word in told for way in (*MOVES[:4], NOTHING)]
        return words + _rows(options)

    def expert(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> Expert:
        if _hides(env.batch):
            return ControlsExpert(env, noise, memory, num_trials, rng)
        return SokobanExpert(env, noise, memory, num_trials, rng)

    def has_bound(self, options: SokobanOptions) -> bool:
        return _hides(options) and options.moves_per_turn == 1 and not options.end_on_dead

    def best_chances(self, batch: Any, max_turns: int, episodes: int) -> NDArray[np.float64]:
        return explorer.bound(batch, max_turns, episodes)

    def guide(self, env: Any, max_turns: int, episodes: int) -> Guide | None:
        batch = getattr(env, "batch", None)  # a world of one's own may take its place
        known = batch is not None and _hides(batch) and env.moves_per_turn == 1
        return explorer.ControlsGuide(env, max_turns, episodes) if known else None

    def explorer(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator,
        *, max_turns: int, episodes: int,
    ) -> Expert:  # fmt: skip
        if not _hides(env.batch) or env.moves_per_turn > 1:
            return super().explorer(
                env, noise, memory, num_trials, rng, max_turns=max_turns, episodes=episodes
            )
        return explorer.ExplorerExpert(
            env, noise, memory, num_trials, rng, max_turns=max_turns, episodes=episodes
        )


def _told_of(sticky: float) -> str:
    return f" sticky {100 * sticky:g}%" if sticky else ""


def _hides(game: Any) -> bool:
    """Whether even who sees the board cannot know what a word will do; of options or of a batch."""
    return bool(game.controls != "plain" or game.sticky > 0)


def _rows(options: SokobanOptions) -> list[str]:
    """A token per row and content of it: a board of one box costs its height in tokens. Larger ones, or of
    another style, get one per cell at the end of a row."""
    if options.style != "compact" or options.levels or options.num_boxes > 1 or options.width > MAX_ROW:
        return [cell + "\n" for cell in "#_OX*PS"]
    rows = []
    for cells in product("#_OX*PS", repeat=options.width - 2):
        row = "".join(cells)
        if all(sum(map(row.count, alike)) <= 1 for alike in ("PS", "X*", "O*S")):
            rows.append(f"#{row}#\n")
    return [*rows, "#" * options.width, "#" * options.width + "\n"]


def _read_levels(path: str) -> str:
    try:
        return Path(path).read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ValueError(f"env.levels = {path!r} cannot be read: {error}") from None


ENTRY = Sokoban()
