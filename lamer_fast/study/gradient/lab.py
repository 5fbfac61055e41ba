"""A lab as data: worlds, policies, arms, group sizes. A TOML file that has `worlds` is one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.envs.registry import default_options
from lamer_fast.fields import to_flat
from lamer_fast.study.gradient.estimators import Estimator
from lamer_fast.study.gradient.minds import MINDS
from lamer_fast.study.read import known_keys, settings_of_table

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

    def on(self, world: World, arm: Estimator) -> Estimator:
        config = recipe.apply(world.config, arm.settings)
        return replace(arm, algo=config.algo)

    def settings(self, cell: Cell) -> dict[str, Any]:
        """What decides the numbers of a cell, its arms left out, and of its environment what is not as by
        default: ready for JSON."""
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
        return replace(self, name=name, worlds=worlds, sizes=self.sizes[:2], updates=QUICK_UPDATES)


def arm_settings(arm: Estimator) -> dict[str, Any]:
    """What decides the numbers of an arm, as it is on a world: what is not as by default."""
    default = to_flat(type(arm.algo)())
    own = {key: value for key, value in to_flat(arm.algo).items() if value != default[key]}
    more = {"critic": arm.critic, "aggregation": arm.aggregation, "sequences": arm.sequences}
    usual = {"critic": "exact", "aggregation": None, "sequences": "turns"}
    return own | {key: value for key, value in more.items() if value != usual[key]}


def read_lab(name: str, table: Mapping[str, Any]) -> Lab:
    """Raises ValueError naming a key that it does not know, or an arm that cannot be used."""
    known_keys("", table, {
        "question", "worlds", "policies", "arms", "sizes", "trials", "updates", "seed", "spread",
    })  # fmt: skip
    for key in ("question", "worlds", "policies", "arms", "sizes"):
        if not table.get(key):
            raise ValueError(f"{key} is missing")
    sizes = tuple(table["sizes"])
    for size in sizes:
        if table.get("trials", 128) % size:
            raise ValueError(f"trials = {table.get('trials', 128)} is no multiple of sizes = {size}")
    arms, by_size = [], set()
    for arm, values in table["arms"].items():
        known_keys(f"arms.{arm}", values, {"doc", "algo", "critic", "sequences", "sizes"})
        arms.append(_arm(arm, values))
        by_size |= {arm} if values.get("sizes") else set()
    lab = Lab(
        name, str(table["question"]), tuple(_world(n, w) for n, w in table["worlds"].items()),
        dict(table["policies"]), tuple(arms), frozenset(by_size), sizes,
        int(table.get("trials", 128)), int(table.get("updates", 1200)), int(table.get("seed", 0)),
        float(table.get("spread", 0.5)),
    )  # fmt: skip
    for cell in lab.cells():
        _check(cell)
    return lab


def _arm(name: str, table: Mapping[str, Any]) -> Estimator:
    settings = settings_of_table({"algo": table.get("algo", {})})
    blank = Config().algo
    return Estimator(
        name, str(table.get("doc", "")), blank, settings, table.get("critic", "exact"),
        settings.get("algo.aggregation"), table.get("sequences", "turns"),
    )  # fmt: skip


def _world(name: str, table: Mapping[str, Any]) -> World:
    known_keys(f"worlds.{name}", table, {"recipe", "mind", "boards", "env", "rollout"})
    if table.get("mind") not in MINDS:
        raise ValueError(f"worlds.{name}.mind = {table.get('mind')!r}, must be one of: {', '.join(MINDS)}")
    config = recipe.apply(recipe.load(str(table["recipe"])), settings_of_table(table))
    return World(name, config, str(table["mind"]), int(table["boards"]))


def _check(cell: Cell) -> None:
    for arm in cell.arms:
        config = recipe.apply(cell.world.config, arm.settings)
        rollout = replace(config.rollout, trials_per_group=cell.size)
        try:
            replace(config, rollout=rollout).validate()
        except ValueError as error:
            raise ValueError(f"arms.{arm.name}, groups of {cell.size}: {error}") from None
        for key, words in (("critic", ("exact", "zero")), ("sequences", ("turns", "trials"))):
            if getattr(arm, key) not in words:
                raise ValueError(f"arms.{arm.name}.{key} = {getattr(arm, key)!r}, must be one of {words}")


def chosen(cells: Sequence[Cell], only: str) -> list[Cell]:
    """Cells whose names contain one of the words of `only`."""
    words = [word.strip() for word in only.split(",") if word.strip()]
    found = [cell for cell in cells if not words or any(word in cell.name for word in words)]
    if not found:
        raise ValueError(
            f"--only {only!r}: no cell has such a name; there are " + ", ".join(c.name for c in cells)
        )
    return found
