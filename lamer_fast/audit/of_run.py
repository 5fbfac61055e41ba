"""The trials of an audit, and what plays them: of a run, its own recorded ones, else new ones."""

from __future__ import annotations

import gzip
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from torch import Tensor

from lamer_fast.agent.agent import Agent
from lamer_fast.audit.examine import Audit
from lamer_fast.audit.of_policy import audit_policy
from lamer_fast.audit.reference import Reference
from lamer_fast.audit.replay import of_trials
from lamer_fast.config import Config
from lamer_fast.device import pick_device
from lamer_fast.envs.registry import check_at_start, make_env
from lamer_fast.learn.policy import Policy, load_policy, read_model
from lamer_fast.model.path import adapter_folder
from lamer_fast.rng import sampling_seed
from lamer_fast.rollout.boards import Boards, draw_boards
from lamer_fast.rollout.collect import collect_trials
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_fast.run.state import make_sampler
from lamer_fast.samplers.protocol import Completion, Request

TRIALS = 4


@dataclass(frozen=True)
class Extent:
    """How much is replayed."""

    sequences: int = 4
    tokens_per_turn: int = 4


def audit_run(config: Config, folder: Path | None, extent: Extent) -> tuple[Audit, str]:
    """(audit, what was replayed). `folder`: of a run, whose last recorded trials are replayed.

    Raises:
        ValueError: model, sampler or trials cannot be audited; says why before anything is sampled.
    """
    check_at_start(config.env)
    device, files = pick_device(config.train.device), read_model(config)
    Reference.check(files.config)
    renderer = files.renderer()
    adapters = config.model.lora_rank > 0 and adapter_folder(config.model.path) is None
    policy = load_policy(config.model, device, files, frozen=not adapters)
    rollout = replace(config.rollout, groups=2, trials_per_group=TRIALS // 2)
    config = replace(config, rollout=rollout)
    env = make_env(config.env, TRIALS, split="train")
    agent = Agent(renderer, env, config)
    sampler = make_sampler(config, policy)
    recorded = last_trials(folder)[:TRIALS] if folder else []
    if recorded:
        what = f"{len(recorded)} trials of {folder}"
        trials = played_again(recorded, env, agent, config, policy)
    else:
        what = f"{TRIALS} new trials"
        seed = sampling_seed(config.train.seed, 0)
        trials = collect_trials(sampler, env, agent, draw_boards(config, 0), rollout, seed=seed)
    replays = of_trials(trials, sequences=extent.sequences, tokens_per_turn=extent.tokens_per_turn)
    return audit_policy(sampler, policy, replays, rollout.temperature), what


def last_trials(folder: Path) -> list[dict[str, Any]]:
    """The recorded trials of the last iteration that has any with turns."""
    for path in sorted((folder / "trials").glob("*.jsonl.gz"), reverse=True):
        try:
            with gzip.open(path, "rb") as file:
                found = [json.loads(line) for line in file]
        except (OSError, EOFError, ValueError) as error:
            raise ValueError(f"{path} is damaged: {error}") from None
        if played := [trial for trial in found if trial.get("turns")]:
            return played
    return []


def played_again(
    recorded: Sequence[dict[str, Any]], env: Any, agent: Agent, config: Config, policy: Policy
) -> TrialBatch:
    """The same boards with the same replies. The texts are tokenised anew: what a trial is trained on stays
    with the ids that were sampled, an audit takes any."""
    group = np.array([trial["group"] for trial in recorded], np.int32)
    boards = Boards(np.array([trial["seed"] for trial in recorded], np.uint64), group)
    script = Script(recorded, policy.tokenizer, config.rollout.max_sequence_tokens)
    return collect_trials(script, env, agent, boards, config.rollout, seed=0)


class Script:
    """`Sampler` that answers with recorded replies."""

    shares_weights = True

    def __init__(self, recorded: Sequence[dict[str, Any]], tokenizer: Any, max_sequence_tokens: int) -> None:
        self.max_sequence_tokens = max_sequence_tokens
        self._tokenizer = tokenizer
        self._replies = [[turn["reply"] for turn in trial["turns"]] for trial in recorded]
        self._asked: list[Request] = []

    def submit(self, request: Request) -> None:
        self._asked.append(request)

    def poll(self) -> list[Completion]:
        asked, self._asked = self._asked, []
        return [self._answer(request) for request in asked]

    def _answer(self, request: Request) -> Completion:
        left = self._replies[request.trial]
        text = left.pop(0) if left else ""
        ids = self._tokenizer(text, add_special_tokens=False)["input_ids"]
        ids = np.array([*ids, request.stop_ids[0]][: request.max_tokens], np.int32)
        stopped = bool(ids[-1] == request.stop_ids[0])
        return Completion(request.id, ids, np.zeros(len(ids), np.float32), stopped, policy_version=0)

    def release(self, trial: int) -> None:
        pass

    def cancel(self, request_id: int) -> None:
        self._asked = [request for request in self._asked if request.id != request_id]

    def score(self, token_ids: Sequence[Any]) -> list[Any]:
        raise NotImplementedError("a script has no probabilities")

    def sleep(self) -> None:
        pass

    def load_weights(self, named_tensors: Iterable[tuple[str, Tensor]], version: int) -> None:
        pass
