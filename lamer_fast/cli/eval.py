"""`lamer-fast eval`: success@1..K of a policy on held-out boards, beside independent attempts."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

from lamer_fast.cli.flags import Command, Target
from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.fields import Range, settings_of
from lamer_fast.files import replace_file
from lamer_fast.model.path import model_path
from lamer_fast.run.display import Progress
from lamer_fast.run.whose import check_is_run
from lamer_fast.samplers.vllm.environment import prepare_for

if TYPE_CHECKING:
    from lamer_fast.eval.success import Evaluation

MAX_TASKS = 2048


@dataclass(frozen=True)
class EvalOptions:
    split: Literal["valid", "test"] = "test"
    """Boards of that split."""
    tasks: Annotated[int, Range(2, 1_000_000)] | None = None
    """Boards; without it as many as there are, up to 2048. An interval needs two."""
    seed: Annotated[int, Range(0)] = 0
    """Of the sampling."""
    label: str | None = None
    """Store the result in the run, as eval/LABEL.json."""


USED_OF_TRAIN = ("train.num_threads", "train.device", "train.deterministic")
UNUSED = dict.fromkeys(  # section or setting -> why an evaluation does not take it
    ["name", "algo", "learn", "rollout.sleep_during_updates", "eval.every"]
    + [key for key in settings_of(Config) if key.startswith("train.") and key not in USED_OF_TRAIN],
    "it is of training",
) | {
    "rollout.temperature": "it is of training; take --eval.temperature",
    "rollout.episodes": "it is of training; take --eval.episodes",
    "rollout.memory": "it is of training; take --eval.memory",
    "rollout.reflect": "it is of training; take --eval.memory",
    "eval.split": "it is of evaluations during training",
    "eval.tasks": "it is of evaluations during training",
    "train.seed": "it is of training; take --seed",
}


COMMAND = Command(
    "eval",
    "Play distinct held-out boards: one trial with reflections, and K independent attempts.",
    EvalOptions,
    Target("RUN|RECIPE", "a run folder, or a recipe (then its base model is evaluated)"),
    Config,
    UNUSED,
)


def run(argv: Sequence[str]) -> int:
    target, options, overrides = COMMAND.parse(argv)
    if options.label is not None and Path(options.label).name != options.label:
        raise ValueError(f"--label {options.label!r} has a path in it")
    config, folder = resolve_target(target, overrides)
    if options.label and not folder:
        raise ValueError(f"--label needs a run folder, {target!r} is a recipe")
    model_path(config.model.path)
    prepare_for(config)

    evaluation = evaluate_policy(config, split=options.split, tasks=options.tasks, seed=options.seed)
    print(table({target: evaluation}))
    if folder and options.label:
        store(folder, options.label, num_iterations(folder), evaluation)
    return 0


def resolve_target(target: str, overrides: Sequence[str]) -> tuple[Config, Path | None]:
    """(validated configuration, run folder or None) of a run, or of a recipe. A folder here comes first."""
    folder = Path(target)
    if not folder.is_dir():
        if "/" in target and not target.endswith(".toml"):
            beside = [str(path) for path in folder.parent.glob("*/")]
            near = recipe.nearest(target, beside)
            raise ValueError(f"no run folder {target!r}{near}; take one, a recipe's name, or a TOML file")
        config = recipe.load(target, overrides)
        config.validate_evaluation()
        return config, None
    if target in recipe.names():
        print(f"note: {target} is the run folder here, not the recipe of that name", flush=True)
    check_is_run(folder)
    config = recipe.apply(run_config(folder), recipe.parse_overrides(overrides))
    config.validate_evaluation()
    return config, folder


def run_config(folder: Path) -> Config:
    """The configuration of a run with its trained model (runs/NAME/model) as the model."""
    config, model = recipe.read_config(folder / "config.json"), folder / "model"
    if not (model / "config.json").is_file():
        raise ValueError(f"{folder} holds no trained model yet: {model} is missing")
    return replace(config, model=replace(config.model, path=str(model)))


def evaluate_policy(config: Config, *, split: str, tasks: int | None, seed: int = 0) -> Evaluation:
    """Builds model and sampler and plays; says how far it is."""
    from lamer_fast.device import prepare_process
    from lamer_fast.envs.registry import eval_seeds
    from lamer_fast.eval.success import evaluate
    from lamer_fast.run.state import build_player

    found = len(eval_seeds(config.env, split, tasks, at_most=MAX_TASKS if tasks is None else tasks))
    if tasks is not None and found < tasks:
        print(f"note: split {split!r} has {found} distinct boards, {tasks} were asked for", flush=True)
    prepare_process(config)
    player = build_player(config)
    return evaluate(
        player.sampler, player.renderer, config, split=split, tasks=found, seed=seed,
        progress=Progress("trials and attempts played"),
    )  # fmt: skip


def table(evaluations: dict[str, Evaluation]) -> str:
    """Plain text: one line per policy and way of playing, in percent with 95 % intervals."""
    first = next(iter(evaluations.values()))
    width = max(len(name) for name in evaluations) + len(": independent attempts")
    head = f"{'':<{width}}" + "".join(f"{f'success@{k}':>20}" for k in range(1, first.episodes + 1))
    lines = [f"{first.num_tasks} distinct boards of split {first.split!r}, panel {first.panel}", head]
    for name, e in evaluations.items():
        for kind, estimates in (("trials", e.trial), ("independent attempts", e.independent)):
            numbers = (f"{100 * x.mean:.1f} [{100 * x.low:.1f}, {100 * x.high:.1f}]" for x in estimates)
            lines.append(f"{f'{name}: {kind}':<{width}}" + "".join(f"{n:>20}" for n in numbers))
    for name, e in evaluations.items():
        g = e.gain_over_independent
        lines.append(
            f"{name}: success@{e.episodes} - success@1 exceeds that of independent attempts by "
            f"{100 * g.mean:.1f} [{100 * g.low:.1f}, {100 * g.high:.1f}] points"
        )
    return "\n".join(lines)


def num_iterations(folder: Path) -> int:
    """Iterations that a run has made."""
    path = folder / "metrics.jsonl"
    return sum(1 for _ in path.open()) if path.exists() else 0


def store(run_folder: Path, label: str, iteration: int, evaluation: Evaluation) -> Path:
    """runs/NAME/eval/LABEL.json, read by the report."""
    path = run_folder / "eval" / f"{label}.json"
    content = {"label": label, "iteration": iteration, "evaluation": evaluation.to_json()}
    replace_file(path, json.dumps(content, indent=1) + "\n")
    return path
