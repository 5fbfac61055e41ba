"""What docs/environments.md shows must run, and what it lists must be there."""

import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

import pytest

from lamer_fast.envs import make, num_tasks
from lamer_fast.envs.options import PoolOptions
from lamer_fast.envs.registry import NATIVE, WORLDS, entry

ROOT = Path(__file__).parent.parent.parent
PAGE = (ROOT / "docs" / "environments.md").read_text()


def test_the_examples_run(capsys):
    first, vector = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    exec(first, {})
    assert capsys.readouterr().out.strip().endswith("1.0")
    pytest.importorskip("gymnasium")
    exec(vector, {})
    assert capsys.readouterr().out.split()[1:5] == ["[0", "1", "2", "3]"]


@pytest.mark.parametrize("name", NATIVE)
def test_every_option_and_call_is_on_the_page(name):
    for option in entry(name).batch_options:
        assert f"`{option}`" in PAGE
    batch = make(name, 1)
    calls = [call for call in dir(batch) if not call.startswith("_") and callable(getattr(batch, call))]
    own = {"lay", "num_tasks", "distinct_seeds"}  # behind functions of the package, or for tests
    assert [call for call in calls if f"`{call}(" not in PAGE and call not in own] == []


@pytest.mark.parametrize("name", WORLDS)
def test_every_option_of_a_world_is_on_the_page(name):
    common = {field.name for field in fields(PoolOptions)}
    own = [field.name for field in fields(entry(name).options) if field.name not in common]
    assert [option for option in own if f"`{option}`" not in PAGE] == []


def test_the_number_of_small_tasks():
    count, exact = num_tasks("minesweeper", height=4, width=4, num_mines=2)
    assert exact and f"4x4 Minesweeper with 2 mines has {count}" in PAGE


def test_the_tables_are_those_of_the_records(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    from tables import filled

    page = (ROOT / "docs" / "performance.md").read_text()
    assert "| sokoban step |" in page and filled(page) == page


def test_importing_the_environments_needs_numpy_only():
    code = "import sys, lamer_fast.envs; sys.exit(bool({'gymnasium', 'torch', 'vllm'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=ROOT)
