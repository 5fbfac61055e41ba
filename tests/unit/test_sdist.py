"""A source distribution holds what an installation from it builds and runs, nothing of the other one's."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
BUILD = "from setuptools import build_meta; build_meta.build_sdist('.')"


@pytest.fixture(scope="module")
def clone(tmp_path_factory):
    """A copy: a build leaves folders behind."""
    folder = tmp_path_factory.mktemp("clone")
    for name in tracked():
        if name.startswith(("lamer_fast/", "kernels/", "csrc/")) or "/" not in name:
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, folder / name)
    return folder


def tracked():
    return subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()


def held(folder):
    """Names in the sdist of the project in `folder`, without that of its top folder."""
    subprocess.run([sys.executable, "-c", BUILD], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    (archive,) = folder.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        return {name.partition("/")[2] for name in opened.getnames()}


@pytest.mark.long
def test_sdist_holds_all_sources(clone):
    needed = [name for name in tracked() if name.startswith(("lamer_fast/", "csrc/"))]
    needed += ["CMakeLists.txt", "LICENSE", "README.md", "pyproject.toml", "setup.py"]
    found = held(clone)
    assert set(needed) <= found, sorted(set(needed) - found)
    assert not [name for name in found if "lamer_kernels" in name]


@pytest.mark.long
def test_sdist_of_the_kernels_holds_all_of_them(clone):
    needed = {name.partition("/")[2] for name in tracked() if name.startswith("kernels/lamer_kernels/")}
    needed |= {"LICENSE", "README.md", "CHANGELOG.md", "OPS.md", "STABILITY.md", "pyproject.toml"}
    found = held(clone / "kernels")
    assert needed <= found, sorted(needed - found)
