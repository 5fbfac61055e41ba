"""What the pages name exists: files, commands, settings, functions and their arguments; figures agree."""

import inspect
import json
import re
import subprocess
from functools import cache
from importlib import import_module
from pathlib import Path

import pytest

import lamer_kernels
from lamer_fast.cli import COMMANDS
from lamer_fast.config import Config
from lamer_fast.envs.options import PoolOptions
from lamer_fast.fields import to_flat

ROOT = Path(__file__).parents[2]
TRACKED = [
    Path(name)
    for name in subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
]
PAGES = [str(p) for p in TRACKED if p.suffix == ".md" and p.name != "CHANGELOG.md"]  # which tells of the past
FILE = re.compile(r"[\w.-]*/?[\w./-]*(\.(py|pyi|h|cpp|inc|toml|json|jsonl|md|html|npz)|/)")
PLACEHOLDER = re.compile(r"<\w+>|\b[A-Z]{3,}\b(?!\.)")
NAMES_OF_OTHERS = re.compile(r"<!-- names of others: (.*?) -->", re.DOTALL)  # in a page that translates
SETTING = re.compile(r"(env|rollout|algo|learn|train|eval|model)\.\w+")


def names(page):
    """What stands in backticks outside blocks of code."""
    text = re.sub(r"```.*?```", "", (ROOT / page).read_text(), flags=re.DOTALL)
    return sorted({" ".join(name.split()) for name in re.findall(r"`([^`]+)`", text)})


@cache
def words_of_the_sources():
    kinds = {".py", ".pyi", ".h", ".cpp", ".inc", ".toml", ".html", ".yml", ".yaml", ".txt", ".jinja", ""}
    sources = [ROOT / p for p in TRACKED if p.suffix in kinds and (ROOT / p).is_file()]
    text = "\n".join(p.read_text() for p in sources if p != Path(__file__))
    paths = {word for p in TRACKED for part in p.parts for word in (part, part.split(".")[0])}
    return frozenset(re.findall(r"[A-Za-z_]\w*", text)) | set(re.findall(r"\w[\w-]*\w", text)) | paths


def is_there(path):
    """As it stands from the root, or as the end of one tracked path."""
    path = path.rstrip("/")
    return any(f"/{path}/" in f"/{tracked}/" for tracked in map(str, TRACKED))


def resolves(module):
    """`package.module.name` imports."""
    parts = module.split(".")
    for end in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:end]))
        except ModuleNotFoundError:
            continue
        try:
            for part in parts[end:]:
                found = getattr(found, part)
        except AttributeError:
            return False
        return True
    return False


def wrong(name, others=frozenset()):
    """Why a name does not resolve, or an empty string; `others` are words of other projects and versions."""
    if name in others:
        return ""
    name = PLACEHOLDER.sub("", name)
    if not name.strip("/"):
        return ""
    if FILE.fullmatch(name):
        made = name.startswith("runs/")  # by a run
        return "" if made or is_there(name) else "no such file"
    if SETTING.fullmatch(name):
        of_a_pool = to_flat(PoolOptions())
        known = name in to_flat(Config()) or name.removeprefix("env.") in of_a_pool
        return "" if known else "no such setting"
    if re.fullmatch(r"lamer_(fast|kernels)(\.\w+)+", name):
        return "" if resolves(name) else "cannot be imported"
    call = re.match(r"(?:lamer_kernels\.)?(\w+)\(", name)
    function = getattr(lamer_kernels, call[1], None) if call else None
    if call and inspect.isfunction(function):
        inside = re.sub(r"\[.*?\]|=[^,)]*", "", name[call.end() :])
        arguments = {part.split()[0] for part in inside.strip(")").split(",") if part.strip(" .*")}
        unknown = arguments - set(inspect.signature(function).parameters)
        return f"{call[1]} has no argument {', '.join(unknown)}" if unknown else ""
    unknown = set(re.findall(r"[A-Za-z_][\w-]+\w", name)) - words_of_the_sources() - others
    return f"nothing is called {', '.join(sorted(unknown))}" if unknown else ""


@pytest.mark.parametrize("page", PAGES)
def test_every_name_in_backticks_resolves(page):
    others = frozenset(" ".join(NAMES_OF_OTHERS.findall((ROOT / page).read_text())).split())
    assert {name: why for name in names(page) if (why := wrong(name, others))} == {}


@pytest.mark.parametrize("page", PAGES)
def test_every_command_exists(page):
    text = (ROOT / page).read_text()
    started = re.findall(r"(?:^|`)(?:\w+=\S+ )*(lamer-fast|make) ([a-z][\w-]*)", text, re.MULTILINE)
    targets = re.findall(r"^([a-z][\w-]*):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert [f"{a} {b}" for a, b in started if b not in (COMMANDS if a == "lamer-fast" else targets)] == []


def test_names_that_do_not_resolve_are_found():
    """The rule itself: one of each kind."""
    assert wrong("lamer_fast/no_such_file.py") and wrong("algo/packing.py") == ""
    assert wrong("algo.gamma_trajectory") and wrong("algo.gamma_traj") == ""
    assert wrong("lamer_fast.rollout.nothing") and wrong("lamer_fast.run.loop.transfer") == ""
    assert wrong("gae(rewards, value_s)") and wrong("gae(rewards, values, *, gamma_step=0.9)") == ""
    assert wrong("collect_trialz") and wrong("collect_trials") == ""


def rows(page, arm):
    """Numbers of the study's table of five seeds, a list per seed."""
    lines = re.findall(rf"^\| {arm}, \d \|(.*)\|$", page, re.MULTILINE)
    return [[float(cell.split()[0]) for cell in line.split("|")] for line in lines]


def test_the_speed_table_names_the_commit_of_its_record():
    (path,) = (ROOT / "benchmarks" / "results").glob("*/bench_envs.json")
    record = json.loads(path.read_text())
    speed = re.search(r"## Speed\n(.*?)\n\|", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    assert re.search(r"commit (\w+)", speed)[1] == record["commit"][:7]


def test_the_annotated_tree_is_the_tree():
    block = re.search(r"## The tree\n+```\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)[1]
    folder, missing = ROOT, []
    for indent, name in re.findall(r"^( *)([\w.]+)/? ", block, re.MULTILINE):
        path = (folder if indent else ROOT) / name
        folder = folder if indent else path
        missing += [] if path.exists() else [str(path)]
    assert missing == [] and folder != ROOT
