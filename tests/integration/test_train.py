"""Training end to end on a tiny random model: the shipped recipes, errors before work, what a run leaves."""

import gzip
import json
import math
import os
import subprocess
import sys

import pytest
import torch

from lamer_fast import read_trials
from lamer_fast.config import resolve as recipes
from lamer_fast.device import GIB, prepare_process
from lamer_fast.files import read_jsonl
from lamer_fast.run.state import build_state
from tests.integration.tiny_run import recipe_file, train_main

TO_TINY = [
    "--rollout.groups", "2", "--rollout.max-turns", "2", "--rollout.max-reply-tokens", "8",
    "--rollout.max-reflection-tokens", "8", "--rollout.cache-tokens", "0", "--learn.minibatches", "2",
    "--learn.optimizer", "adamw", "--learn.offload-optimizer", "none", "--eval.every", "0",
    "--train.iterations", "2", "--train.num-threads", "1", "--name", "run",
]  # fmt: skip

pytestmark = pytest.mark.long


def records(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").open()]


@pytest.mark.long
@pytest.mark.parametrize("game", ["minesweeper", "sokoban"])
@pytest.mark.parametrize("twin", ["", "-gigpo", "-released"])
def test_qwen3_4b_recipes_run_with_a_tiny_model(tmp_path, tiny_folder, game, twin):
    groups = "3" if twin == "-gigpo" else "2"
    overrides = [*TO_TINY, "--model.path", str(tiny_folder), "--rollout.trials-per-group", groups]
    assert train_main(f"{game}-qwen3-4b{twin}", tmp_path, *overrides) == 0
    first, second = records(tmp_path / "run")
    assert first["counters"]["updates"] == second["counters"]["updates"] == 2
    assert len(first["success_at"]) == (1 if twin == "-gigpo" else 3)
    assert first["tokens"]["trained"] == first["tokens"]["sampled"] > 0
    assert 0 < first["mismatch"]["mean"] <= first["mismatch"]["max"] < 0.5
    assert 0.9 < first["mismatch"]["ess"] <= 1


def check_token_values(run):
    """Of every recorded turn: what the update knew of it, token for token."""
    turns = [turn for trial in read_trials(run) for turn in trial["turns"]]
    for turn in turns:
        assert "".join(turn["token_texts"]).startswith(turn["reply"])
        for key in {"token_texts", "rollout_logprobs", "trainer_logprobs", "entropy"} & turn.keys():
            assert len(turn[key]) == len(turn["token_ids"]) > 0
        assert math.isfinite(turn["advantage"]) and math.isfinite(turn["return"])
        assert ("anchor" in turn) == (turn["phase"] == "play")
    pairs = [
        (ours, theirs)
        for turn in turns
        for ours, theirs in zip(turn.get("trainer_logprobs", ()), turn["rollout_logprobs"], strict=False)
        if ours is not None
    ]
    assert pairs and max(abs(ours - theirs) for ours, theirs in pairs) < 1e-4, "each with its own token's"
    known = [value for turn in turns for value in turn.get("entropy", ()) if value is not None]
    assert len(known) >= len(pairs) and all(value >= 0 for value in known)
    (start,) = read_jsonl(run / "starts.jsonl")
    assert start["iteration"] == 0 and start["versions"]["torch"] == torch.__version__
    assert 0 < start["card"]["total"] < start["card"]["available"] == 24 * GIB


@pytest.mark.long
def test_what_a_run_leaves_behind(tmp_path, tiny_folder):
    recipe = recipe_file(tmp_path, tiny_folder, eval__every=3, eval__tasks=8, model__dtype="float32")
    assert train_main(recipe, tmp_path, "--name", "run") == 0
    run = tmp_path / "run"
    assert [r["iteration"] for r in records(run)] == list(range(6))
    evaluated = {r["iteration"]: r["eval"] for r in records(run) if "eval" in r}
    assert list(evaluated) == [2, 5] and evaluated[5]["tasks"] == 8
    for name, means in (("success", "success_at"), ("independent", "independent")):
        low, high = (evaluated[5][f"{name}_{end}"] for end in ("low", "high"))
        assert all(a <= b <= c for a, b, c in zip(low, evaluated[5][means], high, strict=True))
    assert {p.name for p in (run / "checkpoints").iterdir()} <= {"000002", "000004", "000006"}
    assert len(list((run / "checkpoints").iterdir())) in (2, 3)  # the last two and the best
    assert list((run / "tensorboard").iterdir())
    config = json.loads((run / "config.json").read_text())
    assert config["env.num_mines"] == 2 and config["name"] == "run"
    with gzip.open(run / "trials" / "000005.jsonl.gz", "rt") as file:
        trial = json.loads(next(file))
    assert {"group", "trial", "task", "seed", "success_by_episode", "turns"} <= trial.keys()
    assert {"phase", "episode", "turn", "board", "reply", "reward", "valid"} <= trial["turns"][0].keys()
    rewards = {turn["reward"] for turn in trial["turns"]}
    assert rewards <= {-1.0, -0.1, 0.0, 0.5, 2.0, 10.0}, "written as meant, without the noise of float32"
    check_token_values(run)

    from transformers import AutoModelForCausalLM, AutoTokenizer

    model, tokenizer = (x.from_pretrained(run / "model") for x in (AutoModelForCausalLM, AutoTokenizer))
    assert model(torch.tensor([tokenizer("abc")["input_ids"]])).logits.isfinite().all()

    # the same run again has nothing to do; with another setting it is refused, and starts anew when told to
    assert train_main(recipe, tmp_path, "--name", "run") == 0
    assert len(records(run)) == 6
    other = recipe_file(tmp_path, tiny_folder, algo__gamma_traj=0.5, train__iterations=1)
    assert train_main(other, tmp_path, "--name", "run") == 2
    assert len(records(run)) == 6
    assert train_main(other, tmp_path, "--name", "run", "--overwrite") == 0
    assert len(records(run)) == 1


@pytest.mark.long
def test_options_of_the_update_run(tmp_path, tiny_folder):
    recipe = recipe_file(
        tmp_path, tiny_folder, train__iterations=1, algo__kl_coef=0.1, algo__importance_cap=2.0,
        algo__loss="gspo", algo__aggregation="sequence_mean", learn__epochs=2, learn__schedule="cosine",
        learn__max_microbatch_tokens=512, model__activation_checkpointing=True, model__dtype="float32",
    )  # fmt: skip
    assert train_main(recipe, tmp_path, "--name", "run") == 0
    (record,) = records(tmp_path / "run")
    assert record["counters"]["updates"] == 4 and record["kl"] > 0
    assert record["mismatch"]["max"] < 1e-3  # sampler and trainer both in float32


@pytest.mark.long
def test_ten_non_finite_updates_stop_the_run_with_a_checkpoint(tmp_path, tiny_folder, capsys):
    recipe = recipe_file(
        tmp_path, tiny_folder, train__max_skipped_updates=3, model__dtype="float32", learn__lr=0.9
    )
    # an entropy bonus beyond all measure overflows float32
    with pytest.raises(RuntimeError, match="3 updates in a row had a loss or gradient that was not finite"):
        train_main(recipe, tmp_path, "--name", "run", "--algo.entropy-coef", "3e38")
    assert list((tmp_path / "run" / "checkpoints").iterdir())
    assert len(list((tmp_path / "run" / "skipped").iterdir())) == 3


def test_errors_come_before_work(tmp_path, tiny_folder, capsys):
    recipe = str(recipe_file(tmp_path, tiny_folder))

    def error(*overrides: str) -> str:
        assert train_main(recipe, tmp_path / "runs", *overrides) == 2
        return capsys.readouterr().err

    assert "did you mean '--algo.gamma-step'" in error("--algo.gama-step", "1")
    assert f"model.path = '{tmp_path}/none'" in error("--model.path", f"{tmp_path}/none")
    assert "rollout.max_sequence_tokens = 60" in error(
        "--rollout.max-sequence-tokens", "60", "--rollout.max-reply-tokens", "50"
    )
    assert "is not the folder of a run" in _foreign_folder(tmp_path, error)
    assert not list((tmp_path / "runs").glob("*/metrics.jsonl"))


def _foreign_folder(tmp_path, error) -> str:
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    (tmp_path / "runs" / "mine" / "thesis.tex").write_text("")
    message = error("--name", "mine", "--overwrite")
    assert (tmp_path / "runs" / "mine" / "thesis.tex").exists()
    return message


def test_building_a_state_leaves_the_process_alone(tmp_path, tiny_folder):
    """Threads and environment are set by commands."""
    config = recipes.resolve(str(recipe_file(tmp_path, tiny_folder, train__num_threads=3)))
    before = torch.get_num_threads(), dict(os.environ)
    build_state(config)
    assert (torch.get_num_threads(), dict(os.environ)) == before
    try:
        prepare_process(config)
        assert torch.get_num_threads() == 3
    finally:
        torch.set_num_threads(before[0])


def test_dry_run_prints_settings_and_estimates(tmp_path, tiny_folder, capsys):
    recipe = recipe_file(tmp_path, tiny_folder)
    assert train_main(recipe, tmp_path, "--dry-run") == 0
    out = capsys.readouterr().out
    assert json.loads(out[: out.index("}") + 1])["env.num_mines"] == 2
    for word in ("parameters on cpu", "key-value cache", "optimizer state", "collect", "3 checkpoints of"):
        assert word in out
    assert not (tmp_path / "tiny").exists()
    assert train_main(recipe, tmp_path, "--dry-run", "--rollout.cache-tokens", "100_000_000_000") == 2
    assert "GiB; most of it: key-value cache" in capsys.readouterr().err


def test_command_line_answers_without_torch():
    program = (
        "import sys; from lamer_fast import cli; assert cli.main(['--help']) == 0; "
        "assert cli.main(['trian']) == 2; "
        "assert cli.main(['train', 'minesweeper-tiny', '--nonsense', '1']) == 2; "
        "print(sorted({'torch', 'transformers', 'vllm'} & set(sys.modules)))"
    )
    path = [p for p in sys.path if p]
    done = subprocess.run(
        [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}; {program}"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines()[-1] == "[]"
    assert "no command 'trian'" in done.stderr and "unknown flag '--nonsense'" in done.stderr
