"""Recorded trials: read back from files of every version, and the text of each token."""

import gzip
import json

import numpy as np
import pytest

from lamer_fast import read_trials
from lamer_fast.agent.chat import ChatRenderer
from tests.tiny import tiny_tokenizer

TURN = {"phase": "play", "episode": 0, "turn": 0, "board": "?", "reply": "x", "reward": 0.5}
OLD = {"group": 0, "trial": 0, "success_by_episode": [True], "turns": [TURN, TURN | {"turn": 1}]}
NEW = OLD | {"trial": 1, "turns": [TURN | {"advantage": -1.5, "token_ids": [7]}]}


@pytest.fixture
def run_folder(tmp_path):
    (tmp_path / "trials").mkdir()
    for iteration, trial in ((3, OLD), (12, NEW)):
        with gzip.open(tmp_path / "trials" / f"{iteration:06d}.jsonl.gz", "wt") as file:
            file.write(json.dumps(trial) + "\n")
    return tmp_path


def test_a_run_a_folder_or_a_file(run_folder):
    both = [{"iteration": 3} | OLD, {"iteration": 12} | NEW]
    assert read_trials(run_folder) == read_trials(str(run_folder / "trials")) == both
    assert read_trials(run_folder / "trials" / "000012.jsonl.gz") == both[1:]


@pytest.mark.parametrize("package", ["polars", "pandas"])
def test_a_frame_has_a_row_for_each_turn(run_folder, package):
    pytest.importorskip(package, reason=f"{package} is not installed")
    with gzip.open(run_folder / "trials" / "000012.jsonl.gz", "wt") as file:
        file.write(json.dumps(NEW | {"task": 2**64 - 1, "seed": 7}) + "\n")
    with gzip.open(run_folder / "trials" / "000003.jsonl.gz", "wt") as file:
        file.write(json.dumps(OLD | {"task": 3, "seed": 2**63}) + "\n")
    frame = read_trials(run_folder, package)
    assert str(frame["task"].dtype).lower() == str(frame["seed"].dtype).lower() == "uint64"
    assert list(frame["task"])[1:] == [3, 2**64 - 1]
    assert list(frame["iteration"]) == [3, 3, 12] and list(frame["turn"]) == [0, 1, 0]
    values = list(frame["advantage"])
    assert values[2] == -1.5 and all(value is None or value != value for value in values[:2])


def test_what_cannot_be_read_is_told(run_folder, tmp_path_factory):
    with pytest.raises(ValueError, match="frame = 'arrow', expected None, 'polars' or 'pandas'"):
        read_trials(run_folder, "arrow")
    with pytest.raises(ValueError, match=r"holds no trials: expected trials/\*\.jsonl\.gz"):
        read_trials(tmp_path_factory.mktemp("empty"))


class Bytes:
    """Decodes ids as UTF-8 bytes, and drops a space at the beginning, as some tokenizers do."""

    def decode(self, ids, **_):
        return bytes(ids).decode(errors="replace").removeprefix(" ")


def test_pieces_of_tokens_make_the_text():
    renderer = ChatRenderer(tiny_tokenizer())
    (ids,) = renderer.replies(["<action>(2, 3)</action>"])
    assert "".join(renderer.pieces(ids[:-1])) == "<action>(2, 3)</action>"
    renderer._tokenizer, renderer._texts = Bytes(), {}
    text = "a b \u00fc \U0001f600 "
    pieces = renderer.pieces(np.frombuffer(text.encode(), np.uint8).astype(np.int32))
    assert "".join(pieces) == text and len(pieces) == len(text.encode())
    smile = pieces.index("\U0001f600")
    assert pieces[smile - 3 : smile] == ["", "", ""], "a character stands with its last token"
    half = renderer.pieces(np.array([0xF0, 0x9F], np.int32))
    assert half[0] == "" and set(half[1]) == {"\ufffd"}, "of a reply that was cut inside a character"
