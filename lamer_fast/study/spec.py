"""A study as data: parts (what is played), arms (how it is trained), modes (how it is evaluated), seeds.

A cell is one arm on one part with one seed. Its configuration is the part's recipe, then the settings of the
study, of the part and of the arm, in this order. No torch here.
"""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.fields import to_flat

STUDIES = Path(__file__).parent / "studies"
SECTIONS = tuple(field.name for field in fields(Config) if field.name != "name")
ATTEMPTS = "attempts"  # the mode without any memory: independent attempts, played beside every evaluation
NOT_OF_THE_RESULT = frozenset(  # settings that change no number of a cell
    {
        "name", "train.num_threads", "train.save_every", "train.keep_checkpoints", "train.watchdog_s",
        "train.trials_logged", "train.wandb", "train.max_skipped_updates", "env.workers", "env.timeout_s",
    }
)  # fmt: skip


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


@dataclass(frozen=True)
class Mode:
    """A way to evaluate what was trained; its settings are those of section `eval`."""

    name: str
    doc: str
    settings: Mapping[str, Any]


@dataclass(frozen=True)
class Cell:
    part: str
    arm: Arm
    seed: int
    config: Config
    played: Mapping[str, Any]  # how it is evaluated: modes and number of boards

    @property
    def name(self) -> str:
        return f"{self.part}-{self.arm.name}-{self.seed}"

    def settings(self) -> dict[str, Any]:
        """What decides the numbers and is not as by default: dotted key -> value, ready for JSON."""
        return decisive({**to_flat(self.config), **self.played})

    @property
    def episodes(self) -> int:
        """That training may play: boards x trials x episodes x iterations."""
        r = self.config.rollout
        of_iteration = r.groups * r.trials_per_group * r.episodes
        return of_iteration * self.config.train.iterations if self.arm.train else 0


@dataclass(frozen=True)
class Study:
    name: str
    question: str
    parts: Mapping[str, tuple[str, Mapping[str, Any]]]  # name -> (recipe, settings)
    arms: Mapping[str, Arm]
    modes: Mapping[str, Mode]
    seeds: tuple[int, ...]
    settings: Mapping[str, Any]
    against: str  # the arm that the others are compared with
    tasks: int | None = None  # boards of each split at most
    published: Mapping[str, Sequence[float]] | None = None  # arm -> success@1..3 of the paper, in percent

    def cells(self) -> list[Cell]:
        """All of them, the first seed of every arm first. Raises ValueError where one cannot be run."""
        found = [cell for part in self.parts for arm in self.arms.values() for cell in self._of(part, arm)]
        self._check_budgets(found)
        return sorted(found, key=lambda cell: cell.seed)

    def quick(self) -> Study:
        """The same grid, small: one seed, two iterations of few boards. Shows that it runs, and no more."""
        small = {
            "train.iterations": 2, "rollout.groups": 2, "learn.minibatches": 1, "learn.warmup_updates": 0,
            "train.save_every": 1,
        }  # fmt: skip
        arms = {name: replace(arm, seeds=None) for name, arm in self.arms.items()}
        settings = {**self.settings, **small}
        name, seeds = f"{self.name}-quick", self.seeds[:1]
        return replace(self, name=name, arms=arms, seeds=seeds, settings=settings, tasks=8)

    def _of(self, part: str, arm: Arm) -> Iterator[Cell]:
        if arm.parts is not None and part not in arm.parts:
            return
        source, of_part = self.parts[part]
        played: dict[str, Any] = {"study.tasks": self.tasks}
        played |= {f"study.modes.{mode.name}": dict(mode.settings) for mode in self.modes.values()}
        played["study.trained"] = arm.train
        for seed in self.seeds if arm.seeds is None else arm.seeds:
            where = f"study {self.name}, cell {part}-{arm.name}-{seed}"
            try:
                config = recipe.load(source)
                for settings in (self.settings, of_part, arm.settings):
                    config = recipe.apply(config, settings)
                name = f"{self.name}-{part}-{arm.name}-{seed}"
                config = replace(config, name=name, train=replace(config.train, seed=seed))
                config.validate()
                for mode in self.modes.values():
                    recipe.apply(config, mode.settings).validate_evaluation()
            except ValueError as error:
                raise ValueError(f"{where}: {error}") from None
            yield Cell(part, arm, seed, config, played)

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


def names() -> list[str]:
    return sorted(path.stem for path in STUDIES.glob("*.toml"))


def load(source: str) -> Study:
    """A shipped study's name, or a TOML file, which may extend another one.

    Raises:
        ValueError: no such study, or a key that it does not know; names it.
    """
    table = _table(source, ())
    try:
        return _study(Path(source).stem, table)
    except ValueError as error:
        raise ValueError(f"study {source!r}: {error}") from None


def decisive(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Those that change numbers, without defaults: a result stays what it is when settings are added."""
    defaults = to_flat(recipe.apply(Config(), {recipe.NAME: settings[recipe.NAME]}))
    always = (recipe.NAME, "model.path", "train.seed")
    kept = {
        key: value
        for key, value in settings.items()
        if key not in NOT_OF_THE_RESULT and (key in always or key not in defaults or value != defaults[key])
    }
    plain: dict[str, Any] = json.loads(json.dumps(kept))
    return plain


def digest(values: Mapping[str, Any]) -> str:
    """Of settings: 16 hexadecimal digits."""
    text = json.dumps(dict(sorted(values.items())), default=str)
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()


def _table(source: str, seen: tuple[Path, ...]) -> dict[str, Any]:
    path = recipe.toml_file(source, {name: STUDIES / f"{name}.toml" for name in names()}, "study")
    try:
        table = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ValueError(f"study {path}: not valid TOML: {error}") from None
    base = table.pop("extends", None)
    if base is None:
        return table
    beside = path.parent / str(base)
    seen = (*seen, path.resolve())
    if beside.resolve() in seen:
        raise ValueError(f"study {path}: extends {base!r}, which extends it")
    return _merged(_table(str(beside) if beside.is_file() else str(base), seen), table)


def _merged(base: dict[str, Any], over: dict[str, Any]) -> dict[str, Any]:
    merged = dict(base)
    for key, value in over.items():
        both = isinstance(value, dict) and isinstance(base.get(key), dict)
        merged[key] = _merged(base[key], value) if both else value
    return merged


def _study(name: str, table: Mapping[str, Any]) -> Study:
    keys = {"question", "seeds", "tasks", "against", "parts", "arms", "modes", "published", *SECTIONS}
    _known("", table, keys)
    for key in ("question", "seeds", "parts", "arms"):
        if not table.get(key):
            raise ValueError(f"{key} is missing")
    parts = {n: _part(n, p) for n, p in table["parts"].items()}
    arms = {n: _arm(n, a, parts) for n, a in table["arms"].items()}
    against = table.get("against", next(iter(arms)))
    if against not in arms:
        raise ValueError(f"against = {against!r} is no arm; there are: {', '.join(arms)}")
    given = table.get("modes", {"trials": {}})
    modes = {n: _mode(n, m) for n, m in given.items()}
    return Study(
        name, table["question"], parts, arms, modes, _seeds("seeds", table["seeds"]), _settings(table),
        against, table.get("tasks"), table.get("published"),
    )  # fmt: skip


def _part(name: str, table: Mapping[str, Any]) -> tuple[str, Mapping[str, Any]]:
    _name("part", name)
    _known(f"parts.{name}", table, {"recipe", *SECTIONS})
    if "recipe" not in table:
        raise ValueError(f"parts.{name}.recipe is missing")
    return str(table["recipe"]), _settings(table)


def _arm(name: str, table: Mapping[str, Any], parts: Mapping[str, Any]) -> Arm:
    _name("arm", name)
    _known(f"arms.{name}", table, {"doc", "trained", "searched", "seeds", "budget", "parts", *SECTIONS})
    seeds, on = table.get("seeds"), table.get("parts")
    for part in on or ():
        if part not in parts:
            raise ValueError(f"arms.{name}.parts has {part!r}; there are: {', '.join(parts)}")
    return Arm(
        name, str(table.get("doc", "")), _settings(table), bool(table.get("trained", True)),
        str(table.get("searched", "")), None if seeds is None else _seeds(f"arms.{name}.seeds", seeds),
        str(table.get("budget", "")), None if on is None else tuple(on),
    )  # fmt: skip


def _mode(name: str, table: Mapping[str, Any]) -> Mode:
    _name("mode", name)
    if name == ATTEMPTS:
        raise ValueError(f"mode {ATTEMPTS!r} is there by itself: independent attempts beside each evaluation")
    _known(f"modes.{name}", table, {"doc", "eval"})
    return Mode(name, str(table.get("doc", "")), _settings(table))


def _name(what: str, name: str) -> None:
    if not name.replace("_", "").isalnum():
        raise ValueError(f"{what} {name!r}: a name is letters, digits and _ (it is part of file names)")


def _known(where: str, table: Mapping[str, Any], keys: set[str]) -> None:
    for key in table:
        if key not in keys:
            dotted = f"{where}.{key}" if where else key
            raise ValueError(f"unknown key {dotted!r}{recipe.nearest(key, sorted(keys))}")


def _settings(table: Mapping[str, Any]) -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for section in SECTIONS:
        for key, value in dict(table.get(section, {})).items():
            flat[f"{section}.{key}"] = value
    return flat


def _seeds(where: str, seeds: Any) -> tuple[int, ...]:
    if not isinstance(seeds, list) or not all(type(seed) is int and seed >= 0 for seed in seeds) or not seeds:
        raise ValueError(f"{where} = {seeds!r}, must be a list of numbers from 0 up")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"{where} = {seeds!r} names a seed twice")
    return tuple(seeds)
