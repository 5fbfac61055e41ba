"""A user's own environment by `env.name = "module:factory"`: options, splits, and ways to get it wrong."""

import itertools
import re
import sys

import numpy as np
import pytest

from lamer_fast.config import resolve as recipe
from lamer_fast.envs import check_env
from lamer_fast.envs.contract import EnvError
from lamer_fast.envs.registry import check_at_start, entry, eval_seeds, make_env, summary
from lamer_fast.envs.splits import TENTHS, SplitEnv, distinct_seeds, in_split
from lamer_fast.fields import docs_of, settings_of, to_flat

TOY = "lamer_fast.envs.toy:make"
HEAD = """
from dataclasses import dataclass, field
from typing import Annotated, Literal
from lamer_fast.envs.toy import NumberHunt
from lamer_fast.fields import Range

@dataclass(frozen=True)
class Options:
    highest: Annotated[int, Range(2, 99)] = 20
    \"\"\"The largest number.\"\"\"
    height: int = 3
    words: Literal["plain", "polite"] = "plain"
    luck: float = 0.5
    title: str | None = None

def make(options: Options, num_envs: int):
    \"\"\"Guess a number.

    More about it.\"\"\"
    return NumberHunt(num_envs, options.highest)
"""
numbers = itertools.count()


@pytest.fixture
def module(tmp_path, monkeypatch):
    """A function that writes a module into the current folder and returns its name."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])

    def write(text: str = HEAD) -> str:
        name = f"own_env_{next(numbers)}"
        (tmp_path / f"{name}.py").write_text(text)
        return name

    return write


def resolve(name: str, *overrides: str):
    return recipe.resolve("minesweeper-tiny", ["--env.name", name, *overrides])


def refused(name: str, *overrides: str) -> str:
    with pytest.raises(ValueError) as error:
        resolve(name, *overrides)
    assert "\n" not in str(error.value)
    return str(error.value)


def test_its_options_are_settings_like_ours(module):
    name = f"{module()}:make"
    assert recipe.apply(recipe.Config(), {"env.name": name}).env.height == 3, (
        "not that of the environment before"
    )
    config = resolve(
        name, "--env.highest=7", "--env.height=3", "--env.words", "polite", "--env.show-actions=true"
    )
    assert (config.env.highest, config.env.words, config.env.luck, config.env.title) == (
        7,
        "polite",
        0.5,
        None,
    )
    assert config.env.prompt == "compact" and config.env.show_actions, "what every environment has"
    assert recipe.apply(recipe.Config(), to_flat(config)) == config
    assert docs_of(type(config.env))["highest"] == "The largest number."
    assert settings_of(config)["env.highest"].range.high == 99
    assert make_env(config.env, 3, split=None).highest == 7
    assert entry(name).doc == "Guess a number."
    assert (
        entry(name).summary(config.env) == f"{name} (highest 7, height 3, words polite, luck 0.5, title None)"
    )
    assert summary(to_flat(config)) == f"{name} (highest 7, height 3, words polite, luck 0.5, title None)"
    assert "env.highest = 100, must be in [2, 99]" in refused(name, "--env.highest=100")
    assert "env.luck = nan, must be a finite number" in refused(name, "--env.luck=nan")
    assert "env.words = 'rude', must be one of: plain, polite" in refused(name, "--env.words=rude")
    unknown = refused(name, "--env.hihgest=3")
    assert "did you mean 'env.highest'?" in unknown
    assert f"{name} has: name, prompt, show_actions, highest, height, words, luck, title" in unknown


def test_a_summary_imports_nothing():
    """A report is written of a folder that may come from anybody."""
    assert summary({"env.name": "no_such_module:make", "env.size": 3}) == "no_such_module:make (size 3)"


def test_the_splits_have_no_task_in_common():
    options, seeds = resolve(TOY, "--env.highest=500").env, np.arange(200, dtype=np.uint64)
    seen = {}
    for split in TENTHS:
        env = make_env(options, 200, split=split)
        env.reset(seeds)
        tasks = env.tasks(np.arange(200))
        assert in_split(tasks, split).all()
        env.reset(seeds[::-1].copy())
        assert (env.tasks(np.arange(200)) == tasks[::-1]).all(), "a function of the seed alone"
        seen[split] = set(tasks.tolist())
    assert not (seen["train"] & seen["valid"] or seen["train"] & seen["test"] or seen["valid"] & seen["test"])
    shares = [in_split(np.arange(100_000, dtype=np.uint64), split).mean() for split in TENTHS]
    assert np.allclose(shares, [0.8, 0.1, 0.1], atol=0.01)


class NoTasks:
    """`env` without its tasks()."""

    def __init__(self, env):
        self.env = env

    def __getattr__(self, name):
        if name == "tasks":
            raise AttributeError(name)
        return getattr(self.env, name)


def test_without_tasks_the_splits_have_seeds_of_their_own():
    boards = {}
    for split in TENTHS:
        env = SplitEnv(NoTasks(make_env(resolve(TOY).env, 64, split=None)), split)
        env.reset(np.arange(64, dtype=np.uint64))
        boards[split] = env.targets.tolist()
        assert distinct_seeds(env, 5).tolist() == [0, 1, 2, 3, 4]
    assert boards["train"] != boards["valid"] != boards["test"] != boards["train"]


def test_distinct_tasks_for_an_evaluation():
    options = resolve(TOY, "--env.highest=500").env
    env, seeds = make_env(options, 30, split="test"), eval_seeds(options, "test", 30)
    env.reset(seeds)
    assert len(set(env.tasks(np.arange(30)).tolist())) == 30
    few = resolve(TOY, "--env.highest=20").env
    assert 0 < len(eval_seeds(few, "train", 100)) <= 20, "where there are fewer, all of them"
    with pytest.raises(
        EnvError, match=r"no task of split 'valid' in \d+ draws from seed 0, which showed 2 tasks"
    ):
        make_env(resolve(TOY, "--env.highest=2").env, 2, split="valid").reset(np.arange(2, dtype=np.uint64))


def test_a_split_environment_keeps_the_protocol():
    env = make_env(resolve(TOY).env, 6, split="train")
    assert check_env(env, replies=[f"<action>{i}</action>" for i in range(20)], num_turns=30) == []
    check_at_start(resolve(TOY).env)


BY_ITSELF = """
def by_itself(options: Options, num_envs: int, split):
    env = make(options, num_envs)
    env.split = split
    return env
"""


def test_an_environment_may_keep_splits_apart_itself(module):
    options = resolve(f"{module(HEAD + BY_ITSELF)}:by_itself").env
    assert make_env(options, 2, split="valid").split == "valid"


def test_an_entry_knows_its_tasks(module):
    name = module(
        HEAD
        + '''
import numpy as np
from lamer_fast.envs.entry import Entry
from lamer_fast.envs.options import EnvOptions

@dataclass(frozen=True)
class Own(EnvOptions):
    highest: int = 30

class Hunt(Entry):
    """Seven tasks."""
    name, options = "hunt", Own
    def make(self, options, num_envs, split=None):
        return NumberHunt(num_envs, options.highest)
    def num_tasks(self, options, split):
        return 7
    def seeds(self, options, split, count):
        return np.arange(7, dtype=np.uint64)[:count]
    def summary(self, options):
        return "a hunt"

ENTRY = Hunt()
'''
    )
    options = resolve(f"{name}:ENTRY", "--env.highest=5").env
    assert len(eval_seeds(options, "test", None, at_most=100)) == 7
    assert entry(options.name).summary(options) == "a hunt" and entry(options.name).doc == "Seven tasks."


WRONG = {
    "no such module here or installed": (None, ""),
    "importing it raised ModuleNotFoundError: No module named 'no_such_package'": (
        "make",
        "import no_such_package",
    ),
    "importing it raised SyntaxError": ("make", "def make(:"),
    "importing it raised SystemExit: 0": ("make", "raise SystemExit(0)"),
    "has no 'mkae', but dataclass, field": ("mkae", HEAD),
    "has no ''": ("", HEAD),
    "is int, expected a function or an Entry": ("make", "make = 3"),
    "takes (), expected (options, num_envs) or": ("make", "def make(): ..."),
    "takes (a, b, c, d), expected (options, num_envs) or (options, num_envs, split); for a single board "
    "(options) or (options, split)": ("make", "def make(a, b, c, d): ..."),
    "its annotations cannot be read, raised NameError": ("make", "def make(o: 'Nothing', n): ..."),
    "its first parameter is <class 'dict'>, expected a dataclass": ("make", "def make(o: dict, n): ..."),
    "Options must be frozen: @dataclass(frozen=True)": ("make", HEAD.replace("(frozen=True)", "")),
    "the option 'prompt' is one that every": ("make", HEAD.replace("luck: float = 0.5", "prompt: str = ''")),
    "its option 'highest' needs a default": ("make", HEAD.replace(" = 20", "")),
    "its options cannot be read, raised ValueError": ("make", HEAD.replace("str | None", "str | int | None")),
    "its option 'title' is of type <class 'list'>": ("make", HEAD.replace("str | None", "list")),
    "the default of its option highest = 200, must be in [2, 99]": ("make", HEAD.replace("= 20", "= 200")),
    "its option words = 'bad', must be one of: plain": ("make", HEAD.replace('"plain"\n', '"bad"\n')),
}


@pytest.mark.parametrize("message", WRONG)
def test_what_cannot_be_an_environment_is_told_in_a_line(module, message):
    attribute, text = WRONG[message]
    name = f"{module(text)}:{attribute}" if attribute is not None else "no_such_module:make"
    said = refused(name)
    assert said.startswith(f"env.name = {name!r}") and message in said, said


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("raise RuntimeError('no\\ndisk')", r"raised RuntimeError: no disk \(own_env_\d+.py:\d+\)"),
        ("return None", r"the environment NoneType has no reset\(\), restart\(\)"),
        ("return NumberHunt(3)", "made an environment of 3 boards, asked for 2"),
    ],
)
def test_what_a_factory_may_do_wrong(module, body, message):
    name = module(HEAD + f"\ndef broken(options: Options, num_envs: int):\n    {body}\n")
    with pytest.raises(EnvError, match=message):
        check_at_start(resolve(f"{name}:broken").env)


def test_nothing_in_the_folder_hides_an_installed_module(module, tmp_path):
    (tmp_path / "colorsys.py").write_text("raise RuntimeError('hidden')")
    name = module(HEAD + "\nimport colorsys\n")
    assert re.match("Guess", entry(f"{name}:make").doc)
