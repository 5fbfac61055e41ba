"""Language models of a lab: trials of their own, sampled as in training, on boards of the training split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.envs.registry import default_options
from lamer_fast.fields import to_flat
from lamer_fast.study.gradient.estimators import Estimator
from lamer_fast.study.gradient.judged import HALVES
from lamer_fast.study.read import known_keys, settings_of_table

OF_ROLLOUT = ("episodes", "max_turns", "groups", "trials_per_group", "context", "memory", "temperature")
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Model:
    name: str
    config: Config  # env, rollout and the credit that arms differ from
    run: str  # that trained it, a folder of --runs; empty: the recipe's own model
    boards: int
    branches: int  # before each turn

    def path(self, runs: Path) -> str:
        return str(runs / self.run / "model") if self.run else self.config.model.path

    def waits_for(self, runs: Path) -> str:
        """What has to be there first; empty if it is."""
        there = not self.run or (Path(self.path(runs)) / WEIGHTS).is_file()
        return "" if there else f"the run {self.run} in {runs}"

    def quick(self) -> Model:
        rollout = replace(self.config.rollout, trials_per_group=min(4, self.config.rollout.trials_per_group))
        return replace(self, config=replace(self.config, rollout=rollout), boards=3, branches=2)


@dataclass(frozen=True)
class ModelCell:
    """One model; its arms compare within a group alone, without a critic or the rest of an update."""

    model: Model
    arms: tuple[Estimator, ...]
    seed: int

    @property
    def name(self) -> str:
        return f"model-{self.model.name}"

    @property
    def size(self) -> int:
        return self.model.config.rollout.trials_per_group

    def settings(self) -> dict[str, Any]:
        """What decides the numbers, but for the weights and the arms: ready for JSON."""
        config = self.model.config
        flat, env = to_flat(config), config.env
        usual = {f"env.{key}": value for key, value in to_flat(default_options(env.name)).items()}
        found = {key: flat[key] for key in usual if flat[key] != usual[key]} | {"env.name": env.name}
        found |= {f"rollout.{key}": flat[f"rollout.{key}"] for key in OF_ROLLOUT}
        return found | {
            "model": config.model.path, "run": self.model.run, "boards": self.model.boards,
            "branches": self.model.branches, "seed": self.seed,
        }  # fmt: skip


def read_model(name: str, table: Mapping[str, Any]) -> Model:
    """Raises ValueError naming a key that it does not know, or a value that cannot be used."""
    where = f"models.{name}"
    known_keys(where, table, {"recipe", "run", "boards", "branches", "env", "rollout"})
    for key in ("recipe", "boards", "branches"):
        if key not in table:
            raise ValueError(f"{where}.{key} is missing")
    for key, step in (("boards", 1), ("branches", HALVES)):
        value = table[key]
        if type(value) is not int or value < 2 or value % step:
            many = "a whole number from 2 up" if step == 1 else "an even number from 2 up"
            raise ValueError(f"{where}.{key} = {value!r}, must be {many}")
    config = recipe.apply(recipe.load(str(table["recipe"])), settings_of_table(table, where))
    if config.rollout.trials_per_group < 2:
        raise ValueError(f"{where}: trials_per_group = {config.rollout.trials_per_group}, must be 2 or more")
    return Model(name, config, str(table.get("run", "")), table["boards"], table["branches"])


def measurable(arm: Estimator) -> bool:
    """Whether what a turn counts depends on its group alone."""
    return arm.algo.estimator != "gae" and not arm.over_batch
