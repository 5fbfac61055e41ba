"""Which games of ALFWorld are played in which order, and what is said of files that cannot be."""

import json
import os
import random
import shutil
from collections import Counter
from dataclasses import replace
from importlib.util import find_spec

import numpy as np
import pytest

from lamer_fast import cli
from lamer_fast.envs.adapters.alfworld import data, entry, games
from lamer_fast.envs.adapters.alfworld.generate import GAMES, game, write_games
from lamer_fast.envs.adapters.alfworld.generate import main as generate
from lamer_fast.envs.adapters.alfworld.tasks import BY_WORD, TASK_TYPES
from lamer_fast.envs.contract import EnvError
from lamer_fast.envs.registry import default_options, eval_seeds, make_env
from tests.envs.golden import record_alfworld

COUNTS = {"train": 2, "valid_seen": 2, "valid_unseen": 1}


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    folder = tmp_path_factory.mktemp("alfworld") / "json_2.1.1"
    write_games(folder, "small", COUNTS)
    return folder


@pytest.fixture
def folder(written, tmp_path, monkeypatch):
    """A copy that may be spoilt; nothing read of it before is remembered."""
    shutil.copytree(written, tmp_path / "json_2.1.1")
    for cached in (games.games, games.listed):
        cached.cache_clear()
    return tmp_path / "json_2.1.1"


def options(folder, **changes):
    return replace(default_options("alfworld"), data=str(folder), **changes)


def first_game(folder, split="train", word="pick"):
    return next(folder.glob(f"{split}/{BY_WORD[word].name}-*/*/game.tw-pddl"))


def edit(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_the_order_is_a_function_of_the_names_alone(folder, tmp_path):
    """A file system gives names in the order in which they were written, or in none."""
    other = tmp_path / "again"
    paths = sorted(p.parent.relative_to(folder) for p in folder.rglob("game.tw-pddl"))
    random.Random(5).shuffle(paths)
    for path in paths:
        shutil.copytree(folder / path, other / path)
        os.utime(other / path / "game.tw-pddl", (1, 1))
    for split in ("train", "valid", "test", None):
        names = entry.names(options(folder), split)
        assert names == entry.names(options(other), split) and len(names) == len(set(names))
    assert entry.names(options(folder), "train") != tuple(sorted(entry.names(options(folder), "train")))


@pytest.mark.parametrize(
    ("panels", "split", "folders", "words"),
    [
        ("rooms", "train", {"train"}, "pick look clean heat"),
        ("rooms", "valid", {"valid_seen"}, "pick look clean heat"),
        ("rooms", "test", {"valid_unseen"}, "pick look clean heat"),
        ("first4/seen", "test", {"valid_seen"}, "pick look clean heat"),
        ("first4/unseen", "valid", {"valid_unseen"}, "pick look clean heat"),
        ("cool+pick2", "test", {"valid_seen", "valid_unseen"}, "cool pick2"),
        ("cool+pick2", "train", {"train"}, "pick look clean heat"),
    ],
)
def test_splits_and_panels(folder, panels, split, folders, words):
    chosen = options(folder, panels=panels)
    names = entry.names(chosen, split)
    count = sum(COUNTS[f] for f in folders)
    assert {name.split("/")[0] for name in names} == folders
    assert Counter(map(games.word_of, names)) == Counter({word: count for word in words.split()})
    seeds = eval_seeds(chosen, split, 3)
    assert seeds.tolist() == [0, 1, 2] and len(eval_seeds(chosen, split, 1000)) == len(names)
    assert entry.ENTRY.num_tasks(chosen, split) == len(names)


def test_made_games_are_listed_without_being_made():
    chosen = options("made:full", task_types="cool,pick2")
    names = entry.names(chosen, "train")
    assert len(names) == 2 * GAMES["train"] and {games.word_of(n) for n in names} == {"cool", "pick2"}
    made = game("full", "train", BY_WORD["cool"], 7)
    assert games.games("made:full").content(f"train/{BY_WORD['cool'].name}/00007") == made.content


@pytest.mark.parametrize("given", ["", "pick,", "pick,pick", "Pick", "pick look", "all"])
def test_types_are_words_by_commas(given):
    with pytest.raises(ValueError, match="must be one or more of pick,look,clean,heat,cool,pick2"):
        options("made:small", task_types=given).validate()


def test_what_is_not_there_is_told_with_its_source(tmp_path, monkeypatch):
    for missing, said in (
        (tmp_path / "none", "there is no folder"),
        (tmp_path, "has no game of pick, look, clean, heat in train"),
    ):
        with pytest.raises(ValueError, match=f"{said}.*alfworld-download.*github.com/alfworld"):
            entry.names(options(missing), "train")
    monkeypatch.setenv("ALFWORLD_DATA", str(tmp_path / "set"))
    with pytest.raises(ValueError, match=r"set/json_2\.1\.1; the games of ALFWorld are a download"):
        entry.names(default_options("alfworld"), "train")
    with pytest.raises(ValueError, match="must be made:small or made:full"):
        entry.names(options("made:huge"), "train")


@pytest.mark.skipif(find_spec("alfworld") is not None, reason="the package alfworld is installed here")
def test_a_missing_package_is_told_with_what_installs_it():
    with pytest.raises(EnvError, match=r"pip install 'lamer-fast\[alfworld\]'"):
        make_env(options("made:small", engine="package"), 2, split="train")


def test_only_games_that_can_be_played_are_listed(folder):
    names = set(entry.names(options(folder), "train"))
    pick, look, clean = (first_game(folder, word=word) for word in ("pick", "look", "clean"))
    edit(pick, solvable=False)
    content = json.loads(look.read_text())
    del content["solvable"]
    look.write_text(json.dumps(content))
    clean.unlink()
    sliced = first_game(folder, word="heat").parents[1]
    for to in (
        "heat_then_place_in_recep-AppleSliced-None-Fridge-1",
        "and_place_with_movable_recep-Pen-Mug-Desk-1",
    ):
        shutil.copytree(sliced, folder / "train" / f"pick_{to}")
    games.games.cache_clear(), games.listed.cache_clear()
    left = set(entry.names(options(folder), "train"))
    assert names - left == {str(p.parent.relative_to(folder)) for p in (pick, look, clean)} and left < names


def test_a_torn_file_is_named_before_a_game_begins(folder):
    torn = first_game(folder, "valid_seen")
    torn.write_bytes(torn.read_bytes()[:5000])
    assert entry.names(options(folder), "train")
    with pytest.raises(ValueError, match=f"{torn} is torn off.*envs data alfworld"):
        entry.names(options(folder), "valid")


def test_games_of_an_old_version_are_refused_before_one_begins(folder):
    """Its command to put a thing down is another than the prompt says (alfworld#96)."""
    old = first_game(folder, "valid_unseen")
    edit(old, grammar=json.loads(old.read_text())["grammar"].replace("move {o} to {r}", "put {o} in/on {r}"))
    with pytest.raises(ValueError, match=f"{old} is of a version before 0.4"):
        entry.names(options(folder), "test")


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"[]", "has no text pddl_domain, grammar, pddl_problem"),
        (b'{"pddl_domain": "", "grammar": 3, "solvable": true}', "has no text grammar, pddl_problem"),
        (b"\xff\xfe", "is no JSON"),
        (b"", "is no JSON"),
        (b"\x00" * 300_000, "is no JSON"),
    ],
)
def test_what_is_no_game_is_named(tmp_path, content, said):
    path = tmp_path / "game.tw-pddl"
    path.write_bytes(content)
    with pytest.raises(ValueError, match=f"{path} {said}"):
        games.read_game(path)


def check(capsys, *argv):
    status = cli.main(["envs", "data", "alfworld", *map(str, argv)])
    out = capsys.readouterr()
    return status, out.out, out.err


def test_the_check_counts_games_by_split_type_and_panel(written, capsys):
    status, out, _ = check(capsys, written)
    assert status == 0
    assert "train: 12 games (3,553 are published): pick 2, look 2, clean 2, heat 2, cool 2, pick2 2" in out
    assert "valid_unseen: 6 games" in out and "panel cool+pick2: 6 games, digest " in out
    assert "rules and words those of alfworld 0.4.2: 30 games" in out and "left out" not in out


def test_the_check_names_what_is_broken(folder, capsys):
    _, before, _ = check(capsys, folder)
    torn, twice, other = (first_game(folder, word=word) for word in ("pick", "look", "clean"))
    unsolved, old = (first_game(folder, word=word) for word in ("heat", "cool"))
    torn.write_bytes(torn.read_bytes()[:5000])
    problem = json.loads(twice.read_text())["pddl_problem"]
    at = "loc_bar__minus_1_bar_1_bar_1_bar_30"
    line = f"\n        {at} - location\n        {at} - location\n"
    edit(twice, pddl_problem=problem.replace("\n(:objects", f"\n(:objects{line}", 1))
    edit(other, grammar=json.loads(other.read_text())["grammar"].replace("You open the", "You have opened"))
    edit(old, grammar=json.loads(old.read_text())["grammar"].replace("move {o} to", "put {o} in/on"))
    edit(unsolved, solvable=None)
    status, out, err = check(capsys, folder)
    assert status == 2
    assert "3 of the games cannot be played" in err and "is no JSON" in err and str(torn.parent.name) in err
    assert f"declares {at} twice" in err and f"{old.relative_to(folder)} is of a version before 0.4" in err
    assert "left out are 1 games that are not marked as solvable" in out
    name = other.parent.relative_to(folder)
    assert f"of another version ({data.version_of(json.loads(other.read_text()))}): 1 games: {name}" in out
    changed = [line for line in before.splitlines() if line not in out.splitlines()]
    assert {line.split(":")[0] for line in changed} == {"train", "rules and words those of alfworld 0.4.2"}


def test_the_check_says_where_the_folders_are(written, tmp_path, capsys):
    assert "json_2.1.1 is another folder" in check(capsys, written.parent)[2]
    assert "alfworld-download" in check(capsys, tmp_path)[2]
    assert "there is no folder" in check(capsys, tmp_path / "x")[2]
    assert "made as they are played" in check(capsys, "--env.data", "made:small")[2]


def test_one_changed_sentence_is_another_panel(folder, capsys):
    """A game that was written again has the other of its two sentences, and so is another task."""
    _, before, _ = check(capsys, folder)
    path = first_game(folder, "valid_seen", "cool")
    edit(
        path,
        grammar=json.loads(path.read_text())["grammar"].replace("Your task is to: ", "Your task is to: now "),
    )
    _, after, _ = check(capsys, folder)
    changed = [
        a.split(":")[0] for a, b in zip(before.splitlines(), after.splitlines(), strict=True) if a != b
    ]
    assert changed == ["valid_seen", "panel cool+pick2"]


GOLDEN = record_alfworld.load()


@pytest.mark.parametrize("held", GOLDEN["games"], ids=lambda g: f"{g['size']}-{g['split']}-{g['task']}")
def test_recorded_games_are_still_made_so_and_their_plans_win(held):
    made = record_alfworld.content(*(held[key] for key in ("size", "split", "task", "index")))
    assert record_alfworld.digest(made) == held["digest"], "record_alfworld.py has to be run again"
    plan, hostile, *_ = held["walks"]
    assert [step[0] for step in plan["steps"][1:]] == made["walkthrough"]
    for walk in (plan, hostile):
        assert [step[4] for step in walk["steps"]].index(True) == len(walk["steps"]) - 1
    said = {step[1] for step in hostile["steps"][1:] if step[0] not in made["walkthrough"]}
    assert "Nothing happens." in said


def test_recordings_are_of_every_type_and_have_rare_texts():
    assert {g["task"] for g in GOLDEN["games"]} == {task.word for task in TASK_TYPES}
    texts = {step[1] for g in GOLDEN["games"] for walk in g["walks"] for step in walk["steps"]}
    changed = ("You sliced the ", "This is a hot and clean ", "This is a cool sliced ", "You turn on the ")
    for part in (
        *changed,
        "In it, you see ",
        "You are carrying: a ",
        "You close the ",
        "Next to it, you see a ",
    ):
        assert any(part in text for text in texts), part


def test_seeds_of_trials_reach_every_game():
    count = len(entry.names(options("made:small"), "train"))
    drawn = np.random.default_rng(0).integers(0, 2**64, 20_000, dtype=np.uint64)
    assert len({int(seed) % count for seed in drawn}) == count


def test_games_cannot_be_written_into_a_file(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    with pytest.raises(SystemExit) as ended:
        generate([str(tmp_path / "file"), "--train", "1"])
    assert ended.value.code == 2
    assert capsys.readouterr().err.endswith(f"{tmp_path / 'file'} cannot be written: Not a directory\n")
