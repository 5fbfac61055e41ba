"""Regret: the bound of hidden controls, as a number of evaluations and studies, as a teacher, in hints."""

import json
from dataclasses import replace

import numpy as np
import pytest

from lamer_fast.cli.play_yourself import Game
from lamer_fast.config import resolve as recipe
from lamer_fast.envs.panel import panel
from lamer_fast.envs.registry import default_options, entry, eval_seeds, make_env
from lamer_fast.eval.bound import bound_of, has_bound, with_regret
from lamer_fast.eval.success import summarize
from lamer_fast.eval.table import table
from lamer_fast.study.estimates import closed
from lamer_fast.study.read import load
from lamer_fast.study.result import CellResult, Played
from lamer_fast.study.summary import summaries
from lamer_fast.study.tables import tables_of
from lamer_fast.warmstart.settings import WarmstartSettings
from lamer_fast.warmstart.supervised import easier_state, is_easy, supervised_config, teacher, warm_start

HIDDEN = recipe.resolve("hidden-controls-tiny")


@pytest.mark.parametrize(
    "overrides", [["--env.controls", "plain"], ["--env.moves-per-turn", "2"], ["--env.name", "minesweeper"]]
)
def test_no_bound_where_none_is_known(overrides):
    config = recipe.apply(HIDDEN, recipe.parse_overrides(overrides))
    assert has_bound(HIDDEN) and not has_bound(config)


def test_regret_is_what_is_missing_to_the_bound_task_by_task():
    played = panel(HIDDEN.env, "valid", 200)
    bound = bound_of(HIDDEN, played)
    assert bound.shape == (200, 3) and (np.diff(bound, axis=1) >= 0).all()
    longer = bound_of(recipe.apply(HIDDEN, {"eval.episodes": 5}), played)
    np.testing.assert_array_equal(longer[:, :3], bound)
    within = np.zeros((200, 3))
    within[:50] = 1
    found = with_regret(summarize("valid", within, np.zeros((200, 0)), tasks=["0"] * 200), bound)
    np.testing.assert_allclose([e.mean for e in found.regret], bound.mean(axis=0) - 0.25)
    np.testing.assert_allclose(found.bound, bound.mean(axis=0))
    assert all(e.low < e.mean < e.high for e in found.regret)
    text = table({"base": found})
    assert f"{100 * bound.mean(axis=0)[2]:.1f}" in text and f"{100 * found.regret[0].mean:.1f} [" in text
    assert "regret" not in table({"base": with_regret(summarize("valid", within, np.zeros((200, 0))), bound)})


def test_a_share_of_the_regret_is_closed():
    rng = np.random.default_rng(0)
    base = (rng.random((1, 1000)) < 0.2).astype(float)
    ours = np.maximum(base, rng.random((3, 1000)) < 0.5)  # half of what is missing to 1
    found = closed(ours, base, np.ones(1000))
    assert found.low < 0.5 < found.high < found.low + 0.15
    assert closed(base, base, np.ones(1000)).mean == 0.0
    assert closed(np.ones((2, 1000)), base, np.ones(1000)).mean == pytest.approx(1.0)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("of_the_others", [0.0, 1.0])
def test_draws_of_few_boards_without_regret_do_not_hide_how_uncertain_the_share_is(of_the_others):
    """The base has regret on three of eight boards: one draw in forty has none of them, 0 / 0 or 1 / 0."""
    lacks = np.array([[1, 1, 1, 0, 0, 0, 0, 0]], float)
    bound = np.full(8, 1.0)
    base = bound - lacks
    ours = base + lacks * [1, 0, 0, 0, 0, 0, 0, 0] - of_the_others * (1 - lacks) / 8
    found = closed(ours, base, bound)
    assert np.isfinite([found.low, found.high]).all()
    assert found.low < found.mean < found.high
    assert found.mean == pytest.approx((1 - of_the_others * 5 / 8) / 3)


def play(expert, env, count, turns, episodes):
    won = np.zeros((count, episodes), bool)
    for episode in range(episodes):
        boards = np.flatnonzero(~won.any(axis=1))
        env.restart(boards)
        for _ in range(turns):
            boards = boards[~won[boards, episode]]
            won[boards, episode] = env.step(expert.play(boards)[0], boards).success
        expert.reflect(boards)
    return np.logical_or.accumulate(won, axis=1).mean(axis=0)


def test_the_best_explorer_as_a_teacher_reaches_the_bound():
    count, config = 1500, HIDDEN
    env = make_env(config.env, count, split="train")
    seeds = np.arange(count, dtype=np.uint64)
    env.reset(seeds)
    settings = WarmstartSettings("hidden-controls-tiny", noise="0", memory=1.0, teacher="explorer")
    best = teacher(settings, config, env, count, np.random.default_rng(0))
    won = play(best, env, count, config.rollout.max_turns, config.rollout.episodes)
    bound = entry("sokoban").bound(config.env, "train", seeds, 3, 3).mean(axis=0)
    error = np.sqrt(bound * (1 - bound) / count)
    assert abs(won[2] - bound[2]) < 4 * error[2]
    assert (won <= bound + 4 * error).all()
    with pytest.raises(ValueError, match="knows no best explorer"):
        plain = recipe.resolve("sokoban-tiny")
        teacher(settings, plain, make_env(plain.env, 2, split="train"), 2, np.random.default_rng(0))


def test_hints_are_those_of_the_best_player_who_has_seen_the_same(capsys):
    """Over many boards as many trials are won by hints as the first hint promised."""
    seeds = eval_seeds(HIDDEN.env, "test", 60)
    chances, won = [], []
    for seed in seeds:
        made = Game(make_env(HIDDEN.env, 1, split="test"), HIDDEN, np.array([seed]))
        first = made.guide.hint(0, 0)[1]
        while not made.over:
            made.take(":hint")
            made.take(capsys.readouterr().out.rpartition("hint: ")[2].strip())
        chances.append(first)
        won.append(made.result.solved is not None)
    assert np.mean(won) == pytest.approx(np.mean(chances), abs=0.05)
    assert np.mean(won) > 0.9


def test_what_was_seen_is_forgotten_with_the_turn_that_is_taken_back():
    made = Game(make_env(HIDDEN.env, 1, split="test"), HIDDEN, eval_seeds(HIDDEN.env, "test", 1))
    before = made.guide.hint(0, 0)
    made.take("up")
    assert (made.guide.beliefs.repeats == 0).sum() < 24
    made.take(":undo")
    assert (made.guide.beliefs.repeats == 0).sum() == 24 and made.guide.hint(0, 0) == before


def test_a_warm_start_begins_on_easier_boards():
    settings = WarmstartSettings(
        "hidden-controls-tiny", easy="env.controls=plain, rollout.max_reply_tokens=14", easy_updates=200
    )
    settings.validate()
    easier = supervised_config(settings, easy=True)
    assert easier.env.controls == "plain" and easier.rollout.max_reply_tokens == 14
    assert supervised_config(settings).env.controls == "permuted"
    easy = [is_easy(settings, update) for update in range(settings.easy_updates)]
    assert easy[0] and 0.4 < np.mean(easy) < 0.6 and not is_easy(settings, settings.easy_updates)
    with pytest.raises(ValueError, match="easy = '' contradicts easy_updates = 5"):
        WarmstartSettings(easy_updates=5).validate()
    state = object()
    assert easier_state(WarmstartSettings(), state) is state


@pytest.mark.parametrize("part", load("hidden").parts)
def test_a_study_of_hidden_rules_has_a_table_of_regrets(part):
    study = load("hidden")
    cells = [c for c in study.cells() if (c.part, c.seed) == (part, 0) and c.arm.name in ("base", "lamer")]
    config = cells[0].evaluated
    split = {s: panel(config.env, s, study.tasks, at_most=study.tasks) for s in ("valid", "test")}
    bound = bound_of(config, split["test"]).mean(axis=0)

    def result(cell, digit, digest):
        modes = ("notes", "history", "attempts")
        splits = {
            s: Played(digest or split[s].digest, 3, dict.fromkeys(modes, digit * len(split[s])))
            for s in split
        }
        return CellResult(study.name, cell.part, cell.arm.name, cell.seed, cell.settings(), splits)

    def made(digest=""):
        return {c.name: result(c, "0" if c.arm.name == "base" else "2", digest) for c in cells}

    lamer, base = summaries(study, made())
    np.testing.assert_allclose([e.mean for e in base.regret], bound)
    np.testing.assert_allclose([e.mean for e in lamer.regret], bound - [0, 1, 1])
    assert base.closed == [] and lamer.closed[0].mean == 0
    assert lamer.closed[2].mean == pytest.approx(1 / bound[2])
    titles = [table.title for table in tables_of(study, [lamer, base])]
    assert any("regret to the best explorer" in title for title in titles)
    with pytest.raises(ValueError, match="panel other was played, now"):
        summaries(study, made("other"))
    won = {c.name: result(c, "1", "") for c in cells}
    assert summaries(study, won)[0].closed == [None, None, None]  # of a base without regret


def test_an_arm_of_one_long_episode_stands_beside_trials_of_three():
    """It is compared with the base in episodes as long, and its columns stay its own."""
    study = replace(load("context"), tasks=64)

    def result(cell):
        config = cell.evaluated
        K = config.rollout.episodes if cell.arm.name.startswith("long") else 3
        played = {s: panel(config.env, s, study.tasks) for s in ("valid", "test")}
        modes = dict.fromkeys(["attempts"] if K == 1 else ["notes", "attempts"], "1" * study.tasks)
        if cell.arm.name.endswith("base"):
            modes = dict.fromkeys(modes, "0" * study.tasks)
        splits = {s: Played(p.digest, K, modes) for s, p in played.items()}
        return CellResult(study.name, cell.part, cell.arm.name, cell.seed, cell.settings(), splits)

    made = {c.name: result(c) for c in study.cells() if c.seed == 0}
    found = {s.arm.name: s for s in summaries(study, made)}
    bounds = [found[name].regret[0].mean for name in ("base", "long_base")]
    assert (
        0.1 < bounds[0] < 0.3 and 0.8 < bounds[1] < 1
    )  # nine turns find out the words, and then there are some left
    assert len(found["long"].regret) == len(found["long"].closed) == 1
    assert found["long"].closed[0].mean == pytest.approx(1 / bounds[1])
    table = next(t for t in tables_of(study, list(found.values())) if "regret" in t.title)
    row = dict(zip(table.columns, next(row for row in table.rows if row[0] == "long"), strict=True))
    assert [row[f"regret@{k}"] != "" for k in (1, 2, 3)] == [True, False, False]
    assert [row[f"closed@{k}"] != "" for k in (1, 2, 3)] == [True, False, False]


@pytest.mark.parametrize(
    "changes",
    [
        {"recipe": "hidden-neighbours-tiny"},
        {"recipe": "hidden-neighbours-tiny", "teacher": "explorer"},
        {"recipe": "hidden-controls-tiny", "teacher": "explorer"},
        {
            "recipe": "hidden-controls-tiny",
            "easy": "env.controls=plain, rollout.max_reply_tokens=14",
            "easy_updates": 2,
        },
    ],
)
def test_warm_starts_of_hidden_rules_run(changes, tmp_path):
    settings = WarmstartSettings(
        **changes, updates=3, warmup_updates=0, decay_updates=1, trials=6, noise="0,0.5", eval_tasks=6,
        num_layers=1, hidden_size=32, mlp_size=32, num_heads=2, num_kv_heads=1, head_size=16,
    )  # fmt: skip
    settings.validate()
    warm_start(settings, tmp_path / "base")
    (record,) = map(json.loads, (tmp_path / "base" / "warmstart.jsonl").open())
    assert record["update"] == 3 and np.isfinite(record["valid_loss"])


def test_a_search_that_is_too_large_has_no_bound_and_a_wrong_number_is_an_error():
    seeds = np.zeros(1, np.uint64)
    options = replace(default_options("sokoban"), controls="broken", moves_per_turn=1, height=10, width=10)
    large = replace(options, num_boxes=4, min_moves=20, max_moves=40)
    assert entry("sokoban").bound(large, None, seeds, 60, 3) is None
    hidden = replace(default_options("minesweeper"), neighbours="hidden", height=2, width=3, num_mines=2)
    with pytest.raises(ValueError, match="episodes must be 1 to 255, got 256"):
        entry("minesweeper").bound(hidden, None, seeds, 6, 256)
