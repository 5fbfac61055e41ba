"""The command line: every setting is in the help, flags stand anywhere, a wrong one is told in a line."""

import os
import subprocess
import sys
from functools import partial
from importlib import import_module

import pytest

import lamer_fast
from lamer_fast import cli
from lamer_fast.cli.train import COMMAND, run
from lamer_fast.config import Config
from lamer_fast.envs.registry import option_classes
from lamer_fast.fields import docs_of, settings_of
from tests.unit.report_run import write_run

MODULES = {name: import_module(module) for name, (module, _) in cli.COMMANDS.items()}


def python_m(*arguments):
    return subprocess.run(
        [sys.executable, "-m", *arguments],
        capture_output=True,
        text=True,
        env={"PYTHONPATH": ":".join(sys.path)},
    )


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["runs"], ["report", "runs/toy"]], ids=" ".join)
def test_output_without_a_reader_is_no_failure_of_the_command(words, tmp_path):
    """Closed by whoever read it, `| head`, or from the beginning, `>&-`."""
    write_run(tmp_path / "runs" / "toy")
    command = [sys.executable, "-m", "lamer_fast", *words]
    run = partial(
        subprocess.run, stderr=subprocess.PIPE, cwd=tmp_path, env={"PYTHONPATH": ":".join(sys.path)}
    )
    read, write = os.pipe()
    os.close(read)
    left = run(command, stdout=write)
    os.close(write)
    assert (left.returncode, left.stderr) == (1, b"")
    closed = run(["sh", "-c", 'exec "$@" >&-', "sh", *command])
    assert (closed.returncode, closed.stderr) == (0, b"")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_every_command_names_a_module_that_runs(name):
    assert callable(MODULES[name].run)
    assert MODULES[name].COMMAND.name == name


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_has_every_flag_with_its_doc(name, capsys):
    with pytest.raises(SystemExit) as left:
        cli.main([name, "--help"])
    out = capsys.readouterr().out
    words = " ".join(out.split())
    assert left.value.code == 0 and f"usage: lamer-fast {name}" in out
    command = MODULES[name].COMMAND
    for cls in filter(None, (command.options, command.settings)):
        for key, doc in docs_of(cls).items():
            if not {key, key.partition(".")[0]} & command.unused.keys():
                assert f"  --{key.replace('_', '-')}" in out
                assert doc and " ".join(doc.split()) in words
    if command.settings is Config:
        for game, options in option_classes().items():
            assert f"settings: env, of {game}" in out
            assert all(f"  --env.{key.replace('_', '-')}" in out for key in settings_of(options))


def test_help_says_type_range_and_default():
    lines = COMMAND.help().splitlines()
    for expected in (
        "  --dry-run",
        "  --runs path  (default runs)",
        "settings: rollout",
        "  --rollout.sampler {torch,vllm}  (default torch)",
        "  --rollout.reflect bool  (default true)",
        "  --algo.gamma-step float  (in [0, 1]; default 0.95)",
        "  --rollout.groups int  (at least 1; default 16)",
        "  --algo.scale {none,std}",
    ):
        assert expected in lines


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_comes_at_once_and_without_torch(name):
    program = (
        "import sys, time; from lamer_fast import cli\n"
        f"try: cli.main([{name!r}, '--help'])\n"
        "except SystemExit: print({'torch', 'transformers', 'vllm'} & set(sys.modules), time.process_time())"
    )
    done = subprocess.run([sys.executable, "-c", f"import sys; sys.path[:0] = {sys.path!r}; {program}"],
                          capture_output=True, text=True)  # fmt: skip
    loaded, seconds = done.stdout.splitlines()[-1].split()
    assert loaded == "set()" and float(seconds) < 1, done.stderr


def test_version_and_python_m():
    for arguments in (["--version"], ["-V"]):
        assert python_m("lamer_fast", *arguments).stdout == f"lamer-fast {lamer_fast.__version__}\n"
    done = python_m("lamer_fast", "train", "minesweper-tiny")
    assert done.returncode == 2 and "did you mean 'minesweeper-tiny'" in done.stderr


def test_flags_stand_before_and_behind_with_dashes_or_underscores():
    expected = COMMAND.parse(["r", "--learn.max-grad-norm", "2", "--runs", "x", "--dry-run"])
    assert expected[0] == "r" and expected[1].dry_run and str(expected[1].runs) == "x"
    assert expected[2] == ["--learn.max_grad_norm=2"]
    for argv in (
        ["--dry-run", "r", "--runs=x", "--learn.max_grad_norm=2"],
        ["--learn.max-grad-norm=2", "--dry_run", "--runs", "x", "r"],
        ["--runs", "x", "--dry-run", "--learn.max_grad_norm", "2", "r"],
    ):
        assert COMMAND.parse(argv) == expected


@pytest.mark.parametrize(
    ("argv", "message"),
    [
        (["train", "r", "--learn.lrr", "1"], "unknown flag '--learn.lrr', did you mean '--learn.lr'?"),
        (["train", "r", "--gamma-step", "1"], "did you mean '--algo.gamma-step'?"),
        (["train", "r", "--dry-rn"], "did you mean '--dry-run'?"),
        (["train", "r", "-n", "3"], "unknown flag '-n'"),
        (["train", "r", "--learn.lr"], "--learn.lr has no value"),
        (["train", "r", "--name", "--dry-run"], "--name has no value"),
        (["train", "--learn.lr", "r"], "learn.lr = 'r', must be float"),
        (["train", "--dry-run"], "RECIPE is missing"),
        (["train", "a", "b"], "'a' and 'b': expected one RECIPE"),
        (
            ["train", "minesweeper-tiny", "--rollout.temperature", "-inf"],
            "rollout.temperature = -inf, must be",
        ),
        (["eval", "minesweeper-tiny", "--taks", "3"], "unknown flag '--taks', did you mean '--tasks'?"),
        (["eval", "minesweeper-tiny", "--tasks", "many"], "--tasks = 'many', must be int"),
        (["eval", "minesweeper-tiny", "--tasks", "1"], "--tasks = 1, must be in [2, 1000000]"),
        (["eval", "minesweeper-tiny", "--split", "train"], "--split = 'train', must be one of: valid, test"),
        (
            ["train", "minesweeper-tiny", "--rollout.top-p", "0.9"],
            "--rollout.top-p: rollout.top_p is now eval.top_p",
        ),
        (["eval", "minesweeper-tiny", "--rollout.temperature", "0.7"], "take --eval.temperature"),
        (
            ["play", "minesweeper-tiny", "--algo.loss", "clip"],
            "has no effect on lamer-fast play: it belongs to training",
        ),
        (
            ["eval", "minesweeper-tiny", "--eval.temperature", "-3"],
            "eval.temperature = -3.0, must be in [0, 100]",
        ),
        (["play", "minesweeper-tiny", "--eval.top-p", "nan"], "eval.top_p = nan, must be a finite number"),
        (["eval", "minesweeper-tiny", "--train.iterations", "3"], "it belongs to training"),
        (
            ["eval", "minesweeper-tiny", "--eval.memory", "reflection"],
            "contradicts rollout.memory = 'reflection'",
        ),
        (["play", "minesweeper-tiny", "--bord", "3"], "did you mean '--board'?"),
        (["play", "minesweeper-tiny", "--board", "-1"], "--board = -1, must be in [0, "),
        (["play", "minesweeper-tiny", "--pause", "nan"], "--pause = nan, must be a finite number"),
        (["doctor", "--jsn"], "did you mean '--json'?"),
        (["warmstart", "minesweeper-tiny-base"], "--out is missing"),
        (["report"], "RUN is missing"),
        (["demo", "minesweper"], "no recipe 'minesweper', did you mean 'minesweeper-tiny'?"),
        (["demo", "--train.processes", "2"], "has no effect on lamer-fast demo: it runs in one process"),
        (["trian"], "no command 'trian', did you mean 'train'?"),
    ],
)
def test_a_wrong_line_is_told_in_one(argv, message, capsys):
    assert cli.main(argv) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert message in line


def test_a_run_that_is_not_there_is_told_as_one(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "runs" / "mine").mkdir(parents=True)
    for command in ("eval", "play"):
        assert cli.main([command, "runs/mien"]) == 2
        assert "no run folder 'runs/mien', did you mean 'runs/mine'?" in capsys.readouterr().err


def test_a_run_in_the_place_of_its_recipe_is_told(tmp_path, capsys):
    (tmp_path / "config.json").write_text("{}")
    assert cli.main(["train", str(tmp_path)]) == 2
    assert (
        "is the folder of a run or a model; a run goes on by the command that began it"
        in capsys.readouterr().err
    )


def test_a_folder_of_a_recipes_name_wins_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "minesweeper-tiny").mkdir()
    assert cli.main(["eval", "minesweeper-tiny"]) == 2
    out, error = capsys.readouterr()
    assert "the run folder here, not the recipe" in out and "is not the folder of a run" in error


def test_own_flags_are_documented():
    for module in MODULES.values():
        command = module.COMMAND
        assert docs_of(command.options).keys() == settings_of(command.options).keys()


def test_train_asks_for_its_recipe():
    with pytest.raises(ValueError, match="RECIPE is missing"):
        run([])
