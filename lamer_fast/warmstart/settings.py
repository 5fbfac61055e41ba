"""Settings of a warm start: defaults, TOML file, command line. No torch here."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from lamer_fast.config.resolve import RECIPES, merge, toml_file
from lamer_fast.fields import Range, check_ranges


@dataclass(frozen=True)
class WarmstartSettings:
    recipe: str = "minesweeper-tiny"
    """Recipe whose boards, prompts and limits are used."""
    start: str = ""
    """Model to continue from (folder or shipped name); empty makes a new one."""
    updates: Annotated[int, Range(1)] = 4500
    """Number of optimizer steps."""
    cpu_seconds: Annotated[float, Range(0)] = 0.0
    """CPU time to use in place of `updates`; the learning rate falls to 0 at its end. 0 is off."""
    trials: Annotated[int, Range(1)] = 16
    """Number of expert trials in an update, all of them new."""
    lr: Annotated[float, Range(0, 1)] = 1e-3
    """Peak learning rate."""
    warmup_updates: Annotated[int, Range(0)] = 100
    """Number of updates in the linear warm-up."""
    decay_updates: Annotated[int, Range(0)] = 1000
    """Number of last updates over which the learning rate falls to 0 along a cosine."""
    weight_decay: Annotated[float, Range(0, 1)] = 0.05
    """AdamW: weight decay."""
    noise: str = "0.25"
    """Levels of the experts' noise, separated by commas; a trial draws one."""
    memory: Annotated[float, Range(0, 1)] = 0.6
    """Share of experts that use knowledge from earlier episodes."""
    teacher: Literal["expert", "explorer"] = "expert"
    """The environment's expert, or the best explorer of a hidden rule, where there is one."""
    easy: str = ""
    """Settings of easier boards for the beginning, separated by commas: `env.controls=plain`."""
    easy_updates: Annotated[int, Range(0)] = 0
    """Number of updates over which the share of easier boards falls from all to none."""
    seed: Annotated[int, Range(0)] = 0
    """Seed of the first weights, the boards and the experts."""
    eval_every: Annotated[int, Range(1)] = 250
    """Updates between evaluations on `valid`."""
    eval_tasks: Annotated[int, Range(1)] = 256
    """Number of boards in each of these evaluations."""
    vocab_tokens: Annotated[int, Range(0, 1_000_000)] = 1024
    """Maximum number of word pieces that a new tokenizer learns, if the environment lists no words."""
    vocab_trials: Annotated[int, Range(1)] = 32
    """Number of expert trials from which it learns them."""
    num_layers: Annotated[int, Range(1)] = 3
    """Number of decoder layers of a new model."""
    hidden_size: Annotated[int, Range(1)] = 128
    """Width of the residual stream."""
    mlp_size: Annotated[int, Range(1)] = 384
    """Width of the gated MLP."""
    num_heads: Annotated[int, Range(1)] = 4
    """Number of query heads."""
    num_kv_heads: Annotated[int, Range(1)] = 2
    """Number of key and value heads."""
    head_size: Annotated[int, Range(2)] = 32
    """Width of a head."""
    rope_theta: Annotated[float, Range(1)] = 200.0
    """Base of the rotary positions; the usual 1e4 wastes most of a small head on unused distances."""

    @property
    def noise_levels(self) -> tuple[float, ...]:
        return tuple(float(level) for level in self.noise.split(","))

    @property
    def easy_overrides(self) -> list[str]:
        return [f"--{setting.strip()}" for setting in self.easy.split(",") if setting.strip()]

    def validate(self) -> None:
        """Raises ValueError naming the value out of range, or the values that contradict each other."""
        check_ranges(self)
        try:
            right = all(0 <= level <= 1 for level in self.noise_levels)
        except ValueError:
            right = False
        if not right:
            raise ValueError(f"noise = {self.noise!r}, must be numbers in [0, 1], separated by commas")
        if bool(self.easy) != bool(self.easy_updates):
            raise ValueError(f"easy = {self.easy!r} contradicts easy_updates = {self.easy_updates}")
        if self.warmup_updates + self.decay_updates > self.updates:
            raise ValueError(
                f"warmup_updates = {self.warmup_updates} and decay_updates = {self.decay_updates} "
                f"are more than updates = {self.updates}"
            )
        if self.num_heads % self.num_kv_heads:
            raise ValueError(
                f"num_heads = {self.num_heads} is no multiple of num_kv_heads = {self.num_kv_heads}"
            )


def shipped() -> dict[str, Path]:
    """Name of a shipped base model -> the settings it was made with."""
    return {path.parent.name: path for path in sorted(RECIPES.glob("*/warmstart.toml"))}


def resolve(source: str, overrides: Sequence[str] = ()) -> WarmstartSettings:
    """Settings of a TOML file (or of a shipped base model's name) with command line overrides."""
    settings = merge(WarmstartSettings(), toml_file(source, shipped(), "warm start"), overrides)
    settings.validate()
    return settings
