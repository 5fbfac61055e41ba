"""TextWorld: broken game files are told before they are played, commands are clean, the same game again."""

import json
import os
from dataclasses import replace

import numpy as np
import pytest

from lamer_fast.envs.adapters.textworld import ENTRY, Options, check_game, games
from lamer_fast.envs.check import check_env
from lamer_fast.envs.contract import EnvError
from lamer_fast.envs.entry import SPLITS
from lamer_fast.envs.panel import panel
from lamer_fast.envs.registry import default_options, make_env


def act(text):
    return f"<action>{text}</action>"


def story_file(content=b"", version=8):
    """What the interpreter's header says of it is right: length and checksum."""
    body = content + bytes(-len(content) % 8)
    header = bytearray(64)
    header[0] = version
    header[26:28] = ((64 + len(body)) // 8).to_bytes(2, "big")
    header[28:30] = (sum(body) % 65536).to_bytes(2, "big")
    return bytes(header) + body


def write_game(folder, name, content=b"", version=1):
    folder.mkdir(exist_ok=True, parents=True)
    (folder / f"{name}.z8").write_bytes(story_file(content))
    (folder / f"{name}.json").write_text(json.dumps({"version": version}))
    return folder / f"{name}.z8"


def test_broken_files_are_told(tmp_path):
    path = write_game(tmp_path, "a", b"go north" * 9)
    assert check_game(path) == check_game(write_game(tmp_path, "b", b"go north" * 9)), "whatever its name"
    whole = path.read_bytes()
    for content, message in (
        (b"", "no game of version 8: it begins with nothing"),
        (b"\x05" + whole[1:], "no game of version 8: it begins with 05"),
        (whole[:-8], f"is cut off: {len(whole) - 8} bytes, its header says {len(whole)}"),
        (whole[:70] + b"!" + whole[71:], "is damaged: checksum"),
    ):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            check_game(path)
    path.write_bytes(whole)
    for made, message in (
        ("{", "must stand beside the game"),
        ("[]", "must stand"),
        ('{"version": 2}', "is of ver"),
    ):
        path.with_suffix(".json").write_text(made)
        with pytest.raises(ValueError, match=message):
            check_game(path)
    path.with_suffix(".json").unlink()
    with pytest.raises(
        ValueError, match="must stand beside the game and be what was made with it: FileNotFound"
    ):
        games(str(tmp_path))


def test_splits_are_by_the_contents_of_files(tmp_path):
    for i in range(30):
        write_game(tmp_path / "one", str(i), str(i).encode() * 40)
        write_game(tmp_path / "other", f"game {(7 * i) % 30}", str(i).encode() * 40)
    one, other = (games(str(tmp_path / name)) for name in ("one", "other"))
    assert {split: len(found) for split, found in one.items()} == {"train": 24, "valid": 3, "test": 3}
    tasks = {split: [task for task, _ in found] for split, found in one.items()}
    assert tasks == {split: [task for task, _ in found] for split, found in other.items()}
    assert len({task for found in tasks.values() for task in found}) == 30
    options = Options(games=str(tmp_path / "one"))
    assert ENTRY.num_tasks(options, "test") == 3 and ENTRY.seeds(options, "test", 2).tolist() == [0, 1]
    lines = list(ENTRY.data(options, None))
    assert lines == list(ENTRY.data(options, tmp_path / "other"))
    assert [line.split(", digest")[0] for line in lines] == [
        "valid: 3 games",
        "test: 3 games",
        "train: 24 games",
    ]


def test_folders_of_splits_must_not_share_a_game(tmp_path):
    for split in SPLITS:
        write_game(tmp_path / split, split, split.encode())
    assert {split: len(found) for split, found in games(str(tmp_path)).items()} == dict.fromkeys(SPLITS, 1)
    games.cache_clear()
    write_game(tmp_path / "test", "copy", b"train")
    with pytest.raises(ValueError, match=r"copy\.z8 of test is in train too"):
        games(str(tmp_path))
    with pytest.raises(ValueError, match="no such folder; a game is made by: tw-make"):
        games(str(tmp_path / "nowhere"))
    (tmp_path / "none").mkdir()
    with pytest.raises(ValueError, match=r"no \.z8 file in"):
        games(str(tmp_path / "none"))


def options_of(folder, **changes):
    pytest.importorskip("textworld", reason="the package textworld is not installed")
    return replace(default_options("textworld"), games=str(folder), workers=2, **changes)


def play(env, turns, rng):
    """What two boards show and pay for random offered commands."""
    boards, story = np.arange(2), [env.observe(np.arange(2)), env.task_texts(np.arange(2))]
    for _ in range(turns):
        offered = env.legal_actions(boards)
        replies = [str(rng.choice(o)) if o else "" for o in offered]
        out = env.step(replies, boards)
        story.append(
            [replies, out.rewards.tolist(), out.done.tolist(), out.success.tolist(), env.observe(boards)]
        )
    return story


@pytest.mark.long
class TestGames:
    def test_a_restart_is_the_same_game_from_any_state(self, textworld_games):
        options, boards = options_of(textworld_games), np.arange(2)
        env = make_env(options, 2, split="train")
        env.reset(np.arange(2, dtype=np.uint64))
        first = play(env, 15, np.random.default_rng(1))
        assert first[0][0] != first[0][1] and all(text.startswith("-= ") for text in first[0])
        for turns in (0, 1, 9):
            env.restart(boards)
            play(env, turns, np.random.default_rng(turns))
            env.restart(boards)
            assert play(env, 15, np.random.default_rng(1)) == first
        again = make_env(options, 2, split="train")
        again.reset(np.arange(2, dtype=np.uint64))
        assert play(again, 15, np.random.default_rng(1)) == first

    def test_hostile_commands_reach_no_interpreter(self, textworld_games, tmp_path, monkeypatch):
        monkeypatch.chdir(tmp_path)
        hostile = [
            "a\x00b",
            "\ud800",
            "save",
            "QUIT",
            "restart",
            "script",
            "undo",
            "look. save",
            "look then quit",
        ]
        hostile += ["x" * 1_000_000, "просмотр", "看", "\x1b[2J", "", "save game", "Restore", "again"]
        for commands in ("admissible", "any"):
            env = make_env(options_of(textworld_games, commands=commands), 2, split="train")
            env.reset(np.arange(2, dtype=np.uint64))
            before = env.observe(np.arange(2))
            for content in hostile:
                out = env.step([act(content)] * 2, np.arange(2))
                assert not out.valid.any() and out.error == [None, None], content[:20]
                assert env.observe(np.arange(2)) == before
            assert env.step([act("look"), act("inventory")], np.arange(2)).valid.all()
            sung = env.step([act("sing loudly")] * 2, np.arange(2))
            assert sung.valid.tolist() == [commands == "any"] * 2 and sung.error == [None, None]
        assert not os.listdir(tmp_path)

    def test_limits_count_as_truncated(self, textworld_games):
        env = make_env(options_of(textworld_games, max_steps=3), 2, split="train")
        env.reset(np.arange(2, dtype=np.uint64))
        outs = [env.step([act("look")] * 2, np.arange(2)) for _ in range(3)]
        assert [out.truncated.tolist() for out in outs] == [[False] * 2, [False] * 2, [True] * 2]
        assert (
            outs[2].done.all() and not outs[2].success.any() and env.legal_actions(np.arange(2)) == [[], []]
        )

    def test_panels_and_the_protocol(self, textworld_games):
        options = options_of(textworld_games)
        found = {split: panel(options, split, None) for split in SPLITS}
        tasks = [task for split in SPLITS for task in found[split].tasks.tolist()]
        assert len(set(tasks)) == len(tasks) == 4 and len({one.digest for one in found.values()}) == 3
        assert check_env(make_env(options, 3, split="train")) == []

    def test_a_broken_file_is_told_before_a_process_starts(self, textworld_games, tmp_path):
        options = options_of(tmp_path)
        for path in textworld_games.glob("*.*"):
            content = path.read_bytes()
            (tmp_path / path.name).write_bytes(content[:5000] if path.name == "2.z8" else content)
        with pytest.raises((EnvError, ValueError), match=r"2\.z8 is cut off: 5000 bytes, its header says"):
            make_env(options, 2, split="train")
