"""Several processes train as one does: the same boards and draws, and the same numbers up to rounding."""

import gzip
import json
import os
import signal
import socket
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lamer_fast.learn.ranks import ALONE
from lamer_fast.model.path import ADAPTER_WEIGHTS
from tests.integration.test_resume import num_lines, outcome, wait_for_iterations
from tests.integration.tiny_run import recipe_file, train_main
from tests.replay_on_ranks import WAYS, replay

pytestmark = pytest.mark.long
EXACT = {"model__dtype": "float32"}  # bfloat16 rounds otherwise in other micro-batches, and draws part sooner
HERE = Path(__file__).parents[1]
ENVIRONMENT = os.environ | {"PYTHONPATH": os.pathsep.join(p for p in sys.path if p), "OMP_NUM_THREADS": "1"}


def launch(recipe: Path, runs: Path, processes: int, *overrides: str) -> subprocess.Popen:
    command = [sys.executable, "-m", "lamer_fast", "train", str(recipe), "--name", "run", "--runs", str(runs)]
    flags = ["--train.processes", str(processes), *overrides]
    return subprocess.Popen([*command, *flags], env=ENVIRONMENT, start_new_session=True)


@pytest.fixture(scope="module")
def alone(tmp_path_factory, tiny_folder) -> Path:
    folder = tmp_path_factory.mktemp("alone")
    recipe = recipe_file(folder, tiny_folder, **EXACT, eval__every=3, eval__tasks=5)
    assert train_main(recipe, folder, "--name", "run") == 0
    return folder / "run"


@pytest.fixture(scope="module")
def on_three(tmp_path_factory, tiny_folder) -> Path:
    """One of them has no group."""
    folder = tmp_path_factory.mktemp("three")
    recipe = recipe_file(folder, tiny_folder, **EXACT, eval__every=3, eval__tasks=5)
    assert launch(recipe, folder, 3).wait(timeout=240) == 0
    return folder / "run"


@pytest.fixture(scope="module")
def replayed(tmp_path_factory) -> Path:
    """What two ranks left of trials made by hand, in all ways."""
    folder = tmp_path_factory.mktemp("replayed")
    options = ["--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    program = [str(HERE / "replay_on_ranks.py"), str(folder)]
    command = [sys.executable, "-m", "torch.distributed.run", *options, "--local-addr=127.0.0.1", *program]
    subprocess.run(command, env=ENVIRONMENT | {"GLOO_SOCKET_IFNAME": "lo"}, check=True, timeout=500)
    return folder


def found_by(replayed: Path, way: str) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """Losses and gradient norms, and masters."""
    numbers = torch.tensor(json.loads((replayed / f"{way}.json").read_text()))
    return numbers, load_file(replayed / f"{way}.safetensors")


ROUNDING = "full, bfloat16"  # of what is added up and sent: adapters and their gradients are float32


@pytest.mark.parametrize("way", [way for way in WAYS if way != ROUNDING])
def test_replayed_trials_train_two_ranks_as_one(replayed, way):
    """Three iterations, one of them all on rank 0: losses, gradient norms and every parameter."""
    expected, policy = replay(ALONE, way)
    found, masters = found_by(replayed, way)
    assert found.allclose(torch.tensor(expected), rtol=1e-6, atol=1e-6)
    gaps = {name: float((masters[name] - x.detach()).abs().max()) for name, x in policy.masters.items()}
    assert max(gaps.values()) < 1e-6, max(gaps.items(), key=lambda item: item[1])


def test_in_bfloat16_two_ranks_are_nearer_to_one_than_that_is_to_float32(replayed):
    (expected, policy), (exact, precise) = replay(ALONE, ROUNDING), replay(ALONE, "none")
    found, masters = found_by(replayed, ROUNDING)
    rounding = (torch.tensor(expected) - torch.tensor(exact)).abs().amax(0)
    assert ((found - torch.tensor(expected)).abs().amax(0) < rounding / 2).all()
    assert distance(masters, policy.masters) < distance(policy.masters, precise.masters) / 2


@torch.no_grad()
def distance(ours, theirs) -> float:
    return float(sum((ours[name] - x).square().sum() for name, x in theirs.items())) ** 0.5


def transcripts(run: Path, iteration: int) -> list[dict]:
    with gzip.open(run / "trials" / f"{iteration:06d}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


ROUNDED = ("rollout_logprobs", "trainer_logprobs", "entropy", "advantage", "return")


def played(run: Path) -> list[list[dict]]:
    """Its recorded trials by iteration, without what sums of floats decide."""
    trials = [transcripts(run, iteration) for iteration in range(len(records_of(run)))]
    for record in (record for of_iteration in trials for record in of_iteration):
        record["turns"] = [{k: v for k, v in t.items() if k not in ROUNDED} for t in record["turns"]]
    return trials


def first_difference(ours: Path, theirs: Path) -> str:
    """Where the replies of two runs part, or an empty string; boards and seeds must not."""
    for iteration in range(len(records_of(ours))):
        for a, b in zip(played(ours)[iteration], played(theirs)[iteration], strict=True):
            for key in ("group", "trial", "task", "seed"):
                assert a[key] == b[key], f"iteration {iteration}: {key}"
            for turn, (x, y) in enumerate(zip(a["turns"], b["turns"], strict=False)):
                if x != y:
                    return f"iteration {iteration}, trial {a['trial']}, turn {turn}: {x} and {y}"
    return ""


def records_of(run: Path) -> list[dict]:
    return [json.loads(line) for line in (run / "metrics.jsonl").open()]


def close(ours: Path, theirs: Path) -> None:
    assert played(ours) == played(theirs), first_difference(ours, theirs)
    for a, b in zip(records_of(ours), records_of(theirs), strict=True):
        assert a["success_at"] == b["success_at"] and a["tokens"] == b["tokens"]
        assert a["counters"] == b["counters"] and a.get("eval") == b.get("eval")
        assert [a["loss"], a["grad_norm"]] == pytest.approx([b["loss"], b["grad_norm"]], rel=1e-4, abs=1e-6)
    weights, others = (load_file(run / "model" / "model.safetensors") for run in (ours, theirs))
    assert weights.keys() == others.keys()
    for name, weight in weights.items():
        torch.testing.assert_close(weight, others[name], rtol=0, atol=1e-4)


def test_a_rank_may_have_no_group(on_three, alone):
    """Free-running, with evaluations divided."""
    close(on_three, alone)
    last = records_of(on_three)[-1]
    assert last["eval"] and last["seconds"]["wait"] > 0


def rank_of(pid: int) -> str:
    words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((word.decode()[5:] for word in words if word.startswith(b"RANK=")), "")


def test_a_killed_rank_costs_what_was_not_saved(tmp_path, tiny_folder, on_three):
    recipe = recipe_file(tmp_path, tiny_folder, **EXACT, eval__every=3, eval__tasks=5)
    process = launch(recipe, tmp_path, 3, "--train.max-restarts", "1")
    wait_for_iterations(process, tmp_path / "run" / "metrics.jsonl", 3)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (victim,) = [int(pid) for pid in children if rank_of(int(pid)) == "1"]
    os.kill(victim, signal.SIGKILL)
    assert process.wait(timeout=240) == 0
    assert outcome(tmp_path / "run") == outcome(on_three)


def test_a_run_moves_from_two_ranks_to_one_and_back(tmp_path, tiny_folder, alone):
    """Two that divide the optimizer, until a signal that both obey after the same iteration; two that divide
    all weights, by their rows; one; and again two that divide all weights, from its whole tensors."""
    recipe, run = recipe_file(tmp_path, tiny_folder, **EXACT, eval__every=3, eval__tasks=5), tmp_path / "run"
    process = launch(recipe, tmp_path, 2, "--learn.shard", "optimizer")
    wait_for_iterations(process, run / "metrics.jsonl", 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 128 + signal.SIGTERM
    done = num_lines(run / "metrics.jsonl")
    assert 1 <= done < 4 and (run / "checkpoints" / f"{done:06d}").is_dir()
    until = ("--train.iterations", str(done + 1))
    assert launch(recipe, tmp_path, 2, "--learn.shard", "full", *until).wait(timeout=240) == 0
    files = sorted((run / "checkpoints" / f"{done + 1:06d}").glob("*.safetensors"))
    rows = [load_file(path) for path in files]
    for name, weight in load_file(run / "model" / "model.safetensors").items():
        assert len(rows[0][name]) == len(rows[1][name]) == len(weight) // 2
        assert torch.cat([half[name] for half in rows]).equal(weight)
    assert train_main(recipe, tmp_path, "--name", "run", "--train.iterations", str(done + 2)) == 0
    assert launch(recipe, tmp_path, 2, "--learn.shard", "full").wait(timeout=240) == 0
    close(run, alone)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # four launches, two of them of four processes
def test_a_run_moves_from_two_ranks_to_four(tmp_path, tiny_folder, alone):
    """All weights over two ranks, all over four, the optimizer over four, and one."""
    recipe = recipe_file(tmp_path, tiny_folder, **EXACT, eval__every=3, eval__tasks=5)
    for until, processes, shard in ((1, 2, "full"), (3, 4, "full"), (4, 4, "optimizer"), (6, 1, "auto")):
        flags = ("--train.iterations", str(until), "--learn.shard", shard)
        assert launch(recipe, tmp_path, processes, *flags).wait(timeout=600) == 0
    close(tmp_path / "run", alone)


@pytest.mark.slow
@pytest.mark.timeout(1800)  # five launches
@pytest.mark.parametrize("adapter", ["apart", "merged"])
def test_adapters_move_between_ways_to_divide_them(tmp_path, tiny_folder, adapter):
    """All weights over two ranks, the optimizer over two, one rank, and all weights over two again."""
    pytest.importorskip("peft", reason="peft is not installed")
    lora = EXACT | {"model__lora_rank": 4, "rollout__adapter": adapter, "eval__every": 3, "eval__tasks": 5}
    recipe = recipe_file(tmp_path, tiny_folder, **lora)
    assert train_main(recipe, tmp_path, "--name", "alone") == 0
    for until, processes, shard in ((2, 2, "full"), (4, 2, "optimizer"), (5, 1, "auto"), (6, 2, "full")):
        flags = ("--train.iterations", str(until), "--learn.shard", shard)
        assert launch(recipe, tmp_path, processes, *flags).wait(timeout=400) == 0
    close(tmp_path / "run", tmp_path / "alone")
    ours, theirs = (load_file(tmp_path / n / "adapter" / ADAPTER_WEIGHTS) for n in ("run", "alone"))
    assert ours.keys() == theirs.keys()
    torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-4)


def free_port() -> int:
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return int(found.getsockname()[1])


@pytest.mark.slow
def test_two_agents_train_as_one_process(tmp_path, tiny_folder, alone):
    """As on two machines with a folder in common: torchrun once on each, with one rendezvous."""
    recipe = recipe_file(tmp_path, tiny_folder, **EXACT, eval__every=3, eval__tasks=5)
    options = ["--nnodes=2", "--nproc-per-node=1", "--rdzv-backend=c10d", "--rdzv-id=two-agents"]
    options += [f"--rdzv-endpoint=127.0.0.1:{free_port()}", "--local-addr=127.0.0.1"]
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        *options,
        "-m",
        "lamer_fast",
        "train",
        str(recipe),
    ]
    command += ["--name", "run", "--runs", str(tmp_path)]
    environment = ENVIRONMENT | {"GLOO_SOCKET_IFNAME": "lo"}
    agents = [subprocess.Popen(command, env=environment, start_new_session=True) for _ in range(2)]
    assert [agent.wait(timeout=240) for agent in agents] == [0, 0]
    close(tmp_path / "run", alone)
