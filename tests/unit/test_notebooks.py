"""The notebooks of examples/notebooks: their cells as a script, and as notebooks where Jupyter is."""

import json
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from lamer_fast.run import notebook
from lamer_fast.run.display import Display

ROOT = Path(__file__).parents[2]
NOTEBOOKS = sorted((ROOT / "examples" / "notebooks").glob("*.ipynb"))


def cells(path):
    return [cell for cell in json.loads(path.read_text())["cells"] if cell["cell_type"] == "code"]


def test_there_are_some_without_outputs():
    assert [path.stem for path in NOTEBOOKS] == ["kernels", "train"]
    for path in NOTEBOOKS:
        assert all(cell["outputs"] == [] and cell["execution_count"] is None for cell in cells(path))


@pytest.mark.long
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_cells_run_as_a_script(path, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    names = {"__name__": "__main__"}
    for cell in cells(path):
        missing = [tag for tag in cell["metadata"].get("tags", []) if find_spec(tag) is None]
        if not missing:
            exec(compile("".join(cell["source"]), path.name, "exec"), names)
    out = capsys.readouterr().out
    if path.stem == "train":
        assert "iteration 1: success@k = " in out and "--- note: " in out and "note: return" in out
    else:
        assert "largest difference of a gradient" in out


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_jupyter_runs_them(path, tmp_path, monkeypatch):
    for package in ("nbformat", "nbclient", "ipykernel", "matplotlib"):
        pytest.importorskip(package, reason=f"{package} is not installed")
    import nbformat
    from nbclient import NotebookClient

    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    monkeypatch.setenv("MPLBACKEND", "module://matplotlib_inline.backend_inline")
    opened = nbformat.read(path, as_version=4)
    NotebookClient(opened, timeout=300, resources={"metadata": {"path": str(tmp_path)}}).execute()
    outputs = [output for cell in opened.cells for output in cell.get("outputs", [])]
    assert outputs and not any(output.output_type == "error" for output in outputs)
    if path.stem == "train":
        tables = [o for o in outputs if o.output_type == "display_data" and "notebook" in str(o.data)]
        (table,) = [o.data["text/plain"] for o in tables if "iterations" in o.data["text/plain"]]
        assert "2 of 2 iterations" in table and "success" in table, "one table, drawn over"
        assert any("image/png" in output.get("data", {}) for output in outputs), "the plot"


class Handle:
    """What IPython's display gives: it keeps what was drawn last."""

    def __init__(self):
        self.shown = []

    def update(self, content, raw):
        self.shown.append(content["text/plain"])


def test_a_table_in_a_notebook_is_drawn_over(monkeypatch, capsys):
    handle = Handle()

    class Shell:
        kernel = object()

    class IPython:
        @staticmethod
        def get_ipython():
            return Shell()

    class Front:
        @staticmethod
        def display(content, raw, display_id):
            handle.update(content, raw)
            return handle

    monkeypatch.setitem(sys.modules, "IPython", IPython)
    monkeypatch.setitem(sys.modules, "IPython.display", Front)
    assert notebook.in_notebook()
    monkeypatch.setattr(notebook, "EVERY_S", 0.0)
    with Display("mine", 5) as display, display.phase("sample"):
        display.trials(3, 8, 100)
        assert "0 of 5 iterations" in handle.shown[0] and "3 of 8 trials" in handle.shown[-1]
    assert capsys.readouterr().out == "", "no lines beside the table"


def test_elsewhere_there_is_none(monkeypatch):
    monkeypatch.delitem(sys.modules, "IPython", raising=False)
    assert not notebook.in_notebook() and Display("mine", 5).live is None
