"""A sampler that says what it is told, and an environment whose boards follow a plan."""

from collections.abc import Callable

import numpy as np

from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.envs.protocol import TurnOut
from lamer_fast.samplers.protocol import Completion, Request

CUT = "<cut>"  # a scripted reply that ends with this is cut by its limit instead of ended


class ScriptedSampler:
    """Implements `Sampler`. `replies(trial, n)` is the n-th reply of a trial; `order` picks who answers in a
    poll.

    It keeps every request, and refuses a second one of a trial or of a released trial.
    """

    shares_weights = True

    def __init__(
        self,
        renderer: ChatRenderer,
        replies: Callable[[int, int], str],
        order: Callable[[list[int]], list[int]] = lambda waiting: waiting,
        max_sequence_tokens: int = 100_000,
    ) -> None:
        self.renderer, self.replies, self.order = renderer, replies, order
        self.max_sequence_tokens = max_sequence_tokens
        self.waiting: dict[int, Request] = {}
        self.requests: dict[int, list[Request]] = {}
        self.released: set[int] = set()

    def submit(self, request: Request) -> None:
        assert request.trial not in self.waiting and request.trial not in self.released
        assert len(request.token_ids) + request.max_tokens <= self.max_sequence_tokens
        self.waiting[request.trial] = request
        self.requests.setdefault(request.trial, []).append(request)

    def poll(self) -> list[Completion]:
        return [self._complete(self.waiting.pop(trial)) for trial in self.order(list(self.waiting))]

    def cancel(self, request_id: int) -> None:
        self.waiting.pop(request_id, None)

    def release(self, trial: int) -> None:
        assert trial not in self.waiting
        self.released.add(trial)

    def _complete(self, request: Request) -> Completion:
        reply = self.replies(request.trial, len(self.requests[request.trial]) - 1)
        cut = reply.endswith(CUT)
        ids = self.renderer._tokenizer(reply.removesuffix(CUT))["input_ids"]
        ids = np.array(ids if cut else [*ids, *self.renderer.end_ids], np.int32)
        logprobs = -np.arange(1, len(ids) + 1, dtype=np.float32)
        return Completion(request.id, ids, logprobs, not cut, 7)


class PlannedEnv:
    """Board i ends an episode after `plan[i][episode]` turns: "3L" lost, "2W" won, "9" never ("T": cut off).

    A reply "bad" is unparsable. Its text counts episodes and turns, so that prompts can be checked.
    """

    def __init__(self, plan: list[list[str]]) -> None:
        self.plan, self.num_envs = plan, len(plan)
        self.episode, self.turn = np.zeros(len(plan), int), np.zeros(len(plan), int)
        self.calls: list[list[int]] = []

    def reset(self, seeds, env_idx=None) -> None:
        self.episode[:], self.turn[:] = 0, 0

    def restart(self, env_idx) -> None:
        self.episode[env_idx] += 1
        self.turn[env_idx] = 0

    def step(self, replies, env_idx) -> TurnOut:
        self.calls.append([int(i) for i in env_idx])
        out = [self._step(int(i), reply) for i, reply in zip(env_idx, replies, strict=True)]
        rewards, done, truncated, success, valid, error = zip(*out, strict=True)
        return TurnOut(
            np.array(rewards, np.float32), np.array(done), np.array(truncated), np.array(success),
            np.array(valid), list(error),
        )  # fmt: skip

    def _step(self, i: int, reply: str):
        if reply == "break":
            return 0.0, True, False, False, False, "connection lost"
        self.turn[i] += 1
        plan = self.plan[i][self.episode[i]]
        ends = self.turn[i] == int(plan.rstrip("LWT"))
        won = bool(ends and plan.endswith("W"))
        done = bool(ends and plan[-1] in "LWT")
        return 10.0 if won else 0.1, done, done and plan.endswith("T"), won, reply != "bad", None

    def observe(self, env_idx) -> list[str]:
        return [f"[e{self.episode[i]} t{self.turn[i]}]" for i in env_idx]

    def task_prompt(self) -> str:
        return "TASK"
