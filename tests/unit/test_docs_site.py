"""The site of `make docs`, as far as it can be tested without MkDocs: navigation, links, the API's names."""

import ast
import inspect
import pkgutil
import re
import subprocess
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest

import lamer_fast
import lamer_fast.envs
import lamer_kernels
from lamer_fast import config

ROOT = Path(__file__).parents[2]
NAV = re.findall(r": ([\w/.-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
KEPT_OUT = (".github/", "benchmarks/")  # templates, tables that a command writes
LINK = re.compile(r"\]\(((?!\w+:)[^)\s]+)\)")
FENCE = re.compile(r"^ *(`{3,}).*?^ *\1", re.MULTILINE | re.DOTALL)


def pages():
    listing = ["git", "ls-files", "-co", "--exclude-standard", "*.md"]
    found = subprocess.run(listing, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    return sorted(name for name in set(found) if not name.startswith(KEPT_OUT) and (ROOT / name).is_file())


def anchors(text):
    """Ids of the headings, as GitHub and the site make them."""
    titles = re.findall(r"^#+ (.*)", FENCE.sub("", text), re.MULTILINE)
    return {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in titles}


def broken(page, text):
    """Links of a page that lead nowhere."""
    found = []
    for link in LINK.findall(re.sub(r"`[^`\n]*`", "", FENCE.sub("", text))):
        name, _, section = link.partition("#")
        target = (ROOT / page).parent / name if name else ROOT / page
        if not target.exists() or (section and section not in anchors(target.read_text())):
            found.append(link)
    return found


def test_every_page_is_in_the_navigation_once():
    at_root = {name if (ROOT / name).is_file() else f"docs/{name}" for name in NAV}
    assert at_root == set(pages()) and len(NAV) == len(at_root), "mkdocs.yml: nav"


@pytest.mark.parametrize("page", pages())
def test_every_link_and_anchor_leads_somewhere(page):
    assert broken(page, (ROOT / page).read_text()) == []


def test_a_broken_link_is_found():
    planted = "[a](no-such-page.md) [b](faq.md#no-such-section) [c](faq.md#learning)"
    assert broken("docs/index.md", planted) == ["no-such-page.md", "faq.md#no-such-section"]


def broken_lists(text):
    """Items that the site would run into the text before them; GitHub is less strict."""
    text = FENCE.sub(lambda block: "\n" * block[0].count("\n"), text)
    nested = re.findall(r"^ {1,3}(?:- |\d+\. ).*", text, re.MULTILINE)
    blocks = [block.strip("\n") for block in re.split(r"\n\s*\n|\n(?=#)", text)]
    late = re.compile(r"\A(?! *(?:- |\d+\. )|\|).*\n(?:.*\n)*?(- |\d+\. )")
    return nested + [block for block in blocks if late.search(block)]


@pytest.mark.parametrize("page", pages())
def test_a_list_is_one_on_the_site_too(page):
    assert broken_lists((ROOT / page).read_text()) == []


def test_a_broken_list_is_found():
    broken = ["Text:\n- item", "Text\nand more:\n- item", "- item\n  - nested", "- item\n\n    more\n- item"]
    assert [text for text in broken if not broken_lists(text)] == []
    assert broken_lists("Text:\n\n- item\n  of two lines\n    - nested\n\n    more\n\n- item\n") == []


@pytest.mark.parametrize(
    ("page", "module"),
    [
        ("kernels", lamer_kernels),
        ("environments", lamer_fast.envs),
        ("trainer", config),
        ("trainer", lamer_fast),
    ],
)
def test_every_public_name_has_a_place_in_the_reference(page, module):
    told = set(
        re.findall(r"^::: ([\w.]+)$", (ROOT / "docs" / "api" / f"{page}.md").read_text(), re.MULTILINE)
    )
    names = {f"{module.__name__}.{name}" for name in module.__all__ if not name.startswith("__")}
    assert names <= told, names - told


def undescribed(found):
    """A class or function without a docstring, and fields with neither docstring nor comment."""
    lines = textwrap.dedent(inspect.getsource(found)).splitlines()
    (node,) = ast.parse("\n".join(lines)).body
    missing = [] if ast.get_docstring(node) else [node.name]
    body = [*node.body, None] if isinstance(node, ast.ClassDef) else []
    for field, after in pairwise(body):
        described = isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant)
        commented = "  # " in " ".join(lines[field.lineno - 1 : field.end_lineno])
        if isinstance(field, ast.AnnAssign) and not (described or commented):
            missing.append(f"{node.name}.{field.target.id}")
    return missing


REFERENCE = [
    name
    for page in sorted((ROOT / "docs" / "api").glob("*.md"))
    for name in re.findall(r"^::: ([\w.]+)$", page.read_text(), re.MULTILINE)
]


@pytest.mark.parametrize("name", REFERENCE)
def test_the_reference_describes_every_field(name):
    assert undescribed(pkgutil.resolve_name(name)) == []


def test_a_field_without_a_word_is_found():
    assert undescribed(Planted) == ["Planted", "Planted.bare"]


class Planted:
    bare: int
    commented: int  # [R]
    described: int
    """Rows."""
