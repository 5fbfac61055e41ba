"""Threads of the model that have no processor of their own: a busy machine."""

import os
import subprocess
import sys

import pytest

PROGRAM = """
import os, sys, time
sys.path[:0] = {path!r}
{first}
import torch

x, weight = torch.randn(256, 128), torch.randn(128, 128)

def seconds(threads, rounds):
    torch.set_num_threads(threads)
    started = time.process_time()
    for _ in range(rounds):
        torch.relu(x @ weight).add_(x)
    return time.process_time() - started

seconds(1, 20), seconds(2, 20)
for thread in os.listdir("/proc/self/task"):
    os.sched_setaffinity(int(thread), [min(os.sched_getaffinity(0))])
print(seconds(2, {rounds}) / seconds(1, {rounds}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="it takes processors away as Linux does")
def test_two_threads_of_a_command_on_one_processor_cost_what_one_does():
    """They would spin for as long as the scheduler lets them: thirty times as much."""
    program = PROGRAM.format(
        path=sys.path, first="from lamer_fast import cli; cli.main(['--version'])", rounds=100
    )
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("OMP_", "GOMP_", "KMP_"))}
    done = subprocess.run([sys.executable, "-c", program], env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout.splitlines()[-1]) < 4
