"""Small studies as files, and results that nobody has played."""

from lamer_fast.study.read import load
from lamer_fast.study.result import CellResult, Played

ONE_ARM = """
question = "Which?"
seeds = [0]
[parts.mines]
recipe = "minesweeper-tiny"
[arms.ours]
doc = "trials"
"""
SMALL = """
question = "Which?"
seeds = [0, 1]
[parts.mines]
recipe = "minesweeper-tiny"
[modes.notes]
eval.memory = "both"
[modes.history]
eval.memory = "history"
[arms.ours]
doc = "trials"
[arms.base]
trained = false
"""


def study(tmp_path, text=SMALL, name="small.toml"):
    (tmp_path / name).write_text(text)
    return load(str(tmp_path / name))


def result(cell, notes, history, attempts, valid=None):
    test = Played("panel of test", 3, {"notes": notes, "history": history, "attempts": attempts})
    chosen = test if valid is None else Played("panel of valid", 3, valid)
    return CellResult(
        "small", cell.part, cell.arm.name, cell.seed, cell.settings(), {"valid": chosen, "test": test},
        budget={"episodes": 10.0} if cell.arm.train else {},
    )  # fmt: skip


def here(folder, monkeypatch, text=ONE_ARM):
    """The study `small.toml` in the folder that commands work in."""
    monkeypatch.chdir(folder)
    return study(folder, text, "small.toml")
