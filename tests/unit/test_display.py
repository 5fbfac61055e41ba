"""The panel at every width and height of a terminal, and the lines where there is none."""

import io
import re
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from lamer_fast.run.display import Display, Progress, live_terminal
from lamer_fast.run.display_table import bar, evaluation, progress_line, training
from lamer_fast.run.record import Record

EVALUATED = {
    "iteration": 5, "tasks": 40, "success_at": [0.1, 0.25, 0.5], "success_low": [0.0, 0.14, 0.35],
    "success_high": [0.25, 0.4, 0.65], "independent": [0.1, 0.2, 0.3], "independent_low": [0.0, 0.1, 0.2],
    "independent_high": [0.2, 0.3, 0.4],
}  # fmt: skip
RECORD = {
    "iteration": 4, "success_at": [0.25, 0.4, 0.5], "return": 3.25, "entropy": 1.5, "advantage_abs": 0.5,
    "loss": 0.1, "clipped": 0.0, "kl": 0.0, "grad_norm": 1.0, "lr": 1e-3,
    "counters": {
        "turns": 9, "invalid": 1, "truncated": 0, "failed_trials": 0, "groups_dropped": 0, "updates": 2,
        "updates_empty": 0, "updates_skipped": 0,
    },
    "mismatch": {"mean": 1e-7, "max": 1e-6, "k3": 0.0, "ess": 1.0},
    "tokens": {"prompt": 100, "sampled": 50, "trained": 40},
    "seconds": {
        "sample": 2.0, "env": 0.0, "learn": 1.0, "sync": 1.0, "least_sample": 0.5, "least_learn": 0.4,
    },
}  # fmt: skip


def made(**changes):
    """The record of a line of metrics.jsonl."""
    return Record.from_json(RECORD | changes)


def make(records=None, name="run", iterations=60, **options):
    display = Display(name, iterations, live=False, **options)
    for record in [made()] if records is None else records:
        display._keep(record)
    return display


def words(record):
    return [column.words() for column in training(record)]


def test_numbers_have_units():
    shown = words(made())
    assert "success@2 40.0 %" in shown and "sampled 25 tokens/s" in shown and "trained 40 tokens/s" in shown
    assert "mismatch 1.0e-07 nats" in shown and "entropy 1.500 nats" in shown
    assert "sample/env/learn/sync 50/0/25/25 % of time" in shown and "sample/learn 25/40 % of limit" in shown
    assert "success@3 50.0 [35.0, 65.0] %" in [c.words() for c in evaluation(made(eval=EVALUATED).eval)]


def episodes(record, K):
    """The record of a run with K episodes."""
    return {key: (v * 4)[:K] if isinstance(v, list) else v for key, v in record.items()}


def cells(line):
    return re.split(r"  +", line.strip())


@pytest.mark.parametrize("K", [1, 2, 3, 12])
@pytest.mark.parametrize("evaluated", [False, True])
def test_every_width(K, evaluated):
    """No line is longer than the terminal, no number is cut, and success is always there."""
    record = made(**episodes(RECORD, K), **({"eval": episodes(EVALUATED, K)} if evaluated else {}))
    display = make([record])
    shown = [{column.value for column in training(record)}]
    shown += [{column.value for column in evaluation(record.eval)}] if evaluated else []
    for width in range(40, 201):
        lines = display.lines(width, 40)
        assert max(map(len, lines)) <= width
        rows = [cells(line) for line in lines if line.split()[:1] in (["4"], ["5"])]
        assert [set(row) <= values for row, values in zip(rows, shown, strict=True)] == [True] * len(shown)
        ends = [f"{100 * record.success_at[k]:.1f}" for k in (0, -1)]
        assert set(ends) <= set(rows[0]) and f"@{K} %" in " ".join(lines)
    assert [set(row) for row in rows][:1] == shown[:1] or K == 12, "200 columns hold all of them"
    if evaluated:
        assert any(cell.startswith("|") for cell in rows[1]), "and a drawing of the interval"


wide = st.floats(-1e38, 1e38)


@given(st.integers(0, 10**9), wide, wide, st.floats(0, 1e9), st.integers(0, 10**12))
def test_numbers_of_any_size_are_whole_at_40_columns(iteration, returns, entropy, mismatch, tokens):
    changes = {"iteration": iteration, "return": returns, "entropy": entropy}
    changes["mismatch"] = RECORD["mismatch"] | {"mean": mismatch}
    record = made(**changes, tokens={"prompt": 0, "sampled": tokens, "trained": tokens})
    lines = make([record]).lines(40, 24)
    assert max(map(len, lines)) <= 40
    assert set(cells(lines[-1])) <= {column.value for column in training(record)}


@pytest.mark.parametrize("height", range(6, 60))
def test_the_newest_rows_fit_the_height(height):
    records = [made(iteration=i, **({"eval": EVALUATED} if i % 2 else {})) for i in range(40)]
    for some in (records, [r for r in records if r.eval is None]):
        lines = make(some).lines(80, height)
        newest = str(some[-1].iteration)
        assert any(line.split()[:1] == [newest] for line in lines)
        assert len(lines) < height


def test_a_low_terminal_shows_iterations_before_evaluations():
    lines = make([made(eval=EVALUATED)]).lines(20, 10)
    assert not any("held-out" in line for line in lines) and lines[-1].split()[0] == "4"


def test_rich_draws_the_panel(monkeypatch):
    console = Console(width=80, height=24, record=True, file=io.StringIO())
    console.print(make())
    assert console.export_text().splitlines() == make().lines(80, 24)


def test_the_policy_before_training_is_iteration_0(capsys):
    record = made(iteration=0, eval_before=EVALUATED | {"iteration": 0}, eval=EVALUATED)
    rows = [line.split()[0] for line in make([record]).lines(80, 24)[-2:]]
    assert rows == ["0", "5"]
    older = {key: value for key, value in EVALUATED.items() if key != "iteration"}
    (found,) = made(eval=older).evaluations
    assert found.iteration == 5, "of the policy after iteration 4"


def test_bar():
    assert bar(0.0, 0.0, 0.49) == "|o-----------............|"
    assert bar(0.9, 1.0, 1.0) == "|.....................--o|"


def test_the_time_left_is_not_computed_from_the_first_iterations():
    now = [0.0]
    display = make([], clock=lambda: now[0])
    for iteration, seconds in enumerate((600, 90, 2, 4, 3)):  # the first two compile
        now[0] += seconds
        display.update(made(iteration=iteration))
        if iteration < 3:
            assert display.time_left() is None and "left" not in " ".join(display.lines(80, 24))
    assert display.time_left() == 3 * 55
    assert "2 min 45 s left" in " ".join(display.lines(80, 24))


def test_the_time_left_runs_down_within_an_iteration_and_waits_for_a_long_one():
    now = [0.0]
    display = make([], iterations=10, clock=lambda: now[0])
    for iteration in range(4):
        now[0] += 6
        display.update(made(iteration=iteration))
    assert display.time_left() == 36
    now[0] += 4
    assert display.time_left() == 32
    now[0] += 60
    assert display.time_left() == 30, "the five that follow"


@pytest.mark.parametrize("tokens", [None, 7, 10**9])
def test_what_a_long_iteration_is_at_fits_every_width(tokens):
    display = make([made(eval=EVALUATED)])
    with display.phase("sample"):
        for width in range(40, 201):
            display.advance(40, 128, "trials", tokens)
            lines = display.lines(width, 40)
            (line,) = [line for line in lines if "40 of 128 trials" in line]
            assert max(map(len, lines)) <= width and "sample" in "\n".join(lines)
            assert width < 80 or (tokens is None) or f"{tokens:,} tokens" in line
            filled, empty = line.count("#"), line.count(".")
            assert filled == (filled + empty) * 40 // 128 and (width < 60 or filled)
    assert not any("trials" in line for line in display.lines(80, 40)), "gone with its phase"


@pytest.mark.parametrize(("done", "total", "shown"), [(0, 5, "[....]"), (5, 5, "[####]"), (0, 0, "[....]")])
def test_the_ends_of_a_bar(done, total, shown):
    words = f"{done} of {total} updates"
    assert progress_line(done, total, "updates", None, width=len(words) + 8) == f"{shown}  {words}"
    assert progress_line(done, total, "updates", None, width=len(words) + 7) == words, (
        "too short to say anything"
    )


def test_a_long_iteration_speaks_up_where_nothing_is_drawn(capsys):
    now = [0.0]
    display = make([], clock=lambda: now[0])
    with display.phase("sample"):
        for done in range(100):
            now[0] += 1
            display.advance(done, 128, "trials", 10 * done)
    said = capsys.readouterr().out.splitlines()
    assert len(said) == 3 and re.match(
        r"\d{4}-\S+ \d\d:\d\d:\d\d  iteration 0  sample  29 of 128 trials  290 tokens$", said[0]
    )


def test_progress_stays_on_its_line(monkeypatch, capsys):
    monkeypatch.setenv("COLUMNS", "40")
    progress = Progress("trials and attempts played of " + "x" * 100)
    progress.live = True
    for done in range(1001):
        progress(done, 1000)
    drawn = capsys.readouterr().out.split("\r")[1:]
    assert drawn[-1].startswith("1000/1000") and drawn[-1].endswith("\n") and len(drawn) < 100
    assert max(len(line.rstrip("\n")) for line in drawn) < 40


def test_a_run_that_goes_on_shows_what_was(capsys):
    display = make([], earlier=[made(eval=EVALUATED)])
    assert "35.0, 65.0" in " ".join(display.lines(80, 24))
    assert display.time_left() is None and capsys.readouterr().out == ""


def test_the_time_left_of_a_run_that_goes_on_counts_what_this_process_made():
    now = [0.0]
    earlier = [made(iteration=i) for i in range(900)]
    display = make([], iterations=1000, earlier=earlier, clock=lambda: now[0])
    for iteration in range(900, 905):
        now[0] += 6
        display.update(made(iteration=iteration))
    assert display.time_left() == 6 * 95


def test_plain_lines_have_the_time_of_day(capsys):
    with Display("run", 6, live=False) as display, display.phase("sample"):
        display.update(made(eval=EVALUATED))
    training, held_out = capsys.readouterr().out.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d  iteration 4  success@1 25.0 %  ", training)
    assert "held-out boards  iteration 5  success@1 10.0 [0.0, 25.0] %" in held_out
    assert not re.search(r"[^ -~]", training + held_out), "plain ASCII"


@pytest.mark.parametrize(
    ("environment", "is_tty", "live"),
    [
        ({"TERM": "xterm-256color"}, True, True),
        ({"TERM": "xterm-256color"}, False, False),
        ({"TERM": "xterm-256color", "NO_COLOR": "1"}, True, False),
        ({"TERM": "xterm-256color", "NO_COLOR": ""}, True, True),  # no-color.org: an empty value asks nothing
        ({"TERM": "dumb"}, True, False),
        ({}, True, False),
    ],
)
def test_where_the_panel_is_live(environment, is_tty, live, monkeypatch):
    for name in ("TERM", "NO_COLOR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys.stdout, "isatty", lambda: is_tty, raising=False)
    assert live_terminal() == live


def test_a_hostile_name_stays_on_its_line():
    lines = make(name="a\x1b[2J\n" + "b" * 1000).lines(80, 24)
    assert "\x1b" not in " ".join(lines) and max(map(len, lines)) <= 80
