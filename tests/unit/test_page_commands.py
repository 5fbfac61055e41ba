"""Every command on every page: its own parser takes it. The quick ones run here."""

import pytest

from lamer_fast import cli
from tests.page_commands import PAGES, ROOT, commands, mentions, split, unknown_flags, unmarked, wrong

ALL = [found for page in PAGES for found in commands(page)]


def folder_of(found):
    """Where a page says that its commands are typed."""
    return (ROOT / found.page).parent if found.page.startswith("examples/") else ROOT


@pytest.mark.parametrize("page", PAGES)
def test_every_command_is_parsed(page):
    folder, told = None, {}
    for found in commands(page):
        folder = folder or folder_of(found)
        if split(found.text)[0][0] == "cd":
            folder = folder / split(found.text)[0][1]
        if why := wrong(found.text, folder):
            told[f"{page}:{found.line} {found.text}"] = why
    assert told == {}


@pytest.mark.parametrize("page", PAGES)
def test_commands_stand_where_a_test_sees_them(page):
    assert unmarked(page) == []


@pytest.mark.parametrize("page", PAGES)
def test_every_command_in_a_sentence_is_parsed(page):
    assert {text: why for text in mentions(page) if (why := wrong(text, whole=False))} == {}


@pytest.mark.parametrize("page", PAGES)
def test_every_flag_that_stands_alone_is_one(page):
    assert unknown_flags(page) == []


@pytest.mark.parametrize(
    "planted",
    [
        "lamer-fast train minesweeper-tiny --dry-rum",
        "lamer-fast train minesweeper-tiny --algo.gamma-trajectory 0.9",
        "lamer-fast train minesweeper-tiny --algo.gamma-traj high",
        "lamer-fast train minesweeper-huge",
        "lamer-fast eval runs/x --task 3",
        "lamer-fast study main --only minefield",
        "lamer-fast envs check sokoban --env.wide 3",
        "lamer-fast bench heads",
        'eval "$(lamer-fast completion bush)"',
        "torchrun --nprocs 2 -m lamer_fast train minesweeper-tiny",
        "torchrun --nproc-per-node 2 -m lamer_fast train minesweeper-tiny --train.process 2",
        "python benchmarks/bench_heads.py",
        "python benchmarks/bench_head.py --jsn",
        "make demonstration",
        "make demo GAMES=sokoban",
        "pip install 'lamer-fast[trian]'",
        "pip install torch==1.0",
        "lamer-slow train",
    ],
)
def test_a_wrong_command_is_found(planted):
    assert wrong(planted)


def test_a_misspelt_flag_in_a_sentence_is_found():
    assert wrong("lamer-fast eval --lable", whole=False) and not wrong("lamer-fast eval --label", whole=False)


@pytest.mark.parametrize("page", PAGES)
def test_no_two_commands_of_a_page_write_into_one_folder(page):
    """The second would be refused: `--out` holds an evaluation already."""
    words = [split(found.text)[0] for found in commands(page)]
    made = [line[line.index("--out") + 1] for line in words if line[1:2] != ["study"] and "--out" in line]
    assert sorted(set(made)) == sorted(made)


def test_each_command_is_run_or_says_what_it_needs():
    """Neither `make`, whose targets are tests themselves, nor `pip`, which downloads."""
    left = [found for found in ALL if not (found.quick or found.slow or found.needs)]
    assert {split(found.text)[0][0] for found in left} <= {"make", "pip"}
    assert any(found.quick for found in ALL) and any(found.slow for found in ALL)


@pytest.mark.parametrize("found", [found for found in ALL if found.quick], ids=lambda found: found.text)
def test_a_quick_command_runs(found, monkeypatch, capsys):
    monkeypatch.chdir(folder_of(found))
    try:
        status = cli.main(split(found.text)[0][1:])
    except SystemExit as left:
        status = left.code
    assert status == 0 and capsys.readouterr().out.strip()
