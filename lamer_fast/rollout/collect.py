"""collect_trials: play one batch of boards to the end."""

from collections.abc import Callable
from typing import Any

from lamer_fast.agent.agent import Agent
from lamer_fast.config import RolloutConfig
from lamer_fast.envs.contract import AllLostError
from lamer_fast.envs.protocol import TextBatchEnv
from lamer_fast.rollout.boards import Boards
from lamer_fast.rollout.scheduler import TrialScheduler
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_fast.samplers.protocol import Sampler, Sampling


def collect_trials(
    sampler: Sampler,
    env: TextBatchEnv,
    agent: Agent,
    boards: Boards,
    rollout: RolloutConfig,
    *,
    seed: int,
    sampling: Sampling | None = None,
    record: list[dict[str, Any]] | None = None,
    num_recorded: int = 32,
    progress: Callable[[int, int, int], None] | None = None,
) -> TrialBatch:
    """M trials on boards 0..M-1 of `env`: those of `boards`, which may be a rank's share.

    Args:
        seed: of sampling. The same seed, boards and weights give the same trials, however requests were
            batched (up to float arithmetic).
        sampling: None is training's, `rollout.temperature` alone.
        record: gets a transcript, ready for JSON, of each trial numbered below `num_recorded` and of each
            that its environment lost.
        progress: is called often with (trials finished, all of them, tokens sampled).

    Raises:
        EnvError: an answer of `env` breaks the protocol. AllLostError, one of them: every trial was lost.
            `record` is filled all the same.
    """
    trials = play_trials(
        sampler, env, agent, boards, rollout,
        seed=seed, sampling=sampling, record=record, num_recorded=num_recorded, progress=progress,
    )  # fmt: skip
    check_any_left(trials)
    return trials


def check_any_left(trials: TrialBatch) -> None:
    """Raises AllLostError when every trial was lost."""
    if 0 < len(trials.errors) == trials.num_trials:
        raise AllLostError(trials.lost())


def play_trials(
    sampler: Sampler,
    env: TextBatchEnv,
    agent: Agent,
    boards: Boards,
    rollout: RolloutConfig,
    *,
    seed: int,
    sampling: Sampling | None = None,
    record: list[dict[str, Any]] | None = None,
    num_recorded: int = 32,
    progress: Callable[[int, int, int], None] | None = None,
) -> TrialBatch:
    """As `collect_trials`, also when every trial was lost, and of no boards at all."""
    num_recorded = 0 if record is None else int((boards.trial < num_recorded).sum())
    scheduler = TrialScheduler(
        sampler, env, agent, boards, rollout, seed=seed, sampling=sampling, num_recorded=num_recorded
    )
    try:
        while scheduler.advance():
            if progress is not None:
                progress(len(boards) - int(scheduler.live.sum()), len(boards), scheduler.num_sampled)
    except Exception:
        scheduler.abandon()
        raise
    finally:
        if record is not None:
            record.extend(scheduler.transcripts())
    return scheduler.result()
