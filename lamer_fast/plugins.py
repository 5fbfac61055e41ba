"""Names that installed packages give their own environments, estimators and losses, by entry points.

    [project.entry-points."lamer_fast.losses"]      # in another package's pyproject.toml
    softer = "their_package.losses:softer"

Then `algo.loss = "softer"` is `algo.loss = "their_package.losses:softer"`, which is what a run records.
Nothing is imported here.
"""

from __future__ import annotations

from importlib.metadata import EntryPoint, entry_points

GROUPS = {
    "env.name": "lamer_fast.environments",
    "algo.estimator": "lamer_fast.estimators",
    "algo.loss": "lamer_fast.losses",
}


def full_name(key: str, name: str) -> str:
    """`module:function` of a registered name; any other name as it is.

    Raises:
        ValueError: two packages have registered it; names both.
    """
    if key not in GROUPS or ":" in name:
        return name
    found = {point.value: point for point in entry_points(group=GROUPS[key], name=name)}
    if len(found) > 1:
        both = " and ".join(f"{value} of {_package(point)}" for value, point in sorted(found.items()))
        raise ValueError(f"{key} = {name!r} is registered twice: {both}; write the one that is meant")
    return next(iter(found), name)


def registered(key: str) -> list[str]:
    return sorted({point.name for point in entry_points(group=GROUPS[key])})


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist is not None else "an unknown package"
