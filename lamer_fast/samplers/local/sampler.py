"""TorchSampler: samples from a Hugging Face model's own tensors, no engine beside the trainer.

Every trial has a slot: the ids it has seen, and their keys and values, kept over turns and episodes. A
request computes only what its prompt adds to the slot. One `poll` is one pass: a token for every row that is
decoding and a chunk of new tokens for those that are not.
"""

from collections import deque
from collections.abc import Iterable, Sequence
from contextlib import AbstractContextManager
from functools import partial
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamer_fast.model.adapters import adapted, adapter_weights
from lamer_fast.model.cache import SlotCache
from lamer_fast.model.decoder import Decoder, PackedAttention
from lamer_fast.model.quantised import num_weights
from lamer_fast.model.replay import MAX_TOKENS, CudaGraphs, Replayed
from lamer_fast.rng import uniforms
from lamer_fast.samplers.protocol import Completion, Observer, Request, Sampling
from lamer_fast.samplers.sampling import sample

FIRST_SLOTS = 8
FUSE_BELOW_PARAMETERS = 100_000_000  # fused projections cost a copy of most weights


class TorchSampler:
    """Implements `Sampler` over a Hugging Face causal language model.

    Args:
        model: of a family that `Decoder` computes; its dtype is the compute dtype.
        max_sequence_tokens: length of a slot; prompt and reply together may not exceed it.
        cache_tokens: KV cache in tokens, rounded down to whole slots; 0 makes a slot for every trial.
        max_in_flight: the most rows of one pass.
        max_prefill_tokens: the most new prompt tokens of one pass.
        num_ids: ids of the tokenizer. Rows of the head beyond it are padding, which is never sampled and has
            no share in a log-probability. None: all rows are ids.
        shares_weights: False: `model` is the sampler's own, and takes what `load_weights` brings: of one with
            adapters these alone.
    """

    def __init__(
        self,
        model: Any,
        *,
        max_sequence_tokens: int,
        cache_tokens: int = 0,
        max_in_flight: int = 1024,
        max_prefill_tokens: int = 4096,
        num_ids: int | None = None,
        cuda_graphs: bool = True,
        shares_weights: bool = True,
    ) -> None:
        if 0 < cache_tokens < max_sequence_tokens:
            raise ValueError(
                f"cache_tokens {cache_tokens} is less than max_sequence_tokens {max_sequence_tokens}"
            )
        self.shares_weights = shares_weights
        self.takes_adapter = not shares_weights and bool(adapted(model))
        self.max_sequence_tokens = max_sequence_tokens
        self.max_in_flight, self.max_prefill_tokens = max_in_flight, max_prefill_tokens
        self.policy_version = 0
        self.observe: Observer | None = None
        self.num_prefill_tokens = 0  # computed so far, for reports
        self.num_decode_tokens = 0
        self._decoder = Decoder(model, num_ids)
        self._fuses = num_weights(model) < FUSE_BELOW_PARAMETERS
        self._max_slots = cache_tokens // max_sequence_tokens if cache_tokens else None
        self._next_slots = FIRST_SLOTS if self._max_slots is None else min(FIRST_SLOTS, self._max_slots)
        self._cache = SlotCache(self._decoder, 0, max_sequence_tokens)
        self._pads = self._decoder.device.type == "cuda"
        self._replayed = Replayed(self._decoder, CudaGraphs() if self._pads and cuda_graphs else None)
        self._refresh()
        self._slots = _SlotTable(0, max_sequence_tokens)
        self._slot_of: dict[int, int] = {}  # trial -> slot, least recently used first
        self._free: list[int] = []
        self._waiting: deque[Request] = deque()
        self._active: dict[int, int] = {}  # slot -> request id, in order of admission
        self._samplings: list[Sampling] = []  # all that were asked for; slots name theirs by index

    @property
    def decoder(self) -> Decoder:
        return self._decoder

    def as_it_is(self) -> AbstractContextManager[None]:
        """Within it no pass is a CUDA graph, so that hooks of the decoder's modules are called."""
        return self._replayed.as_it_is()

    def submit(self, request: Request) -> None:
        length, limit = len(request.token_ids), self.max_sequence_tokens
        if length == 0 or request.max_tokens < 1:
            raise ValueError(
                f"a request needs a prompt and max_tokens >= 1, got {length} and {request.max_tokens}"
            )
        if length + request.max_tokens > limit:
            raise ValueError(
                f"prompt of {length} + max_tokens {request.max_tokens} exceed max_sequence_tokens {limit}"
            )
        self._waiting.append(request)

    def poll(self) -> list[Completion]:
        """One pass: a token for every decoding row, a chunk of new tokens for the others. May be empty."""
        self._admit()
        if not self._active:
            return []
        slots, counts = self._plan(np.fromiter(self._active, np.int64, len(self._active)))
        table = self._slots
        with torch.inference_mode():
            self._advance(slots, counts)
        return [self._complete(int(slot)) for slot in slots[table.finished[slots]]]

    def release(self, trial: int) -> None:
        slot = self._slot_of.get(trial)
        if slot is None:
            return
        if slot in self._active:
            raise ValueError(
                f"trial {trial} cannot be released while request {self._active[slot]} is in flight"
            )
        del self._slot_of[trial]
        self._slots.clear(slot)
        self._free.append(slot)

    def cancel(self, request_id: int) -> None:
        for request in self._waiting:
            if request.id == request_id:
                self._waiting.remove(request)
                return
        for slot, active_id in self._active.items():
            if active_id == request_id:
                del self._active[slot]
                return

    def score(self, token_ids: Sequence[NDArray[np.int32]]) -> list[NDArray[np.float32]]:
        """Log-probability of each token given those before it, [n] per sequence; the first entry is 0."""
        out: list[NDArray[np.float32]] = [np.zeros(len(ids), np.float32) for ids in token_ids]
        longest = max((len(ids) for ids in token_ids), default=0)
        if longest > self.max_sequence_tokens:
            raise ValueError(
                f"sequence of {longest} tokens, max_sequence_tokens is {self.max_sequence_tokens}"
            )
        todo = [i for i in range(len(token_ids)) if len(token_ids[i]) > 1]
        while todo:
            batch = [todo.pop()]
            while todo and sum(len(token_ids[i]) for i in (*batch, todo[-1])) <= self.max_prefill_tokens:
                batch.append(todo.pop())
            parts = [torch.from_numpy(token_ids[i].astype(np.int64)) for i in batch]
            with torch.inference_mode():
                for i, logprobs in zip(batch, self._score(parts), strict=True):
                    out[i][1:] = logprobs
        return out

    def _score(self, sequences: list[Tensor]) -> list[NDArray[np.float32]]:
        """By one packed pass; of each token but the first."""
        counts = [len(ids) for ids in sequences]
        ids, cu_seqlens = torch.cat(sequences), torch.tensor([0, *counts]).cumsum(0)
        predicts = torch.ones(len(ids), dtype=torch.bool)
        predicts[cu_seqlens[1:] - 1] = False
        wanted = predicts.nonzero()[:, 0]
        positions = torch.cat([torch.arange(n) for n in counts])
        sent = [
            x.to(self._decoder.device) for x in (ids, positions, cu_seqlens.int(), wanted, ids[wanted + 1])
        ]
        hidden = self._decoder(sent[0], PackedAttention(sent[1], sent[2], max(counts), sent[3]))
        logprobs = torch.log_softmax(self._decoder.logits(hidden), dim=-1)
        chosen = logprobs.gather(1, sent[4][:, None])[:, 0].cpu()
        return [x.numpy() for x in torch.split(chosen, [n - 1 for n in counts])]

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        """Empties the cache. Of weights that are the trainer's own, nothing is read from `named_tensors`."""
        self._release_all()
        if not self.shares_weights:
            self._take(named_tensors)
        self._refresh()
        self.policy_version = version

    @torch.no_grad()
    def _take(self, named_tensors: Iterable[tuple[str, Tensor]]) -> None:
        model = self._decoder.model
        own = adapter_weights(model) if self.takes_adapter else dict(model.named_parameters())
        for name, tensor in named_tensors:
            if own[name].data_ptr() != tensor.data_ptr():
                own[name].copy_(tensor)

    def sleep(self) -> None:
        """Frees the cache; the next request makes one as large."""
        self._release_all()
        self._next_slots = max(self._next_slots, self._cache.num_slots)
        self._cache = SlotCache(self._decoder, 0, self.max_sequence_tokens)
        self._slots = _SlotTable(0, self.max_sequence_tokens)
        self._free = []
        self._replayed.forget()
        if self._decoder.device.type == "cuda":
            torch.cuda.empty_cache()

    def _release_all(self) -> None:
        if self._active or self._waiting:
            raise ValueError(f"{len(self._active) + len(self._waiting)} requests are in flight, must be 0")
        for trial in list(self._slot_of):
            self.release(trial)

    def _refresh(self) -> None:
        if self._fuses:
            self._decoder.fuse()
        self._replayed.refresh()

    def _admit(self) -> None:
        while self._waiting and len(self._active) < self.max_in_flight:
            slot = self._slot_for(self._waiting[0].trial)
            if slot is None:
                return
            request = self._waiting.popleft()
            if request.sampling not in self._samplings:
                self._samplings.append(request.sampling)
            self._slots.begin(slot, request, self._samplings.index(request.sampling))
            self._active[slot] = request.id

    def _slot_for(self, trial: int) -> int | None:
        """The trial's slot, a free one, or that of the trial idle for longest; None while all are busy."""
        slot = self._slot_of.get(trial)
        if slot in self._active:
            raise ValueError(f"trial {trial} has request {self._active[slot]} in flight already")
        self._slot_of.pop(trial, None)
        if slot is None:
            if not self._free:
                self._make_room()
            if not self._free:
                return None
            slot = self._free.pop()
        self._slot_of[trial] = slot  # last = most recently used
        return slot

    def _make_room(self) -> None:
        num_slots = self._cache.num_slots
        if self._max_slots is None or num_slots < self._max_slots:
            more = max(2 * num_slots, self._next_slots)
            more = more if self._max_slots is None else min(more, self._max_slots)
            self._cache.grow(more)
            self._replayed.forget()
            self._slots.grow(more)
            self._free = list(range(num_slots, more))[::-1]
            return
        for trial, slot in self._slot_of.items():
            if slot not in self._active:
                self.release(trial)
                return

    def _plan(self, active: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(slots, new tokens of each) of one pass; first come, first served for prompt tokens."""
        pending = self._slots.length[active] - self._slots.computed[active]
        prefill = np.where(pending > 1, pending, 0)
        before = np.cumsum(prefill) - prefill
        chunk = np.clip(self.max_prefill_tokens - before, 0, prefill)
        counts = np.where(pending > 1, chunk, 1)
        inside = counts > 0
        self.num_prefill_tokens += int(chunk.sum())
        self.num_decode_tokens += int((pending == 1).sum())
        return active[inside], counts[inside]

    def _advance(self, slots: NDArray[np.int64], counts: NDArray[np.int64]) -> None:
        if len(slots) == 0:
            return
        table = self._slots
        starts = table.computed[slots]
        ends = np.cumsum(counts)
        offsets = np.arange(ends[-1]) - np.repeat(ends - counts - starts, counts)
        token_ids = table.token_ids[np.repeat(slots, counts), offsets].astype(np.int64)
        table.computed[slots] = starts + counts
        complete = table.computed[slots] == table.length[slots]
        wanted = None if len(token_ids) == len(slots) == complete.sum() else ends[complete] - 1
        pad = self._pads and len(token_ids) <= MAX_TOKENS
        attention = self._cache.rows(slots, starts, counts, token_ids, wanted, pad=pad)
        hidden = self._replayed(attention)[: complete.sum()]

        slots = slots[complete]
        if len(slots) == 0:
            return
        logits = self._decoder.logits(hidden)
        kinds = table.sampling[slots]
        if (kinds == kinds[0]).all():
            self._draw(slots, logits, self._samplings[kinds[0]])
            return
        for kind in np.unique(kinds):
            rows = np.flatnonzero(kinds == kind)
            self._draw(slots[rows], logits[torch.from_numpy(rows).to(logits.device)], self._samplings[kind])

    def _draw(self, slots: NDArray[np.int64], logits: Tensor, sampling: Sampling) -> None:
        """The next token of every slot, from its logits [slots, V]."""
        table = self._slots
        drawn = table.length[slots] - table.prompt_length[slots]
        if sampling.min_tokens:
            rows, columns = np.nonzero((drawn < sampling.min_tokens)[:, None] & (table.stop_ids[slots] >= 0))
            stops = table.stop_ids[slots][rows, columns]
            logits[torch.from_numpy(rows), torch.from_numpy(stops)] = -torch.inf
        observe = self.observe and partial(self.observe, [self._active[int(slot)] for slot in slots])
        tokens, chosen = sample(logits, uniforms(table.seed[slots], drawn), sampling, observe)
        table.append(slots, tokens, chosen)

    def _complete(self, slot: int) -> Completion:
        table = self._slots
        sampled = slice(int(table.prompt_length[slot]), int(table.length[slot]))
        return Completion(
            id=self._active.pop(slot),
            token_ids=table.token_ids[slot, sampled].copy(),
            logprobs=table.logprobs[slot, sampled].copy(),
            stopped=bool(table.stopped[slot]),
            policy_version=self.policy_version,
        )


def num_slots(num_trials: int, cache_tokens: int, max_sequence_tokens: int) -> int:
    """The most slots of a sampler: what `cache_tokens` allows, or what so many trials end with."""
    if cache_tokens:
        return cache_tokens // max_sequence_tokens
    slots = FIRST_SLOTS
    while slots < num_trials:
        slots *= 2
    return slots


class _SlotTable:
    """What the slots hold, as arrays over slots: ids seen, how many of them are in the cache, the request."""

    def __init__(self, num_slots: int, max_tokens: int) -> None:
        self.token_ids = np.zeros((num_slots, max_tokens), np.int32)
        self.logprobs = np.zeros((num_slots, max_tokens), np.float32)
        self.computed = np.zeros(num_slots, np.int64)  # tokens in the KV cache
        self.length = np.zeros(num_slots, np.int64)  # prompt and sampled tokens
        self.prompt_length = np.zeros(num_slots, np.int64)
        self.limit = np.zeros(num_slots, np.int64)  # length at which the reply is cut
        self.seed = np.zeros(num_slots, np.uint64)
        self.sampling = np.zeros(num_slots, np.int64)  # index of the request's
        self.stop_ids = np.full((num_slots, 2), -1, np.int64)
        self.stopped = np.zeros(num_slots, bool)
        self.finished = np.zeros(num_slots, bool)

    def grow(self, num_slots: int) -> None:
        for name, old in vars(self).items():
            new = np.zeros((num_slots, *old.shape[1:]), old.dtype)
            new[: len(old)] = old
            setattr(self, name, new)

    def clear(self, slot: int) -> None:
        self.computed[slot] = self.length[slot] = 0

    def begin(self, slot: int, request: Request, sampling: int) -> None:
        """Keep what the slot and the prompt have in common; the last prompt token is always computed anew."""
        prompt = np.asarray(request.token_ids)
        n = len(prompt)
        known = min(int(self.computed[slot]), n - 1)
        different = self.token_ids[slot, :known] != prompt[:known]
        self.computed[slot] = int(different.argmax()) if different.any() else known
        self.token_ids[slot, :n] = prompt
        self.length[slot] = self.prompt_length[slot] = n
        self.limit[slot] = n + request.max_tokens
        self.seed[slot] = request.seed
        self.sampling[slot] = sampling
        more = max(0, len(request.stop_ids) - self.stop_ids.shape[1])
        self.stop_ids = np.pad(self.stop_ids, ((0, 0), (0, more)), constant_values=-1)
        self.stop_ids[slot] = -1
        self.stop_ids[slot, : len(request.stop_ids)] = request.stop_ids
        self.stopped[slot] = self.finished[slot] = False

    def append(
        self, slots: NDArray[np.int64], tokens: NDArray[np.int64], logprobs: NDArray[np.float32]
    ) -> None:
        at = self.length[slots]
        self.token_ids[slots, at] = tokens
        self.logprobs[slots, at] = logprobs
        self.length[slots] = at + 1
        self.stopped[slots] = (self.stop_ids[slots] == tokens[:, None]).any(axis=1)
        self.finished[slots] = self.stopped[slots] | (at + 1 >= self.limit[slots])
