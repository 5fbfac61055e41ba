"""ExchangedNotes: what a policy reads where it wrote a reflection, exchanged before anybody sees it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from lamer_fast.agent.prompts import reflection_text
from lamer_fast.samplers.protocol import Completion, Request, Sampler

MAX_CHARS = 1 << 20


class ExchangedNotes:
    """A `Sampler` whose reflections become those of another trial, empty ones, or words in another order.

    What happened in the episode stays as visible as the context has it; only the note differs. Of another
    trial it is the latest about as many failed episodes, and an empty one where there is none yet.

    Args:
        kind: "other", "empty" or "shuffled".
        agent: reads replies and writes ids.
    """

    def __init__(self, sampler: Sampler, kind: str, agent: Any) -> None:
        if kind not in ("other", "empty", "shuffled"):
            raise ValueError(f"kind = {kind!r}, must be one of: other, empty, shuffled")
        self.sampler, self.kind, self.agent = sampler, kind, agent
        self._asked: dict[int, Request] = {}  # reflections in flight
        self._written: dict[int, list[tuple[int, Any]]] = {}  # episode -> last notes of two trials

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sampler, name)

    def submit(self, request: Request) -> None:
        if request.reflects:
            self._asked[request.id] = request
        self.sampler.submit(request)

    def cancel(self, request_id: int) -> None:
        self._asked.pop(request_id, None)
        self.sampler.cancel(request_id)

    def poll(self) -> list[Completion]:
        return [self._exchanged(completion) for completion in self.sampler.poll()]

    def _exchanged(self, completion: Completion) -> Completion:
        request = self._asked.pop(completion.id, None)
        if request is None or completion.error is not None:
            return completion
        ids = self.agent.renderer.end_ids
        if self.kind == "other":
            ids = self._of_another(request, completion.token_ids)
        elif self.kind == "shuffled":
            note = self.agent.renderer.text(completion.token_ids)
            (ids,) = self.agent.renderer.replies([self._shuffled(note, request.seed)])
        return replace(completion, token_ids=ids, logprobs=np.zeros(len(ids), np.float32), stopped=True)

    def _of_another(self, request: Request, own: Any) -> Any:
        known = self._written.setdefault(request.episode, [])
        others = [ids for trial, ids in known if trial != request.trial]
        known[:] = [(trial, ids) for trial, ids in known if trial != request.trial][-1:]
        known.append((request.trial, own))
        return others[-1] if others else self.agent.renderer.end_ids

    def _shuffled(self, reply: str, seed: int) -> str:
        prompts = self.agent.prompts
        words = reflection_text(reply, prompts, MAX_CHARS)[0].split()
        np.random.default_rng(seed).shuffle(words)
        note = " ".join(words)
        return f"<remark>{note}</remark>" if prompts.tagged_reflection else note
