"""RolesSampler: the phases of a trial, each played by a policy of its own."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.envs.expert import with_noise
from lamer_fast.samplers.protocol import Completion, Request, Sampler
from lamer_fast.samplers.scripted import ScriptedSampler

if TYPE_CHECKING:
    from torch import Tensor


@dataclass(frozen=True)
class Roles:
    """Who plays what; the same object may have several roles. None is a player of random legal actions."""

    explorer: Sampler | None  # every episode but the last
    reflector: Sampler  # every reflection
    player: Sampler | None  # the last episode

    def on(self, env: Any, agent: Any) -> RolesSampler:
        """For the trials of a rollout on these boards."""

        def bound(role: Sampler | None) -> Sampler:
            return RandomPlayer(env, agent, self.reflector.max_sequence_tokens) if role is None else role

        last = agent.rollout.episodes - 1
        return RolesSampler(bound(self.explorer), self.reflector, bound(self.player), last)


class RolesSampler:
    """A `Sampler` that hands each request to the one whose turn it is. Full prompts come with every request,
    so that each of them reads what the others wrote."""

    shares_weights = False

    def __init__(self, explorer: Sampler, reflector: Sampler, player: Sampler, last_episode: int) -> None:
        self.explorer, self.reflector, self.player = explorer, reflector, player
        self.last_episode = last_episode
        self.members: list[Sampler] = list({id(s): s for s in (explorer, reflector, player)}.values())
        self.max_sequence_tokens = min(member.max_sequence_tokens for member in self.members)
        self._at: dict[int, Sampler] = {}  # request -> who has it

    def submit(self, request: Request) -> None:
        plays = self.player if request.episode >= self.last_episode else self.explorer
        member = self.reflector if request.reflects else plays
        self._at[request.id] = member
        member.submit(request)

    def poll(self) -> list[Completion]:
        busy = set(map(id, self._at.values()))
        found = [c for member in self.members if id(member) in busy for c in member.poll()]
        for completion in found:
            del self._at[completion.id]
        return found

    def release(self, trial: int) -> None:
        for member in self.members:
            member.release(trial)

    def cancel(self, request_id: int) -> None:
        if member := self._at.pop(request_id, None):
            member.cancel(request_id)

    def score(self, token_ids: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        raise NotImplementedError("several policies have no common log-probabilities")

    def sleep(self) -> None:
        for member in self.members:
            member.sleep()

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        raise NotImplementedError("the policies of an evaluation are not trained")


class FirstWrites(RolesSampler):
    """The policy that is trained plays; the first one, which stays as it is, writes the reflections."""

    def __init__(self, policy: Sampler, first: Sampler) -> None:
        super().__init__(policy, first, policy, last_episode=0)
        self.shares_weights = policy.shares_weights
        self.takes_adapter = getattr(policy, "takes_adapter", False)

    def score(self, token_ids: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        return self.player.score(token_ids)

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        self.player.load_weights(named_tensors, version)


class RandomPlayer(ScriptedSampler):
    """Each legal action with the same probability, by the request's seed; a `Sampler` for moves alone."""

    def __init__(self, env: Any, agent: Any, max_sequence_tokens: int) -> None:
        if not any(callable(getattr(env, name, None)) for name in ("expert_replies", "legal_actions")):
            raise ValueError(f"random plays legal actions, {type(env).__name__} lists none")
        super().__init__(max_sequence_tokens)
        self.env, self.agent = env, agent

    def poll(self) -> list[Completion]:
        requests = self.waiting()
        if not requests:
            return []
        boards = np.array([request.trial for request in requests], np.int64)
        seeds = np.array([request.seed for request in requests], np.uint64)
        if callable(getattr(self.env, "expert_replies", None)):  # may do several actions in a reply
            texts = self.env.expert_replies(boards, 1.0, seeds)
        else:
            texts = with_noise([""] * len(boards), self.env.legal_actions(boards), 1.0, seeds)
        return [
            Completion(request.id, ids, np.zeros(len(ids), np.float32), True, 0)
            for request, ids in zip(requests, self.agent.renderer.replies(texts), strict=True)
        ]
