import io

from lamer_fast.display import Display, cells, duration, printable

RECORD = {
    "iteration": 4,
    "success_at": [0.25, 0.5],
    "return": 3.25,
    "entropy": 1.5,
    "mismatch": {"mean": 1e-7, "max": 1e-6, "k3": 0.0, "ess": 1.0},
    "tokens": {"prompt": 100, "sampled": 50, "trained": 40},
    "seconds": {"sample": 2.0, "env": 0.0, "learn": 1.0, "sync": 1.0},
}


def test_cells_are_rates_and_shares():
    row = cells(RECORD)
    assert row["success@2"] == "0.500" and row["tokens/s"] == "25" and row["trained/s"] == "40"
    assert row["sample/env/learn/sync"] == "50/0/25/25 %" and "of limit" not in row
    limited = RECORD | {"seconds": RECORD["seconds"] | {"least_sample": 0.5, "least_learn": 0.4}}
    assert cells(limited)["of limit"] == "25/40 %"


def test_plain_lines_when_not_a_terminal(capsys):
    with Display("run", 6, terminal=False) as display, display.phase("sample"):
        display.update(RECORD)
    out = capsys.readouterr().out
    assert out.startswith("iteration 4  success@1 0.250") and out.count("\n") == 1


def test_live_table_renders():
    display = Display("run", 6, terminal=True)
    display.update(RECORD)
    from rich.console import Console

    console = Console(width=160, record=True, file=io.StringIO())
    console.print(display.render())
    assert "iteration 5/6" in console.export_text()


def test_duration():
    assert [duration(s) for s in (3, 245, 7800)] == ["3 s", "4 min 05 s", "2 h 10 min"]


def test_printable_strips_terminal_control():
    assert printable("a\x1b[31mb\x07\n\x9bc") == "a[31mb\nc"
