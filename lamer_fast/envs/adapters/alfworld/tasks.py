"""The six types of task: their names, goals in PDDL and the two sentences that each can be told in."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class TaskType:
    name: str
    """As folders and `traj_data.json` call it."""
    word: str
    """As `env.task_types` calls it."""
    sentences: tuple[str, str]
    goal: str
    needs: str = ""
    """Property that the thing must have."""
    tool: str = ""
    """Furniture that does it."""
    verb: str = ""
    """What is done to the thing before it is put down."""
    done: str = ""
    """The predicate that it makes true."""


def _put(state: str = "") -> str:
    return (
        "(and (exists (?r - receptacle) (exists (?o - object) (and "
        f"{state}(objectType ?o {{obj}}Type) (receptacleType ?r {{recep}}Type) (inReceptacle ?o ?r)))))"
    )


def _changed(needs: str, done: str) -> str:
    return _put(f"({needs} ?o) ({done} ?o) ")


_TWO = (
    "(and (exists (?r - receptacle) (exists (?o1 - object) (and (objectType ?o1 {obj}Type) "
    "(receptacleType ?r {recep}Type) (inReceptacle ?o1 ?r) (exists (?o2 - object) (and (not (= ?o1 ?o2)) "
    "(objectType ?o2 {obj}Type) (receptacleType ?r {recep}Type) (inReceptacle ?o2 ?r)))))))"
)
_LOOK = (
    "(and (exists (?ot - object ?r - receptacle ?a - agent ?l - location) (and (objectType ?ot {recep}Type) "
    "(toggleable ?ot) (isToggled ?ot) (receptacleAtLocation ?r ?l) (atLocation ?a ?l) "
    "(inReceptacle ?ot ?r))) "
    "(exists (?o - object ?a - agent) (and (objectType ?o {obj}Type) (holds ?a ?o))))"
)

TASK_TYPES = (
    TaskType(
        "pick_and_place_simple", "pick", ("put a {obj} in {recep}.", "put some {obj} on {recep}."), _put()
    ),
    TaskType(
        "look_at_obj_in_light",
        "look",
        ("look at {obj} under the {recep}.", "examine the {obj} with the {recep}."),
        _LOOK,
    ),
    TaskType(
        "pick_clean_then_place_in_recep",
        "clean",
        ("put a clean {obj} in {recep}.", "clean some {obj} and put it in {recep}."),
        _changed("cleanable", "isClean"),
        "cleanable", "SinkBasin", "clean", "isClean",
    ),
    TaskType(
        "pick_heat_then_place_in_recep",
        "heat",
        ("put a hot {obj} in {recep}.", "heat some {obj} and put it in {recep}."),
        _changed("heatable", "isHot"),
        "heatable", "Microwave", "heat", "isHot",
    ),
    TaskType(
        "pick_cool_then_place_in_recep",
        "cool",
        ("put a cool {obj} in {recep}.", "cool some {obj} and put it in {recep}."),
        _changed("coolable", "isCool"),
        "coolable", "Fridge", "cool", "isCool",
    ),
    TaskType(
        "pick_two_obj_and_place",
        "pick2",
        ("put two {obj} in {recep}.", "find two {obj} and put them in {recep}."),
        _TWO,
    ),
)  # fmt: skip
WORDS = tuple(task.word for task in TASK_TYPES)
BY_NAME = {task.name: task for task in TASK_TYPES}
BY_WORD = {task.word: task for task in TASK_TYPES}
