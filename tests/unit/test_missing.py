"""A package that is not installed is told with the extra that brings it; other faults keep their trace."""

import importlib.abc
import sys

import pytest

from lamer_fast import cli
from lamer_fast.cli.missing import how_to_install


class Absent(importlib.abc.MetaPathFinder):
    """An installation without one package."""

    def __init__(self, name):
        self.name = name

    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == self.name:
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
        return None


@pytest.fixture
def absent(monkeypatch):
    def take_away(name):
        for module in [m for m in sys.modules if m.partition(".")[0] == name]:
            monkeypatch.delitem(sys.modules, module)
        monkeypatch.setattr(sys, "meta_path", [Absent(name), *sys.meta_path])

    return take_away


def test_the_extra_that_brings_a_package():
    assert how_to_install("torch.nn") == "torch.nn is not installed: pip install 'lamer-fast[train]'"
    told = how_to_install("lamer_kernels.credit")
    assert "pip install --force-reinstall --no-deps ./kernels (or the wheel of lamer-kernels)" in told
    assert "lamer-fast[gym]" in how_to_install("gymnasium")
    assert how_to_install("lamer_fast.nothing") == how_to_install(None) == ""


def test_a_command_tells_it_in_one_line(absent, monkeypatch, capsys):
    absent("rich")
    monkeypatch.setitem(cli.COMMANDS, "draw", (__name__, ""))
    assert cli.main(["draw"]) == 2
    assert (
        capsys.readouterr().err == "lamer-fast draw: rich is not installed: pip install 'lamer-fast[train]'\n"
    )


def test_what_no_extra_brings_keeps_its_traceback(absent, monkeypatch):
    absent("colorsys")
    monkeypatch.setitem(cli.COMMANDS, "paint", ("colorsys", ""))
    with pytest.raises(ModuleNotFoundError, match="colorsys"):
        cli.main(["paint"])


def run(argv):
    """What the command `draw` does."""
    import rich

    return rich
