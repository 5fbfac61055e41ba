"""A study as data: parts (what is played), arms (how it is trained), modes (how it is evaluated), seeds.

A cell is one arm on one part with one seed. Its configuration is the part's recipe, then the settings of the
study, of the part and of the arm, in this order. Where a part says `evaluate`, these settings are added once
it is trained. `read.py` reads the files. No torch here.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, TypeVar

from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.envs.options import EnvOptions
from lamer_fast.envs.panel import Panel, panel
from lamer_fast.fields import to_flat
from lamer_fast.strict_json import json_text

ROLES = ("own", "base", "random")  # what was trained, the model that it started from, random legal actions
ATTEMPTS = "attempts"  # the mode without any memory: independent attempts, played beside every evaluation
MAX_TASKS = 2048  # boards of a split that are played, where there are more and no study says how many
NOT_OF_THE_RESULT = frozenset(  # settings that change no number of a cell
    {
        "name", "train.num_threads", "train.save_every", "train.keep_checkpoints", "train.watchdog_s",
        "train.trials_logged", "train.wandb", "train.max_skipped_updates", "env.workers", "env.timeout_s",
    }
)  # fmt: skip


class Named(Protocol):
    @property
    def name(self) -> str: ...


OneCell = TypeVar("OneCell", bound=Named)


def chosen(cells: Sequence[OneCell], only: str) -> list[OneCell]:
    """Cells whose names have one of the words of `only`, separated by commas; empty: all.

    A word that stands in a name between dashes (`lamer`, `mines-lamer`, `mines-lamer-1`) means such cells
    alone, any other one all whose names contain it.

    Raises:
        ValueError: a word is in no name.
    """
    words, found = [word.strip() for word in only.split(",") if word.strip()], set[str]()
    for word in words:
        whole = {cell.name for cell in cells if f"-{word}-" in f"-{cell.name}-"}
        if not (here := whole or {cell.name for cell in cells if word in cell.name}):
            names = ", ".join(dict.fromkeys(re.sub(r"-\d+$", "", cell.name) for cell in cells))  # no seeds
            raise ValueError(f"--only {only!r}: no cell has {word!r} in its name; there are {names}")
        found |= here
    return [cell for cell in cells if not words or cell.name in found]


@dataclass(frozen=True)
class Part:
    name: str
    recipe: str
    settings: Mapping[str, Any] = field(default_factory=dict)
    evaluate: Mapping[str, Any] = field(default_factory=dict)  # what an evaluation has unlike the training
    tasks: int | None = None  # instead of the study's
    published: Mapping[str, Sequence[float]] = field(
        default_factory=dict
    )  # arm -> the paper's success@1..K, %


@dataclass(frozen=True)
class Arm:
    name: str
    doc: str
    settings: Mapping[str, Any]
    train: bool = True  # False: the model as it is
    searched: str = ""  # what was tried for it, on `valid`
    seeds: tuple[int, ...] | None = None  # instead of the study's
    budget: str = ""  # why it does not play as many episodes as the others
    parts: tuple[str, ...] | None = None  # that it is run on; None: all
    modes: tuple[str, ...] | None = None  # that it is evaluated by, maybe `attempts`; None: all
    prompts: str | None = None  # env.prompt of the parts that it is run on; None: any


@dataclass(frozen=True)
class Mode:
    """A way to evaluate what was trained; its settings are those of section `eval`."""

    name: str
    doc: str
    settings: Mapping[str, Any]
    roles: Mapping[str, str] = field(default_factory=dict)  # explorer, reflector, player -> one of ROLES


@dataclass(frozen=True)
class Cell:
    part: str
    arm: Arm
    seed: int
    config: Config  # of the training
    evaluated: Config  # of what was trained, before the settings of a mode
    modes: tuple[Mode, ...]
    tasks: int | None  # boards of each split at most
    measures: tuple[str, ...]  # what is looked at beside success
    played: Mapping[str, Any]  # the last four as settings

    @property
    def name(self) -> str:
        return f"{self.part}-{self.arm.name}-{self.seed}"

    def settings(self) -> dict[str, Any]:
        """What decides the numbers and is not as by default: dotted key -> value, ready for JSON."""
        return decisive({**to_flat(self.config), **self.played})

    @property
    def training(self) -> str:
        """Digest of what decides the trained policy: cells of the same one share a run."""
        return training_of(self.config) if self.arm.train else f"untrained {self.name}"

    def boards(self, env: EnvOptions, split: str) -> Panel:
        """Of a split that are played, with settings of the world as a mode has them."""
        return panel(env, split, self.tasks, at_most=self.tasks or MAX_TASKS)

    @property
    def episodes(self) -> int:
        """That training may play: boards, spare ones too, x trials x episodes x iterations."""
        r = self.config.rollout
        of_iteration = (r.groups + r.spare_groups) * r.trials_per_group * r.episodes
        return of_iteration * self.config.train.iterations if self.arm.train else 0


@dataclass(frozen=True)
class Study:
    name: str
    question: str
    parts: Mapping[str, Part]
    arms: Mapping[str, Arm]
    modes: Mapping[str, Mode]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    against: str  # the arm that the others are compared with
    tasks: int | None = None  # boards of each split at most
    measures: tuple[str, ...] = ()
    model: str = ""  # what it is run on in place of the recipes' own, as `on_model.py` has it
    left_out: str = ""  # parts and arms that it does not have on that model, and why

    def cells(self) -> list[Cell]:
        """All of them, the first seed of every arm first. Raises ValueError where one cannot be run."""
        found = [cell for part in self.parts for arm in self.arms.values() for cell in self._of(part, arm)]
        if not found:
            raise ValueError(
                f"study {self.name} has no cell: no arm has a part here, by its `parts` or `prompts`"
            )
        self._check_budgets(found)
        return sorted(found, key=lambda cell: cell.seed)

    def quick(self) -> Study:
        """The same grid, small: one seed, two iterations of few boards. Shows that it runs, and no more."""
        small = {
            "train.iterations": 2, "rollout.groups": 2, "learn.minibatches": 1, "learn.warmup_updates": 0,
            "train.save_every": 1,
        }  # fmt: skip
        arms = {name: replace(_small(arm, small), seeds=None) for name, arm in self.arms.items()}
        parts = {name: replace(part, tasks=None) for name, part in self.parts.items()}
        name, seeds = f"{self.name}-quick", self.seeds[:1]
        return replace(self, name=name, parts=parts, arms=arms, seeds=seeds, tasks=8)

    def _of(self, name: str, arm: Arm) -> Iterator[Cell]:
        if arm.parts is not None and name not in arm.parts:
            return
        part, tasks = self.parts[name], self.parts[name].tasks or self.tasks
        modes = tuple(mode for mode in self.modes.values() if arm.modes is None or mode.name in arm.modes)
        played: dict[str, Any] = {"study.tasks": tasks}
        played |= {f"study.modes.{mode.name}": {**mode.settings, **mode.roles} for mode in modes}
        played["study.trained"] = arm.train
        if part.evaluate:
            played["study.evaluate"] = dict(part.evaluate)
        if self.measures:
            played["study.measures"] = list(self.measures)
        for seed in self.seeds if arm.seeds is None else arm.seeds:
            try:
                config = recipe.load(part.recipe)
                for settings in (self.settings, part.settings, arm.settings):
                    config = recipe.apply(config, settings)
                if arm.prompts not in (None, config.env.prompt):
                    return
                own = f"{self.name}-{name}-{arm.name}-{seed}"
                config = replace(config, name=own, train=replace(config.train, seed=seed))
                config.validate()
                evaluated = recipe.apply(config, part.evaluate)
                played_by = {mode.name: recipe.apply(evaluated, mode.settings) for mode in modes}
                for asked in played_by.values():
                    asked.validate_evaluation()
                _check_episodes(played_by)
            except ValueError as error:
                raise ValueError(f"study {self.name}, cell {name}-{arm.name}-{seed}: {error}") from None
            yield Cell(name, arm, seed, config, evaluated, modes, tasks, self.measures, played)

    def _check_budgets(self, cells: Sequence[Cell]) -> None:
        for part in self.parts:
            trained = [c for c in cells if c.part == part and c.arm.train and not c.arm.budget]
            for cell in trained[1:]:
                if cell.episodes != trained[0].episodes:
                    raise ValueError(
                        f"study {self.name}, {part}: arm {cell.arm.name} plays {cell.episodes:,} episodes, "
                        f"arm {trained[0].arm.name} {trained[0].episodes:,}; make them equal, or say why in "
                        f"arms.{cell.arm.name}.budget"
                    )


def _check_episodes(by_mode: Mapping[str, Config]) -> None:
    """Raises ValueError unless all modes of a cell play as many episodes: its attempts are as many, too."""
    counts = {mode: asked.eval.episodes or asked.rollout.episodes for mode, asked in by_mode.items()}
    for mode, count in counts.items():
        if count != (most := max(counts.values())):
            other = next(name for name in counts if counts[name] == most)
            raise ValueError(
                f"mode {mode} plays {count} episodes, mode {other} {most}; the modes of a cell play as many, "
                "but arms, and `evaluate` of parts, may have an eval.episodes of their own"
            )


def _small(arm: Arm, small: Mapping[str, Any]) -> Arm:
    """An arm in a quick study, whatever it, its part or the study says of lengths; budgets do not count."""
    spare = {"rollout.spare_groups": 2} if "rollout.spare_groups" in arm.settings else {}
    return replace(arm, settings={**arm.settings, **small, **spare}, budget=arm.budget or "small")


def training_of(config: Config) -> str:
    """Digest of the settings that decide what is trained."""
    return digest(training_settings(config))


def training_settings(config: Config) -> dict[str, Any]:
    """Those that decide what is trained, and nothing that is said of evaluations, as `decisive` has them."""
    flat = to_flat(config)
    return decisive({key: value for key, value in flat.items() if not key.startswith("eval.")})


def difference(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> tuple[str, Any, Any] | None:
    """(key, value found, value wanted) of the first setting that differs, both as `decisive` has them."""
    for key in sorted(wanted.keys() | found.keys()):
        if found.get(key) != wanted.get(key):
            before, now = ({**_defaults(side), **side}.get(key) for side in (found, wanted))
            return key, before, now
    return None


def decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that change numbers, without defaults: a result stays what it is when settings are added."""
    defaults = _defaults(settings)
    always = (recipe.NAME, "model.path", "train.seed")
    kept = {
        key: value
        for key, value in settings.items()
        if key not in NOT_OF_THE_RESULT and (key in always or key not in defaults or value != defaults[key])
    }
    plain: dict[str, Any] = json.loads(json_text(kept))
    return plain


def _defaults(settings: Mapping[str, Any]) -> dict[str, Any]:
    name = settings.get(recipe.NAME)
    return to_flat(recipe.apply(Config(), {recipe.NAME: name} if name else {}))


def digest(values: Mapping[str, Any]) -> str:
    """Of settings: 16 hexadecimal digits."""
    text = json_text(dict(sorted(values.items())), default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
