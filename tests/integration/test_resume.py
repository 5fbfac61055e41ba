"""A run killed at any moment and resumed equals the run that was not killed, bit for bit."""

import gzip
import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from lamer_fast.envs.registry import default_options, make_env
from tests.integration.tiny_run import TINY, recipe_file, train_main

pytestmark = pytest.mark.long


def outcome(run: Path) -> tuple[list[dict], dict[str, bytes], dict[str, bytes]]:
    """Metrics without wall times, trial files and the bytes of the last checkpoint's tensors."""
    records = [json.loads(line) for line in (run / "metrics.jsonl").open()]
    for record in records:
        del record["seconds"]
    trials = {path.name: path.read_bytes() for path in sorted((run / "trials").iterdir())}
    last = max((run / "checkpoints").iterdir())
    tensors = {}
    for name in ("masters", "optimizer"):
        tensors |= {k: t.numpy().tobytes() for k, t in load_file(last / f"{name}.safetensors").items()}
    return records, trials, tensors


@pytest.fixture(scope="module")
def whole_run(tmp_path_factory, tiny_folder) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    assert train_main(recipe_file(folder, tiny_folder), folder, "--name", "run") == 0
    return folder / "run"


def test_two_runs_are_equal(tmp_path, tiny_folder, whole_run):
    assert train_main(recipe_file(tmp_path, tiny_folder), tmp_path, "--name", "run") == 0
    assert outcome(tmp_path / "run") == outcome(whole_run)


def test_evaluations_leave_the_training_alone(tmp_path, tiny_folder, whole_run):
    """Other episodes, drawn otherwise, before training and within it: every other bit of the run is equal."""
    recipe = recipe_file(
        tmp_path, tiny_folder, eval__every=2, eval__tasks=5, eval__episodes=2, eval__temperature=0.7,
        eval__top_p=0.8, eval__top_k=20, eval__min_tokens=2,
    )  # fmt: skip
    assert train_main(recipe, tmp_path, "--name", "run") == 0
    records, trials, tensors = outcome(tmp_path / "run")
    found = [
        (i, key, r.pop(key)["iteration"])
        for i, r in enumerate(records)
        for key in ("eval_before", "eval")
        if key in r
    ]
    assert found == [(0, "eval_before", 0), (1, "eval", 2), (3, "eval", 4), (5, "eval", 6)]
    assert (records, trials, tensors) == outcome(whole_run)


def gone_on_after_two(recipe: Path, runs: Path) -> tuple[list[dict], dict[str, bytes], dict[str, bytes]]:
    """The outcome of `runs`/run, which stopped after two iterations, goes on, and equals a whole run."""
    assert train_main(recipe, runs, "--name", "whole") == 0
    assert train_main(recipe, runs, "--name", "run", "--train.iterations", "2") == 0
    assert train_main(recipe, runs, "--name", "run") == 0
    found = outcome(runs / "run")
    assert found == outcome(runs / "whole")
    return found


def test_the_first_policy_writes_on(tmp_path, tiny_folder):
    """In a run that goes on, the writer is the policy before the first iteration, not the checkpoint's."""
    recipe = recipe_file(
        tmp_path, tiny_folder, rollout__reflector="first", algo__train_reflections=False, train__iterations=4
    )
    gone_on_after_two(recipe, tmp_path)


@pytest.mark.parametrize("critic", ["trunk", "head"])
def test_a_critic_goes_on_too(tmp_path, tiny_folder, critic):
    recipe = recipe_file(
        tmp_path, tiny_folder, algo__estimator="gae", algo__critic=critic, learn__critic_lr=3e-3,
        learn__epochs=2, learn__minibatches=2, train__iterations=4,
    )  # fmt: skip
    records, _, tensors = gone_on_after_two(recipe, tmp_path)
    assert records[-1]["critic_loss"] > 0 and records[-1]["critic_explained"] != 0
    assert any(key.startswith("critic:") for key in tensors)


def test_spare_groups_and_stages_are_the_same_when_a_run_goes_on(tmp_path, tiny_folder):
    curriculum = "one: num_mines=1 success=0.5 until=1; three: num_mines=3 until=2"
    recipe = recipe_file(
        tmp_path, tiny_folder, rollout__spare_groups=3, train__iterations=3, train__trials_logged=4,
        train__curriculum=curriculum, train__save_every=1,
    )  # fmt: skip
    records, trials, _ = gone_on_after_two(recipe, tmp_path)
    assert [r["groups_played"] for r in records] == [5, 5, 5], "nobody wins: all that may be drawn"
    assert all(r["groups_flat_drawn"] == r["groups_flat"] == 2 for r in records)
    assert [r["stage"] for r in records] == [1, 2, 3]
    for name, mines in zip(sorted(trials), (1, 3, TINY["env.num_mines"]), strict=True):
        options = replace(default_options("minesweeper"), height=4, width=4, num_mines=mines)
        found = [json.loads(line) for line in gzip.decompress(trials[name]).splitlines()]
        env = make_env(options, len(found), split="train")
        env.reset(np.array([t["seed"] for t in found], np.uint64))
        assert env.tasks(np.arange(len(found))).tolist() == [t["task"] for t in found]
    state = json.loads((tmp_path / "run" / "checkpoints" / "000003" / "state.json").read_text())
    assert state["curriculum"] == {"stage": 2, "recent": [0.0]}
    assert state["best"] == {"iteration": 3, "score": 0.0}, "of the last stage"


@pytest.mark.parametrize("killed_after", [1, 3])  # before the first checkpoint, and between two
def test_killed_run_resumes_equal(tmp_path, tiny_folder, whole_run, killed_after):
    recipe = recipe_file(tmp_path, tiny_folder)
    process = start(recipe, tmp_path)
    wait_for_iterations(process, tmp_path / "run" / "metrics.jsonl", killed_after)
    process.kill()
    process.wait()
    assert num_lines(tmp_path / "run" / "metrics.jsonl") < TINY["train.iterations"]

    # what a crash in the middle of a write leaves behind
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"iteration": 9, "succ')
    (tmp_path / "run" / "trials" / "000005.jsonl.gz").write_bytes(b"\x1f\x8b half a file")
    (tmp_path / "run" / "checkpoints" / ".new-000005").mkdir(parents=True)

    assert train_main(recipe, tmp_path, "--name", "run") == 0
    assert outcome(tmp_path / "run") == outcome(whole_run)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_signal_finishes_the_iteration_and_saves(tmp_path, tiny_folder, whole_run, number):
    recipe = recipe_file(tmp_path, tiny_folder)
    process = start(recipe, tmp_path)
    wait_for_iterations(process, tmp_path / "run" / "metrics.jsonl", 1)
    process.send_signal(number)
    assert process.wait(timeout=120) == 0
    done = num_lines(tmp_path / "run" / "metrics.jsonl")
    assert (tmp_path / "run" / "checkpoints" / f"{done:06d}").is_dir()
    assert (tmp_path / "run" / "model" / "config.json").is_file()

    assert train_main(recipe, tmp_path, "--name", "run") == 0
    assert outcome(tmp_path / "run") == outcome(whole_run)


def start(recipe: Path, runs: Path, **options) -> subprocess.Popen:
    path = os.pathsep.join(p for p in sys.path if p)
    command = [
        sys.executable,
        "-m",
        "lamer_fast",
        "train",
        str(recipe),
        "--name",
        "run",
        "--runs",
        str(runs),
    ]
    options = {"stdout": subprocess.DEVNULL} | options
    return subprocess.Popen(command, env=os.environ | {"PYTHONPATH": path}, **options)


def wait_for_iterations(process: subprocess.Popen, metrics: Path, count: int) -> None:
    deadline = time.monotonic() + 240
    while num_lines(metrics) < count:
        assert process.poll() is None, "the run ended before it could be interrupted"
        assert time.monotonic() < deadline
        time.sleep(0.02)


def num_lines(path: Path) -> int:
    return path.read_text().count("\n") if path.is_file() else 0
