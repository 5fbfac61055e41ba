"""The line under each flag and setting is a sentence that stands alone."""

import re
from importlib import import_module

import pytest

from lamer_fast.cli import COMMANDS, envs
from lamer_fast.cli.flags import Command
from lamer_fast.fields import docs_of

ALL = [
    *(import_module(module).COMMAND for module, _ in COMMANDS.values()),
    envs.CHECK,
    envs.DATA,
    envs.COMPARE,
]
TELEGRAM = re.compile(r"(Of|What|Whose|Who|Which|That) |.* at most\.$", re.DOTALL)


def docs(command: Command) -> dict[str, str]:
    """Of its own flags and of every setting, those of each environment too."""
    found = docs_of(command.options) | (docs_of(command.settings) if command.settings else {})
    for section in {key.rpartition(".")[0] for key in found}:
        for cls in command._variants(section).values():
            found |= {f"{section}.{key}": text for key, text in docs_of(cls).items()}
    return found


def wrong(text: str) -> bool:
    return not text.endswith(".") or bool(TELEGRAM.match(" ".join(text.split())))


@pytest.mark.parametrize("command", ALL, ids=lambda command: command.name)
def test_every_flag_says_what_it_is(command):
    assert {key: text for key, text in docs(command).items() if wrong(text)} == {}


@pytest.mark.parametrize(
    "planted",
    ["Of the sampling.", "Requests decoded\n    together at most.", "What adapters are.", "A limit"],
)
def test_a_text_that_leans_on_its_name_is_found(planted):
    assert wrong(planted) and not wrong("Maximum number of requests decoded together.")
