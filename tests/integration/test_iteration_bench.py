"""The arms of benchmarks/bench_iteration.py run with the loop of today; TRL and vLLM need their packages."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.long
@pytest.mark.parametrize(
    "arm",
    [
        ("iteration_ours.py", "torch", "float32", "2"),
        ("iteration_recipe.py", "minesweeper-tiny", "2", "--rollout.groups", "1"),
    ],
    ids=["workload", "recipe"],
)
def test_an_arm_prints_a_record_per_iteration(arm):
    script, *args = arm
    done = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / script), *args],
        env=os.environ | {"OMP_NUM_THREADS": "1"}, capture_output=True, text=True, timeout=300,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-2000:]
    records = [json.loads(line[7:]) for line in done.stdout.splitlines() if line.startswith("RECORD ")]
    assert len(records) == 2
    for record in records:
        assert record["cpu"] > record["sample_cpu"] + record["update_cpu"] > 0
        assert record["computed"] > record["tokens"]["sampled"] > 0
        assert record["mismatch"]["mean"] < 1e-5
