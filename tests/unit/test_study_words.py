"""What is written has an effect or is refused: words of `--only`, seeds, names, sizes of a quick study."""

import pytest

from lamer_fast.study.read import load
from lamer_fast.study.spec import chosen
from tests.small_study import ONE_ARM


def test_a_quick_study_is_small_whatever_its_arms_and_parts_say(tmp_path):
    long = ONE_ARM.replace("[arms.ours]", "train.iterations = 40\n[arms.ours]\nlearn.minibatches = 4")
    (tmp_path / "long.toml").write_text(long + "[arms.more]\ntrain.iterations = 50\nrollout.groups = 8\n")
    for cell in load(str(tmp_path / "long.toml")).quick().cells():
        assert cell.config.train.iterations == 2 and cell.config.rollout.groups == 2
        assert cell.config.learn.minibatches == 1


@pytest.mark.parametrize(
    ("only", "names"),
    [
        ("ours", ["mines-ours-1", "mines-ours-10"]),
        ("mines-ours-1", ["mines-ours-1"]),
        ("mines-ours_two", ["mines-ours_two-1", "mines-ours_two-10"]),
        ("two,-1", ["mines-ours-1", "mines-ours_two-1", "mines-ours-10", "mines-ours_two-10"]),
        ("two", ["mines-ours_two-1", "mines-ours_two-10"]),
        (" , ", ["mines-ours-1", "mines-ours_two-1", "mines-ours-10", "mines-ours_two-10"]),
    ],
)
def test_a_whole_word_chooses_its_cells_alone(tmp_path, only, names):
    text = ONE_ARM.replace("[0]", "[1, 10]") + '[arms.ours_two]\nalgo.estimator = "grpo"\n'
    (tmp_path / "more.toml").write_text(text)
    assert [cell.name for cell in chosen(load(str(tmp_path / "more.toml")).cells(), only)] == names


def test_each_word_must_choose_something(tmp_path):
    (tmp_path / "small.toml").write_text(ONE_ARM)
    with pytest.raises(
        ValueError,
        match=r"--only 'ours,theirs': no cell has 'theirs' in its name; there are mines-ours[^0-9]*$",
    ):
        chosen(load(str(tmp_path / "small.toml")).cells(), "ours,theirs")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[arms.ours]", "[arms.ours]\ntrain.seed = 7"), "arms.ours.train.seed = 7 has no effect; `seeds`"),
        (("[parts.mines]", "[train]\nseed = 7\n[parts.mines]"), "train.seed = 7 has no effect"),
        (("[arms.ours]", "[arms.'\u00e4rm']"), "arm 'ärm': a name is letters, digits and _, in ASCII"),
        (('question = "Which?"', 'question = "Which?"\nextends = 3'), "small.toml: extends = 3, must be"),
        (("question", 'extends = "none.toml"\nquestion'), "small.toml: extends: study 'none.toml': no such"),
    ],
)
def test_what_would_have_no_effect_is_told(tmp_path, monkeypatch, change, message):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "small.toml").write_text(ONE_ARM.replace(*change), encoding="utf-8")
    with pytest.raises(ValueError) as error:
        load("small.toml")
    assert message in str(error.value) and "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("more", "message"),
    [
        (
            "[modes.three]\neval.memory = 'both'\n[modes.six]\neval.episodes = 6\n",
            "cell mines-ours-0: mode three plays 3 episodes, mode six 6; the modes of a cell play as many",
        ),
        ('prompts = "full"\n', "has no cell: no arm has a part here, by its `parts` or `prompts`"),
    ],
)
def test_a_grid_that_says_nothing_is_told(tmp_path, more, message):
    """Attempts of three and of six episodes had one pass@k; a study without cells ended well."""
    (tmp_path / "small.toml").write_text(ONE_ARM + more)
    with pytest.raises(ValueError) as error:
        load(str(tmp_path / "small.toml")).cells()
    assert message in str(error.value) and "\n" not in str(error.value)
