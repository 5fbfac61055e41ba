"""Numbers as people read them, and text of models and environments that cannot touch a terminal."""

import math
import os
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lamer_fast import cli
from lamer_fast.cli import play, play_yourself
from lamer_fast.config import Config
from lamer_fast.doctor.command import examine_one, line
from lamer_fast.envs.toy import NumberHunt
from lamer_fast.text import duration, interval, number, one_line, printable, shortest

HOSTILE = {  # input -> what is left of it
    "colour": ("a\x1b[31;1mb\x1b[0m", "ab"),
    "eight-bit colour": ("a\x9b31mb", "ab"),
    "clear the screen": ("a\x1b[2J\x1b[Hb", "ab"),
    "alternate screen": ("a\x1b[?1049hb", "ab"),
    "window title": ("a\x1b]0;rm -rf\x07b", "ab"),
    "link": ("\x1b]8;;http://evil\x1b\\a\x1b]8;;\x1b\\b", "ab"),
    "clipboard": ("a\x1b]52;c;cm0gLXJm\x1b\\b", "ab"),
    "a title without an end": ("a\x1b]0;b", "a0;b"),
    "reset": ("a\x1bcb", "ab"),
    "character set": ("a\x1b(0b", "ab"),
    "an escape at the end": ("ab\x1b", "ab"),
    "overwriting by return": ("good\rb", "goodb"),
    "overwriting by backspace": ("good\x08\x08b", "goodb"),
    "Windows newlines": ("a\r\nb", "a\nb"),
    "NUL": ("a\0b", "ab"),
    "bell": ("a\x07b", "ab"),
    "delete": ("a\x7fb", "ab"),
    "tab": ("a\tb", "a    b"),
    "right to left": ("a\u202eb\u202c\u2066c\u2069\u200f\u061cd", "abcd"),
    "invisible": ("a\u200b\u200c\u2060\ufeff\u00adb", "ab"),
    "tags": ("a\U000e0041\U000e007fb", "ab"),
    "line and paragraph separators": ("a\u2028b\u2029c", "a\nb\nc"),
    "half a surrogate pair": ("a\ud800b", "ab"),
    "no-break spaces": ("a\xa0b\u3000c", "a b c"),
    "greek, chinese, arabic, emoji": ("λ 你好 سلام 🙂", "λ 你好 سلام 🙂"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_printable(name):
    text, left = HOSTILE[name]
    assert printable(text) == left
    assert printable(left) == left


@given(st.text(st.characters(categories=["Cc", "Cf", "Cs", "Co", "Zl", "Zp", "L", "N"]), max_size=60))
def test_nothing_but_newlines_and_printable_characters_is_left(text):
    left = printable(text)
    left.encode("utf-8")
    assert all(c == "\n" or unicodedata.category(c)[0] != "C" for c in left)


def test_a_megabyte_is_shortened_and_counted():
    shown = printable("x" * 1_000_000, 1000)
    assert shown == "x" * 1000 + " ... (999,000 more characters)"
    assert printable("x" * 1000, 1000) == "x" * 1000
    assert printable("\x9b" * 1_000_000) == "" and printable("\x1b]" * 1_000_000) == ""


def test_one_line():
    assert one_line("a\n\n  b\x1b[1m\tc ") == "a b c"


def test_duration():
    assert [duration(s) for s in (3, 245, 7800)] == ["3 s", "4 min 05 s", "2 h 10 min"]


@given(st.floats(-1e300, 1e300) | st.sampled_from([math.inf, -math.inf, math.nan]), st.integers(0, 2))
def test_a_number_is_short_and_near(value, decimals):
    text = number(value, decimals)
    assert len(text) <= 11
    if math.isfinite(value):
        assert math.isclose(
            float(text.replace(",", "")), value, rel_tol=0.051, abs_tol=0.51 * 10.0**-decimals
        )


def test_numbers():
    assert [number(x) for x in (3.25, -0.004, 123456.5, 2e6)] == ["3.25", "-4.0e-03", "123,456.50", "2.0e+06"]
    assert interval(0.767, 0.731, 0.8) == "76.7 [73.1, 80.0]" and interval(0.5) == "50.0"


@given(st.integers(-1000, 1000), st.sampled_from([1, 10, 100, 1000]))
def test_a_float32_is_written_as_the_number_that_was_meant(numerator, denominator):
    meant = numerator / denominator
    assert shortest(np.float32(meant)) == meant


EVIL = "\n".join(text for text, _ in HOSTILE.values()) + "x" * 1_000_000


def watching(monkeypatch):
    turn = {"episode": 0, "board": EVIL, "reply": EVIL, "done": True, "success": False}
    turns = [turn | {"phase": "play"}, turn | {"phase": "reflect", "episode": 1}]
    play.show({"turns": turns, "success_by_episode": [False]})


class Hostile(NumberHunt):
    def observe(self, env_idx):
        return [EVIL] * len(env_idx)

    def task_texts(self, env_idx):
        return [EVIL] * len(env_idx)

    def task_prompt(self):
        return EVIL


def playing(monkeypatch):
    game = play_yourself.Game(Hostile(1, highest=1), Config(), np.zeros(1, np.uint64))
    play_yourself.play(game, lambda prompt: "1")


def failing():
    raise ValueError(EVIL)


def doctor(monkeypatch):
    print(line(examine_one("a check", failing)))


def command(monkeypatch):
    monkeypatch.setattr("lamer_fast.cli.eval.run", lambda argv: failing())
    cli.main(["eval", "x"])


@pytest.mark.parametrize("door", [watching, playing, doctor, command])
def test_no_door_to_the_terminal_lets_hostile_text_through(door, monkeypatch, capsys):
    door(monkeypatch)
    shown = "".join(capsys.readouterr())
    assert "λ 你好 سلام 🙂" in shown and len(shown) < 5 * play_yourself.MAX_TEXT
    assert all(c == "\n" or c.isprintable() for c in shown)


def test_a_terminal_of_few_letters_is_no_reason_to_stop():
    code = "from lamer_fast import cli; cli.main([]); print('λ')"
    environment = os.environ | {"PYTHONIOENCODING": "ascii"}
    out = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
    assert out.returncode == 0 and out.stdout.endswith("\\u03bb\n"), out.stderr
