"""What do two threads of a small model cost, asleep or spinning while they wait for each other?

CPU and wall time of what a layer of 128 columns does with 512 tokens, forward: where the threads have the
processors of the machine, and where they have one between them, as on a busy one. `asleep` is what the
commands ask of OpenMP (`OMP_WAIT_POLICY=passive`), `by default` what it does unless asked. Arms in turn,
burst by burst, each in a process of its own.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from statistics import median

from harness import Case, Row, main, measured, short

ROUNDS, CALLS = 5, 20
ARMS = {
    "1 thread": (1, {}),
    "2 asleep": (2, {"OMP_WAIT_POLICY": "passive"}),
    "2 by default": (2, {}),
}


def measure(threads: int, processors: str) -> None:
    """Prints the seconds of a call, CPU and wall, for each line on stdin."""
    import torch
    from torch.nn.functional import linear

    torch.set_num_threads(threads)
    x, weight, y = torch.randn(512, 128), torch.randn(384, 128), torch.randn(512, 384)

    def calls() -> list[float]:
        cpu, wall = time.process_time(), time.perf_counter()
        for _ in range(CALLS):
            (linear(x, weight) * y).add_(y)
        return [(time.process_time() - cpu) / CALLS, (time.perf_counter() - wall) / CALLS]

    calls()  # the threads are there from now on
    if processors == "one":
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), [min(os.sched_getaffinity(0))])
    for _ in sys.stdin:
        print(json.dumps(calls()), flush=True)


class Arm:
    def __init__(self, processors: str, threads: int, wish: dict[str, str]) -> None:
        inherited = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
        command = [sys.executable, __file__, "--measure", str(threads), processors]
        self.process = subprocess.Popen(
            command, env=inherited | wish, text=True, stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        self.next()

    def next(self) -> tuple[float, float]:
        assert self.process.stdin and self.process.stdout
        print(file=self.process.stdin, flush=True)
        cpu, wall = json.loads(self.process.stdout.readline())
        return cpu, wall


def bench(case: Case) -> list[Row]:
    arms = {name: Arm(case.processors, *how) for name, how in ARMS.items()}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in arms}
    for _ in range(ROUNDS):
        for name, arm in arms.items():
            found[name].append(arm.next())
    for arm in arms.values():
        arm.process.communicate()
    return [
        measured(
            name, [cpu for cpu, _ in pairs], "CPU time of a call", "s",
            note=f"wall time {short(median(wall for _, wall in pairs))}s",
        )
        for name, pairs in found.items()
    ]  # fmt: skip


CASES = [
    Case(name="placed by the scheduler", processors="all"),
    Case(name="one processor between them", processors="one"),
]

if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        measure(int(sys.argv[2]), sys.argv[3])
    else:
        main(bench, CASES)
