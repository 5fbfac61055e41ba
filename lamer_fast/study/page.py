"""report.html of a study, one file: tables, figures, links from each cell to its trials and its training."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from os.path import relpath
from pathlib import Path
from urllib.parse import quote

from lamer_fast.files import replace_file
from lamer_fast.study.origin import commit_of
from lamer_fast.study.spec import Study
from lamer_fast.study.summary import Summary
from lamer_fast.study.tables import Table

STYLE = """
:root { color-scheme: light dark; font: 16px/1.5 system-ui, sans-serif }
body { max-width: 75rem; margin: 2rem auto; padding: 0 1rem }
table { border-collapse: collapse; display: block; overflow-x: auto; margin: .5rem 0 1.5rem }
th, td { padding: .2rem .7rem; border-bottom: 1px solid #8886; text-align: left; white-space: nowrap }
figure { margin: 1rem 0; background: #fff; display: inline-block; max-width: 100% }
figure svg { max-width: 100%; height: auto }
"""


def write_page(
    study: Study,
    found: Sequence[Summary],
    tables: Sequence[Table],
    figures: Sequence[Path],
    folder: Path,
    runs: Path,
) -> Path:
    """Writes it to `folder`. Pages of cells are linked where they were written, or below `runs`."""
    parts = [f"<h1>Study {escape(study.name)}</h1><p>{escape(study.question)}</p>"]
    parts += [f"<h2>{escape(table.title)}</h2>{html_table(table)}" for table in tables]
    for path in figures:
        if path.suffix == ".svg":
            svg = path.read_text(encoding="utf-8")
            parts.append(f"<figure>{svg[svg.index('<svg') :]}</figure>")
    parts += [
        "<h2>Arms</h2>",
        arms(study),
        "<h2>Cells</h2>",
        html_table(cells(found, folder, runs), safe=True),
    ]
    page = folder / "report.html"
    replace_file(
        page,
        f'<!doctype html><html lang="en"><meta charset="utf-8"><title>Study {escape(study.name)}</title>'
        f'<meta name="viewport" content="width=device-width"><style>{STYLE}</style>' + "\n".join(parts),
    )
    return page


def arms(study: Study) -> str:
    lines = []
    there = {cell.arm.name for cell in study.cells()}
    for arm in (arm for arm in study.arms.values() if arm.name in there):
        settings = (
            ", ".join(f"{key} = {value}" for key, value in arm.settings.items()) or "the recipe as it is"
        )
        notes = [arm.doc, f"Settings: {settings}."]
        notes += [f"Searched on valid: {arm.searched}."] if arm.searched else []
        notes += [f"Budget: {arm.budget}."] if arm.budget else []
        lines.append(f"<li><b>{escape(arm.name)}</b>: {escape(' '.join(filter(None, notes)))}</li>")
    return f"<ul>{''.join(lines)}</ul>"


def cells(found: Sequence[Summary], folder: Path, runs: Path) -> Table:
    rows = []
    for summary in found:
        for result in summary.results:
            pages = {"trials on test": result.shown, "training": result.run}
            there = {text: place(at, runs) for text, at in pages.items() if at}
            links = [
                f'<a href="{quote(relpath(page, folder))}">{text}</a>' for text, page in there.items() if page
            ]
            panels = ", ".join(f"{name} {played.panel}" for name, played in result.splits.items())
            facts = result.facts
            rows.append(
                [
                    escape(str(x))
                    for x in (summary.part, summary.arm.name, result.seed, panels, commit_of(result))
                ]
                + [escape(facts.get("device", "")), ", ".join(links) or "not on this machine"]
            )
    return Table("cells", ["part", "arm", "seed", "panels", "commit", "processor", "to look at"], rows)


def place(folder: str, runs: Path) -> Path | None:
    """The page in a folder of the machine and directory that a cell ran in, or in its namesake of `runs`."""
    places = (Path(folder, "report.html"), runs / Path(folder).name / "report.html")
    return next((page for page in places if page.is_file()), None)


def html_table(table: Table, *, safe: bool = False) -> str:
    """`safe`: the cells are HTML already."""

    def line(cells: Sequence[str], tag: str) -> str:
        return "<tr>" + "".join(f"<{tag}>{c if safe else escape(c)}</{tag}>" for c in cells) + "</tr>"

    return f"<table>{line(table.columns, 'th')}{''.join(line(row, 'td') for row in table.rows)}</table>"
