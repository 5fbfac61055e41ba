"""Several processes train as one does: the same boards and draws, and the same numbers up to rounding."""

import gzip
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file

from lamer_fast.learn.ranks import ALONE
from tests.integration.test_resume import num_lines, outcome, wait_for_iterations
from tests.integration.tiny_run import TINY, recipe_file, train_main
from tests.replay_on_ranks import replay

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
def on_two(tmp_path_factory, tiny_folder) -> Path:
    folder = tmp_path_factory.mktemp("two")
    assert launch(recipe_file(folder, tiny_folder, **EXACT), folder, 2).wait(timeout=240) == 0
    return folder / "run"


@pytest.mark.parametrize(
    ("shard", "estimator"), [("none", "gigpo"), ("optimizer", "gigpo"), ("optimizer", "gae")]
)
def test_replayed_trials_train_two_ranks_as_one(tmp_path, shard, estimator):
    """Three iterations, one of them all on rank 0: losses, gradient norms and every parameter."""
    options = ["--nproc-per-node=2", "--rdzv-backend=c10d", "--rdzv-endpoint=127.0.0.1:0"]
    program = [str(HERE / "replay_on_ranks.py"), str(tmp_path), shard, estimator]
    command = [sys.executable, "-m", "torch.distributed.run", *options, "--local-addr=127.0.0.1", *program]
    subprocess.run(command, env=ENVIRONMENT | {"GLOO_SOCKET_IFNAME": "lo"}, check=True, timeout=240)
    expected, policy = replay(ALONE, estimator=estimator)
    found = json.loads((tmp_path / "losses.json").read_text())
    assert torch.tensor(found).allclose(torch.tensor(expected), rtol=1e-6, atol=1e-6)
    masters = load_file(tmp_path / "masters.safetensors")
    gaps = {name: float((masters[name] - x.detach()).abs().max()) for name, x in policy.masters.items()}
    assert max(gaps.values()) < 1e-6, max(gaps.items(), key=lambda item: item[1])


def transcripts(run: Path, iteration: int) -> list[dict]:
    with gzip.open(run / "trials" / f"{iteration:06d}.jsonl.gz", "rt") as file:
        return [json.loads(line) for line in file]


ROUNDED = ("rollout_logprobs", "trainer_logprobs", "entropy", "advantage", "return")


def played(run: Path) -> list[list[dict]]:
    """Its recorded trials by iteration, without what sums of floats decide."""
    trials = [transcripts(run, iteration) for iteration in range(TINY["train.iterations"])]
    for record in (record for of_iteration in trials for record in of_iteration):
        record["turns"] = [{k: v for k, v in t.items() if k not in ROUNDED} for t in record["turns"]]
    return trials


def first_difference(ours: Path, theirs: Path) -> str:
    """Where the replies of two runs part, or an empty string; boards and seeds must not."""
    for iteration in range(TINY["train.iterations"]):
        for a, b in zip(played(ours)[iteration], played(theirs)[iteration], strict=True):
            for key in ("group", "trial", "task", "seed"):
                assert a[key] == b[key], f"iteration {iteration}: {key}"
            for turn, (x, y) in enumerate(zip(a["turns"], b["turns"], strict=False)):
                if x != y:
                    return f"iteration {iteration}, trial {a['trial']}, turn {turn}: {x} and {y}"
    return ""


def close(ours: Path, theirs: Path) -> None:
    (ours_, trials, tensors), (theirs_, other_trials, others) = outcome(ours), outcome(theirs)
    assert trials.keys() == other_trials.keys() and played(ours) == played(theirs), first_difference(
        ours, theirs
    )
    for a, b in zip(ours_, theirs_, strict=True):
        assert a["success_at"] == b["success_at"] and a["tokens"] == b["tokens"]
        assert a["counters"] == b["counters"]
        assert [a["loss"], a["grad_norm"]] == pytest.approx([b["loss"], b["grad_norm"]], rel=1e-4, abs=1e-6)
    assert tensors.keys() == others.keys()


def test_three_ranks_of_which_one_has_no_group(tmp_path, tiny_folder, alone):
    """Free-running, with evaluations divided."""
    recipe = recipe_file(tmp_path, tiny_folder, **EXACT, eval__every=3, eval__tasks=5)
    assert launch(recipe, tmp_path, 3).wait(timeout=240) == 0
    close(tmp_path / "run", alone)
    ours, theirs = outcome(tmp_path / "run")[0], outcome(alone)[0]
    assert [r.get("eval") for r in ours] == [r.get("eval") for r in theirs] != [None] * len(ours)
    last = json.loads((tmp_path / "run" / "metrics.jsonl").read_text().splitlines()[-1])
    assert 0 < last["seconds"]["wait"] < last["seconds"]["sample"] + last["seconds"]["learn"]


def rank_of(pid: int) -> str:
    words = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    return next((word.decode()[5:] for word in words if word.startswith(b"RANK=")), "")


def test_a_killed_rank_costs_what_was_not_saved(tmp_path, tiny_folder, on_two):
    process = launch(recipe_file(tmp_path, tiny_folder, **EXACT), tmp_path, 2, "--train.max-restarts", "1")
    wait_for_iterations(process, tmp_path / "run" / "metrics.jsonl", 3)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    (victim,) = [int(pid) for pid in children if rank_of(int(pid)) == "1"]
    os.kill(victim, signal.SIGKILL)
    assert process.wait(timeout=240) == 0
    assert outcome(tmp_path / "run") == outcome(on_two)


def test_a_run_moves_from_two_ranks_to_one_and_back(tmp_path, tiny_folder, on_two):
    """Stopped on two by a signal, which all obey after the same iteration."""
    recipe = recipe_file(tmp_path, tiny_folder, **EXACT)
    process = launch(recipe, tmp_path, 2)
    wait_for_iterations(process, tmp_path / "run" / "metrics.jsonl", 1)
    process.send_signal(signal.SIGTERM)
    assert process.wait(timeout=120) == 128 + signal.SIGTERM
    done = num_lines(tmp_path / "run" / "metrics.jsonl")
    assert 1 <= done < 5 and (tmp_path / "run" / "checkpoints" / f"{done:06d}").is_dir()
    assert train_main(recipe, tmp_path, "--name", "run", "--train.iterations", str(done + 1)) == 0
    assert launch(recipe, tmp_path, 2).wait(timeout=240) == 0
    close(tmp_path / "run", on_two)


def test_sharded_masters_move_from_two_ranks_to_four_and_to_one(tmp_path, tiny_folder, alone):
    """Each rank writes its rows; four read them, then one, which goes on with whole tensors."""
    recipe = recipe_file(
        tmp_path, tiny_folder, **EXACT, learn__shard="optimizer", eval__every=3, eval__tasks=5
    )
    assert launch(recipe, tmp_path, 2, "--train.iterations", "2").wait(timeout=240) == 0
    (saved,) = (tmp_path / "run" / "checkpoints").iterdir()
    files = [load_file(path) for path in saved.glob("*.safetensors")]
    first, second = (file["model.embed_tokens.weight"] for file in files)
    assert len(first) == len(second) == 64  # rows of 128
    assert launch(recipe, tmp_path, 4, "--train.iterations", "4").wait(timeout=240) == 0
    assert train_main(recipe, tmp_path, "--name", "run") == 0
    close(tmp_path / "run", alone)
