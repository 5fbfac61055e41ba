"""kernels/OPS.md: every op has an entry with all parts, and every example runs as it stands."""

import inspect
import re
from pathlib import Path

import pytest
import torch

import lamer_kernels

KERNELS = Path(__file__).parents[2] / "kernels"
PAGE = (KERNELS / "OPS.md").read_text()
ENTRIES = dict(re.findall(r"^## `(\w+)`\n(.*?)(?=^#+ |\Z)", PAGE, re.MULTILINE | re.DOTALL))
PARTS = ["Equation", "Data", "Speed", "Numerics", "Memory", "Limits"]
EXAMPLE = re.compile(r"```python\n(.*?)```", re.DOTALL)


def is_op(name):
    """Not a tuple of results, nor of settings."""
    public = getattr(lamer_kernels, name)
    return not inspect.isclass(public) or issubclass(public, torch.nn.Module)


def test_every_op_has_an_entry_and_every_other_name_is_told():
    assert set(ENTRIES) == {name for name in lamer_kernels.__all__ if is_op(name)}
    assert [name for name in lamer_kernels.__all__ if f"`{name}`" not in PAGE] == []


@pytest.mark.parametrize("op", ENTRIES)
def test_an_entry_has_all_parts(op):
    entry = ENTRIES[op]
    assert re.findall(r"^\*\*(\w+)\.\*\*", entry, re.MULTILINE) == PARTS
    assert re.search(r"^```\n", entry, re.MULTILINE), "no picture of the data"
    assert re.search(r"\*\*Numerics\.\*\*.*?\]\(\.\./tests/kernels/test_\w+\.py\)", entry, re.DOTALL)
    (example,) = EXAMPLE.findall(entry)
    lines = [line for line in example.splitlines() if line and not re.match("import|from", line)]
    assert 1 <= len(lines) <= 6 and re.search(rf"\b{op}\b", "\n".join(lines))
    assert re.search(r"\bassert(_close)?\b", example), "an example that states no result"


def leads_somewhere(link):
    name, _, section = link.partition("#")
    target = KERNELS / name
    if not section:
        return target.is_file()
    titles = re.findall(r"^#+ (.*)", target.read_text(), re.MULTILINE)
    return section in {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}


def test_links_lead_somewhere():
    assert [link for link in re.findall(r"\]\(([^)]+)\)", PAGE) if not leads_somewhere(link)] == []
    assert not leads_somewhere("README.md#no-such-section")


@pytest.mark.parametrize("op", ENTRIES)
def test_the_example_runs(op):
    (example,) = EXAMPLE.findall(ENTRIES[op])
    if "transformers" in example:
        pytest.importorskip("transformers")
    exec(compile(example, f"OPS.md, {op}", "exec"), {})
