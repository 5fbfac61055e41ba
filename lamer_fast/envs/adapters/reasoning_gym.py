"""reasoning-gym: a question and its answers' grades, the same question over the episodes of a trial.

env.name = "reasoning-gym"
env.dataset = "countdown"
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType
from typing import Annotated, Any

from lamer_fast.envs.adapters.world import SUCCESS_REWARD, World, WorldOptions, digest, lines_of, plain
from lamer_fast.envs.protocol import Turn
from lamer_fast.fields import Range

MAX_ANSWER_CHARS = 2000
NONSENSE = "no answer at all"
PROMPT = "Answer the question. Put the answer alone into action tags, as in <action>42</action>."


@dataclass(frozen=True)
class Options(WorldOptions):
    dataset: str = "countdown"
    """Name of a data set of reasoning-gym."""
    config: str = ""
    """Configuration of the data set, as a JSON object: `{"min_numbers": 3}`."""
    size: Annotated[int, Range(1, 2**31 - 1)] = 1_000_000
    """Number of questions that a seed chooses from; some data sets refuse a large one."""
    answers: Annotated[int, Range(1)] = 1
    """Number of answers in an episode."""

    def validate(self) -> None:
        try:
            given = json.loads(self.config or "{}")
        except ValueError:
            given = None
        if not isinstance(given, dict) or {"size", "seed"} & given.keys():
            raise ValueError(f"env.config = {self.config!r}, must be a JSON object without size and seed")


@cache
def questions(dataset: str, size: int, config: str) -> Any:
    """The data set: it holds no state of a game, so that all boards of a process share it."""
    import reasoning_gym

    try:
        data = reasoning_gym.create_dataset(dataset, seed=0, size=size, **json.loads(config or "{}"))
    except Exception as error:
        known = ", ".join(sorted(reasoning_gym.factory.DATASETS))
        why = f"{type(error).__name__}: {error}"
        there = "" if dataset in reasoning_gym.factory.DATASETS else f"; there are: {known}"
        raise ValueError(
            f"env.dataset = {dataset!r} cannot be made of env.size = {size}: {why}{there}"
        ) from error
    first = data[0]
    if _score(data, first, NONSENSE) == 1.0:
        raise ValueError(
            f"env.dataset = {dataset!r} gives {NONSENSE!r} the full score: nothing can be learnt of it"
        )
    return data


def _score(data: Any, entry: Any, answer: str) -> float | None:
    """None where the grader cannot read the text: that is no answer, and no fault of the environment.

    A number that is not finite is none either: the distance to "nan" passes for 0 in some graders.
    """
    try:
        if not math.isfinite(float(answer)) and answer != str(entry["answer"]):
            return None
    except ValueError:
        pass
    try:
        return float(data.score_answer(answer, entry))
    except Exception:
        return None


class Board:
    """A question as a `TextEnv`."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.data = questions(options.dataset, options.size, options.config)

    def reset(self, seed: int) -> None:
        self.entry = self.data[seed % len(self.data)]  # made once: some take a tenth of a second
        self.question = plain(str(self.entry["question"]))
        self.restart()

    def restart(self) -> None:
        self.text, self.left = self.question, self.options.answers

    def step(self, reply: str) -> Turn:
        lines = lines_of(reply, MAX_ANSWER_CHARS)
        if lines is None:
            return Turn(0.0, valid=False)
        score = _score(self.data, self.entry, "\n".join(lines))
        if score is None:
            return Turn(0.0, valid=False)
        self.left -= 1
        success = score >= 1.0
        left = f" Answers left: {self.left}." if self.options.answers > 1 else ""
        self.text = "Right." if success else f"Not right: a score of {score:.2f}, of 1.{left}"
        reward = SUCCESS_REWARD * success if self.options.rewards == "success" else score
        return Turn(reward, success or self.left == 0, success)

    def observe(self) -> str:
        return self.text

    def task_prompt(self) -> str:
        return PROMPT

    def task(self) -> int:
        return digest(self.question, self.entry["answer"])


class ReasoningGym(World):
    """reasoning-gym's questions with graded answers, the same question over the episodes of a trial."""

    name = "reasoning-gym"
    options = Options
    packages = MappingProxyType({"reasoning_gym": "reasoning-gym"})
    success = "the package gives the answer a score of 1"
    turns = "after env.answers answers"

    def board(self, options: Options, split: str | None) -> Board:
        return Board(options)

    def summary(self, options: Options) -> str:
        return f"reasoning-gym's {options.dataset} {options.config}".rstrip()


ENTRY = ReasoningGym()
