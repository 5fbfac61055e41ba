"""Expert players as a `Sampler`: expert trials are collected by the code that collects those of a policy.

An expert has a level of noise and, or not, a memory. It knows what the texts do not show (exact mine
probabilities, optimal Sokoban moves); what it writes after a failed episode is what happened in that episode.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from lamer_fast.agent.agent import Agent
from lamer_fast.rollout.samplers.protocol import Completion, Request

KNOWN_MINE, KNOWN_SAFE = 2.0, -1.0  # beyond any probability


class Expert(ABC):
    """One player per trial; `trials` are board indices of `env`.

    Args:
        noise: levels; a player draws one, and takes a random legal action with this probability.
        memory: share of the players that use what earlier episodes of their trial revealed.
    """

    def __init__(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> None:
        self.env = env
        self.rng = rng
        self.noise = rng.choice(np.array(noise), num_trials)
        self.remembers = rng.random(num_trials) < memory

    @abstractmethod
    def play(self, trials: NDArray[np.int64]) -> tuple[list[str], NDArray[np.float64] | None]:
        """A reply to the board of each trial, and the distribution over single actions it was drawn from.

        The distribution is [B, num_actions], or None of an expert whose replies are several actions.
        """

    @abstractmethod
    def reflect(self, trials: NDArray[np.int64]) -> list[str]:
        """What happened in the episode that each trial has just failed."""


class MinesweeperExpert(Expert):
    """Opens a cell of the lowest exact mine probability, any of the equal ones.

    With a memory it opens what earlier episodes proved free first and what they proved mined never.
    """

    def __init__(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> None:
        super().__init__(env, noise, memory, num_trials, rng)
        shape = (num_trials, env.batch.num_actions)
        self.mined = np.zeros(shape, bool)
        self.free = np.zeros(shape, bool)

    def play(self, trials: NDArray[np.int64]) -> tuple[list[str], NDArray[np.float64] | None]:
        batch = self.env.batch
        closed = batch.legal_actions(trials)
        self.free[trials] |= ~closed
        memory = self.remembers[trials, None]
        danger, _ = batch.mine_probabilities(trials)
        danger = np.where(memory & self.free[trials], KNOWN_SAFE, danger)
        danger = np.where(memory & self.mined[trials], KNOWN_MINE, danger)
        danger = np.where(closed, danger, np.inf)
        best = danger <= danger.min(axis=1, keepdims=True) + 1e-9
        loose = closed & ~(memory & self.mined[trials])
        noise = self.noise[trials, None]
        chances = (1 - noise) * _uniform(best) + noise * _uniform(loose)
        actions = (chances.cumsum(axis=1) <= self.rng.random((len(trials), 1))).sum(axis=1)
        actions = np.minimum(actions, chances.shape[1] - 1 - chances[:, ::-1].astype(bool).argmax(axis=1))
        return [self.env.reply([action]) for action in actions.tolist()], chances

    def reflect(self, trials: NDArray[np.int64]) -> list[str]:
        width = self.env.batch.width
        notes = []
        for trial, board in zip(trials.tolist(), self.env.batch.texts(trials, style="compact"), strict=True):
            hit = board.replace("\n", "").find("*")
            if hit >= 0:
                self.mined[trial, hit] = True
                self.free[trial, hit] = False
            cells = [divmod(cell, width) for cell in np.flatnonzero(self.mined[trial]).tolist()]
            notes.append(f"mine {' '.join(f'({r + 1}, {c + 1})' for r, c in cells)}" if cells else "no mine")
        return notes


def _uniform(choices: NDArray[np.bool_]) -> NDArray[np.float64]:
    return np.asarray(choices / choices.sum(axis=1, keepdims=True))


class SokobanExpert(Expert):
    """Optimal moves with noise. It has no use for a memory; its note is the last reply of the episode."""

    def __init__(
        self, env: Any, noise: Sequence[float], memory: float, num_trials: int, rng: np.random.Generator
    ) -> None:
        super().__init__(env, noise, memory, num_trials, rng)
        self.last = [""] * num_trials

    def play(self, trials: NDArray[np.int64]) -> tuple[list[str], NDArray[np.float64] | None]:
        seeds = self.rng.integers(0, 2**63, len(trials), dtype=np.uint64)
        replies: list[str] = self.env.expert_replies(trials, self.noise[trials], seeds)
        for trial, reply in zip(trials.tolist(), replies, strict=True):
            self.last[trial] = reply.removeprefix("<action>").removesuffix("</action>")
        return replies, None

    def reflect(self, trials: NDArray[np.int64]) -> list[str]:
        dead = self.env.batch.flags(trials)[2]
        return [
            f"{'stuck' if is_dead else 'too slow'}: {self.last[trial]}"
            for trial, is_dead in zip(trials.tolist(), dead, strict=True)
        ]


EXPERTS = {"minesweeper": MinesweeperExpert, "sokoban": SokobanExpert}


class ExpertSampler:
    """Answers requests with an expert's replies: a `Sampler` in all but a model.

    Attributes:
        chances: per trial and turn, what the expert drew its action from; None of reflections.
    """

    shares_weights = True

    def __init__(self, expert: Expert, agent: Agent, tokenizer: Any, num_trials: int) -> None:
        self.expert = expert
        self.agent = agent
        self.tokenizer = tokenizer
        self.rollout = agent.rollout
        self.max_sequence_tokens = agent.rollout.max_sequence_tokens
        self.chances: list[list[NDArray[np.float64] | None]] = [[] for _ in range(num_trials)]
        self._waiting: list[Request] = []
        self._turns = np.zeros(num_trials, np.int64)  # played in the present episode

    def submit(self, request: Request) -> None:
        self._waiting.append(request)

    def poll(self) -> list[Completion]:
        requests, self._waiting = self._waiting, []
        if not requests:
            return []
        trials = np.array([request.trial for request in requests])
        over = self.expert.env.batch.flags(trials)[0] | (self._turns[trials] == self.rollout.max_turns)
        reflect = over & self.rollout.reflect
        self._turns[trials[over]] = 0
        self._turns[trials[~reflect]] += 1
        replies, chances = self.expert.play(trials[~reflect])
        texts = dict(zip(trials[~reflect].tolist(), replies, strict=True))
        for b, trial in enumerate(trials[~reflect].tolist()):
            self.chances[trial].append(None if chances is None else chances[b])
        for trial, note in zip(trials[reflect].tolist(), self._reflect(trials[reflect]), strict=True):
            self.chances[trial].append(None)
            texts[trial] = note
        return self._completions(requests, [texts[trial] for trial in trials.tolist()])

    def release(self, trial: int) -> None:
        pass

    def cancel(self, request_id: int) -> None:
        self._waiting = [request for request in self._waiting if request.id != request_id]

    def score(self, token_ids: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        raise NotImplementedError("an expert has no log-probabilities")

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        pass

    def _reflect(self, trials: NDArray[np.int64]) -> list[str]:
        notes = self.expert.reflect(trials)
        return (
            [f"<remark>{note}</remark>" for note in notes] if self.agent.prompts.tagged_reflection else notes
        )

    def _completions(self, requests: list[Request], texts: list[str]) -> list[Completion]:
        encoded = self.tokenizer(texts, add_special_tokens=False, return_attention_mask=False)["input_ids"]
        end_ids = self.agent.renderer.end_ids
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
