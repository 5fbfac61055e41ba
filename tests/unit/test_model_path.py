"""model.path: what is here comes first, names are names, and what is nowhere is told before any work."""

import pytest

from lamer_fast import cli
from lamer_fast.model.path import PACKAGED, SHIPPED, model_path, path_notes


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_shipped_name_is_the_shipped_folder():
    games = "hidden-controls", "hidden-neighbours", "minesweeper", "sokoban"
    assert list(SHIPPED) == [f"{game}-tiny-base" for game in games]
    assert model_path("minesweeper-tiny-base") == (str(SHIPPED["minesweeper-tiny-base"]), {})
    assert path_notes("minesweeper-tiny-base") == []


@pytest.mark.parametrize("name", [*SHIPPED, *PACKAGED])
def test_a_folder_of_a_shipped_models_name_wins_and_says_so(name, in_a_folder):
    (in_a_folder / name).mkdir()
    assert model_path(name) == (name, {})
    assert path_notes(name) == [
        f"model.path = {name!r} is the folder of that name here, not the model that ships"
    ]


@pytest.mark.parametrize("path", ["./mine", "mine", "models/mine", "../{}/mine", "{}/models/mine", "~/mine"])
def test_folders_are_found_however_they_are_written(path, in_a_folder, monkeypatch):
    monkeypatch.setenv("HOME", str(in_a_folder))
    for folder in ("mine", "models/mine"):
        (in_a_folder / folder).mkdir(parents=True)
    path = path.format(in_a_folder if path.startswith("{") else in_a_folder.name)
    found, extra = model_path(path)
    assert found.rpartition("/")[2] == "mine" and "~" not in found and extra == {}


@pytest.mark.parametrize("path", ["Qwen/Qwen3-4B", "meta-llama/Llama-3.2-1B-Instruct", "a/b.c-d_e"])
def test_the_id_of_a_model_on_the_hub_is_left_to_it(path):
    assert model_path(path) == (path, {})


@pytest.mark.parametrize(
    "path",
    ["", "mdoel", "./mdoel", "../mdoel", "/nowhere/mdoel", "~/mdoel", "a/b/c", "models/mdoel", "runs/x",
     "runs/x/model", "a/", "../recipes/minesweeper-tiny-base", "x/../minesweeper-tiny-base", "a b/c",
     "a\\b", "a//b"],
)  # fmt: skip
def test_a_path_that_is_nowhere_is_refused_without_asking_the_hub(path, in_a_folder):
    (in_a_folder / "models").mkdir()
    with pytest.raises(ValueError) as error:
        model_path(path)
    assert str(error.value).startswith(f"model.path = {path!r}: no such folder")
    assert "OWNER/NAME of a model on the hub" in str(error.value)


def test_the_nearest_name_is_offered(in_a_folder):
    (in_a_folder / "models" / "mine").mkdir(parents=True)
    for path, near in (("models/mien", "models/mine"), ("minesweper-tiny-base", "minesweeper-tiny-base")):
        with pytest.raises(ValueError, match=f"did you mean '{near}'"):
            model_path(path)


def test_a_base_that_is_not_made_yet_says_the_command(capsys):
    assert cli.main(["train", "webshop-tiny"]) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert line.endswith("make it: lamer-fast warmstart webshop-tiny-base --out runs/webshop-tiny-base")


def test_files(in_a_folder):
    (in_a_folder / "weights.bin").write_bytes(b"x")
    with pytest.raises(ValueError, match=r"is a file, expected a folder .* or a \.gguf file"):
        model_path("weights.bin")
    with pytest.raises(ValueError, match="no such file"):
        model_path("none.gguf")
    (in_a_folder / "bad.gguf").write_bytes(b"ABCDEF")
    with pytest.raises(ValueError, match="is no GGUF file: it starts with b'ABCD'"):
        model_path("bad.gguf")
