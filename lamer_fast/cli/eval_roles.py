"""`lamer-fast eval --explorer A --reflector B --player C`: each phase of a trial by a policy of its own."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from itertools import product
from typing import TYPE_CHECKING, Any

from lamer_fast.config import Config
from lamer_fast.run.display import Progress

if TYPE_CHECKING:
    from lamer_fast.envs.panel import Panel
    from lamer_fast.eval.success import Evaluation
    from lamer_fast.samplers.roles import Roles

RANDOM = "random"  # plays legal actions, writes no reflections


@dataclass(frozen=True)
class RolesOptions:
    explorer: str | None = None
    """Policies for every episode but the last, A or A,B,...: run folders, model folders, shipped models or
    `random`. With more than one, every combination of the three roles is played."""
    reflector: str | None = None
    """Policies that write the reflections."""
    player: str | None = None
    """Policies that play the last episode."""

    @property
    def given(self) -> bool:
        return any((self.explorer, self.reflector, self.player))


def play_roles(
    config: Config, played: Panel, options: RolesOptions, own: str, seed: int, model_of: Callable[[str], str]
) -> dict[tuple[str, str, str], Evaluation]:
    """By (explorer, reflector, player). A role that is not given is played by `own`, the policy of `config`.

    Args:
        model_of: name of another policy -> its model.path.

    Raises:
        ValueError: a policy cannot be loaded, or was made for other prompts.
    """
    from lamer_fast.eval.success import evaluate

    named = [_names(given, own) for given in (options.explorer, options.reflector, options.player)]
    if RANDOM in named[1]:
        raise ValueError("--reflector random: a random player writes no reflections")
    if not config.evaluation().rollout.reflect:
        raise ValueError(f"no reflections are written here: eval.memory = {config.eval.memory!r}")
    policies = {name for names in named for name in names} - {RANDOM}
    paths = {name: config.model.path if name == own else model_of(name) for name in sorted(policies)}
    players = _players(config, paths)
    renderer = players[named[1][0]].renderer
    found = {}
    for trio in product(named[0], named[1], named[2]):
        found[trio] = evaluate(
            _roles(players, trio), renderer, config, split=played.split, tasks=len(played), seed=seed,
            attempts=False, played=played, progress=Progress(f"trials of {', '.join(trio)}"),
        )  # fmt: skip
    return found


def _names(given: str | None, own: str) -> list[str]:
    names = [own] if given is None else [name.strip() for name in given.split(",")]
    if not all(names) or len(set(names)) < len(names):
        raise ValueError(f"{given!r}: expected different policies, separated by commas")
    return names


def _roles(players: dict[str, Any], trio: tuple[str, str, str]) -> Roles:
    from lamer_fast.samplers.roles import Roles

    samplers = {name: player.sampler for name, player in players.items()}
    return Roles(samplers.get(trio[0]), samplers[trio[1]], samplers.get(trio[2]))


def _players(config: Config, paths: Mapping[str, str]) -> dict[str, Any]:
    """By name, a sampler and a renderer each, from their model.path."""
    from lamer_fast.device import prepare_process
    from lamer_fast.run.state import build_player

    prepare_process(config)
    players: dict[str, Any] = {}
    first = ""
    for name, path in paths.items():
        players[name] = build_player(replace(config, model=replace(config.model, path=path)))
        first = first or name
        if players[name].renderer.prompts() != players[first].renderer.prompts():
            raise ValueError(f"{name} reads other prompts than {first}: their tokenizers or templates differ")
    return players


def roles_table(found: dict[tuple[str, str, str], Evaluation]) -> str:
    """success@1..K in percent, a line for each combination, with the interval of the last."""
    K = next(iter(found.values())).episodes
    head = ["explorer", "reflector", "player", *(f"success@{k}" for k in range(1, K + 1)), "95 % interval"]
    lines = [head, ["---"] * len(head)]
    for trio, evaluation in found.items():
        last = evaluation.trial[-1]
        cells = [f"{100 * e.mean:.1f}" for e in evaluation.trial]
        lines.append([*trio, *cells, f"{100 * last.low:.1f} to {100 * last.high:.1f}"])
    return "\n".join("| " + " | ".join(cells) + " |" for cells in lines)
