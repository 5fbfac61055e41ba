"""The examples of the kernels run and print what their pages promise."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def printed(name, *arguments):
    command = [sys.executable, str(ROOT / "examples" / "kernels" / f"{name}.py"), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout


def small_differences(text):
    found = [float(x) for x in re.findall(r"(?:difference|differs by) (\S+)", text)]
    return bool(found) and max(found) < 1e-5


def losses(text):
    return [float(x) for x in re.findall(r"loss ([-\d.]+)", text)]


def test_plain_loop():
    text = printed("plain_loop")
    before, after = losses(text)
    assert after == pytest.approx(before, rel=1e-5) and small_differences(text)
    seconds = [float(x) for x in re.findall(r"([\d.]+) CPU-s", text)]
    assert seconds[1] < seconds[0]


def test_cross_episode_returns(tmp_path):
    text = printed("cross_episode_returns", str(tmp_path / "curves.png"))
    assert "drawn" not in text or (tmp_path / "curves.png").stat().st_size > 1000
    first = [re.findall(r"\d\.\d\d", line) for line in text.splitlines() if line.startswith("  episode 1")]
    nothing, some, all_of_it = ([float(v) for v in row] for row in first)
    assert nothing == [0, 0, 0, 0] and all(0 < a < b for a, b in zip(some, all_of_it, strict=True))


def test_trl():
    pytest.importorskip("trl", reason="needs TRL: make test-integrations")
    text = printed("trl_grpo")
    before, after = losses(text)
    assert after == pytest.approx(before, rel=1e-5, abs=1e-6) and small_differences(text)
    assert "trained 2 steps with the credit of turns" in text


def test_verl():
    pytest.importorskip("verl", reason="needs verl: make test-integrations")
    assert small_differences(printed("verl_estimator"))
