"""Vocabulary of a new model: the words that an environment lists, or those of expert trials of it."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from lamer_fast.agent.agent import Agent
from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.config import Config
from lamer_fast.envs.registry import entry
from lamer_fast.rng import generator
from lamer_fast.rollout.boards import draw_boards
from lamer_fast.rollout.collect import collect_trials
from lamer_fast.rollout.trial_batch import Phase
from lamer_fast.warmstart.experts import ExpertSampler
from lamer_fast.warmstart.settings import WarmstartSettings
from lamer_fast.warmstart.tokenizer import TAGS, make_tokenizer, train_tokenizer

MAX_WHOLE_REPLIES = 64  # up to so many different ones are a token each
RANDOM = 1.0  # level of noise: walks that no expert would take show other texts
NO_LIMIT, LONG = 2**40, 2**20  # tokens of a sequence and of a reply


def tokenizer_for(settings: WarmstartSettings, config: Config, env: Any) -> Any:
    """The tokenizer of a new model for the recipe's environment, of which `env` has the boards."""
    if words := entry(config.env.name).words(config.env):
        return make_tokenizer(words)
    texts, replies = read_trials(settings, config, env)
    tagged = sorted({reply for reply in replies if reply.startswith(TAGS[0]) and reply.endswith(TAGS[1])})
    whole = tagged if len(tagged) <= MAX_WHOLE_REPLIES else []
    return train_tokenizer(texts, whole, settings.vocab_tokens)


def read_trials(settings: WarmstartSettings, config: Config, env: Any) -> tuple[list[str], list[str]]:
    """(all that stands in the trials of experts, as a model reads it; their replies), spelled in bytes."""
    tokenizer = make_tokenizer([])
    rollout = replace(
        config.rollout, max_sequence_tokens=NO_LIMIT, max_reply_tokens=LONG, max_reflection_tokens=LONG
    )
    config = replace(config, rollout=rollout)
    agent = Agent(ChatRenderer(tokenizer), env, config)
    levels = (*settings.noise_levels, RANDOM) if callable(getattr(env, "legal_actions", None)) else (0.0,)
    texts: list[str] = []
    replies: list[str] = []
    for batch in range(-(-settings.vocab_trials // settings.trials)):
        boards = draw_boards(config, batch)
        rng = generator(settings.seed, batch)
        expert = entry(config.env.name).expert(env, levels, settings.memory, len(boards), rng)
        trials = collect_trials(
            ExpertSampler(expert, agent, tokenizer, len(boards)), env, agent, boards, rollout, seed=0
        )
        bounds = zip(trials.cu_seqlens[:-1].tolist(), trials.cu_seqlens[1:].tolist(), strict=True)
        texts += _texts(tokenizer, [trials.tokens[start:end] for start, end in bounds])
        played = np.flatnonzero(trials.phase == Phase.PLAY)
        turns = zip(trials.token_start[played].tolist(), trials.token_end[played].tolist(), strict=True)
        replies += _texts(tokenizer, [trials.tokens[start : end - 1] for start, end in turns])
    return texts, replies


def _texts(tokenizer: Any, ids: Sequence[Any]) -> list[str]:
    decoded: list[str] = tokenizer.batch_decode(
        [row.tolist() for row in ids], skip_special_tokens=False, clean_up_tokenization_spaces=False
    )
    return decoded
