"""Settings of a warm start: defaults, TOML file, command line. No torch here."""

from __future__ import annotations

import tomllib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, get_type_hints

from lamer_fast.recipe import RECIPES, parse_overrides


@dataclass(frozen=True)
class WarmstartSettings:
    recipe: str = "minesweeper-tiny"
    """Recipe whose boards, prompts and limits are used."""
    start: str = ""
    """Model to go on from (folder or shipped name); empty makes a new one."""
    updates: int = 4500
    """Optimizer steps."""
    cpu_seconds: float = 0.0
    """A budget in the place of `updates`: the learning rate falls to 0 as it runs out. 0 is off."""
    trials: int = 16
    """Expert trials of an update, all of them new."""
    lr: float = 1e-3
    """Peak learning rate."""
    warmup_updates: int = 100
    """Updates of linear warm-up."""
    decay_updates: int = 1000
    """Last updates, over which the learning rate falls to 0 along a cosine."""
    weight_decay: float = 0.05
    """AdamW."""
    noise: str = "0.25"
    """Levels of the experts' noise, separated by commas; a trial draws one."""
    memory: float = 0.6
    """Share of experts that use what earlier episodes revealed."""
    seed: int = 0
    """Of the first weights, the boards and the experts."""
    eval_every: int = 250
    """Updates between evaluations on `valid`."""
    eval_tasks: int = 256
    """Boards of such an evaluation."""
    num_layers: int = 3
    """Decoder layers of a new model."""
    hidden_size: int = 128
    """Width of the residual stream."""
    mlp_size: int = 384
    """Width of the gated MLP."""
    num_heads: int = 4
    """Query heads."""
    num_kv_heads: int = 2
    """Key and value heads."""
    head_size: int = 32
    """Width of a head."""
    rope_theta: float = 200.0
    """Base of the rotary positions; the common 1e4 spends most of a small head on distances never met."""

    @property
    def noise_levels(self) -> tuple[float, ...]:
        return tuple(float(level) for level in self.noise.split(","))

    def validate(self) -> None:
        """Raises ValueError naming the value out of range."""
        if not all(0 <= level <= 1 for level in self.noise_levels):
            raise ValueError(f"noise = {self.noise!r}, every level must be in [0, 1]")
        if not 0 <= self.memory <= 1:
            raise ValueError(f"memory = {self.memory}, must be in [0, 1]")
        if self.warmup_updates + self.decay_updates > self.updates:
            raise ValueError(
                f"warmup_updates = {self.warmup_updates} and decay_updates = {self.decay_updates} "
                f"are more than updates = {self.updates}"
            )
        for name in ("updates", "trials", "eval_every", "eval_tasks"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} = {getattr(self, name)}, must be at least 1")


def resolve(source: str, overrides: Sequence[str] = ()) -> WarmstartSettings:
    """Settings of a TOML file (or of a shipped base model's name) with command line overrides."""
    path = Path(source) if source.endswith(".toml") else RECIPES / source / "warmstart.toml"
    if not path.is_file():
        shipped = sorted(p.parent.name for p in RECIPES.glob("*/warmstart.toml"))
        raise ValueError(f"no warm start {source!r}; a TOML file, or one of: {', '.join(shipped)}")
    with path.open("rb") as file:
        values: dict[str, Any] = tomllib.load(file)
    values.update(parse_overrides(overrides))
    types = get_type_hints(WarmstartSettings)
    unknown = sorted(set(values) - set(types))
    if unknown:
        known = ", ".join(f.name for f in fields(WarmstartSettings))
        raise ValueError(f"unknown key {unknown[0]!r}; there are: {known}")
    settings = WarmstartSettings(**{key: types[key](value) for key, value in values.items()})
    settings.validate()
    return settings
