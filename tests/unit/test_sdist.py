"""A source distribution holds what an installation from it builds and runs."""

import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
def test_sdist_holds_all_sources(tmp_path):
    tracked = subprocess.check_output(["git", "ls-files"], cwd=ROOT, text=True).splitlines()
    for name in tracked:  # a copy: a build leaves folders behind
        if name.startswith(("lamer_fast/", "kernels/", "csrc/")) or "/" not in name:
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, tmp_path / name)
    subprocess.run([sys.executable, "setup.py", "-q", "sdist", "-d", "."], cwd=tmp_path, check=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        held = {name.partition("/")[2] for name in opened.getnames()}
    needed = [name for name in tracked if name.startswith(("lamer_fast/", "kernels/lamer_kernels/", "csrc/"))]
    needed += ["CMakeLists.txt", "LICENSE", "README.md", "pyproject.toml", "setup.py"]
    assert set(needed) <= held, sorted(set(needed) - held)
