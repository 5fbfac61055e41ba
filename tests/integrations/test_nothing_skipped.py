"""The option under which a run with a skipped test is no success."""

import shutil
import subprocess
import sys
from pathlib import Path

OPTION = Path(__file__).with_name("conftest.py")
MODULE = "import pytest\npytest.importorskip('no_such_trainer', reason='needs a trainer')\ndef test(): ...\n"
INSIDE = "import pytest\ndef test():\n    pytest.importorskip('no_such_trainer', reason='needs a trainer')\n"


def run(folder, *options):
    command = [sys.executable, "-m", "pytest", "-q", "-c", "/dev/null"]
    return subprocess.run([*command, *options, str(folder)], cwd=folder, capture_output=True, text=True)


def test_a_skip_is_a_failure_where_nothing_may_be_skipped(tmp_path):
    shutil.copy(OPTION, tmp_path)
    (tmp_path / "test_passes.py").write_text("def test(): ...\n")
    assert run(tmp_path, "--nothing-skipped").returncode == 0
    (tmp_path / "test_module.py").write_text(MODULE)
    (tmp_path / "test_inside.py").write_text(INSIDE)
    assert run(tmp_path).returncode == 0
    done = run(tmp_path, "--nothing-skipped")
    told = [line for line in done.stdout.splitlines() if "nothing may be" in line]
    assert done.returncode == 1 and len(told) == 2, done.stdout
    assert all("needs a trainer" in line for line in told)
