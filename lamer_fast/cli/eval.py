"""`lamer-fast eval`: success@1..K of a policy on held-out boards, beside independent attempts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

from lamer_fast.cli.eval_roles import RolesOptions
from lamer_fast.cli.flags import Command, Target
from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.config.panels import panels_of
from lamer_fast.eval.dump import DumpOptions
from lamer_fast.fields import Range, check_ranges, settings_of, to_flat
from lamer_fast.model.path import model_path
from lamer_fast.run.display import Progress
from lamer_fast.run.whose import check_is_run, is_run
from lamer_fast.samplers.endpoint.options import EndpointOptions
from lamer_fast.samplers.vllm.environment import prepare_for
from lamer_fast.say import starting

if TYPE_CHECKING:
    from lamer_fast.envs.panel import Panel
    from lamer_fast.eval.record import EvalRecord
    from lamer_fast.eval.success import Evaluation

MAX_TASKS = 2048
OWN = ""  # the panel of the policy's own boards, as `lamer_fast.eval.record` calls it


@dataclass(frozen=True)
class EvalOptions:
    split: Literal["valid", "test"] = "test"
    """Split of the boards."""
    tasks: Annotated[int, Range(2, 1_000_000)] | None = None
    """Number of boards; by default all, up to 2048. An interval needs two."""
    seed: Annotated[int, Range(0)] = 0
    """Seed of the sampling."""
    no_attempts: bool = False
    """Play only trials, without independent attempts beside them."""
    label: str | None = None
    """Store the result in the run, as eval/LABEL.json."""
    out: Path | None = None
    """Folder for record.json, every trial (trials.jsonl.gz) and a page about both (report.html)."""
    against: Path | None = None
    """Record of another evaluation on the same panel; prints differences, paired by task."""
    endpoint: EndpointOptions = field(default_factory=EndpointOptions)
    dump: DumpOptions = field(default_factory=DumpOptions)
    roles: RolesOptions = field(default_factory=RolesOptions)


USED_OF_TRAIN = ("train.num_threads", "train.device", "train.deterministic")
UNUSED = dict.fromkeys(  # section or setting -> why an evaluation does not take it
    ["name", "algo", "learn", "rollout.sleep_during_updates", "eval.every"]
    + [key for key in settings_of(Config) if key.startswith("train.") and key not in USED_OF_TRAIN],
    "it belongs to training",
) | {
    "rollout.temperature": "it belongs to training; take --eval.temperature",
    "rollout.episodes": "it belongs to training; take --eval.episodes",
    "rollout.memory": "it belongs to training; take --eval.memory",
    "rollout.reflect": "it belongs to training; take --eval.memory",
    "eval.split": "it belongs to evaluations during training",
    "eval.tasks": "it belongs to evaluations during training",
    "train.seed": "it belongs to training; take --seed",
}


SHORT = {"endpoint": "endpoint.url", "from_dump": "dump.file"}
SHORT |= {name: f"roles.{name}" for name in ("explorer", "reflector", "player")}
COMMAND = Command(
    "eval",
    "Play distinct held-out boards: on each one trial with reflections and K independent attempts, which "
    "--no-attempts leaves out. Prints success@1..K with 95 % intervals.",
    EvalOptions,
    Target("RUN|RECIPE", "a run folder, or a recipe (then its base model is evaluated)", ""),
    Config,
    UNUSED,
    SHORT,
)


def run(argv: Sequence[str]) -> int:
    target, options, overrides = COMMAND.parse(argv)
    if options.label is not None and Path(options.label).name != options.label:
        raise ValueError(f"--label {options.label!r} has a path in it")
    if options.dump.file is not None:
        return run_dump(target, options, overrides)
    if options.endpoint.url is not None:
        return run_endpoint(target, options, overrides)
    if not target:
        raise ValueError(f"{COMMAND.target.name} is missing: {COMMAND.target.doc}")
    config, folder = resolve_target(target, overrides)
    if options.label and not folder:
        raise ValueError(f"--label needs a run folder, {target!r} is a recipe")
    model_path(config.model.path)
    prepare_for(config)
    starting(f"evaluating {target}")

    from lamer_fast.cli.eval_output import Output

    if options.roles.given:
        return run_roles(target, config, options)
    plans = plans_of(config, options.split, options.tasks)
    output = Output(options.out, options.against, {plan.name: plan.played.digest for plan in plans})
    found = evaluate_policy(
        config, plans, seed=options.seed, attempts=not options.no_attempts, keep=output.keep
    )
    record = record_of(target, config, found, num_iterations(folder) if folder else None)
    output.show(record)
    if folder and options.label:
        store(folder, options.label, record)
    return 0


def run_roles(target: str, config: Config, options: EvalOptions) -> int:
    from lamer_fast.cli.eval_output import Output
    from lamer_fast.cli.eval_roles import play_roles, roles_table
    from lamer_fast.eval.record import EvalRecord

    for name in ("label", "against"):
        if getattr(options, name) is not None:
            raise ValueError(f"--{name} has no effect with --explorer, --reflector and --player")
    (plan,) = plans_of(config, options.split, options.tasks, own=True)
    output = Output(options.out, None, {}) if options.out else None
    found = play_roles(config, plan.played, options.roles, target, options.seed, model_of)
    print(roles_table(found))
    if output:
        first, *others = ((" / ".join(trio), played) for trio, played in found.items())
        output.write(EvalRecord(first[0], {OWN: first[1], **dict(others)}))
    return 0


def model_of(name: str) -> str:
    """model.path of a run folder's trained model, or `name` itself."""
    folder = Path(name)
    return run_config(folder).model.path if folder.is_dir() and is_run(folder) else name


def run_endpoint(target: str, options: EvalOptions, overrides: Sequence[str]) -> int:
    from lamer_fast.cli import eval_endpoint as endpoint
    from lamer_fast.cli.eval_output import Output
    from lamer_fast.eval.table import cost_table

    if options.label is not None:
        raise ValueError(f"--label {options.label!r} is for runs; an endpoint's result goes to --out FOLDER")
    options.endpoint.validate()
    config = endpoint.endpoint_config(target, overrides)
    plans = plans_of(config, options.split, options.tasks)
    output = Output(options.out, options.against, {plan.name: plan.played.digest for plan in plans})
    sampler, model = endpoint.endpoint_sampler(config, options.endpoint)
    found = play_panels(
        sampler,
        sampler.renderer,
        plans,
        seed=options.seed,
        attempts=not options.no_attempts,
        keep=output.keep,
    )
    record = endpoint.with_endpoint(record_of(model, config, found), options.endpoint, model)
    endpoint.check_not_lost(record, options.endpoint)
    output.show(record)
    shown = {f"{model}, {name}" if name else model: e for name, e in found.items()}
    print(cost_table(shown, lambda used: endpoint.price(used, options.endpoint)))
    return 0


def run_dump(target: str, options: EvalOptions, overrides: Sequence[str]) -> int:
    from lamer_fast.cli.eval_output import MAX_TRIALS, Output
    from lamer_fast.eval.dump import read_dump
    from lamer_fast.eval.record import EvalRecord
    from lamer_fast.eval.score import score

    values = recipe.parse_overrides(overrides)
    given = [f"--{key}" for key in ("tasks", "label") if getattr(options, key) is not None]
    given += [target, options.endpoint.url or "", *(f"--{key}" for key in values if key != "eval.episodes")]
    for word in filter(None, given):
        raise ValueError(f"{word} has no effect with --from-dump: nothing is played")
    config = recipe.apply(Config(), values)
    check_ranges(config)
    rollouts = read_dump(options.dump)
    found = score(rollouts, config.eval.episodes)
    output = Output(options.out, options.against, {name: e.panel for name, e in found.items()})
    for name in found:
        shown = [r.transcript for r in rollouts if r.panel == name and r.episode == 0 and r.transcript]
        output.keep(name, [{"trial": i} | played for i, played in enumerate(shown[:MAX_TRIALS])])
    output.show(EvalRecord(str(options.dump.file), found))
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


@dataclass(frozen=True)
class Plan:
    """A panel that is to be played; `config` has its environment."""

    name: str
    config: Config
    played: Panel


def plans_of(config: Config, split: str, tasks: int | None, *, own: bool = False) -> list[Plan]:
    """The policy's own boards, and unless `own` those of `eval.panels`; says where there are too few."""
    from lamer_fast.envs.panel import panel

    envs = [(OWN, config.env, split)]
    if not own:
        envs += [(p.name, p.env, p.split or split) for p in panels_of(config.eval.panels, config.env)]
    plans = []
    for name, env, of in envs:
        played = panel(env, of, tasks, at_most=MAX_TASKS if tasks is None else tasks)
        if tasks is not None and len(played) < tasks:
            print(f"note: split {of!r} has {len(played)} distinct boards, {tasks} were asked for", flush=True)
        plans.append(Plan(name, replace(config, env=env), played))
    return plans


def evaluate_policy(
    config: Config,
    plans: Sequence[Plan],
    *,
    seed: int = 0,
    attempts: bool = True,
    keep: Callable[[str, list[dict[str, Any]]], None] | None = None,
) -> dict[str, Evaluation]:
    """Builds model and sampler and plays the panels; says how far it is. `keep` gets (panel, trials)."""
    from lamer_fast.device import prepare_process
    from lamer_fast.run.state import build_player

    prepare_process(config)
    player = build_player(config)
    return play_panels(player.sampler, player.renderer, plans, seed=seed, attempts=attempts, keep=keep)


def play_panels(
    sampler: Any,
    renderer: Any,
    plans: Sequence[Plan],
    *,
    seed: int = 0,
    attempts: bool = True,
    keep: Callable[[str, list[dict[str, Any]]], None] | None = None,
) -> dict[str, Evaluation]:
    from lamer_fast.eval.bound import bound_of, with_regret
    from lamer_fast.eval.success import evaluate

    found: dict[str, Evaluation] = {}
    for plan in plans:

        def keep_of_panel(trials: list[dict[str, Any]], name: str = plan.name) -> None:
            if keep is not None:
                keep(name, trials)

        of = f" of {plan.name}" if plan.name else ""
        of_panel = evaluate(
            sampler, renderer, plan.config, split=plan.played.split, tasks=len(plan.played), seed=seed,
            attempts=attempts, played=plan.played, progress=Progress(f"trials and attempts played{of}"),
            keep=keep_of_panel if keep else None,
        )  # fmt: skip
        found[plan.name] = with_regret(of_panel, bound_of(plan.config, plan.played))
    return found


def record_of(
    policy: str, config: Config, found: dict[str, Evaluation], iteration: int | None = None
) -> EvalRecord:
    from lamer_fast.eval.record import EvalRecord

    used = {
        key: value
        for key, value in to_flat(config).items()
        if key.partition(".")[0] in ("env", "model", "rollout", "eval")
    }
    return EvalRecord(policy, found, iteration=iteration, settings=used)


def num_iterations(folder: Path) -> int:
    """Iterations that a run has made."""
    path = folder / "metrics.jsonl"
    return sum(1 for _ in path.open()) if path.exists() else 0


def store(run_folder: Path, label: str, record: EvalRecord) -> Path:
    """runs/NAME/eval/LABEL.json, read by the report."""
    path = run_folder / "eval" / f"{label}.json"
    replace(record, label=label).write(path)
    return path
