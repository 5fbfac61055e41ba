"""Agent: from a situation in a trial to the text, and the token ids, that ask the model for its next turn."""

from collections.abc import Sequence
from enum import IntEnum

import numpy as np
from numpy.typing import NDArray

from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.agent.memory import Memory
from lamer_fast.agent.prompts import action_text, prompts_asking, reflection_text, turn_list
from lamer_fast.config import Config
from lamer_fast.envs.contract import task_prompt
from lamer_fast.envs.protocol import TextBatchEnv
from lamer_fast.envs.replies import action


class Ask(IntEnum):
    """What the model is asked for next."""

    FIRST = 0  # the first turn of the trial
    TURN = 1  # another turn of the episode
    REFLECTION = 2  # the episode failed, another follows
    EPISODE = 3  # the first turn of a later episode


class Agent:
    """Writes prompts for the three contexts. It holds no state of a trial: that is in its `Memory`.

    In context `trial` a conversation is the whole trial and memories stay unused; in `episode` a conversation
    restarts with every episode and in `turn` with every turn, and the memory of the trial is written into it.
    """

    def __init__(self, renderer: ChatRenderer, env: TextBatchEnv, config: Config) -> None:
        self.renderer = renderer
        self.rollout = config.rollout
        self.prompts = prompts_asking(
            config.env.prompt, config.rollout.play_prompt, config.rollout.reflect_prompt
        )
        self.task = task_prompt(env)
        self.keeps_memory = self.rollout.context != "trial"
        self.shows_actions = config.env.show_actions
        if self.shows_actions and not callable(getattr(env, "legal_actions", None)):
            raise ValueError(f"env.show_actions = True, but {type(env).__name__} has no legal_actions()")

    def starts_sequence(self, ask: Ask) -> bool:
        """Whether the prompt opens a sequence of its own or continues the trial's last one."""
        context = self.rollout.context
        return ask == Ask.FIRST or context == "turn" or (context == "episode" and ask == Ask.EPISODE)

    def ids(
        self,
        ask: Ask,
        memories: Sequence[Memory],
        episodes: Sequence[int],
        boards: Sequence[str],
        last_boards: Sequence[str],
        actions: Sequence[Sequence[str]] | None = None,
    ) -> list[NDArray[np.int32]]:
        """Ids that open the conversations of B trials, or are appended to them, up to the generation prompt.

        Args:
            episodes: 0-based index of the episode that the turn belongs to.
            boards: the board now.
            last_boards: the final board of the episode before, where the model has not seen it yet (EPISODE
                without a reflection in between), else empty.
            actions: what can be done now, where prompts list it.
        """
        rows = zip(memories, episodes, boards, last_boards, actions or [()] * len(memories), strict=True)
        texts = [self.text(ask, *row) for row in rows]
        return self.renderer.starts(texts) if self.starts_sequence(ask) else self.renderer.bridges(texts)

    def text(
        self,
        ask: Ask,
        memory: Memory,
        episode: int,
        board: str,
        last_board: str = "",
        actions: Sequence[str] = (),
    ) -> str:
        prompts, choices = self.prompts, self._choices(actions)
        if ask == Ask.FIRST:
            first = prompts.first.format(board=board)
            return self._blocks(self.task, memory.task, first, choices, prompts.instruction)
        if self.rollout.context == "turn":
            return self._turn_prompt(ask, memory, episode, board, choices)
        if ask == Ask.TURN:
            return self._blocks(board, choices) if choices else board
        if ask == Ask.REFLECTION:
            return self._blocks(board, prompts.reflect)
        attempt = self._attempt(episode, board)
        if self.rollout.context == "trial":
            return self._blocks(last_board, attempt, choices)
        past = self._past(memory)
        return self._blocks(self.task, memory.task, past, attempt, choices, prompts.instruction)

    def reflection(self, reply: str) -> tuple[str, bool]:
        """(the reflection as later prompts quote it, whether the reply held one)."""
        return reflection_text(reply, self.prompts, self.rollout.max_reflection_chars)

    def remember_turn(self, memory: Memory, reply: str, board: str) -> None:
        memory.episodes[-1].append((action_text(reply), board))

    def remember_reflection(self, memory: Memory, reply: str) -> None:
        memory.reflections.append(self.reflection(reply)[0])

    def _attempt(self, episode: int, board: str) -> str:
        return self.prompts.attempt.format(n=episode + 1, last=episode, board=board)

    def _past(self, memory: Memory) -> str:
        rollout = self.rollout
        return memory.past(self.prompts, rollout.memory, rollout.history_turns, rollout.history_boards)

    def _choices(self, actions: Sequence[str]) -> str:
        """The block that lists them, as the environment reads them, without their tags."""
        if not actions:
            return ""
        bare = (reply if (content := action(reply)) is None else content for reply in actions)
        return self.prompts.actions.format(actions="\n".join(bare))

    def _turn_prompt(self, ask: Ask, memory: Memory, episode: int, board: str, choices: str) -> str:
        prompts, num_turns = self.prompts, self.rollout.history_turns
        start = prompts.first.format(board=memory.start_board)
        turns = memory.episodes[-1]
        if ask == Ask.REFLECTION:  # about the failed episode alone, with every board that the window holds
            failed = prompts.failed.format(history=turn_list(prompts, turns, num_turns, num_turns))
            return self._blocks(self.task, memory.task, start, failed, prompts.reflect)
        if ask == Ask.EPISODE:
            current = self._attempt(episode, board)
        else:
            history = turn_list(prompts, turns, num_turns, self.rollout.history_boards)
            current = prompts.current.format(history=history)
        past = self._past(memory)
        return self._blocks(self.task, memory.task, start, past, current, choices, prompts.instruction)

    def _blocks(self, *blocks: str) -> str:
        return self.prompts.gap.join(block for block in blocks if block)
