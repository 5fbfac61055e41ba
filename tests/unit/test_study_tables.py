"""docs/study.md and README have the tables of the committed cells."""

import re
from pathlib import Path

import pytest

from lamer_fast.study.origin import origin, sentence
from lamer_fast.study.read import load
from lamer_fast.study.stored import read_results
from lamer_fast.study.summary import summaries
from lamer_fast.study.tables import tables_of

ROOT = Path(__file__).parents[2]
# of grids; the gradient lab has its own
JOINED = {"harder": "won within k", "transfer": "won within k", "roles": "last"}
STUDIES = sorted({path.name for path in (ROOT / "benchmarks" / "studies").iterdir()} - {"gradient"})


@pytest.mark.parametrize("name", STUDIES)
def test_the_page_has_the_tables_of_the_committed_cells(name):
    folder = ROOT / "benchmarks" / "studies" / name
    found = load(name)
    rows = summaries(found, read_results(folder, found.cells()))
    tables, made = tables_of(found, rows), origin([result for row in rows for result in row.results])
    text = "\n".join(f"{table.title}\n\n{table.markdown()}\n" for table in [*tables, made])
    assert (folder / "tables.md").read_text() == text
    shown = (ROOT / "docs" / "study.md").read_text()
    said = re.findall(rf"<!-- cells: {name} (\S+) -->\n(.*?)\n<!-- end -->", shown, re.DOTALL)
    told = {row[0]: sentence(row) for row in made.rows}  # python benchmarks/tables.py docs/study.md
    assert {part: " ".join(text.split()) for part, text in said}.items() <= told.items()
    whole = f"<!-- cells: {name} -->\n{made.markdown()}\n<!-- end -->" in shown
    assert whole or told.keys() == {part for part, _ in said}
    if name in JOINED:  # several tables in one
        for table in tables:
            told = [cell for row in table.rows for cell in row[1:] if "[" in cell]
            assert JOINED[name] not in table.title or all(cell in shown for cell in told)
        return
    for table in tables if name == "main" else tables[:1]:
        assert table.markdown() in shown
    readme = (ROOT / "README.md").read_text()
    if name == "hidden":
        won = {row[0]: row[4] for row in tables[0].rows}
        regret = {row[0]: row[4] for row in tables[1].rows}
        best = float(won["lamer"].split()[0]) + float(regret["lamer"].split()[0])
        for told in (f"{won['lamer']} %", f"{won['gigpo']} %", f"{best:.1f} %"):
            assert told in readme
    if name == "decoding":
        sharp = {row[0]: row[4] for row in tables[0].rows}
        assert all(sharp[arm] in readme for arm in ("base", "gigpo", "grpo", "lamer"))
        hidden = next(table for table in tables if table.title.startswith("controls: test"))
        assert all(row[4].split()[0] in readme for row in hidden.rows if row[0] in ("lamer", "gigpo_3e4"))
    if name == "teacher":
        after = {row[0]: dict(zip(tables[2].columns, row, strict=True)) for row in tables[2].rows}
        told = [after[arm]["notes"] for arm in ("longer", "base", "gigpo_longer")] + [
            after["longer"]["attempts"]
        ]
        assert all(f"{value.split()[0]} %" in readme for value in told)
    if name == "teacher-decoding":
        likeliest = next(table for table in tables if table.title.startswith("minesweeper_greedy: test"))
        told = [row[4].split()[0] for row in likeliest.rows if row[0] in ("longer", "base")]
        assert all(f"{value} %" in readme for value in told)
    if name == "main":
        rows = {row[0]: row for row in tables[0].rows}
        for arm in ("base", "gigpo", "grpo", "lamer"):
            first, second = (rows[arm][column].split()[0] for column in (2, 3))
            third = rf"(\*\*)?{re.escape(rows[arm][4])}"
            assert re.search(rf"\| {first} \| {second} \| {third}", readme), arm
        after = {row[0]: row for row in tables[2].rows}
        seen, unseen, other = after["lamer"][1], after["lamer"][3].split()[0], after["gigpo"][1].split()[0]
        assert all(f"{told} %" in readme for told in (seen, unseen, other))


def test_a_table_with_the_head_of_a_studys_is_one_of_these():
    """Those beside the first ones of a study too, which are copied by hand."""
    tables = re.compile(r"(?:^\|.*\n)+", re.MULTILINE)
    known = {}
    for path in (ROOT / "benchmarks" / "studies").glob("*/tables.md"):
        for table in tables.findall(path.read_text()):
            known.setdefault(table.partition("\n")[0], set()).add(table)
    shown = [
        table
        for page in ("docs/study.md", "README.md")
        for table in tables.findall((ROOT / page).read_text())
    ]
    same_head = [table for table in shown if table.partition("\n")[0] in known]
    assert len(same_head) > 30
    assert [table for table in same_head if table not in known[table.partition("\n")[0]]] == []
