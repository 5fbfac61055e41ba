"""Expert players as a `Sampler`: expert trials are collected by the code that collects those of a policy.

An expert has a level of noise and, or not, a memory. It knows what the texts do not show (exact mine
probabilities, optimal Sokoban moves); what it writes after a failed episode is what happened in that episode.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.agent.agent import Agent
from lamer_fast.envs.expert import Expert
from lamer_fast.samplers.protocol import Completion, Request
from lamer_fast.samplers.scripted import ScriptedSampler
from lamer_fast.text import one_line


class ExpertSampler(ScriptedSampler):
    """Answers requests with an expert's replies: a `Sampler` in all but a model.

    Attributes:
        chances: per trial and turn, what the expert drew its action from; None of reflections.
    """

    def __init__(self, expert: Expert, agent: Agent, tokenizer: Any, num_trials: int) -> None:
        super().__init__(agent.rollout.max_sequence_tokens)
        self.expert = expert
        self.agent = agent
        self.tokenizer = tokenizer
        self.chances: list[list[NDArray[np.float64] | None]] = [[] for _ in range(num_trials)]

    def poll(self) -> list[Completion]:
        requests = self.waiting()
        if not requests:
            return []
        trials = np.array([request.trial for request in requests])
        reflect = np.array([request.reflects for request in requests])
        replies, chances = self.expert.play(trials[~reflect])
        texts = dict(zip(trials[~reflect].tolist(), replies, strict=True))
        for b, trial in enumerate(trials[~reflect].tolist()):
            self.chances[trial].append(None if chances is None else chances[b])
        for trial, note in zip(trials[reflect].tolist(), self._reflect(trials[reflect]), strict=True):
            self.chances[trial].append(None)
            texts[trial] = note
        return self._completions(requests, [texts[trial] for trial in trials.tolist()])

    def _reflect(self, trials: NDArray[np.int64]) -> list[str]:
        notes = self.expert.reflect(trials)
        return (
            [f"<remark>{note}</remark>" for note in notes] if self.agent.prompts.tagged_reflection else notes
        )

    def _completions(self, requests: list[Request], texts: list[str]) -> list[Completion]:
        encoded = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        end_ids = self.agent.renderer.end_ids
        for request, text, ids in zip(requests, texts, encoded, strict=True):
            if len(ids) + 1 > request.max_tokens:
                limit = "max_reflection_tokens" if request.reflects else "max_reply_tokens"
                raise ValueError(
                    f"rollout.{limit} = {request.max_tokens}, but an expert's reply has {len(ids) + 1} "
                    f"tokens: {one_line(text, 80)!r}"
                )
        return [
            Completion(
                id=request.id,
                token_ids=np.concatenate([np.array(ids, np.int32), end_ids]),
                logprobs=np.zeros(len(ids) + 1, np.float32),
                stopped=True,
                policy_version=0,
            )
            for request, ids in zip(requests, encoded, strict=True)
        ]
