"""The part of pytest that our GPU tests use, for machines without it: `python small_pytest.py FILES`.

Runs the tests marked `gpu`. It takes the name `pytest` in sys.modules: the test files import it unchanged.
"""

import importlib
import inspect
import itertools
import os
import re
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from types import ModuleType, SimpleNamespace
from typing import Any

ROOT = Path(__file__).resolve().parent.parent


class Skipped(Exception):
    pass


class Mark:
    """pytest.mark.NAME; as a decorator it appends itself to the marks of the function."""

    def __init__(self, name: str, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None) -> None:
        self.name, self.args, self.kwargs = name, args, kwargs or {}

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if len(args) == 1 and inspect.isfunction(args[0]) and not kwargs:
            args[0].marks = [*getattr(args[0], "marks", []), self]
            return args[0]
        return Mark(self.name, args, kwargs)


class Marks:
    def __getattr__(self, name: str) -> Mark:
        return Mark(name)


@contextmanager
def raises(error: type[BaseException], match: str = "") -> Iterator[SimpleNamespace]:
    info = SimpleNamespace(value=None)
    try:
        yield info
    except error as found:
        info.value = found
        if not re.search(match, str(found)):
            raise AssertionError(f"{match!r} not in {found!s}") from found
    else:
        raise AssertionError(f"{error.__name__} was not raised")


class MonkeyPatch:
    def __init__(self) -> None:
        self.undo: list[Callable[[], Any]] = []

    def setattr(self, owner: Any, name: str, value: Any) -> None:
        old = getattr(owner, name)
        self.undo.append(lambda: setattr(owner, name, old))
        setattr(owner, name, value)

    def setenv(self, name: str, value: str) -> None:
        old = os.environ.get(name)
        os.environ[name] = value
        self.undo.append(lambda: os.environ.pop(name) if old is None else os.environ.__setitem__(name, old))

    def delenv(self, name: str, raising: bool = True) -> None:
        old = os.environ.pop(name, None)
        if old is not None:
            self.undo.append(lambda: os.environ.__setitem__(name, old))


def skip(reason: str = "") -> None:
    raise Skipped(reason)


def importorskip(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise Skipped(f"{name} is not installed") from None


class Param(tuple[Any, ...]):
    """Values of pytest.param, and marks of the cases that have it."""

    marks: list[Mark]


def param(*values: Any, id: str | None = None, marks: Any = ()) -> Param:
    made = Param(values)
    made.marks = [marks] if isinstance(marks, Mark) else list(marks)
    return made


def fixture(function: Any = None, *, autouse: bool = False, **_: Any) -> Any:
    def register(f: Any) -> Any:
        f.is_fixture, f.autouse = True, autouse
        return f

    return register(function) if function else register


def marks_of(function: Any, module: ModuleType) -> list[Mark]:
    shared = getattr(module, "pytestmark", [])
    return [*getattr(function, "marks", []), *(shared if isinstance(shared, list) else [shared])]


def cases(marks: list[Mark]) -> Iterator[tuple[dict[str, Any], list[Mark]]]:
    """The product of all parametrize marks, each case with its marks."""
    grids = []
    for mark in (m for m in marks if m.name == "parametrize"):
        names, values = mark.args[:2]
        names = [n.strip() for n in names.split(",")] if isinstance(names, str) else list(names)
        grid = []
        for v in values:
            several = v if len(names) > 1 or isinstance(v, Param) else [v]
            grid.append((dict(zip(names, several, strict=True)), getattr(v, "marks", [])))
        grids.append(grid)
    for combination in itertools.product(*grids):
        arguments = {name: value for part, _ in combination for name, value in part.items()}
        yield arguments, [*marks, *(mark for _, more in combination for mark in more)]


def run_one(test: Any, arguments: dict[str, Any], fixtures: dict[str, Any]) -> None:
    patch, folder = MonkeyPatch(), TemporaryDirectory()
    provided: dict[str, Any] = {"monkeypatch": patch, "tmp_path": Path(folder.name)}
    generators = []
    wanted = set(inspect.signature(test).parameters) - set(arguments)
    try:
        for name, make in fixtures.items():
            if make.autouse or name in wanted:
                value = make(**{n: provided[n] for n in inspect.signature(make).parameters})
                if inspect.isgenerator(value):
                    generators.append(value)
                    value = next(value)
                provided[name] = value
        test(**arguments, **{name: provided[name] for name in wanted})
    finally:
        for undo in [*(lambda g=g: next(g, None) for g in generators), *reversed(patch.undo)]:
            undo()
        folder.cleanup()


def run_file(path: Path, shared: dict[str, Any]) -> dict[str, int]:
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    try:
        module = importlib.import_module(".".join(path.relative_to(ROOT).with_suffix("").parts))
    except (ImportError, Skipped) as error:
        print(f"{path.name}: skipped, {error}")
        return counts | {"skipped": 1}
    fixtures = shared | {n: f for n, f in vars(module).items() if getattr(f, "is_fixture", False)}
    for name, test in [
        (n, f) for n, f in vars(module).items() if n.startswith("test_") and inspect.isfunction(f)
    ]:
        if test.__module__ != module.__name__:
            continue
        for arguments, marks in cases(marks_of(test, module)):
            if not any(m.name == "gpu" for m in marks):
                continue
            if any(m.name == "skipif" and m.args[0] for m in marks):
                counts["skipped"] += 1
                continue
            try:
                run_one(test, arguments, fixtures)
                counts["passed"] += 1
            except Skipped as reason:
                print(f"{path.name}::{name}: skipped, {reason}")
                counts["skipped"] += 1
            except Exception:
                print(f"FAILED {path.name}::{name} {arguments}\n{traceback.format_exc()}")
                counts["failed"] += 1
    return counts


def main() -> int:
    sys.modules["pytest"] = sys.modules[__name__]
    conftest = importlib.import_module("tests.kernels.conftest")
    shared = {n: f for n, f in vars(conftest).items() if getattr(f, "is_fixture", False)}
    start, total = time.monotonic(), {"passed": 0, "failed": 0, "skipped": 0}
    for argument in sys.argv[1:]:
        for name, count in run_file(Path(argument).resolve(), shared).items():
            total[name] += count
    print(f"{total} in {time.monotonic() - start:.0f} s")
    return 1 if total["failed"] or not total["passed"] else 0


mark = Marks()

if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(ROOT / "kernels")]
    sys.exit(main())
