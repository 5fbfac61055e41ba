"""Who plays in a mode: what was trained, or for some phases of a trial the model that it started from."""

from __future__ import annotations

from dataclasses import replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.config import Config
from lamer_fast.eval.success import play_boards
from lamer_fast.run.state import Player, build_player
from lamer_fast.samplers.roles import Roles
from lamer_fast.study.measures import PLAN_BOARDS, PLAN_EPISODES, plan_entropies
from lamer_fast.study.spec import Mode


class Players:
    """Args: `config` with the trained model, `base` with the first one, otherwise alike."""

    def __init__(self, config: Config, base: Config) -> None:
        self.own = build_player(config)
        self.renderer = self.own.renderer
        self._base = base

    @cached_property
    def base(self) -> Player:
        return build_player(self._base)

    def sampler(self, mode: Mode) -> Any:
        """A sampler, or `Roles` where phases differ."""
        if not mode.roles:
            return self.own.sampler

        def role(phase: str) -> Any:
            name = mode.roles.get(phase, "own")
            return None if name == "random" else (self.base if name == "base" else self.own).sampler

        return Roles(role("explorer"), role("reflector"), role("player"))


def entropy_of_plans(
    players: Players, config: Config, mode: Mode, boards: NDArray[np.uint64], split: str, seed: int
) -> list[float | None]:
    """Of first episodes, on the first boards of a panel."""
    config = config.evaluation()
    alone = replace(config, rollout=replace(config.rollout, episodes=1, reflect=False))
    alone = replace(alone, eval=replace(alone.eval, notes="own"))
    trials: list[dict[str, Any]] = []
    play_boards(
        players.sampler(mode), players.renderer, alone, np.repeat(boards[:PLAN_BOARDS], PLAN_EPISODES),
        split=split, seed=seed, keep=trials.extend,
    )  # fmt: skip
    return plan_entropies(trials, PLAN_EPISODES)
