"""Floors of pyproject.toml as pip's constraints, and rows of docs/versions.md; called by versions.sh."""

import platform
import re
import subprocess
import sys
import tomllib
import xml.etree.ElementTree as ET
from datetime import date
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("torch", "transformers", "triton", "numba", "numpy")


def floors() -> str:
    """`name==floor` for everything that pyproject.toml gives a floor, what the build needs included."""
    with open("pyproject.toml", "rb") as f:
        settings = tomllib.load(f)
    project = settings["project"]
    listed = settings["build-system"]["requires"] + project["dependencies"]
    listed += [name for extra in project["optional-dependencies"].values() for name in extra]
    found = {re.match(r"([\w.-]+)>=([\w.]+)", requirement) for requirement in listed} - {None}
    return "\n".join(sorted({f"{match[1]}=={match[2]}" for match in found}))


def outcome(report: Path) -> str:
    """What a JUnit report counts: `1,535 passed, 2 skipped`."""
    suite = next(ET.parse(report).getroot().iter("testsuite"))
    count = {name: int(suite.attrib[name]) for name in ("tests", "failures", "errors", "skipped")}
    failed = count["failures"] + count["errors"]
    passed = count["tests"] - failed - count["skipped"]
    parts = [(passed, "passed"), (failed, "**failed**"), (count["skipped"], "skipped")]
    return ", ".join(f"{number:,} {what}" for number, what in parts if number)


def write_row(corner: str, work: Path, page: Path) -> str:
    """The row of this corner and this Python, in place of the one that the page has."""
    commit = subprocess.check_output(["git", "rev-parse", "--short", "HEAD"], text=True).strip()
    cells = [corner, platform.python_version(), *(version(name) for name in PACKAGES)]
    cells += [outcome(work / "fast.xml"), outcome(work / "interpret.xml"), f"{date.today()}, {commit}"]
    page.write_text(with_row(page.read_text(), cells))
    return " | ".join(cells)


def with_row(page: str, cells: list[str]) -> str:
    """The page with this row in its table of corners; a row of the same corner and minor Python goes."""
    corner, python = cells[:2]
    same = f"| {corner} | {python.rpartition('.')[0]}."
    lines = [line for line in page.splitlines() if not line.startswith(same)]
    end = next(i for i, line in enumerate(lines) if line.startswith("| corner |"))
    while end < len(lines) and lines[end].startswith("|"):
        end += 1
    lines.insert(end, f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    what, *rest = sys.argv[1:]
    print(floors() if what == "floors" else write_row(rest[0], Path(rest[1]), Path(rest[2])))
