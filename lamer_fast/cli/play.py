"""`lamer-fast play`: watch one trial in the terminal, or play one yourself, alone or against the policy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Annotated, Any

import numpy as np

from lamer_fast.cli.eval import UNUSED, resolve_target
from lamer_fast.cli.flags import Command, Target
from lamer_fast.cli.play_yourself import Game, play, shown
from lamer_fast.config import Config
from lamer_fast.envs.registry import eval_seeds, make_env
from lamer_fast.fields import Range
from lamer_fast.samplers.vllm.environment import prepare_for
from lamer_fast.say import starting


@dataclass(frozen=True)
class PlayOptions:
    me: bool = False
    """Play yourself; `:hint` asks the expert, `:undo` takes a turn back."""
    against: bool = False
    """Play against the policy, which first plays a hidden trial on the same board."""
    board: Annotated[int, Range(0, 1_000_000)] = 0
    """Number of the board among the distinct boards of split `test`, from 0."""
    seed: Annotated[int, Range(0)] = 0
    """Seed of the sampling."""
    pause: Annotated[float, Range(0, 3600)] = 0.4
    """Seconds between turns."""


COMMAND = Command(
    "play",
    "Show one trial of a policy, turn by turn, or play one yourself, alone or against it.",
    PlayOptions,
    Target("RUN|RECIPE", "a run folder, or a recipe (then its base model plays)"),
    Config,
    UNUSED,
)


def run(argv: Sequence[str]) -> int:
    target, options, overrides = COMMAND.parse(argv)
    config, _ = resolve_target(target, overrides)
    prepare_for(config)
    seeds = eval_seeds(config.env, "test", options.board + 1)
    if len(seeds) <= options.board:
        raise ValueError(f"--board {options.board}: the test split has {len(seeds)} boards")
    seed = seeds[options.board : options.board + 1]
    if options.me or options.against:
        policy = policy_trial(config, seed, options.seed) if options.against else None
        config = config.evaluation()
        play(Game(make_env(config.env, 1, split="test"), config, seed, policy), input)
    else:
        show(policy_trial(config, seed, options.seed), options.pause)
    return 0


def policy_trial(config: Config, board: Any, seed: int) -> dict[str, Any]:
    """The transcript of one trial of the policy."""
    starting(f"playing a trial of {config.name}")
    from lamer_fast.agent.agent import Agent
    from lamer_fast.device import prepare_process
    from lamer_fast.eval.success import eval_sampling
    from lamer_fast.rollout.boards import Boards
    from lamer_fast.rollout.collect import collect_trials
    from lamer_fast.run.state import build_player

    config = config.evaluation()
    alone: dict[str, Any] = {
        "groups": 1,
        "trials_per_group": 1,
        "cache_tokens": config.rollout.max_sequence_tokens,
    }
    config = replace(config, rollout=replace(config.rollout, **alone))
    prepare_process(config)
    player = build_player(config)
    env = make_env(config.env, 1, split="test")
    record: list[dict[str, Any]] = []
    collect_trials(
        player.sampler, env, Agent(player.renderer, env, config),
        Boards(board, np.zeros(1, np.int32)), config.rollout, seed=seed, record=record,
        sampling=eval_sampling(config.eval),
    )  # fmt: skip
    return record[0]


def show(trial: dict[str, Any], pause: float = 0.0) -> None:
    """One recorded trial (a line of trials/*.jsonl.gz) as text."""
    episode = -1
    for turn in trial["turns"]:
        if turn["phase"] == "reflect":
            print(f"\nreflection: {shown(turn['reply'])}", flush=True)
        else:
            if turn["episode"] != episode:
                episode = turn["episode"]
                print(f"\n=== episode {episode + 1} ===")
            print(f"\n{shown(turn['board'])}\n> {shown(turn['reply'])}", flush=True)
            if turn["done"]:
                print("won" if turn["success"] else "lost", flush=True)
        time.sleep(pause)
    solved = any(trial["success_by_episode"])
    print(f"\n{'solved' if solved else 'not solved'} in {episode + 1} episodes")
