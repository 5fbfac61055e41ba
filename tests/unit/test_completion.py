"""The script for bash, run by bash; that of fish names the same flags."""

import shutil
import subprocess

import pytest

from lamer_fast import cli
from lamer_fast.cli.train import COMMAND


def script(shell, capsys):
    assert cli.main(["completion", shell]) == 0
    return capsys.readouterr().out


def completed(text, *words):
    """What bash offers for the last of the words."""
    given = " ".join(f"'{word}'" for word in words)
    program = f"{text}\nCOMP_WORDS=({given}); COMP_CWORD={len(words) - 1}; _lamer_fast"
    program += '; printf "%s\\n" "${COMPREPLY[@]}"'
    done = subprocess.run(["bash", "-c", program], capture_output=True, text=True)
    assert done.returncode == 0 and not done.stderr, done.stderr
    return done.stdout.split()


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_bash_completes_commands_flags_choices_and_recipes(capsys):
    text = script("bash", capsys)
    assert completed(text, "lamer-fast", "") == list(cli.COMMANDS)
    assert completed(text, "lamer-fast", "ru") == ["runs"]
    assert completed(text, "lamer-fast", "train", "--learn.max-g") == ["--learn.max-grad-norm"]
    assert completed(text, "lamer-fast", "train", "x", "--rollout.sampler", "v") == ["vllm"]
    assert completed(text, "lamer-fast", "eval", "x", "--split", "") == ["valid", "test"]
    assert "minesweeper-tiny" in completed(text, "lamer-fast", "train", "minesweeper-t")
    assert completed(text, "lamer-fast", "train", "--env.num-mi") == ["--env.num-mines"]
    assert completed(text, "lamer-fast", "completion", "z") == ["zsh"]
    assert completed(text, "lamer-fast", "study", "hidd") == ["hidden"]
    assert completed(text, "lamer-fast", "bench", "he") == ["head"]
    assert "sokoban" in completed(text, "lamer-fast", "envs", "so")
    assert completed(text, "lamer-fast", "warmstart", "sokoban-tiny-b") == ["sokoban-tiny-base"]
    assert completed(text, "lamer-fast", "nothing", "--x") == []


def test_every_flag_of_the_help_is_in_each_script(capsys):
    flags = [line.split()[0] for line in COMMAND.help().splitlines() if line.startswith("  --")]
    scripts = {shell: script(shell, capsys) for shell in ("bash", "zsh", "fish")}
    for flag in flags:
        assert (
            all(flag in scripts[shell] for shell in ("bash", "zsh")) and f" -l {flag[2:]}" in scripts["fish"]
        )
    assert "bashcompinit" in scripts["zsh"]


def test_an_unknown_shell_is_refused(capsys):
    assert cli.main(["completion", "csh"]) == 2
    assert "no script for 'csh'; there are: bash, zsh, fish" in capsys.readouterr().err
