"""Two distributions, from sdist to wheel to an environment without an index: each comes and goes alone."""

import os
import site
import subprocess
import sys
import venv
import zipfile
from pathlib import Path

import pytest

import lamer_fast
import lamer_kernels

ROOT = Path(__file__).parents[2]
OURS = ("lamer_fast", "lamer_kernels", "__editable__")
ENV = {name: value for name, value in os.environ.items() if name not in ("PYTHONPATH", "PIP_CONSTRAINT")}
BOARDS = "import numpy as np, lamer_fast.envs as e; e.make('sokoban', 2).reset(np.arange(2, dtype='u8'))"
pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]


def run(*words, cwd, status=0):
    done = subprocess.run(list(map(str, words)), cwd=cwd, env=ENV, capture_output=True, text=True)
    assert done.returncode == status, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    folder = tmp_path_factory.mktemp("clone")
    run("git", "clone", "-q", "--shared", ROOT, folder, cwd=folder)
    return folder


@pytest.fixture(scope="module")
def wheels(clone):
    """Both, as `docs/install.md` builds them; the kernels' by way of an sdist."""
    build = "import sys; from setuptools import build_meta; build_meta.build_sdist(sys.argv[1])"
    run(sys.executable, "-c", build, clone / "dist", cwd=clone / "kernels")
    (kernels,) = (clone / "dist").glob("lamer_kernels-*.tar.gz")
    flags = ("--no-deps", "--no-build-isolation", "--no-index", "--wheel-dir", "dist")
    run(sys.executable, "-m", "pip", "wheel", "-q", *flags, ".", kernels, cwd=clone)
    kernels.unlink()
    return clone / "dist"


@pytest.fixture
def world(wheels, tmp_path):
    """An environment that has what the packages of an index would bring, and neither of ours; its pip."""
    beside = tmp_path / "beside"
    beside.mkdir()
    for path in Path(site.getsitepackages()[0]).iterdir():
        if not path.name.startswith(OURS) and path.suffix != ".pth":
            (beside / path.name).symlink_to(path)
    venv.create(tmp_path / "venv")
    python = tmp_path / "venv" / "bin" / "python"
    asked = run(python, "-c", "import site; print(site.getsitepackages()[0])", cwd=tmp_path)
    Path(asked.strip(), "beside.pth").write_text(f"{beside}\n")

    def pip(*words):
        offline = ("--no-index", "--find-links", wheels) if words[0] == "install" else ("-y",)
        return run(
            sys.executable,
            "-m",
            "pip",
            "--python",
            python,
            words[0],
            "-q",
            *offline,
            *words[1:],
            cwd=tmp_path,
        )

    return python, pip


def files(wheel):
    """Those that an installation writes, without the folders that bear the distribution's name."""
    with zipfile.ZipFile(wheel) as opened:
        (record,) = [name for name in opened.namelist() if name.endswith(".dist-info/RECORD")]
        return {line.split(",")[0] for line in opened.read(record).decode().splitlines()}


def test_no_file_is_in_both(wheels):
    fast, kernels = (files(next(wheels.glob(f"{name}-*.whl"))) for name in OURS[:2])
    assert not fast & kernels
    assert {name.partition("/")[0] for name in fast if ".dist-info" not in name} == {"lamer_fast"}
    assert "lamer_fast/py.typed" in fast and "lamer_kernels/py.typed" in kernels


def test_the_environments_need_numpy_alone(wheels, world, tmp_path):
    python, pip = world
    pip("install", "lamer-fast")
    run(python, "-c", BOARDS, cwd=tmp_path)
    assert "minesweeper" in run(tmp_path / "venv/bin/lamer-fast", "envs", cwd=tmp_path)
    installed = {path.name.partition("-")[0] for path in (tmp_path / "venv").rglob("*.dist-info")}
    assert installed == {"lamer_fast", "lamer_kernels"}


def test_each_goes_without_the_other(wheels, world, tmp_path):
    python, pip = world
    command = tmp_path / "venv/bin/lamer-fast"
    pip("install", "lamer-fast[train]")
    frozen = run(sys.executable, "-m", "pip", "--python", python, "freeze", cwd=tmp_path)
    assert f"lamer-fast=={lamer_fast.__version__}\n" in frozen
    assert f"lamer-kernels=={lamer_kernels.__version__}\n" in frozen
    less = ("--train.iterations", "1", "--tasks", "4", "--train.num-threads", "1")
    assert "report: runs/minesweeper-tiny/report.html" in run(command, "demo", *less, cwd=tmp_path)

    pip("uninstall", "lamer-fast")
    credit = (
        "import torch, lamer_kernels as k; i = torch.arange(2); print(k.group_advantages(i + 0.0, i // 2))"
    )
    assert "tensor([-0.5000,  0.5000])" in run(python, "-c", credit, cwd=tmp_path)
    assert not command.exists()

    pip("install", "lamer-fast")
    pip("uninstall", "lamer-kernels")
    assert "usage: lamer-fast" in run(command, "--help", cwd=tmp_path)
    run(python, "-c", BOARDS, cwd=tmp_path)
    told = run(command, "train", "minesweeper-tiny", cwd=tmp_path, status=2)
    assert "(or the wheel of lamer-kernels)" in told.splitlines()[-1]


@pytest.mark.parametrize("editable", [[], ["-e"]], ids=["plain", "editable"])
def test_a_clone_installs_both_at_once(clone, world, tmp_path, editable):
    python, pip = world
    pip("install", "--no-build-isolation", *editable, clone / "kernels", *editable, f"{clone}[train]")
    code = "import lamer_fast._C, lamer_kernels; print(lamer_fast._C.__file__, lamer_kernels.__file__)"
    found = run(python, "-c", code, cwd=tmp_path).split()
    assert [Path(name).is_relative_to(clone) for name in found] == [bool(editable)] * 2
