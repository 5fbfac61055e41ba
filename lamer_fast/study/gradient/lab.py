"""A lab as data: worlds, policies, arms, group sizes, models. A TOML file that has `worlds` is one."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.envs.registry import default_options
from lamer_fast.fields import to_flat
from lamer_fast.study.gradient.estimators import Estimator
from lamer_fast.study.gradient.minds import MINDS
from lamer_fast.study.gradient.models import Model, ModelCell, measurable, read_model
from lamer_fast.study.gradient.moments import BLOCKS
from lamer_fast.study.read import known_keys, settings_of_table, tables_in

QUICK_UPDATES, QUICK_BOARDS = 20, 3


@dataclass(frozen=True)
class World:
    name: str
    config: Config  # env, episodes, turns, and the credit that arms differ from
    mind: str
    boards: int


@dataclass(frozen=True)
class Cell:
    """One world, policy and group size; `arms` are those that are measured there."""

    world: World
    policy: str
    steps: int  # that the policy has climbed
    size: int
    arms: tuple[Estimator, ...]

    @property
    def name(self) -> str:
        return f"{self.world.name}-{self.policy}-{self.size}"


AnyCell = Cell | ModelCell


@dataclass(frozen=True)
class Lab:
    name: str
    question: str
    worlds: tuple[World, ...]
    policies: Mapping[str, int]  # steps up the true gradient of success@K
    arms: tuple[Estimator, ...]
    by_size: frozenset[str]  # arms that are measured at every size, the others at the first
    sizes: tuple[int, ...]  # trials of a group
    trials: int  # of an update
    updates: int
    seed: int
    spread: float  # of the first policy's logits
    models: tuple[Model, ...] = ()

    def cells(self) -> list[Cell]:
        """Every policy at the first size, the last one at the others."""
        found = []
        for world in self.worlds:
            last = list(self.policies)[-1]
            for policy, steps in self.policies.items():
                for size in self.sizes if policy == last else self.sizes[:1]:
                    arms = [a for a in self.arms if size == self.sizes[0] or a.name in self.by_size]
                    own = tuple(self.on(world, arm) for arm in arms)
                    found.append(Cell(world, policy, steps, size, own))
        return found

    def all_cells(self) -> list[AnyCell]:
        return [*self.cells(), *self.model_cells()]

    def model_cells(self) -> list[ModelCell]:
        found = []
        for model in self.models:
            arms = (self.on(model, arm) for arm in self.arms)
            found.append(ModelCell(model, tuple(arm for arm in arms if measurable(arm)), self.seed))
        return found

    def on(self, world: World | Model, arm: Estimator) -> Estimator:
        config = recipe.apply(world.config, arm.settings)
        return replace(arm, algo=config.algo)

    def settings(self, cell: AnyCell) -> dict[str, Any]:
        """What decides the numbers of a cell, its arms left out, and of its environment what is not as by
        default: ready for JSON."""
        if isinstance(cell, ModelCell):
            return cell.settings()
        flat, env = to_flat(cell.world.config), cell.world.config.env
        usual = {f"env.{key}": value for key, value in to_flat(default_options(env.name)).items()}
        of_world = {key: flat[key] for key in usual if flat[key] != usual[key]}
        of_world |= {key: flat[key] for key in ("env.name", "rollout.episodes", "rollout.max_turns")}
        return of_world | {
            "mind": cell.world.mind, "boards": cell.world.boards, "steps": cell.steps, "size": cell.size,
            "trials": self.trials, "updates": self.updates, "seed": self.seed, "spread": self.spread,
        }  # fmt: skip

    def quick(self) -> Lab:
        """Few updates on few boards: shows that it runs, and no more."""
        worlds = tuple(replace(world, boards=min(world.boards, QUICK_BOARDS)) for world in self.worlds)
        name = f"{self.name}-quick"
        models = tuple(model.quick() for model in self.models)
        small = replace(self, name=name, worlds=worlds, models=models)
        return replace(small, sizes=self.sizes[:2], updates=QUICK_UPDATES)


def arm_settings(arm: Estimator) -> dict[str, Any]:
    """What decides the numbers of an arm, as it is on a world: what is not as by default."""
    default = to_flat(type(arm.algo)())
    own = {key: value for key, value in to_flat(arm.algo).items() if value != default[key]}
    more = {"critic": arm.critic, "aggregation": arm.aggregation, "sequences": arm.sequences}
    usual = {"critic": "exact", "aggregation": None, "sequences": "turns"}
    return own | {key: value for key, value in more.items() if value != usual[key]}


def read_lab(name: str, table: Mapping[str, Any]) -> Lab:
    """Raises ValueError naming a key that it does not know, or a value that cannot be used."""
    known_keys("", table, {
        "question", "worlds", "models", "policies", "arms", "sizes", "trials", "updates", "seed", "spread",
    })  # fmt: skip
    for key in ("question", "worlds", "policies", "arms", "sizes"):
        if not table.get(key):
            raise ValueError(f"{key} is missing")
    trials, sizes = _whole("trials", table.get("trials", 128)), _sizes(table["sizes"])
    for size in sizes:
        if trials % size:
            raise ValueError(f"trials = {trials} is no multiple of sizes = {size}")
    updates = _whole("updates", table.get("updates", 1200))
    if updates % BLOCKS:
        raise ValueError(f"updates = {updates} is no multiple of {BLOCKS}, over which errors are taken")
    arms, by_size = [], set()
    for arm, values in tables_in("arms", table["arms"]).items():
        known_keys(f"arms.{arm}", values, {"doc", "algo", "critic", "sequences", "sizes"})
        arms.append(_arm(arm, values))
        by_size |= {arm} if values.get("sizes") else set()
    if not isinstance(table["policies"], Mapping):
        raise ValueError(f"policies = {table['policies']!r}, must be a table of steps")
    policies = {n: _whole(f"policies.{n}", steps, least=0) for n, steps in table["policies"].items()}
    lab = Lab(
        name, str(table["question"]),
        tuple(_world(n, w) for n, w in tables_in("worlds", table["worlds"]).items()),
        policies, tuple(arms), frozenset(by_size), sizes, trials, updates,
        _whole("seed", table.get("seed", 0), least=0), _spread(table.get("spread", 0.5)),
        tuple(read_model(n, m) for n, m in tables_in("models", table.get("models", {})).items()),
    )  # fmt: skip
    for cell in lab.cells():
        _check(cell, cell.world.config)
    for of_model in lab.model_cells():
        _check(of_model, of_model.model.config)
    return lab


def _whole(where: str, value: Any, least: int = 1) -> int:
    if type(value) is not int or value < least:
        raise ValueError(f"{where} = {value!r}, must be a whole number from {least} up")
    return value


def _sizes(value: Any) -> tuple[int, ...]:
    if not isinstance(value, list):
        raise ValueError(f"sizes = {value!r}, must be a list of trials of a group")
    return tuple(_whole("sizes", size) for size in value)


def _spread(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value < float("inf"):
        raise ValueError(f"spread = {value!r}, must be a number from 0 up")
    return float(value)


def _arm(name: str, table: Mapping[str, Any]) -> Estimator:
    settings = settings_of_table({"algo": table.get("algo", {})}, f"arms.{name}")
    blank = Config().algo
    return Estimator(
        name, str(table.get("doc", "")), blank, settings, table.get("critic", "exact"),
        settings.get("algo.aggregation"), table.get("sequences", "turns"),
    )  # fmt: skip


def _world(name: str, table: Mapping[str, Any]) -> World:
    known_keys(f"worlds.{name}", table, {"recipe", "mind", "boards", "env", "rollout"})
    if table.get("mind") not in MINDS:
        raise ValueError(f"worlds.{name}.mind = {table.get('mind')!r}, must be one of: {', '.join(MINDS)}")
    for key in ("recipe", "boards"):
        if key not in table:
            raise ValueError(f"worlds.{name}.{key} is missing")
    boards = _whole(f"worlds.{name}.boards", table["boards"], least=2)
    config = recipe.apply(recipe.load(str(table["recipe"])), settings_of_table(table, f"worlds.{name}"))
    return World(name, config, str(table["mind"]), boards)


def _check(cell: AnyCell, base: Config) -> None:
    for arm in cell.arms:
        config = recipe.apply(base, arm.settings)
        rollout = replace(config.rollout, trials_per_group=cell.size)
        try:
            replace(config, rollout=rollout).validate()
        except ValueError as error:
            raise ValueError(f"arms.{arm.name}, groups of {cell.size}: {error}") from None
        for key, words in (("critic", ("exact", "zero")), ("sequences", ("turns", "trials"))):
            if getattr(arm, key) not in words:
                raise ValueError(f"arms.{arm.name}.{key} = {getattr(arm, key)!r}, must be one of {words}")
