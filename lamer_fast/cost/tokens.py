"""The most tokens that a trial can have: from the texts of a few boards and the limits of the rollout."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from lamer_fast.agent.agent import Agent, Ask
from lamer_fast.agent.memory import Memory
from lamer_fast.config import Config
from lamer_fast.envs.contract import AllLostError
from lamer_fast.model.path import path_notes
from lamer_fast.rollout.guard import EnvGuard
from lamer_fast.say import log

if TYPE_CHECKING:
    from lamer_fast.envs.protocol import TextBatchEnv

NUM_PROBES = 64  # boards whose texts stand for all


@dataclass(frozen=True)
class TokenBounds:
    """Most tokens of one trial's parts, if every reply has its full length and every limit is reached."""

    first_prompt: int
    """The longest prompt that opens a conversation, without what it remembers of earlier episodes."""
    sequence: int
    """The longest sequence."""
    sequences: int
    """Sequences of a trial."""
    sampled: int
    """Sampled tokens of a trial."""
    prefilled: int
    """Prompt tokens computed by a sampler that keeps its cache within a sequence."""


def token_bounds(config: Config, agent: Agent, env: TextBatchEnv) -> TokenBounds:
    """From the texts of a few boards and the limits of the rollout."""
    r = config.rollout
    probes = np.arange(min(NUM_PROBES, env.num_envs), dtype=np.int64)
    guard = EnvGuard(env, max_chars=r.max_sequence_tokens * agent.renderer.max_token_chars + 1)
    guard.reset(probes.astype(np.uint64))
    board, task = max(guard.observe(probes), key=len), max(guard.task_texts(probes), key=len)
    lists = guard.legal_actions(probes) if agent.shows_actions else []
    actions = max(lists, key=lambda replies: sum(map(len, replies)), default=[])
    if len(guard.errors) == len(probes):
        raise AllLostError(f"none of the first {len(probes)} boards can be drawn: {guard.errors[0]}")

    def length(ask: Ask, episode: int = 0) -> int:
        """Ids of a prompt that needs nothing remembered."""
        shown = () if ask == Ask.REFLECTION else actions
        text = agent.text(ask, Memory(board, task=task), episode, board, board, shown)
        render = agent.renderer.start if agent.starts_sequence(ask) else agent.renderer.bridge
        return len(render(text))

    first, board_tokens = length(Ask.FIRST), len(agent.renderer.bridge(board))
    plays = r.max_turns * r.max_reply_tokens
    reflections = (r.episodes - 1) * r.reflect
    sampled = r.episodes * plays + reflections * r.max_reflection_tokens
    quoted = reflections * r.max_reflection_tokens if r.memory in ("reflection", "both") else 0
    if r.context == "trial":
        asks = r.episodes * (r.max_turns - 1) * length(Ask.TURN)
        asks += reflections * length(Ask.REFLECTION) + (r.episodes - 1) * length(Ask.EPISODE, 1)
        return TokenBounds(first, first + asks + sampled, 1, sampled, first + asks)
    action = 16  # an action as quoted in a history, with its line
    if r.context == "episode":
        past = r.episodes - 1 if r.memory in ("history", "both") else 0
        history = past * min(r.max_turns, r.history_turns) * action + past * r.history_boards * board_tokens
        asks = (r.max_turns - 1) * length(Ask.TURN) + r.reflect * length(Ask.REFLECTION)
        opening = first + quoted + history
        sequence = opening + asks + plays + r.reflect * r.max_reflection_tokens
        return TokenBounds(first, sequence, r.episodes, sampled, r.episodes * (opening + asks))
    prompt = first + quoted + r.history_turns * (action + board_tokens)
    turns = r.episodes * r.max_turns + reflections
    longest = prompt + max(r.max_reply_tokens, r.max_reflection_tokens if reflections else 0)
    return TokenBounds(first, longest, turns, sampled, turns * prompt)


def check_prompts(config: Config, agent: Agent, env: TextBatchEnv) -> list[str]:
    """Compares the longest sequences with the limits; returns what the user should know.

    Raises:
        ValueError: not even the first prompt and one reply fit.
    """
    bounds, r = token_bounds(config, agent, env), config.rollout
    if bounds.first_prompt + r.max_reply_tokens > r.max_sequence_tokens:
        raise ValueError(
            f"the first prompt has {bounds.first_prompt} tokens and rollout.max_reply_tokens = "
            f"{r.max_reply_tokens}: together more than rollout.max_sequence_tokens = {r.max_sequence_tokens}"
        )
    notes = []
    if bounds.sequence > r.max_sequence_tokens:
        notes.append(
            f"a sequence can reach {bounds.sequence} tokens if every reply is as long as allowed, "
            f"rollout.max_sequence_tokens is {r.max_sequence_tokens}: longer trials end as truncated"
        )
    return notes + path_notes(config.model.path) + list(agent.renderer.notes)


def say_notes(config: Config, agent: Agent, env: TextBatchEnv) -> None:
    """Logs what the user should know of what is about to work; raises as `check_prompts` does."""
    for note in check_prompts(config, agent, env):
        log.warning(note)
