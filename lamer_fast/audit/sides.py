"""The sides of an audit: who gives next-token distributions, and shows how it came to them."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor

from lamer_fast.audit.distances import rows_at_a_time
from lamer_fast.audit.engine import traced_engine
from lamer_fast.audit.reference import Reference
from lamer_fast.audit.replay import Replay
from lamer_fast.audit.trace import Trace, traced_decoder, traced_module
from lamer_fast.learn.batch import Packed
from lamer_fast.model.architecture import Architecture
from lamer_fast.samplers.protocol import Request, Sampling

FRESH = 1 << 20  # trials from here on are those of a trace
Place = tuple[int, int, str]  # (replay, place, kind)


class Side(Protocol):
    name: str

    def at(self, replays: Sequence[Replay], where: Sequence[Place]) -> Tensor:
        """Log-probabilities [R, V] at some places."""
        ...

    def trace(self, replays: Sequence[Replay], index: int) -> Trace | None:
        """Of `replays[index]`, computed afresh; None: it cannot be looked into."""
        ...


def walk_places(replays: Sequence[Replay], rows: int, *, together: bool = True) -> Iterator[list[Place]]:
    """At most `rows` places at a time; all replays side by side, as a sampler plays them, or one by one."""
    longest = max(len(replay.places) for replay in replays)
    if together:
        order = [[(r, step) for r in range(len(replays))] for step in range(longest)]
    else:
        order = [[(r, step) for step in range(longest)] for r in range(len(replays))]
    for line in order:
        row = [
            (r, int(replays[r].places[step]), replays[r].kinds[step])
            for r, step in line
            if step < len(replays[r].places)
        ]
        for first in range(0, len(row), rows):
            yield row[first : first + rows]


class Hidden:
    """Rows of hidden states by place, computed once per set of replays; a row has H values, not V."""

    def __init__(self, compute: Callable[[Replay], Tensor]) -> None:
        self._compute = compute
        self._of: Sequence[Replay] = ()
        self._rows: dict[tuple[int, int], Tensor] = {}

    def at(self, replays: Sequence[Replay], where: Sequence[Place]) -> Tensor:
        if self._of is not replays:
            self._of, self._rows = replays, {}
            for r, replay in enumerate(replays):
                for place, row in zip(replay.places.tolist(), self._compute(replay), strict=True):
                    self._rows[r, place] = row
        return torch.stack([self._rows[r, place] for r, place, _ in where])


class PolicySide:
    """The trainer: its packed forward pass, and its head in the compute dtype."""

    name = "trainer"

    def __init__(self, policy: Any, temperature: float) -> None:
        self.policy, self.temperature = policy, temperature
        self._hidden = Hidden(self._compute)

    def forget(self) -> None:
        """The weights are others."""
        self._hidden = Hidden(self._compute)

    @torch.no_grad()
    def at(self, replays: Sequence[Replay], where: Sequence[Place]) -> Tensor:
        return self._logprobs(self._hidden.at(replays, where))

    @torch.no_grad()
    def trace(self, replays: Sequence[Replay], index: int) -> Trace | None:
        replay, model = replays[index], self.policy.model
        trace = Trace(len(replay.token_ids), model.config.num_hidden_layers)
        rows = all_rows(len(replay.token_ids))
        if self.policy.decoder is not None:
            watching = traced_decoder(self.policy.decoder, trace, lambda attention: rows)
        else:
            watching = traced_module(model, trace, lambda count: rows)
        with watching:
            hidden = self._compute(replay)
        chunk = rows_at_a_time(self.policy.num_ids)
        for first in range(0, len(hidden), chunk):
            places = replay.places[first : first + chunk].tolist()
            trace.logprobs.update(zip(places, self._logprobs(hidden[first : first + chunk]), strict=True))
        return trace

    def _logprobs(self, hidden: Tensor) -> Tensor:
        logits = torch.nn.functional.linear(hidden, self.policy.head_weight)
        return torch.log_softmax(logits.float() / self.temperature, -1)

    @torch.no_grad()
    def _compute(self, replay: Replay) -> Tensor:
        """[P, H]"""
        device, n = self.policy.device, len(replay.token_ids)
        ids = torch.from_numpy(replay.token_ids).to(device)
        at = torch.from_numpy(replay.places - 1).to(device)
        packed = Packed(
            input_ids=ids,
            position_ids=torch.arange(n, device=device),
            cu_seqlens=torch.tensor([0, n], dtype=torch.int32, device=device),
            max_seqlen=n,
            token_idx=at,
            targets=ids[at.clamp(max=n - 1)],
        )
        hidden: Tensor = self.policy.hidden(packed)
        return hidden


class SamplerSide:
    """Any sampler with `observe`: every place is a request of one token after the forced tokens before it, so
    that prompts are prefilled, replies decoded and prefixes found in the cache as they are in a run."""

    name = "sampler"

    def __init__(self, sampler: Any, architecture: Architecture, temperature: float) -> None:
        self.sampler, self.temperature = sampler, temperature
        self.num_layers, self.head_size = architecture.num_layers, architecture.head_size
        self._first_trial, self._next_id = 0, 0

    def at(self, replays: Sequence[Replay], where: Sequence[Place]) -> Tensor:
        return torch.stack(self._ask([(self._first_trial + r, replays[r], place) for r, place, _ in where]))

    def release(self, count: int) -> None:
        """The caches of so many replays go."""
        for trial in range(self._first_trial, self._first_trial + count):
            self.sampler.release(trial)

    def trace(self, replays: Sequence[Replay], index: int) -> Trace | None:
        replay = replays[index]
        if hasattr(self.sampler, "module"):  # an engine, which serves requests in an order of its own
            self.sampler.forget_prefixes()
            replays, index = [replay], 0
        elif not hasattr(self.sampler, "decoder"):
            return None
        trace = Trace(len(replay.token_ids), self.num_layers)
        kept, self._first_trial = self._first_trial, FRESH  # what the replays have in the cache stays there
        try:
            for where in walk_places(replays, self.sampler.max_in_flight):
                with self._watching(trace, where, index):
                    found = self.at(replays, where)
                for (r, place, _), row in zip(where, found, strict=True):
                    if r == index:
                        trace.logprobs[place] = row
            self.release(len(replays))
        finally:
            self._first_trial = kept
        return trace if trace.values else None  # a compiled engine calls no hooks

    @contextmanager
    def _watching(self, trace: Trace, where: Sequence[Place], index: int) -> Iterator[None]:
        if hasattr(self.sampler, "decoder"):
            rows = _RowsOf(where, index)
            with self.sampler.as_it_is(), traced_decoder(self.sampler.decoder, trace, rows):
                yield
            return
        place = where[0][1]
        with traced_engine(self.sampler.module, self.head_size, trace, lambda at: rows_before(at, place)):
            yield

    def _ask(self, wanted: Sequence[tuple[int, Replay, int]]) -> list[Tensor]:
        seen: dict[int, Tensor] = {}

        def observe(ids: Sequence[int], logprobs: Tensor) -> None:
            seen.update(zip(ids, logprobs.detach().clone(), strict=True))

        first, drawn = self._next_id, Sampling(self.temperature)
        self._next_id += len(wanted)
        self.sampler.observe = observe
        try:
            for i, (trial, replay, place) in enumerate(wanted):
                ids = replay.token_ids[:place].astype(np.int32)
                self.sampler.submit(Request(first + i, trial, ids, 0, 1, (), drawn))
            left = len(wanted)
            while left:
                left -= len(self.sampler.poll())
        except BaseException:
            for i in range(len(wanted)):
                self.sampler.cancel(first + i)
            raise
        finally:
            self.sampler.observe = None
        return [seen[first + i] for i in range(len(wanted))]


class _RowsOf:
    """Which rows of a cached pass are those of one replay: requests are served in the order of their places.

    Holds as long as a pass takes all new tokens of a request, `max_prefill_tokens`.
    """

    def __init__(self, where: Sequence[Place], index: int) -> None:
        self._left, self._index = list(where), index

    def __call__(self, attention: Any) -> tuple[Tensor, Tensor] | None:
        bounds = attention.cu_seqlens.tolist()
        served = self._left[: len(bounds) - 1]
        self._left = self._left[len(served) :]
        for (r, place, _), start, end in zip(served, bounds, bounds[1:], strict=False):
            if r == self._index:
                return torch.arange(start, end), torch.arange(place - (end - start), place)
        return None


def rows_before(positions: Tensor, place: int) -> tuple[Tensor, Tensor] | None:
    """Of a pass of one sequence, which may be padded, or already draw beyond the place that is asked for."""
    first = int(positions[0])
    along = torch.arange(first, first + len(positions), device=positions.device)
    count = int(((positions == along) & (positions < place)).long().cumprod(0).sum())
    return (torch.arange(count), torch.arange(place - count, place)) if count else None


def all_rows(count: int) -> tuple[Tensor, Tensor]:
    every = torch.arange(count)
    return every, every


class ReferenceSide:
    """Plain torch in a dtype, over the weights of a model."""

    name = "plain torch"

    def __init__(self, reference: Reference, dtype: torch.dtype) -> None:
        self.reference, self.dtype = reference, dtype
        self._hidden = Hidden(self._compute)
        self.largest_logit = 0.0

    @torch.no_grad()
    def at(self, replays: Sequence[Replay], where: Sequence[Place]) -> Tensor:
        logits = self.reference.logits(self._hidden.at(replays, where))
        self.largest_logit = max(self.largest_logit, float(logits.abs().max()))
        return torch.log_softmax(logits, -1)

    @torch.no_grad()
    def _compute(self, replay: Replay) -> Tensor:
        device = self.reference.model.get_input_embeddings().weight.device
        ids = torch.from_numpy(replay.token_ids).to(device)
        return self.reference.stream(ids, self.dtype)[torch.from_numpy(replay.places - 1).to(device)]
