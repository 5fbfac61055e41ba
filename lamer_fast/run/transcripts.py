"""What trainer and estimator made of the recorded trials, added to them before they are written.

Every value was computed for the update anyway: nothing runs again. Axis letters: R turns, T stored tokens.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.algo.credit import gamma_traj
from lamer_fast.config import AlgoConfig
from lamer_fast.learn.batch import Minibatch, PolicyBatch
from lamer_fast.learn.ranks import Ranks
from lamer_fast.learn.update import LearnStats
from lamer_fast.rollout.trial_batch import Phase, TrialBatch
from lamer_fast.text import shortest
from lamer_kernels import cross_episode_returns

OF_TOKENS = ("token_ids", "token_texts", "rollout_logprobs", "trainer_logprobs", "entropy")
MAX_TOKENS = 50_000  # of an iteration's file that carry values of their own, about 2 MB

Values = dict[int, NDArray[np.float32]]  # row of the turn table -> a value for each of its sampled tokens


def add_values(
    transcripts: list[dict[str, Any]],
    trials: TrialBatch,
    advantages: NDArray[np.float32],
    minibatches: list[Minibatch],
    stats: LearnStats,
    algo: AlgoConfig,
    renderer: ChatRenderer,
    progress: float,
) -> None:
    """Puts advantage, return, anchor and the values of tokens into the turns of `transcripts`."""
    recorded = [t for t in transcripts if t["turns"] and t["trial"] not in trials.errors]
    last = max((t["trial"] for t in recorded), default=-1)
    end = int(trials.cu_trials[last + 1])  # recorded are the first trials, whose turns come first
    if end == 0:
        return
    trainer, entropy = trainer_logprobs(minibatches, stats, algo, end), entropies(stats, end)
    returns = _returns(trials, last + 1, algo, progress)
    left = MAX_TOKENS
    for record in recorded:
        first = int(trials.cu_trials[record["trial"]])
        for row, turn in enumerate(record["turns"], first):
            turn["truncated"] = bool(trials.truncated[row])
            turn["advantage"], turn["return"] = number(advantages[row]), number(returns[row])
            if trials.phase[row] == Phase.PLAY:
                turn["anchor"] = f"{int(trials.anchors[row]) & (1 << 64) - 1:016x}"
            tokens = slice(int(trials.token_start[row]), int(trials.token_end[row]))
            left -= tokens.stop - tokens.start
            elsewhere = trials.held is not None and not trials.held[trials.sequence[row]]
            if left < 0 or elsewhere:
                continue
            ids = trials.tokens[tokens]
            turn["token_ids"], turn["token_texts"] = ids.tolist(), renderer.pieces(ids)
            turn["rollout_logprobs"] = numbers(trials.rollout_logprobs[tokens])
            for key, values in (("trainer_logprobs", trainer), ("entropy", entropy)):
                if row in values:
                    turn[key] = numbers(values[row])


def join_values(transcripts: list[dict[str, Any]], ranks: Ranks) -> None:
    """What each rank knows of the tokens that it sampled, put into the turns of all; they are the same trials
    everywhere."""
    if ranks.world == 1:
        return
    own = [[{k: turn[k] for k in OF_TOKENS if k in turn} for turn in t["turns"]] for t in transcripts]
    for of_rank in ranks.gather(own):
        for record, values in zip(transcripts, of_rank, strict=True):
            for turn, more in zip(record["turns"], values, strict=True):
                turn.update(more)


def trainer_logprobs(minibatches: list[Minibatch], stats: LearnStats, algo: AlgoConfig, end: int) -> Values:
    """Of the policy before the first update, in nats, of rows below `end`: those of the first update, and of
    all others where the configuration has them recomputed. NaN for tokens that were left out."""
    found: Values = {}
    for batch, output in stats.seen[0] if stats.seen else []:
        found.update(_by_row(batch, torch.where(output.kept, output.logprobs, math.nan), end))
    for minibatch in minibatches if algo.old_logprobs == "recompute" else []:
        for batch in minibatch:
            if batch.old_logprobs is not None:
                found = dict(_by_row(batch, batch.old_logprobs, end)) | found
    return found


def entropies(stats: LearnStats, end: int) -> Values:
    """Of the distribution that each token was drawn from, as the update of its turn saw it; nats."""
    found: Values = {}
    for update in stats.seen:
        for batch, output in update:
            if output.entropy is not None:
                of_batch = _by_row(batch, torch.where(output.kept, output.entropy, math.nan), end)
                found = dict(of_batch) | found  # of the first epoch
    return found


def _by_row(batch: PolicyBatch, values: Tensor, end: int) -> Iterator[tuple[int, NDArray[np.float32]]]:
    if batch.turns is None:
        return
    wanted = np.flatnonzero(batch.turns < end)
    host, cu_segments = values.detach().float().cpu().numpy(), batch.cu_segments.cpu().numpy()
    for u in wanted.tolist():
        yield int(batch.turns[u]), host[cu_segments[u] : cu_segments[u + 1]]


def _returns(trials: TrialBatch, num_trials: int, algo: AlgoConfig, progress: float) -> NDArray[np.float32]:
    """[R] of the first trials: rewards of the turn and of what follows, by the configured discounts."""
    cu_trials = torch.from_numpy(trials.cu_trials[: num_trials + 1])
    end = int(cu_trials[-1])
    rewards, phase, episode = (
        torch.from_numpy(x[:end]) for x in (trials.rewards, trials.phase, trials.episode)
    )
    gamma = 0.0 if algo.episode_credit == "own" else gamma_traj(trials, algo, progress)
    found = cross_episode_returns(
        rewards, phase, episode, cu_trials, gamma_step=algo.gamma_step, gamma_traj=gamma,
        return_form=algo.return_form, backend="reference",
    )  # fmt: skip
    return found.numpy().astype(np.float32)


def numbers(values: NDArray[np.float32]) -> list[float | None]:
    return [number(value) for value in values]


def number(value: np.float32) -> float | None:
    """As short as it tells the float32 apart; None for what JSON does not know."""
    return shortest(value) if np.isfinite(value) else None
