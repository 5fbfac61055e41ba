"""docs/study.md: what it answers at its head is what its sections found."""

import re
from pathlib import Path

import pytest

PAGE = (Path(__file__).parents[2] / "docs" / "study.md").read_text()
HEAD = "Questions and where they are answered"
NUMBER = re.compile(r"[-+]?\d[\d,]*(?:\.\d+)?")


def anchor(title):
    return re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-")


def sections(page):
    """anchor -> text below the heading, to the next one"""
    parts = re.split(r"^#+ (.*)$", page, flags=re.MULTILINE)
    return {anchor(title): text for title, text in zip(parts[1::2], parts[2::2], strict=True)}


def answers(page):
    """(question, answer without its links, anchors of the links)"""
    rows = re.findall(r"^\| ([^-|].*?) \| (.*) \|$", sections(page)[anchor(HEAD)], re.MULTILINE)
    rows = [row for row in rows if not row[0].startswith("asked by")]
    return [(q, re.sub(r"\[[^]]*\]\(#[^)]*\)", "", a), re.findall(r"\]\(#([^)]*)\)", a)) for q, a in rows]


def not_found(answer, links, page):
    """Numbers of an answer that none of its sections has."""
    text = " ".join(sections(page)[link] for link in links)
    return [
        n for n in NUMBER.findall(answer) if not re.search(rf"(?<![\d.,]){re.escape(n)}(?![\d]|\.\d)", text)
    ]


@pytest.mark.parametrize(
    ("question", "answer", "links"), answers(PAGE), ids=[row[0] for row in answers(PAGE)]
)
def test_an_answer_has_the_figures_of_its_sections(question, answer, links):
    assert links, "an answer names no section"
    assert not_found(answer, links, PAGE) == []


def test_a_figure_that_moved_is_found():
    page = (
        f"## {HEAD}\n\n| Is it? | Yes: 78.0, not 1,234 ([there](#there)) |\n\n## There\n\n178.0 and 1,234\n"
    )
    ((_, answer, links),) = answers(page)
    assert not_found(answer, links, page) == ["78.0"]
