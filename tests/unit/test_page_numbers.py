"""Each measured figure on a page has its source in the same section: a command that prints it, or a record.

A section ends at the next heading; a subsection may also take the source of the section around it. Figures of
which nothing is left say so in words: "no record".
"""

import re

import pytest

from tests.page_commands import BLOCK, ROOT, TRACKED, split, wrong

PAGES = [
    name for name in TRACKED if re.fullmatch(r"README\.md|docs/[\w-]+\.md|kernels/(?!CHANGELOG)\w+\.md", name)
]
UNITS = r"ms|us|s|CPU s|CPU[- ]seconds|seconds|minutes|min|nats|points|MiB|TB/s|Tflop/s|GFLOP/s|[\w-]+/s"
FIGURE = re.compile(rf"(?<![\w.-])\d[\d.,]*k? ?(?:{UNITS})(?![\w/])|\d % (?:of|against|and)\b|\d \[-?\d")
NUMBER = re.compile(r"[-+~]?\d[\d.,]*(?: ?(?:[%xMkG]|\[.*\]|\(.* to .*\)|[a-zA-Z/]+))?")
PRINTS = re.compile(
    r"lamer-fast (train|eval|study|bench|doctor|audit|demo|warmstart|envs (check|compare)) "
    r"|make (demo|test|bench)|pytest |python benchmarks/(?!tables)|python -m "
)
WITH_RECORDS = ("performance.md", "study.md", "README.md")  # pages whose own figures this test holds
NOTHING_LEFT = re.compile(r"\bno\s+record\b")
HEADING = re.compile(r"^(#+) .*$", re.M)


def sections(text):
    """Heading, text, and the text of the sections around it; blocks of code hide no headings."""
    hidden = re.sub(
        r"^```.*?^```", lambda block: re.sub(r"^#", " ", block[0], flags=re.M), text, flags=re.M | re.S
    )
    marks = [*HEADING.finditer(hidden)]
    around = {}
    for mark, end in zip(marks, [*(m.start() for m in marks[1:]), len(text)], strict=True):
        depth = len(mark[1])
        body = text[mark.end() : end]
        around = {level: own for level, own in around.items() if 1 < level < depth} | {depth: body}
        yield mark[0], body, "\n".join(around.values())


def measured(text):
    """Rows of a table with a fraction or several numbers, and figures with a unit, outside of blocks."""
    found = []
    for line in BLOCK.sub("", text).splitlines():
        if line.startswith("| `"):
            continue  # a setting and its default
        if line.startswith("|"):
            numbers = [cell for c in line.split("|")[2:] if NUMBER.fullmatch(cell := c.strip(" *"))]
            found += [line] if len(numbers) > 1 or any("." in cell for cell in numbers) else []
        else:
            found += [figure[0] for figure in FIGURE.finditer(line)]
    return found


def sources(text):
    """Commands that their parsers take; records, tests and pages with records that are there."""
    lines = [
        line for block in BLOCK.finditer(text) for line in block["text"].replace("\\\n", " ").splitlines()
    ]
    inline = [" ".join(code.split()) for code in re.findall(r"`([^`]+)`", BLOCK.sub("", text))]
    for code in [line.removeprefix("$ ") for line in lines] + inline:
        try:
            words = split(code)[0]
        except (ValueError, IndexError):
            continue
        if PRINTS.match(" ".join(words) + " ") and not wrong(code, whole=not re.search(r"\.\.\.|\[", code)):
            yield code
    links = [link.rpartition("../")[2] for link in re.findall(r"\]\(([^)#\s]+)", text)]
    for name in inline + links:
        if name in TRACKED and name.startswith(("benchmarks/", "lamer_fast/", "tests/")):
            yield name
    yield from (link for link in links if link.rpartition("/")[2] in WITH_RECORDS)


def without_source(text):
    """Headings of the sections that show figures and say nowhere how to get them, with one such figure."""
    return {
        title: found[0]
        for title, body, near in sections(text)
        if (found := measured(body)) and not NOTHING_LEFT.search(near) and not [*sources(near)]
    }


@pytest.mark.parametrize("page", PAGES)
def test_every_figure_names_a_command_or_a_record(page):
    assert without_source((ROOT / page).read_text()) == {}


SECTION = """# Page

`python benchmarks/bench_head.py`

## Speed

{}

| | tokens/s | peer |
|---|---|---|
| ours | 31.5 | 12.0 |
"""


@pytest.mark.parametrize(
    "planted",
    [
        "It is fast.",  # the command above is another section's
        "`lamer-fast bench heads` prints it.",
        "`python benchmarks/bench_heads.py --json` prints it.",
        "`python benchmarks/bench_head.py --jsn` prints it.",
        "`lamer-fast envs` lists what there is, `pip install torch` installs it.",
        "The record is `benchmarks/results/nvidia-h200/bench_heads.json`.",
        "See [the glossary](glossary.md).",
    ],
)
def test_a_figure_without_a_source_is_found(planted):
    assert without_source(SECTION.format(planted)) == {"## Speed": "| ours | 31.5 | 12.0 |"}


@pytest.mark.parametrize(
    "planted",
    [
        "`lamer-fast bench head` prints it.",
        "```sh\npython benchmarks/bench_head.py \\\n  --json\n```",
        "The record is `benchmarks/results/nvidia-h200/bench_head.json`.",
        "See [performance](performance.md#loss-head).",
        "It is an early figure, of which there is no record.",
    ],
)
def test_a_figure_with_a_source_passes(planted):
    assert without_source(SECTION.format(planted)) == {}


@pytest.mark.parametrize(
    "figure", ["It took 3.1 s.", "A call takes 5 us", "0.05 nats", "wins 6 % of", "+7.2 [3.4, 11.0]"]
)
def test_figures_in_sentences_are_seen(figure):
    assert without_source(f"# Page\n\n{figure}\n")


@pytest.mark.parametrize(
    "text", ["a GPU of 24 GB", "95 % intervals", "| `lr` | 0.5 | 1.0 |", "```\n| a | 1.5 | 2 |\n```"]
)
def test_settings_and_sizes_are_no_figures(text):
    assert measured(text) == []
