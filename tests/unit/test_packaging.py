"""What an installation rests on: versions, pins, container files, licences, and what old names say."""

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

import lamer_fast
import lamer_kernels
from lamer_fast import cli

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
TRACKED = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True).stdout.split()
PINS = dict(re.findall(r"^([\w.-]+)==(\S+)", (ROOT / "constraints.txt").read_text(), re.MULTILINE))
CONTAINERS = sorted((ROOT / "docker").glob("*.Dockerfile"))


@pytest.mark.parametrize(("package", "folder"), [(lamer_fast, ROOT), (lamer_kernels, ROOT / "kernels")])
def test_a_version_stands_in_one_place(package, folder):
    stated = re.compile(r"^(?:__)?version(?:__)?\s*[=:]\s*[\"']?\d", re.MULTILINE)
    name = package.__name__
    files = [ROOT / f for f in TRACKED if f.startswith((f"{name}/", f"kernels/{name}/")) and f[-3:] == ".py"]
    files += [folder / "pyproject.toml", ROOT / "setup.py", ROOT / "CITATION.cff"]
    assert [f.name for f in files if stated.search(f.read_text())] == ["__init__.py"]
    newest = re.search(r"^## (\S+)", (folder / "CHANGELOG.md").read_text(), re.MULTILINE)[1]
    assert newest == package.__version__


def test_the_kernels_that_are_asked_for_are_those_of_this_tree():
    assert f"lamer-kernels=={lamer_kernels.__version__}" in PROJECT["dependencies"]
    built = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["cibuildwheel"]
    assert built["before-test"] == "pip install {project}/kernels", "before a wheel that requires it is tried"


@pytest.mark.parametrize("path", CONTAINERS, ids=lambda path: path.name)
def test_what_a_container_file_names_exists(path):
    text = path.read_text()
    assert "Not built here" in text, "nothing but reading has tried it"
    assert f"docker build -f docker/{path.name} " in text
    assert re.search(r'^ARG TORCH_ARGS="torch==(\S+)"', text, re.MULTILINE)[1] == PINS["torch"]
    for source in re.findall(r"^COPY (?!--from)(\S+) ", text, re.MULTILINE):
        assert (ROOT / source).exists()
    installs = re.findall(r"^RUN pip install .*$", text, re.MULTILINE)
    assert installs and all("-c /opt/constraints.txt" in line for line in installs)
    assert "--wheel-dir /wheels . ./kernels\n" in text and "--find-links /opt/wheels " in installs[-1]
    (extras,) = re.findall(r"\.whl\)\[([\w,-]+)\]", text)
    assert set(extras.split(",")) <= PROJECT["optional-dependencies"].keys()
    assert {"3.11"} == set(re.findall(r"^FROM python:(\d+\.\d+)-", text, re.MULTILINE))  # of the pins
    command = re.search(r'^CMD \["(\w+)"\]', text, re.MULTILINE)[1]
    assert 'ENTRYPOINT ["lamer-fast"]' in text and command in cli.COMMANDS


def test_both_container_files_take_the_same_steps():
    differ = re.compile(r"^#.*\n|^RUN apt-get.*gcc.*\n|\[train.*\]|^CMD.*\n", re.MULTILINE)
    assert len({differ.sub("", path.read_text()) for path in CONTAINERS}) == 1


def test_licences_are_named_and_packed():
    page = (ROOT / "THIRD_PARTY.md").read_text()
    for word in (
        "alfred.pddl",
        "LICENSE.alfworld",
        "WebShop",
        "Princeton",
        "gym-sokoban",
        "Qwen3",
        "SmolLM2",
    ):
        assert word in page
    shipped = {path.parent.name for path in (ROOT / "lamer_fast/config/recipes").glob("*/model.safetensors")}
    assert all(model in page for model in shipped), "each model that is shipped says where it is from"
    files = PROJECT["license-files"]
    assert "THIRD_PARTY.md" in files and all((ROOT / file).is_file() for file in files)
    assert {file for file in TRACKED if "/LICENSE." in file} <= set(files)


@pytest.mark.parametrize(
    ("programs", "told"),
    [((), "cmake was not found"), (("cmake",), "no C++ compiler was found: no c++, g++, clang++")],
)
def test_a_missing_compiler_is_told_in_one_line(programs, told, tmp_path):
    for program in programs:
        (tmp_path / program).write_text("#!/bin/sh\nexit 9\n")
        (tmp_path / program).chmod(0o755)
    folders = ["--build-lib", str(tmp_path / "lib"), "--build-temp", str(tmp_path / "temp")]
    done = subprocess.run(
        [sys.executable, "setup.py", "-q", "build_ext", *folders],
        cwd=ROOT, env={"PATH": str(tmp_path), "HOME": "/"}, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode != 0 and done.stderr.splitlines()[-1].startswith(f"error: {told}")


@pytest.mark.parametrize(
    ("old", "new", "argv"),
    [
        ("rollout.top_p", "eval.top_p", ["train", "minesweeper-tiny", "--rollout.top-p", "0.9"]),
        ("rollout.top_k", "eval.top_k", ["train", "minesweeper-tiny", "--rollout.top-k", "5"]),
        (
            "rollout.temperature",
            "eval.temperature",
            ["play", "minesweeper-tiny", "--rollout.temperature", "1"],
        ),
        ("num_boxes", "num_mines", ["train", "minesweeper-tiny", "--env.num-boxes", "2"]),
    ],
)
def test_an_old_name_explains_itself(old, new, argv, capsys):
    assert cli.main(argv) == 2
    told = capsys.readouterr().err.replace("-", "_")
    assert old.replace("-", "_") in told and new in told
    assert old in (ROOT / "CHANGELOG.md").read_text()


def test_the_old_demo_names_the_command():
    done = subprocess.run(
        [sys.executable, "-m", "lamer_fast.cli.demo"], capture_output=True, text=True,
        env=os.environ | {"PYTHONPATH": ":".join(sys.path)},
    )  # fmt: skip
    assert done.returncode == 1 and "is now: lamer-fast demo" in done.stderr


def test_new_names_of_the_upgrade_notes_are_there():
    table = (ROOT / "CHANGELOG.md").read_text().partition("### Upgrading")[2]
    modules = re.findall(r"`(lamer_fast(?:\.\w+)+)` \|$", table, re.MULTILINE)
    assert len(modules) > 3
    assert [m for m in modules if not any(p.exists() for p in places(m))] == []


def places(module):
    path = ROOT / module.replace(".", "/")
    return path.with_suffix(".py"), path / "__init__.py"
