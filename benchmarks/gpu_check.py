"""Every GPU test and GPU benchmark in one command: the body of `make gpu-check PYTHON=python3`.

Runs on a machine with Python, torch, triton, numba, pybind11 and cmake only; installs nothing, needs no
network. A test or benchmark whose packages are absent is skipped by name. Each record is written as its
benchmark finishes, and nothing new starts when the time is up: what was not reached is named at the end.
"""

import argparse
import importlib.util
import os
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
TESTS = ["tests/kernels"]
BENCHMARKS = [
    ("bench_head.py", []),
    ("bench_credit.py", []),
    ("bench_train.py", []),
    ("bench_decode.py", []),
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--budget-s", type=float, default=480.0, help="seconds for everything together")
    parser.add_argument("--tests-s", type=float, default=200.0, help="seconds for the tests")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu-check needs a CUDA device: torch.cuda.is_available() is False")
        return 2
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    start = time.monotonic()
    results = {"tests": run_tests(args.tests_s)}
    for name, options in BENCHMARKS:
        left = args.budget_s - (time.monotonic() - start)
        command = [sys.executable, str(ROOT / "benchmarks" / name), "--json", "--allow-dirty", *options]
        results[name] = run(command, left) if left > 20 else "not reached"
    print(f"\n{time.monotonic() - start:.0f} s of {args.budget_s:.0f} s")
    for name, result in results.items():
        print(f"{name}: {result}")
    return 0 if set(results.values()) <= {"passed"} else 1


def run_tests(timeout_s: float) -> str:
    """By pytest, or, where it is not installed, by the part of it that these tests use."""
    if importlib.util.find_spec("pytest") is None:
        files = [str(file) for folder in TESTS for file in sorted((ROOT / folder).glob("test_*.py"))]
        return run([sys.executable, str(ROOT / "benchmarks" / "small_pytest.py"), *files], timeout_s)
    return run([sys.executable, "-m", "pytest", "-q", "-m", "gpu", *TESTS], timeout_s)


def run(command: list[str], timeout_s: float) -> str:
    print(f"\n$ {' '.join(command[1:])}", flush=True)
    paths = [str(ROOT), str(ROOT / "kernels"), str(ROOT / "benchmarks"), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    try:
        code = subprocess.run(command, cwd=ROOT, env=env, timeout=timeout_s).returncode
    except subprocess.TimeoutExpired:
        return f"stopped after {timeout_s:.0f} s"
    return "passed" if code == 0 else f"FAILED with exit code {code}"


if __name__ == "__main__":
    sys.exit(main())
