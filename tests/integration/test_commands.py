"""eval, play, report, audit and doctor as a user calls them, on a tiny random model."""

import io
import json
import re
import shutil

import pytest

from lamer_fast import cli
from lamer_fast.cli import play
from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.doctor import command as doctor
from tests.page_commands import ROOT
from tests.planted import NeverRefreshes
from tests.tiny import tiny_model, tiny_tokenizer

pytestmark = pytest.mark.long
SMALL = [
    "--rollout.groups", "2", "--rollout.trials-per-group", "2", "--eval.episodes", "2",
    "--rollout.max-turns", "2", "--rollout.max-reply-tokens", "8", "--rollout.max-reflection-tokens", "8",
    "--rollout.max-sequence-tokens", "1024",
]  # fmt: skip


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    folder = tmp_path_factory.mktemp("model")
    tiny_model(head_dim=32).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return ["--model.path", str(folder)]


@pytest.fixture(scope="module")
def run_folder(model, tmp_path_factory):
    runs = tmp_path_factory.mktemp("runs")
    options = ["--train.iterations", "1", "--name", "r", "--runs", str(runs), "--train.trials-logged", "2"]
    options += ["--rollout.episodes", "2"]
    assert cli.main(["train", "minesweeper-tiny", *model, *SMALL, *options]) == 0
    return runs / "r"


def test_eval_of_a_recipe(model, capsys):
    assert cli.main(["eval", "minesweeper-tiny", "--split", "valid", "--tasks", "5", *model, *SMALL]) == 0
    out = capsys.readouterr().out
    assert "5 distinct boards of split 'valid'" in out and "independent attempts" in out


def test_eval_of_a_run_is_stored_and_reported(run_folder, capsys):
    assert cli.main(["eval", str(run_folder), "--split", "valid", "--tasks", "4", "--label", "after"]) == 0
    stored = json.loads((run_folder / "eval" / "after.json").read_text())
    assert stored["iteration"] == 1 and stored["evaluation"]["num_tasks"] == 4
    assert cli.main(["report", str(run_folder)]) == 0
    assert "after" in (run_folder / "report.html").read_text()
    assert capsys.readouterr().out.endswith("report.html\n")


def test_eval_on_harder_boards(run_folder, capsys):
    harder = ["--env.num-mines", "6"]
    assert cli.main(["eval", str(run_folder), "--split", "valid", "--tasks", "3", *harder]) == 0


def test_same_seed_same_evaluation(model, capsys):
    for _ in range(2):
        cli.main(
            ["eval", "minesweeper-tiny", "--split", "valid", "--tasks", "5", "--seed", "3", *model, *SMALL]
        )
    lines = capsys.readouterr().out.splitlines()
    said = "\n".join(line for line in lines if not line.endswith("attempts played"))  # on a slow machine
    first, second = said.split("5 distinct boards")[1:]
    assert first.strip() == second.strip()


def test_watch_a_trial(run_folder, capsys):
    assert cli.main(["play", str(run_folder), "--pause", "0"]) == 0
    out = capsys.readouterr().out
    assert "=== episode 1 ===" in out and "solved" in out


def test_play_it_yourself(monkeypatch, capsys):
    """Moves of the expert, typed in; its first episode may end on a guess."""
    import numpy as np

    from lamer_fast.envs import registry as environments

    made = []

    def make_env(*args, **options):
        made.append(environments.make_env(*args, **options))
        return made[-1]

    monkeypatch.setattr(play, "make_env", make_env)

    def expert(_):
        return made[0].expert_replies(np.zeros(1, np.int64), 0.0, np.zeros(1, np.uint64))[0]

    monkeypatch.setattr("builtins.input", expert)
    easy = ["--env.num-mines", "2"]
    assert cli.main(["play", "minesweeper-tiny", "--me", *easy]) == 0
    assert "solved in episode" in capsys.readouterr().out


def test_play_against_the_policy(run_folder, monkeypatch, capsys):
    monkeypatch.setattr("sys.stdin", io.StringIO(":hint\n"))
    assert cli.main(["play", str(run_folder), "--against"]) == 0
    out = capsys.readouterr().out
    assert "hint: " in out and "you: not solved (1 hint)" in out and "\npolicy: " in out


def test_wrong_arguments(model, run_folder, tmp_path, capsys):
    def error(*argv):
        assert cli.main([*argv]) == 2
        return capsys.readouterr().err

    assert "has a path in it" in error("eval", str(run_folder), "--label", "../x")
    assert "is a recipe" in error("eval", "minesweeper-tiny", "--label", "x")
    assert "did you mean 'minesweeper-tiny'" in error("eval", "minesweper-tiny")
    (tmp_path / "config.json").write_text("{}")
    for command in ("eval", "play"):
        assert f"{tmp_path} is not the folder of a run" in error(command, str(tmp_path))
    (tmp_path / "config.json").write_text(recipe.to_json(recipe.resolve("minesweeper-tiny")))
    assert "holds no trained model yet" in error("eval", str(tmp_path))


def without_vllm(monkeypatch):
    """What a machine without it sees; a vLLM that is here is checked by tests/vllm."""
    monkeypatch.setattr("lamer_fast.doctor.model.find_spec", lambda name: None)
    monkeypatch.setattr("lamer_fast.doctor.command.find_spec", lambda name: None)


LITTLE = ["--sequences", "1", "--tokens", "2"]
ONE_TURN = ["--rollout.episodes", "1", "--rollout.max-turns", "1"]


def test_audit_of_a_run_replays_its_trials(run_folder, capsys):
    assert cli.main(["audit", str(run_folder), "--json", *LITTLE]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["replayed"] == f"2 trials of {run_folder}" and found["ok"]
    assert found["kinds"].keys() == {
        "first token", "next tokens", "after a cached prefix", "after a weight transfer"
    }  # fmt: skip
    assert max(kind["max_gap"] for kind in found["kinds"].values()) < found["tolerance"]


def shapes(text):
    """Its lines without their numbers and the width of their columns."""
    return {" ".join(re.sub(r"\d\S*", "#", line).split()) for line in text.splitlines()}


def test_audit_of_a_recipe_plays_new_trials(model, capsys):
    assert cli.main(["audit", "minesweeper-tiny", *LITTLE, *model, *SMALL, *ONE_TURN]) == 0
    out = capsys.readouterr().out
    assert out.rstrip().endswith("sampler = trainer")
    assert shapes(out) - shapes((ROOT / "docs" / "audit.md").read_text()) == set(), "as the page shows it"


def test_audit_fails_where_a_weight_stays_behind(model, capsys, monkeypatch):
    def stale(config, policy):
        length = config.rollout.max_sequence_tokens
        return NeverRefreshes(policy.model, max_sequence_tokens=length, num_ids=policy.num_ids)

    monkeypatch.setattr("lamer_fast.audit.of_run.make_sampler", stale)
    assert cli.main(["audit", "minesweeper-tiny", *LITTLE, *model, *SMALL, *ONE_TURN]) == 1
    assert "FAIL  sampler, layer 0, values: stale weight" in capsys.readouterr().out


def test_audit_of_a_damaged_trial_file(run_folder, tmp_path, capsys):
    copied = shutil.copytree(run_folder, tmp_path / "copy")
    next((copied / "trials").glob("*.gz")).write_bytes(b"no gzip")
    assert cli.main(["audit", str(copied)]) == 2
    assert "is damaged" in capsys.readouterr().err


def test_doctor_passes_and_its_json(model, capsys, monkeypatch):
    without_vllm(monkeypatch)
    assert doctor.run(["minesweeper-tiny", "--json", *model, "--rollout.max-sequence-tokens", "2048"]) == 0
    result = json.loads(capsys.readouterr().out)
    status = {c["check"]: c["status"] for c in result["checks"]}
    assert result["ok"] and len(status) == 16
    assert {check for check, s in status.items() if s != "pass"} == {"vLLM = trainer"}
    assert status["vLLM = trainer"] == "skip", "what was not checked has not passed"
    page = (ROOT / "docs" / "first-hour.md").read_text()
    assert {name.strip(): s for s, name in re.findall(r"^(pass|skip)  (.{19}) ", page, re.M)} == status


def test_doctor_of_a_model_that_only_vllm_samples(tmp_path, capsys, monkeypatch):
    """Each check that needs its samples says why it is skipped; the others are made."""
    without_vllm(monkeypatch)
    tiny_model("olmo2").save_pretrained(tmp_path)
    tiny_tokenizer().save_pretrained(tmp_path)
    of_vllm = ["--model.path", str(tmp_path), "--model.dtype", "float32", "--rollout.sampler", "vllm"]
    size = ["--rollout.max-sequence-tokens", "2048"]
    assert doctor.run(["minesweeper-tiny", "--json", *of_vllm, *size]) == 1
    checks = {c["check"]: c for c in json.loads(capsys.readouterr().out)["checks"]}
    status = {name: check["status"] for name, check in checks.items()}
    skipped = {"packed = padded", "sampler = trainer", "audit", "lr = 0", "resume = no resume"}
    assert {name for name, s in status.items() if s == "skip"} == skipped
    assert {name for name, s in status.items() if s == "fail"} == {"vLLM = trainer"}
    assert "only vLLM samples from model type 'olmo2'" in checks["packed = padded"]["found"]
    assert "vLLM is not installed" in checks["vLLM = trainer"]["found"]
    assert doctor.run(["minesweeper-tiny", *of_vllm[:4], *size]) == 1, (
        "a recipe with another sampler is wrong"
    )
    assert "rollout.sampler = 'torch' cannot sample this model" in capsys.readouterr().out


def test_doctor_says_what_is_wrong(model, capsys, monkeypatch):
    def broken(config):
        raise doctor.Failed("gap 1.0 nats", "do this")

    without_vllm(monkeypatch)
    monkeypatch.setattr("lamer_fast.doctor.model.sampler_is_trainer", broken)
    size = ["--rollout.max-sequence-tokens", "2048"]
    assert doctor.run(["minesweeper-tiny", *model, *size]) == 1
    out = capsys.readouterr().out
    assert "FAIL  sampler = trainer   gap 1.0 nats" in out and "-> do this" in out
    assert "skip  vLLM = trainer      vLLM is not installed" in out
    assert out.splitlines()[-1].startswith("1 failed, 14 passed, 1 skipped in ")


def test_doctor_fails_where_the_recipe_needs_vllm_and_there_is_none(monkeypatch):
    from lamer_fast.doctor.model import vllm_is_trainer

    without_vllm(monkeypatch)
    result = doctor.examine_one("vLLM = trainer", lambda: vllm_is_trainer(Config(), True))
    assert result.status == "fail" and "lamer-fast[vllm]" in result.advice
