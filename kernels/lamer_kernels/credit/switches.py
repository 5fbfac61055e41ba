"""The switches of `meta_advantages`: names, defaults, which combinations mean something. No torch here."""

from typing import Literal, NamedTuple, get_args

from .._core.numbers import check_choice, check_number

Estimator = Literal["gigpo", "grpo", "rloo", "reinforce++"]
EpisodeCredit = Literal["cross", "own"]
ReturnForm = Literal["paper", "released"]
ReflectionScore = Literal["next_return", "zero", "exclude"]
StatsUnit = Literal["trial", "episode", "turn"]
Baseline = Literal["mean", "leave_one_out"]
Scale = Literal["none", "std"]
AnchorKey = Literal["board", "board+episode"]

# what the estimator's own paper takes: (baseline, scale)
_OWN = {
    "gigpo": ("mean", "none"),
    "grpo": ("mean", "std"),
    "rloo": ("leave_one_out", "none"),
    "reinforce++": ("mean", "std"),
}


class Statistics(NamedTuple):
    """baseline, and scale as `group_advantages` names it."""

    baseline: str
    scale: str


def check_switches(
    *,
    estimator: str = "gigpo",
    episode_credit: str = "cross",
    return_form: str = "paper",
    gamma_step: float = 0.95,
    gamma_traj: float = 0.6,
    reflection_score: str = "next_return",
    stats_unit: str = "trial",
    baseline: str | None = None,
    scale: str | None = None,
    anchor_key: str = "board",
    w: float = 1.0,
    invalid_penalty: float = 0.5,
    eps: float = 1e-6,
) -> Statistics:
    """Resolves `baseline` and `scale`; ``ValueError`` on an unknown value or on a switch that could not act.

    A switch that has no effect under the others must stand at its default.
    """
    for name, value, choices in (
        ("estimator", estimator, get_args(Estimator)),
        ("episode_credit", episode_credit, get_args(EpisodeCredit)),
        ("return_form", return_form, get_args(ReturnForm)),
        ("reflection_score", reflection_score, get_args(ReflectionScore)),
        ("stats_unit", stats_unit, get_args(StatsUnit)),
        ("baseline", baseline, (None, *get_args(Baseline))),
        ("scale", scale, (None, *get_args(Scale))),
        ("anchor_key", anchor_key, get_args(AnchorKey)),
    ):
        check_choice(name, value, choices)
    for name, number, interval in (
        ("gamma_step", gamma_step, "[0, 1]"),
        ("gamma_traj", gamma_traj, "[0, 1]"),
        ("w", w, "[0, inf)"),
        ("invalid_penalty", invalid_penalty, "[0, inf)"),
        ("eps", eps, "[0, inf)"),
    ):
        check_number(name, number, interval)

    baseline = _OWN[estimator][0] if baseline is None else baseline
    scale = _OWN[estimator][1] if scale is None else scale
    if estimator == "rloo" and baseline != "leave_one_out":
        raise ValueError(f"estimator 'rloo' is the leave_one_out baseline, got baseline {baseline!r}")
    if estimator == "reinforce++":
        if scale != "std":
            raise ValueError(f"estimator 'reinforce++' divides by the batch's std, got scale {scale!r}")
        scale = "batch_std"

    idle: dict[str, tuple[object, object]] = {}  # switches that do not act here: (value, default)
    if estimator != "gigpo":
        idle |= {"anchor_key": (anchor_key, "board"), "w": (w, 1.0)}
        if episode_credit == "own":
            idle |= {
                "return_form": (return_form, "paper"),
                "gamma_step": (gamma_step, 0.95),
                "gamma_traj": (gamma_traj, 0.6),
            }
    if scale == "none":
        idle["eps"] = (eps, 1e-6)
    for name, (given, default) in idle.items():
        if given != default:
            raise ValueError(
                f"{name}={given!r} has no effect with estimator {estimator!r}, episode_credit "
                f"{episode_credit!r}, scale {scale!r}: leave it at {default!r}"
            )
    return Statistics(baseline, scale)
