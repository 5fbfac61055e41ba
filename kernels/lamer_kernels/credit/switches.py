"""The switches of credit, listed here and nowhere else: names, values, defaults, docs, ranges. No torch here.

A configuration inherits from `Switches`; `meta_advantages` takes them as keywords; `flat` is what the custom
op and compiled code see: one number a switch, a word being its place among the words of its field.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from typing import Annotated, Any, Literal, get_args, get_type_hints

from .._core.numbers import check_choice, check_number

Estimator = Literal["gigpo", "grpo", "rloo", "reinforce++"]
EpisodeCredit = Literal["cross", "own"]
ReturnForm = Literal["paper", "released"]
ReflectionScore = Literal["next_return", "zero", "exclude"]
StatsUnit = Literal["trial", "episode", "turn"]
Baseline = Literal["mean", "leave_one_out"]
Scale = Literal["none", "std"]
AnchorKey = Literal["board", "board+episode"]


@dataclass(frozen=True)
class Switches:
    """How advantages are computed from rewards; `resolve` has the rules between them."""

    estimator: Estimator = "gigpo"
    """Advantage estimator."""
    episode_credit: EpisodeCredit = "cross"
    """Whether returns flow from later episodes to earlier ones."""
    return_form: ReturnForm = "paper"
    """Published form of the cross-episode return."""
    gamma_step: Annotated[float, "[0, 1]"] = 0.95
    """Discount per turn inside an episode."""
    gamma_traj: Annotated[float, "[0, 1]"] = 0.6
    """Discount per episode inside a trial."""
    reflection_score: ReflectionScore = "next_return"
    """Score of a reflection in the episode bracket."""
    stats_unit: StatsUnit = "trial"
    """Unit of group means and deviations."""
    baseline: Baseline | None = None
    """Group baseline; None is the estimator's own (rloo: leave_one_out, others: mean)."""
    scale: Scale | None = None
    """Divide by the standard deviation; None is the estimator's own (grpo and reinforce++: std)."""
    anchor_key: AnchorKey = "board"
    """Key by which turns share a step group."""
    step_weight: Annotated[float, "[0, inf)"] = 1.0
    """w: weight of the step bracket of gigpo."""
    invalid_penalty: Annotated[float, "[0, inf)"] = 0.5
    """Penalty that is subtracted from the score of a turn whose reply could not be parsed."""
    eps: Annotated[float, "[0, inf)"] = 1e-6
    """Added to a standard deviation before it divides."""


# what the estimator's own paper takes: (baseline, scale)
_OWN = {
    "gigpo": ("mean", "none"),
    "grpo": ("mean", "std"),
    "rloo": ("leave_one_out", "none"),
    "reinforce++": ("mean", "std"),
}
NAMES = tuple(field.name for field in fields(Switches))
_HINTS = get_type_hints(Switches, include_extras=True)
_INTERVALS = {name: hint.__metadata__[0] for name, hint in _HINTS.items() if hasattr(hint, "__metadata__")}


def _words_of(hint: Any) -> tuple[str, ...]:
    words = get_args(hint)
    return words if isinstance(words[0], str) else get_args(words[0])  # of `Literal[...] | None`


_WORDS = {name: _words_of(_HINTS[name]) for name in NAMES if name not in _INTERVALS}
_WORDS["scale"] += ("batch_std",)  # of reinforce++: nobody gives it, `resolve` does
_OPTIONAL = [name for name in _WORDS if getattr(Switches, name) is None]


def resolve(switches: Switches) -> Switches:
    """Fills in `baseline` and `scale`; ``ValueError`` on an unknown value or on a switch that could not act.

    A switch that has no effect under the others must stand at its default.
    """
    for name, words in _WORDS.items():
        given = tuple(word for word in words if word != "batch_std")
        check_choice(name, getattr(switches, name), (None, *given) if name in _OPTIONAL else given)
    for name, interval in _INTERVALS.items():
        check_number(_said(name), getattr(switches, name), interval)

    estimator, (baseline, scale) = switches.estimator, _OWN[switches.estimator]
    baseline, scale = switches.baseline or baseline, switches.scale or scale
    if estimator == "rloo" and baseline != "leave_one_out":
        raise ValueError(f"estimator 'rloo' is the leave_one_out baseline, got baseline {baseline!r}")
    if estimator == "reinforce++":
        if scale != "std":
            raise ValueError(f"estimator 'reinforce++' divides by the batch's std, got scale {scale!r}")
        scale = "batch_std"

    idle = ["eps"] if scale == "none" else []
    if estimator != "gigpo":
        idle += ["anchor_key", "step_weight"]
        if switches.episode_credit == "own":
            idle += ["return_form", "gamma_step", "gamma_traj"]
    for name in idle:
        given, default = getattr(switches, name), getattr(Switches, name)
        if given != default:
            raise ValueError(
                f"{_said(name)}={given!r} has no effect with estimator {estimator!r}, episode_credit "
                f"{switches.episode_credit!r}, scale {scale!r}: leave it at {default!r}"
            )
    return replace(switches, baseline=baseline, scale=scale)  # type: ignore[arg-type]


def _said(name: str) -> str:
    return "step_weight (w)" if name == "step_weight" else name


def keywords(switches: Switches) -> dict[str, Any]:
    """The switches as keyword arguments of `meta_advantages`, also those of a class that inherits them."""
    return {("w" if name == "step_weight" else name): getattr(switches, name) for name in NAMES}


def flat(resolved: Switches) -> list[float]:
    """As a custom op takes them: one number a switch, in the order of the fields."""
    values = [(name, getattr(resolved, name)) for name in NAMES]
    return [float(_WORDS[name].index(x) if name in _WORDS else x) for name, x in values]


def of_flat(numbers: Sequence[float]) -> Switches:
    named = zip(NAMES, numbers, strict=True)
    return Switches(**{name: _WORDS[name][int(x)] if name in _WORDS else x for name, x in named})  # type: ignore[arg-type]


def code(name: str, word: str) -> int:
    """The number of a word in `flat`."""
    return _WORDS[name].index(word)
