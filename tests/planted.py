"""Real defects in real samplers: one wrong thing each, in a sampler that is otherwise the trainer's."""

import copy
from dataclasses import replace

import numpy as np
import torch

from lamer_fast.model.cache import CachedAttention
from lamer_fast.samplers.local.sampler import TorchSampler


class CopyingSampler(TorchSampler):
    """Keeps a copy of the weights, which `load_weights` fills; `alter` stands between."""

    shares_weights = False

    def __init__(self, policy, alter=lambda named: named, dtype=None, **options):
        self.own = copy.deepcopy(policy.model)
        for parameter in self.own.parameters():
            parameter.requires_grad_(False)
            parameter.data = parameter.data.to(dtype or policy.dtype)
        self.alter = alter
        defaults = {"max_sequence_tokens": 128, "num_ids": policy.num_ids}
        super().__init__(self.own, **defaults | options)
        self.load_weights(policy.named_weights(), 0)

    def load_weights(self, named_tensors, version):
        with torch.no_grad():
            own = dict(self.own.named_parameters())
            for name, tensor in self.alter({n: t.clone() for n, t in named_tensors}).items():
                own[name].copy_(tensor)
        super().load_weights((), version)


def without(*endings):
    """The weights of these names arrive once and never again."""
    seen = []

    def alter(named):
        seen.append(1)
        return {n: t for n, t in named.items() if len(seen) == 1 or not n.endswith(endings)}

    return alter


def changed(ending, change):
    return lambda named: {n: change(t) if n.endswith(ending) else t for n, t in named.items()}


def one_late():
    """Each transfer brings what the one before should have brought."""
    kept = []

    def alter(named):
        kept.append(named)
        return kept[max(0, len(kept) - 2)]

    return alter


def swapped_gate_and_up(named):
    def other(name):
        pair = ("gate_proj", "up_proj")
        return name.replace(*pair) if pair[0] in name else name.replace(*pair[::-1])

    return {other(name): tensor for name, tensor in named.items()}


def architecture(sampler, **changes):
    """Another reading of config.json."""
    new = replace(sampler.decoder.architecture, **changes)
    sampler.decoder.architecture = new
    for block in sampler.decoder.blocks:
        block.architecture = new
    if isinstance(sampler, TorchSampler):
        sampler._refresh()  # what it has copied by the other reading
    return sampler


def turning(sampler, change):
    """Other rotary angles; the tables are made anew."""
    sampler.decoder.rotary._inv_freq = change(sampler.decoder.rotary._inv_freq)
    return sampler


def theta(new):
    def change(inv_freq):
        width = 2 * len(inv_freq)
        return 1 / new ** (torch.arange(0, width, 2).float() / width)

    return change


def logits(sampler, change):
    plain = sampler.decoder.logits
    sampler.decoder.logits = lambda hidden: change(plain(hidden))
    return sampler


def attending(sampler, **options):
    """Passes go through `OddAttention`."""
    plain = sampler._cache.rows

    def rows(slots, starts, counts, *rest, **more):
        made = plain(slots, starts, counts, *rest, **more)
        return OddAttention(made, starts, counts, **options)

    sampler._cache.rows = rows
    return sampler


class OddAttention:
    """Cached attention in plain torch with one thing wrong."""

    def __init__(self, right: CachedAttention, starts, counts, *, softcap=None, window=None, scale=1.0,
                 kv_in_turn=False, shift=0, dtype=None):  # fmt: skip
        self.right, self.length, self.wanted = right, right.length, right.wanted
        self.token_ids, self.sizes, self.cu_seqlens = right.token_ids, right.sizes, right.cu_seqlens
        self.softcap, self.window, self.scale, self.kv_in_turn = softcap, window, scale, kv_in_turn
        self.dtype = dtype
        cached = np.repeat(starts > 0, counts)
        self.positions = right.positions + shift * torch.from_numpy(cached)

    def __call__(self, layer, q, k, v, scale):
        if self.dtype:
            k, v = (x.to(self.dtype).to(x.dtype) for x in (k, v))
        plain = self.right(layer, q, k, v, scale)  # fills the cache
        if self.softcap is self.window is None and self.scale == 1 and not self.kv_in_turn:
            return plain
        keys, values = _by_token(*self.right.cache.layers[layer])
        out = torch.empty_like(plain)
        for t, (slot, position) in enumerate(zip(self.right.slots, self.right.positions, strict=True)):
            first = 0 if self.window is None else max(0, int(position) + 1 - self.window)
            kk, vv = (x[slot, :, first : int(position) + 1].transpose(0, 1) for x in (keys, values))
            group = q.shape[1] // k.shape[1]
            if self.kv_in_turn:
                kk, vv = (x.repeat(1, group, 1) for x in (kk, vv))
            else:
                kk, vv = (x.repeat_interleave(group, 1) for x in (kk, vv))
            scores = torch.einsum("hd,shd->hs", q[t], kk) * scale * self.scale
            if self.softcap is not None:
                scores = self.softcap * torch.tanh(scores / self.softcap)
            out[t] = torch.einsum("hs,shd->hd", scores.softmax(-1), vv)
        return out


def _by_token(keys, values):
    """Views [slots, kv heads, tokens, D] of what `new_slots` makes: keys of a block stand transposed."""
    return keys.transpose(-1, -2).flatten(2, 3), values


def overwriting(sampler, layer, token):
    """After every pass somebody writes over one token of every slot."""
    plain = sampler.poll

    def poll():
        done = plain()
        keys, values = sampler._cache.layers[layer]
        keys[:, :, token // keys.shape[-1], :, token % keys.shape[-1]] = 0.3
        values[:, :, token] = 0.3
        return done

    sampler.poll = poll
    return sampler


class KeepsItsCache(CopyingSampler):
    """A transfer leaves keys and values of the old weights in the slots."""

    def _release_all(self):
        pass


class UntiedHead(CopyingSampler):
    """Its head was tied when it was made, and is a matrix of its own that no transfer reaches."""

    def __init__(self, policy):
        super().__init__(policy)
        head = self.own.get_output_embeddings()
        head.weight = torch.nn.Parameter(head.weight.detach().clone(), requires_grad=False)


def tied(sampler):
    sampler.own.get_output_embeddings().weight = sampler.own.get_input_embeddings().weight
    sampler.alter = lambda named: {n: t for n, t in named.items() if "lm_head" not in n}
    return sampler


class NeverRefreshes(TorchSampler):
    """Shares the trainer's weights, but not those that it has put side by side."""

    def load_weights(self, named_tensors, version):
        self._release_all()


class Cuts(CopyingSampler):
    """Draws from the 20 likeliest ids whatever is asked."""

    def submit(self, request):
        super().submit(replace(request, sampling=replace(request.sampling, top_k=20)))


def capped(cap):
    return lambda x: cap * torch.tanh(x / cap)


def low_rank(shape, rank=2, seed=3):
    g = torch.Generator().manual_seed(seed)
    return 0.3 * torch.randn(shape[0], rank, generator=g) @ torch.randn(rank, shape[1], generator=g)


class WithoutAdapters(TorchSampler):
    """A transfer brings it nothing, as where only the frozen base is sent."""

    def load_weights(self, named_tensors, version):
        super().load_weights((), version)
