"""`lamer-fast envs`: the environments, their options and tasks; `envs check` and `envs data` examine one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, ClassVar

from lamer_fast.cli.flags import Command, Target, entries_beyond
from lamer_fast.config.resolve import apply, parse_overrides
from lamer_fast.envs.contract import EnvError
from lamer_fast.envs.entry import SPLITS
from lamer_fast.envs.options import EnvOptions
from lamer_fast.envs.registry import GAMES, default_options, entry, option_classes
from lamer_fast.fields import Range, check_ranges, settings_of
from lamer_fast.text import one_line


@dataclass(frozen=True)
class Chosen:
    """An environment with options, without a recipe around it."""

    env: EnvOptions = field(default_factory=lambda: default_options("minesweeper"))

    VARIANTS: ClassVar = {"env": option_classes}


@dataclass(frozen=True)
class EnvsOptions:
    pass


COMMAND = Command(
    "envs",
    "List the environments of this package and their options; with NAME, also the number of tasks of each "
    "split. `lamer-fast envs check NAME` tests an environment and reports its faults. "
    "`lamer-fast envs data NAME PATH` checks its data files. `lamer-fast envs compare NAME PATH` plays games "
    "with our stepper and with the original package.",
    EnvsOptions,
    Target(
        "NAME",
        f"{', '.join(GAMES)}, or package.module:factory of your own",
        "",
        (*GAMES, "check", "data", "compare"),
    ),
    Chosen,
)


@dataclass(frozen=True)
class CheckOptions:
    replies: str = ""
    """Valid replies, separated by `|`; not needed with legal_actions() or expert_replies()."""
    boards: Annotated[int, Range(2, 10_000)] = 8
    """Number of boards played at once."""
    turns: Annotated[int, Range(1, 10_000)] = 12
    """Number of turns in each game."""
    seed: Annotated[int, Range(0)] = 0
    """Seed of the boards and the replies."""
    timeout_s: Annotated[float, Range(1, 86_400)] = 60.0
    """End and report an environment that gives no sign of life for this time."""


CHECK = Command(
    "envs check",
    "Look for faults in an environment, in a separate process, and measure its turns per second. The exit "
    "status is 1 if something is wrong.",
    CheckOptions,
    Target("NAME", f"{', '.join(GAMES)}, or package.module:factory of your own"),
    Chosen,
)

DATA = Command(
    "envs data NAME",
    "Check the data files of an environment before long work, and print counts and digests. Anything that it "
    "builds from them once is built now.",
    EnvsOptions,
    Target("PATH", "the folder or file; by default the one in the environment's options, or that ships", ""),
    Chosen,
)


@dataclass(frozen=True)
class CompareOptions:
    split: str = "valid"
    """Split of the games."""
    turns: Annotated[int, Range(1, 10_000)] = 40
    """Number of turns of a random walk through each game, beside its walkthrough."""
    seed: Annotated[int, Range(0)] = 0
    """Seed of the walks."""


COMPARE = Command(
    "envs compare NAME",
    "Play games with our stepper and with the original package, and compare every text, command and reward. "
    "The first difference ends it with exit status 2.",
    CompareOptions,
    Target("PATH", "the folder or file; by default the one that the environment's options name", ""),
    Chosen,
)


def run(argv: Sequence[str]) -> int:
    if argv and argv[0] == "compare":
        return compare(argv[1:])
    if argv and argv[0] == "check":
        return check(argv[1:])
    if argv and argv[0] == "data":
        return data(argv[1:])
    name, _, overrides = COMMAND.parse(argv)
    if not name and not overrides:
        for game in GAMES:
            print("\n".join(listing(game)) + "\n")
        print("your own: lamer-fast envs package.module:factory")
        return 0
    options = choose(name, overrides)
    print("\n".join([*listing(options.name), "", *tasks(options)]))
    return 0


def check(argv: Sequence[str]) -> int:
    from lamer_fast.envs.examine import Examination, examine

    name, own, overrides = CHECK.parse(argv)
    options = choose(name, overrides)
    print(one_line(entry(options.name).summary(options), 500), flush=True)
    replies = tuple(reply for reply in own.replies.split("|") if reply)
    result = examine(options, Examination(replies, own.boards, own.turns, own.seed, timeout_s=own.timeout_s))
    for sentence in result.violations:
        print(f"wrong  {one_line(sentence, 1000)}")
    if not result.violations:
        print("right  nothing is wrong that could be found")
    if result.turns_per_s is not None:
        print(f"speed  {result.turns_per_s:,.0f} turns/s on {own.boards} boards (step and observe)")
    return 1 if result.violations else 0


def data(argv: Sequence[str]) -> int:
    options, path, _ = _named(DATA, argv)
    for line in entry(options.name).data(options, path):
        print(one_line(line, 500), flush=True)
    return 0


def compare(argv: Sequence[str]) -> int:
    options, path, own = _named(COMPARE, argv)
    for line in entry(options.name).compare(options, path, own.split, own.turns, own.seed):
        print(one_line(line, 500), flush=True)
    return 0


def _named(command: Command, argv: Sequence[str]) -> tuple[EnvOptions, Path | None, Any]:
    """Of `NAME [PATH] [--option ...]`."""
    name = argv[0] if argv and not argv[0].startswith("-") else ""
    path, own, overrides = command.parse(argv[1:] if name else argv)
    if not name:
        raise ValueError(f"NAME is missing: {COMMAND.target.doc}")
    return choose(name, overrides), Path(path) if path else None, own


def choose(name: str, overrides: Sequence[str]) -> EnvOptions:
    """The options of an environment with those of a command line."""
    values = ({"env.name": name} if name else {}) | parse_overrides(overrides)
    chosen = apply(Chosen(), values)
    check_ranges(chosen)
    chosen.env.validate()
    return chosen.env


def listing(name: str) -> list[str]:
    """Name, what it is, and its options with types, ranges, defaults and docs."""
    cls: Any = entry(name).options
    head = [f"{name}: {one_line(entry(name).doc, 200)}", f"  splits {', '.join(SPLITS)}"]
    head += [f"  {what}: {said}" for what in ("success", "turns") if (said := getattr(entry(name), what, ""))]
    return [*head, *entries_beyond({"env.name": settings_of(cls)["name"]}, "env", cls)]


def tasks(options: EnvOptions) -> list[str]:
    """How many tasks each split has, and which panel an evaluation of 64 of them plays."""
    from lamer_fast.envs.panel import panel

    lines = []
    for split in SPLITS:
        number = entry(options.name).num_tasks(options, split)
        known = f"{number:,} tasks" if number is not None else "tasks that cannot be counted"
        try:
            played = panel(options, split, 64)
            known += f"; the panel of the first {len(played)} is {played.digest}"
        except EnvError as error:
            known = str(error)
        lines.append(f"split {split}: {known}")
    return lines
