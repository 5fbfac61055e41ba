"""Every GPU test and GPU benchmark: the body of `make gpu-check PYTHON=python3 COMMIT=...`.

    python gpu_check.py correct --commit SHA   # each op against float64, memory checker, tests, resume
    python gpu_check.py speed --commit SHA     # records: head, credit, attention, update, decoding, iteration

Each part is sized to six minutes on one data-centre GPU. The machine needs Python, torch, triton,
transformers, numba, pybind11 and cmake; nothing is installed or fetched, and a step whose packages are absent
is skipped by name. In `speed` the ops are compared with their references first, and a wrong one stops the
rest. Each record is written as its benchmark finishes, and nothing new starts when the time is up: what was
not reached is named.
"""

import argparse
import importlib.util
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import torch

ROOT = Path(__file__).resolve().parent.parent
BENCHMARKS = ROOT / "benchmarks"
OPS = [sys.executable, str(BENCHMARKS / "gpu_ops.py")]
TESTS = {"tests of the trainer": ROOT / "tests" / "gpu", "tests of the kernels": ROOT / "tests" / "kernels"}
RECORDS = (
    "bench_head",
    "bench_credit",
    "bench_attention",
    "bench_layers",
    "bench_train",
    "bench_whole",
    "bench_decode",
)


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("part", choices=("correct", "speed"))
    parser.add_argument("--commit", help="of this tree, where it has no git history")
    parser.add_argument("--budget-s", type=float, default=330.0, help="seconds; no step starts after that")
    parser.add_argument("--only", default="", help="run the steps whose name contains one of these, A,B,C")
    parser.add_argument("--out", type=Path, help="folder for a copy of each record")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        print("gpu-check needs a CUDA device: torch.cuda.is_available() is False")
        return 2
    print(f"{torch.cuda.get_device_name()}, torch {torch.__version__}", flush=True)
    steps = correct_steps() if args.part == "correct" else speed_steps(args.commit, args.out)
    start, results = time.monotonic(), {}
    for name, command in steps.items():
        left = args.budget_s - (time.monotonic() - start)
        if not any(part in name for part in args.only.split(",")):
            continue
        if isinstance(command, str):
            results[name] = f"skipped, {command}"
        elif results.get("ops") not in (None, "passed") and args.part == "speed":
            results[name] = "not run: an op is wrong"
        else:
            results[name] = run(command, left) if left > 15 else "not reached"
    print(f"\n{time.monotonic() - start:.0f} s of {args.budget_s:.0f} s")
    for name, result in results.items():
        print(f"{name}: {result}")
    return 0 if all(r == "passed" or r.startswith("skipped") for r in results.values()) else 1


def correct_steps() -> dict[str, list[str] | str]:
    """Name -> command, or the reason why there is none."""
    checker = shutil.which("compute-sanitizer")
    return {
        "ops": OPS,
        **{name: tests(folder) for name, folder in TESTS.items()},
        "memory": [checker, "--error-exitcode", "9", *OPS] if checker else "no compute-sanitizer",
    }


def speed_steps(commit: str | None, out: Path | None) -> dict[str, list[str] | str]:
    handed_in = ["--commit", commit] if commit else []
    handed_in += ["--out", str(out)] if out else []
    commands: dict[str, list[str] | str] = {"ops": OPS}
    for name in RECORDS:
        commands[name] = [
            sys.executable,
            str(BENCHMARKS / f"{name}.py"),
            "--json",
            "--allow-dirty",
            *handed_in,
        ]
    return commands


def tests(folder: Path) -> list[str]:
    """By pytest, or, where it is not installed, by the part of it that these tests use."""
    if importlib.util.find_spec("pytest") is None:
        return [
            sys.executable,
            str(BENCHMARKS / "small_pytest.py"),
            *map(str, sorted(folder.glob("test_*.py"))),
        ]
    # addopts and the timeout of pyproject.toml need plugins that this machine may not have
    options = ["-q", "-m", "gpu", "-o", "addopts=", "--tb=short", "--durations=5"]
    return [sys.executable, "-m", "pytest", *options, str(folder)]


def run(command: list[str], timeout_s: float) -> str:
    print(f"\n$ {' '.join(command)}", flush=True)
    paths = [str(ROOT), str(ROOT / "kernels"), str(BENCHMARKS), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    start = time.monotonic()
    try:
        code = subprocess.run(command, cwd=ROOT, env=env, timeout=timeout_s).returncode
    except subprocess.TimeoutExpired:
        return f"stopped after {timeout_s:.0f} s"
    print(f"({time.monotonic() - start:.0f} s)", flush=True)
    return "passed" if code == 0 else f"FAILED with exit code {code}"


if __name__ == "__main__":
    sys.exit(main())
