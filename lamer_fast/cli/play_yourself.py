"""A trial played by a person: the boards, replies and limits of a policy, with undo and hints."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from lamer_fast.config import Config
from lamer_fast.envs.contract import EnvError, task_prompt
from lamer_fast.envs.guide import Guide
from lamer_fast.envs.player import Player
from lamer_fast.envs.registry import entry
from lamer_fast.envs.replies import action
from lamer_fast.text import printable

MAX_TEXT = 5_000  # characters shown of one board or reply
COMMANDS = {
    ":hint": "what the expert would do, or the best player who has seen what you have",
    ":undo": "take the last turn back",
    ":quit": "leave",
}
INDEX = np.zeros(1, np.int64)


@dataclass(frozen=True)
class Result:
    """The episode of a trial that solved it, from 1, and its turns; None: none did."""

    solved: tuple[int, int] | None

    def __str__(self) -> str:
        return (
            "not solved" if self.solved is None else "solved in episode {} with {} turns".format(*self.solved)
        )

    def beats(self, other: Result) -> bool:
        """An earlier episode, or as early with fewer turns."""
        return self.solved is not None and (other.solved is None or self.solved < other.solved)


class Game:
    """`show` where it stands, `take` what is typed, until `over`."""

    def __init__(self, env: Any, config: Config, board: Any, policy: Mapping[str, Any] | None = None) -> None:
        """`policy`: the transcript of its trial on the board, told episode by episode."""
        self.env, self.config, self.policy = Player(env), config, policy
        self.episodes, self.max_turns = config.rollout.episodes, config.rollout.max_turns
        self.episode, self.turn, self.over = 0, 0, False
        self.result = Result(None)
        self.used = dict.fromkeys(("undo", "hint"), 0)
        self.guide: Guide | None = entry(config.env.name).guide(env, self.max_turns, self.episodes)
        self._before: list[tuple[int, int, bytes, Any]] = []  # episode, turn, state, what was known
        self.env.reset(board, INDEX.copy())

    def rules(self) -> str:
        texts = [shown(text) for text in (task_prompt(self.env.env), *self.env.task_texts(INDEX)) if text]
        return "\n".join([*texts, "", *(f"{word}  {what}" for word, what in COMMANDS.items())])

    def show(self) -> None:
        if self.turn == 0:
            of = f"{self.episode + 1} of {self.episodes}, up to {self.max_turns} turns"
            print(f"\n=== episode {of} ===")
        print("\n" + shown(self.env.observe(INDEX)[0]))
        if self.config.env.show_actions:
            print(shown("  ".join(action(r) or r for r in self.env.legal_actions(INDEX)[0])))

    def take(self, typed: str) -> None:
        typed = typed.strip()
        commands = [c for c in COMMANDS if typed.startswith(":") and len(typed) > 1 and c.startswith(typed)]
        if commands == [":undo"]:
            self._undo()
        elif commands == [":hint"]:
            self._hint()
        elif commands == [":quit"]:
            self.over = True
        elif typed.startswith(":"):
            print(f"({shown(typed)} is none of {', '.join(COMMANDS)}; it took no turn)")
        elif typed:
            self._play(typed)

    def _play(self, typed: str) -> None:
        if self._can_undo():
            known = self.guide.memory() if self.guide else None
            self._before.append((self.episode, self.turn, self.env.call("snapshot", INDEX), known))
        seen = self.env.observe(INDEX)
        reply = typed if "<" in typed else f"<action>{typed}</action>"
        if self.guide:
            self.guide.look()
        out = self.env.step([reply], INDEX)
        if self.guide:
            self.guide.learn(reply)
        self.turn += 1
        if not out.valid[0]:
            print("(this reply could not be read: it does nothing, and took a turn)")
        elif not out.done[0] and self.env.observe(INDEX) == seen:
            print("(this changes nothing, and took a turn)")
        if out.done[0] or self.turn >= self.max_turns:
            self._end(bool(out.done[0]), bool(out.success[0]))

    def _end(self, done: bool, success: bool) -> None:
        if done:
            print("\n" + shown(self.env.observe(INDEX)[0]))
        if success:
            self.over, self.result = True, Result((self.episode + 1, self.turn))
            print(f"\nsolved in episode {self.episode + 1}")
        else:
            why = "" if done else f" within {self.max_turns} turns"
            self.over = self.episode + 1 >= self.episodes
            rest = "" if self.over else "; the next episode starts from the same board"
            print(f"\nnot solved{why}{rest}")
        if self.policy is not None:
            print(of_episode(self.policy, self.episode))
        if not self.over:
            self.episode, self.turn = self.episode + 1, 0
            self.env.restart(INDEX)

    def _can_undo(self) -> bool:
        return self.env.has("snapshot") and self.env.has("restore")

    def _undo(self) -> None:
        """Back to before the last turn, across the start of an episode too."""
        if not self._can_undo():
            print("(this environment keeps no snapshots, so that nothing can be taken back)")
        elif not self._before:
            print("(there is no turn to take back)")
        else:
            self.episode, self.turn, state, known = self._before.pop()
            self.env.call("restore", state, INDEX)
            if self.guide:
                self.guide.recall(known)
            self.used["undo"] += 1

    def _hint(self) -> None:
        if self.guide:
            reply, chance = self.guide.hint(self.turn, self.episode)
            self.used["hint"] += 1
            print(f"(the best player wins this trial in {100 * chance:.0f} % of the cases from here)")
            print(f"hint: {shown(str(action(reply)))}")
            return
        if not self.env.has("expert_replies"):
            print("(this environment has no expert)")
            return
        try:
            (reply,) = self.env.call("expert_replies", INDEX, 0.0, np.zeros(1, np.uint64))
        except EnvError as error:
            print(f"(no hint: {shown(str(error))})")
            return
        self.used["hint"] += 1
        print(f"hint: {shown(str(action(reply) or reply)) or 'the expert knows nothing here'}")

    def verdict(self) -> str:
        """You and, where it has played, the policy."""
        helped = ", ".join(f"{n} {word}{'s' if n > 1 else ''}" for word, n in self.used.items() if n)
        you = f"you: {self.result}" + (f" ({helped})" if helped else "")
        if self.policy is None:
            return you
        policy = result_of(self.policy)
        winner = "a draw"
        if self.result.beats(policy):
            winner = "you win"
        elif policy.beats(self.result):
            winner = "the policy wins"
        return f"{you}\npolicy: {policy}\n{winner}"


def play(game: Game, read: Callable[[str], str]) -> None:
    """Until the trial is over, or nothing more is typed."""
    print(game.rules())
    while not game.over:
        game.show()
        try:
            game.take(read("> "))
        except (EOFError, KeyboardInterrupt):
            print()
            break
    print("\n" + game.verdict())


def of_episode(trial: Mapping[str, Any], episode: int) -> str:
    """What the policy did in its own episode, from its transcript."""
    turns = [t for t in trial["turns"] if t["phase"] == "play" and t["episode"] == episode]
    if not turns:
        return (
            "the policy did not need this episode" if any(trial["success_by_episode"]) else "the policy left"
        )
    moves = " | ".join(" ".join((action(t["reply"]) or t["reply"]).split()) for t in turns)
    won = "solved" if trial["success_by_episode"][episode] else "not solved"
    return f"the policy: {won} with {len(turns)} turns: {shown(moves)}"


def result_of(trial: Mapping[str, Any]) -> Result:
    for episode, won in enumerate(trial["success_by_episode"]):
        if won:
            played = [t for t in trial["turns"] if t["phase"] == "play" and t["episode"] == episode]
            return Result((episode + 1, len(played)))
    return Result(None)


def shown(text: str) -> str:
    return printable(text, MAX_TEXT)
