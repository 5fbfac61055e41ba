"""Turns of a TrialBatch -> minibatches of packed micro-batches. Vectorised: no Python object per token."""

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamer_fast.algo.consolidation import as_first_attempts
from lamer_fast.algo.credit import lone_turns
from lamer_fast.config import Config
from lamer_fast.learn.batch import Minibatch, Packed, PolicyBatch
from lamer_fast.rng import shuffled
from lamer_fast.rollout.trial_batch import Phase, TrialBatch
from lamer_kernels import pack as pack_bins
from lamer_kernels import plan_prefixes, prefix_tree, token_weights

T = TypeVar("T")


def pack(
    trials: TrialBatch,
    advantages: NDArray[np.float32],
    config: Config,
    *,
    iteration: int = 0,
    device: torch.device | str = "cpu",
) -> list[Minibatch]:
    """Shuffles the trials into `learn.minibatches` sets of about equal tokens, and packs each.

    Sequences are never split; a micro-batch holds at most `learn.max_microbatch_tokens`. Token weights are
    computed over the whole minibatch. Left out afterwards: sequences in which no token has a coefficient
    (advantage 0 without entropy or KL term), since they cost a forward pass and change nothing. An empty
    minibatch stays in the list, as []. Of the trials of several ranks the minibatches and their weights are
    those of one; a rank packs the sequences whose tokens it holds.

    Args:
        advantages: [R], one per turn.
        iteration: key of the shuffle, with train.seed.
    """
    if len(advantages) != trials.num_turns:
        raise ValueError(f"advantages has {len(advantages)} entries, the turn table {trials.num_turns}")
    rows = _trained(trials, config)
    return [
        _pack_minibatch(trials, advantages, rows[own[trials.trial[rows]]], config, device)
        for own in _sets(trials, rows, config, iteration)
    ]


def pack_lessons(
    trials: TrialBatch, config: Config, *, iteration: int = 0, device: torch.device | str = "cpu"
) -> tuple[list[Minibatch], int]:
    """What each minibatch of `pack` learns beside it by `imitation`, and of how many trials: the later
    episodes that won. Token weights are computed over those of the minibatch's trials, on all ranks."""
    lessons = as_first_attempts(trials)
    weights = np.full(lessons.num_turns, config.algo.consolidation, np.float32)
    packed = [
        _pack_minibatch(lessons, weights, np.flatnonzero(own[lessons.trial]), config, device)
        for own in _sets(trials, _trained(trials, config), config, iteration)
    ]
    return packed, len(np.unique(lessons.trial))


def epochs(minibatches: Sequence[T], num_epochs: int) -> Iterator[T]:
    for _ in range(num_epochs):
        yield from minibatches


def _trained(trials: TrialBatch, config: Config) -> NDArray[np.int64]:
    """Rows of the turn table that the policy loss is taken on."""
    left_out = lone_turns(trials, config.algo)
    if not config.algo.train_reflections:
        left_out = left_out | (trials.phase == Phase.REFLECT)
    return np.flatnonzero(~left_out)


def _sets(
    trials: TrialBatch, rows: NDArray[np.int64], config: Config, iteration: int
) -> list[NDArray[np.bool_]]:
    """[M] of each minibatch, True for its trials. Each trial goes to the set with fewest tokens of `rows`."""
    num_sets = config.learn.minibatches
    tokens = np.zeros(trials.num_trials, np.int64)
    np.add.at(tokens, trials.trial[rows], (trials.token_end - trials.token_start)[rows])
    load = np.zeros(num_sets, np.int64)
    set_of_trial = np.zeros(trials.num_trials, np.int64)
    for trial in shuffled(config.train.seed, iteration, trials.num_trials):
        set_of_trial[trial] = load.argmin()
        load[set_of_trial[trial]] += tokens[trial]
    return [set_of_trial == s for s in range(num_sets)]


def _pack_minibatch(
    trials: TrialBatch,
    advantages: NDArray[np.float32],
    turns: NDArray[np.int64],
    config: Config,
    device: torch.device | str,
) -> Minibatch:
    # order turns by sequence, then by place in it: segments of a packed sequence follow one another
    turns = turns[np.lexsort((trials.token_start[turns], trials.sequence[turns]))]
    turns = turns[trials.token_end[turns] > trials.token_start[turns]]
    if len(turns) == 0:
        return []
    num_tokens = trials.token_end[turns] - trials.token_start[turns]
    sequences, sequence_of = np.unique(trials.sequence[turns], return_inverse=True)
    weights = _token_weights(num_tokens, config)

    needed = np.ones(len(sequences), bool)
    if config.algo.only_advantages:
        needed[:] = False
        np.logical_or.at(needed, sequence_of, advantages[turns] != 0)
    if trials.held is not None:
        needed &= trials.held[sequences]
    kept = np.flatnonzero(needed)
    if len(kept) == 0:
        return []
    bins = _bins(trials, sequences[kept], config)
    cu_tokens = _cumulative(num_tokens)
    minibatch = []
    for b in range(int(bins.max()) + 1):
        in_bin = np.zeros(len(sequences), bool)
        in_bin[kept[bins == b]] = True
        rows = np.flatnonzero(in_bin[sequence_of])
        minibatch.append(
            _policy_batch(
                trials,
                sequences[in_bin],
                turns[rows],
                advantages[turns[rows]],
                weights[_ranges(cu_tokens[rows], cu_tokens[rows + 1])],
                len(turns),
                config,
                device,
            )
        )
    return minibatch


def _bins(trials: TrialBatch, sequences: NDArray[np.int32], config: Config) -> NDArray[np.int64]:
    """The micro-batch of each sequence."""
    starts, ends = trials.cu_seqlens[sequences], trials.cu_seqlens[sequences + 1]
    if not config.learn.share_prefixes:
        plan: Any = pack_bins  # typed for tensors, takes numpy arrays as well
        bins: NDArray[np.int64] = plan(ends - starts, config.learn.max_microbatch_tokens)
        return bins
    ids = torch.from_numpy(trials.tokens[_ranges(starts, ends)])
    offsets = torch.from_numpy(_cumulative(ends - starts))
    return plan_prefixes(ids, offsets, config.learn.max_microbatch_tokens).numpy()


def _token_weights(num_tokens: NDArray[np.int64], config: Config) -> NDArray[np.float32]:
    """[L] over the minibatch, from the tokens of each turn. The sequence of `sequence_mean` is a turn; the
    denominator of `constant` is the number of turns times the longest reply."""
    kind = config.algo.aggregation
    weights = token_weights(
        kind,
        torch.ones(int(num_tokens.sum()), dtype=torch.bool),
        cu_sequences=torch.from_numpy(_cumulative(num_tokens)) if kind == "sequence_mean" else None,
        constant=float(len(num_tokens) * config.rollout.max_reply_tokens) if kind == "constant" else None,
    )
    return weights.numpy().astype(np.float32)


def _policy_batch(
    trials: TrialBatch,
    sequences: NDArray[np.int32],
    turns: NDArray[np.int64],
    advantages: NDArray[np.float32],
    weights: NDArray[np.float32],
    num_turns: int,
    config: Config,
    device: torch.device | str,
) -> PolicyBatch:
    """`sequences` ascending; `turns` in the order of their tokens, `advantages` [turns], `weights` [L];
    `num_turns` of the minibatch."""
    starts, ends = trials.cu_seqlens[sequences], trials.cu_seqlens[sequences + 1]
    lengths = ends - starts
    cu_seqlens = _cumulative(lengths)
    store_idx = _ranges(starts, ends)  # place in the token store of each packed token
    num_tokens = trials.token_end[turns] - trials.token_start[turns]
    target_idx = _ranges(trials.token_start[turns], trials.token_end[turns])
    # packed place = store place shifted by the start of its sequence in both
    shift = cu_seqlens[:-1] - starts
    token_idx = (
        target_idx + np.repeat(shift[np.searchsorted(sequences, trials.sequence[turns])], num_tokens) - 1
    )
    rollout_logprobs = trials.rollout_logprobs[target_idx]

    def tensor(x: NDArray[np.generic], dtype: torch.dtype) -> Tensor:
        return torch.from_numpy(np.ascontiguousarray(x)).to(dtype)

    logprobs = tensor(rollout_logprobs, torch.float32)
    packed = Packed(
        input_ids=tensor(trials.tokens[store_idx], torch.int64),
        position_ids=tensor(store_idx - np.repeat(starts, lengths), torch.int64),
        cu_seqlens=tensor(cu_seqlens, torch.int32),
        max_seqlen=int(lengths.max()),
        token_idx=tensor(token_idx, torch.int64),
        targets=tensor(trials.tokens[target_idx], torch.int64),
    )
    if config.learn.share_prefixes:
        packed = share_prefixes(packed)
    batch = PolicyBatch(
        packed,
        rollout_logprobs=logprobs,
        advantages=tensor(np.repeat(advantages, num_tokens), torch.float32),
        token_weights=tensor(weights, torch.float32),
        temperature=config.rollout.temperature,
        cu_segments=tensor(_cumulative(num_tokens), torch.int64),
        old_logprobs=logprobs if config.algo.old_logprobs == "sampler" else None,
        num_turns=num_turns,
        turns=turns,
    )
    return batch.to(device)


def share_prefixes(packed: Packed) -> Packed:
    """The same loss tokens over fewer tokens."""
    tree = prefix_tree(packed.input_ids, packed.cu_seqlens)
    roots = torch.nonzero(tree.position_ids == 0)[:, 0]
    return replace(
        packed,
        input_ids=packed.input_ids[tree.source],
        position_ids=tree.position_ids,
        cu_seqlens=torch.cat([roots, roots.new_tensor([len(tree.source)])]).int(),
        token_idx=tree.row[packed.token_idx],
        subtree_end=tree.subtree_end,
    )


def _cumulative(lengths: NDArray[np.int64]) -> NDArray[np.int64]:
    return np.concatenate([np.zeros(1, np.int64), np.cumsum(lengths, dtype=np.int64)])


def _ranges(starts: NDArray[np.int64], ends: NDArray[np.int64]) -> NDArray[np.int64]:
    """arange(starts[0], ends[0]), arange(starts[1], ends[1]), ... end to end."""
    lengths = ends - starts
    offsets = np.repeat(starts - np.concatenate([[0], np.cumsum(lengths)[:-1]]), lengths)
    return np.asarray(np.arange(int(lengths.sum()), dtype=np.int64) + offsets)
