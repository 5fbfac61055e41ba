"""One collection of trials, by all ranks together; groups that teach nothing are played anew."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.config import Config
from lamer_fast.envs.contract import EnvError
from lamer_fast.eval.success import first_attempts, success_within
from lamer_fast.learn.ranks import Ranks
from lamer_fast.rng import sampling_seed
from lamer_fast.rollout.boards import Boards, draw_again, draw_boards
from lamer_fast.rollout.collect import check_any_left, play_trials
from lamer_fast.rollout.join import join, without_tokens
from lamer_fast.rollout.refill import flat_groups, replaced
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_fast.run.clock import Clock
from lamer_fast.run.state import TrainState


@dataclass(frozen=True)
class Part:
    """What one rank played of some boards."""

    trials: TrialBatch | None
    failure: EnvError | None  # then there are no trials
    transcripts: list[dict[str, Any]]


@dataclass(frozen=True)
class Draws:
    """What a collection with spare groups took, on all ranks."""

    success_at: list[float]  # k = 1..K, of the first draw: nothing has chosen its boards
    independent: list[float] | None  # the same of independent attempts, see `first_attempts`
    groups: int  # that were played, those that were thrown away too
    flat_drawn: int  # of the first draw, whose trials all earned alike
    flat: int  # the same, of those that are left
    prompt: int  # tokens of what was thrown away
    sampled: int

    def numbers(self) -> dict[str, float]:
        return {"groups_played": self.groups, "groups_flat_drawn": self.flat_drawn, "groups_flat": self.flat}


def collect(
    state: TrainState,
    iteration: int,
    transcripts: list[dict[str, Any]],
    clock: Clock,
    progress: Callable[[int, int, int], None] | None = None,
) -> tuple[TrialBatch, Draws | None]:
    """Trials, and with `rollout.spare_groups` what they took; optimizer state leaves the device meanwhile if
    so configured.

    Raises:
        EnvError: on every rank alike.
    """
    config, boards, ranks = state.config, draw_boards(state.config, iteration), state.ranks
    offload = config.learn.offload_optimizer == "rollout"
    optimizers = [trained.optimizer for trained in state.algorithm.trainables.values()] if offload else []
    for optimizer in optimizers:
        optimizer.to_host()

    def play(boards: Boards, draw: int) -> Part:
        played: list[dict[str, Any]] = []
        try:
            trials = play_trials(
                state.sampler,
                clock.timed("env", state.env),
                state.agent,
                boards.share(ranks.rank, ranks.world),
                config.rollout,
                seed=sampling_seed(config.train.seed, iteration, draw),
                record=played,
                num_recorded=config.train.trials_logged,
                progress=progress,
            )
        except EnvError as error:
            return Part(None, error, played)
        return Part(trials, None, played)

    part, draws = play(boards, 0), None
    if config.rollout.spare_groups:
        part, boards, draws = refill(config, ranks, iteration, part, boards, play)
    trials = of_all_ranks(ranks, boards, part, transcripts)
    if config.rollout.sleep_during_updates:
        state.sampler.sleep()
    for optimizer in optimizers:
        optimizer.to_device()
    return trials, draws


def refill(
    config: Config,
    ranks: Ranks,
    iteration: int,
    part: Part,
    boards: Boards,
    play: Callable[[Boards, int], Part],
) -> tuple[Part, Boards, Draws | None]:
    """Other boards for the flat groups of all ranks, the first ones first, until there are none, or no spare
    ones; and again for those of them that are flat. No draws: a rank has failed.

    A group stays on its rank. Boards and samples are functions of the seed, the iteration and the draw.
    """
    spare, draw = config.rollout.spare_groups, 0
    first, thrown, flat_drawn = part.trials, np.zeros(2, np.int64), 0
    while True:
        share = boards.share(ranks.rank, ranks.world)
        found = ranks.gather(
            None if part.trials is None else flat_groups(part.trials, share.group, config.rollout.alike)
        )
        if first is None or None in found:
            return part, boards, None
        flat = sorted(chain.from_iterable(of_rank for of_rank in found if of_rank is not None))
        flat_drawn = len(flat) if draw == 0 else flat_drawn
        again = flat[:spare]
        if not again:
            break
        spare, draw = spare - len(again), draw + 1
        boards = draw_again(boards, again, config, iteration, draw)
        drawn = boards.of(again)
        others = play(drawn, draw)
        transcripts = [t for t in part.transcripts if t["group"] not in again] + others.transcripts
        if others.trials is None or part.trials is None:
            part = Part(None, others.failure, transcripts)
            continue
        at = np.searchsorted(share.trial, drawn.share(ranks.rank, ranks.world).trial)
        kept = replaced(part.trials, others.trials, at)
        thrown += _tokens(part.trials) + _tokens(others.trials) - _tokens(kept)
        part = Part(kept, None, transcripts)
    totals = ranks.gather((thrown, first.success_by_episode))
    won = np.concatenate([of_rank for _, of_rank in totals])
    within = success_within(won).mean(axis=0).tolist()
    independent = first_attempts(won, config.rollout.trials_per_group)
    prompt, sampled = np.sum([of_rank for of_rank, _ in totals], axis=0).tolist()
    groups = config.rollout.groups + config.rollout.spare_groups - spare
    return part, boards, Draws(within, independent, groups, flat_drawn, len(flat), prompt, sampled)


def _tokens(trials: TrialBatch) -> NDArray[np.int64]:
    """[2] of prompts, and sampled."""
    return np.array([len(trials.tokens) - trials.num_sampled, trials.num_sampled], np.int64)


def of_all_ranks(ranks: Ranks, boards: Boards, own: Part, transcripts: list[dict[str, Any]]) -> TrialBatch:
    """The turns of every rank beside this one's tokens; `transcripts` gets those that each rank played.

    Raises:
        EnvError: the failure of the first rank that has one; AllLostError: no rank has a trial left.
    """
    turns = None if own.trials is None else without_tokens(own.trials)
    found = ranks.gather((turns, own.failure, own.transcripts))
    transcripts.extend(sorted((t for *_, of_rank in found for t in of_rank), key=lambda t: int(t["trial"])))
    for _, error, _ in found:
        if error is not None:
            raise error
    assert own.trials is not None
    trials = join([part for part, *_ in found if part is not None], own.trials, ranks.rank, boards)
    check_any_left(trials)
    return trials
