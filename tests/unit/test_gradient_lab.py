"""The gradient lab: its trials are all there are, its gradients are exact, and what is unbiased looks so."""

import re
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lamer_fast.cli import study as study_command
from lamer_fast.config import AlgoConfig
from lamer_fast.envs.registry import make_env
from lamer_fast.rollout.trial_batch import Phase
from lamer_fast.study.gradient.boards import ONE, alike, explore
from lamer_fast.study.gradient.command import load
from lamer_fast.study.gradient.estimators import Estimator, advantages, draw, turn_weights, values
from lamer_fast.study.gradient.measure import CLAIM, SUCCESS, WHOLE, measure
from lamer_fast.study.gradient.minds import MINDS, NOTHING
from lamer_fast.study.gradient.moments import Moments, z_scores
from lamer_fast.study.gradient.objectives import (
    claimed,
    discounted,
    last_episode,
    of_k_trials,
    success,
    total,
)
from lamer_fast.study.gradient.policy import (
    chances,
    climbed,
    log_softmax,
    mean_over_trials,
    random_policy,
    score_sums,
    true_gradient,
)
from lamer_fast.study.gradient.record import missing, path_of, read
from lamer_fast.study.gradient.report import tables_of
from lamer_fast.study.gradient.tree import every_trial

ROOT = Path(__file__).parents[2]
UNDISCOUNTED = {"gamma_step": 1.0, "gamma_traj": 1.0}
LAMBDA_1 = {"scale": "none", "lambda_step": 1.0, "lambda_traj": 1.0}
OBJECTIVES = {
    "success": success,
    "total": total,
    "last_episode": last_episode,
    "discounted": partial(discounted, gamma_step=0.9, gamma_traj=0.5),
}


def options(**changes):
    return replace(load("gradient").worlds[0].config.env, **changes)


def small_tree(episodes=2, boards=3, **changes):
    """Minesweeper 2x2 with two mines: an episode is a turn, a lost one leaves three notes to choose from."""
    mind = MINDS["notes"]
    env = options(width=2, num_mines=2, **changes)
    return every_trial(alike(env, mind.actions, boards), mind, episodes, 12)


def arm(name="", critic="exact", aggregation=None, sequences="turns", **algo):
    return Estimator(name, "", AlgoConfig(**algo), {}, critic, aggregation, sequences)


def exact_update(tree, logits, of_arm):
    """Mean gradient over every group of two trials, each board's groups by their chances: no sampling."""
    boards = [np.flatnonzero(tree.board == board) for board in range(len(tree.seeds))]
    pairs = np.concatenate([np.array([*product(trials, repeat=2)]) for trials in boards])
    chance = chances(tree, logits)[pairs].prod(axis=1) / len(boards)
    drawn, group = pairs.ravel(), np.repeat(np.arange(len(pairs), dtype=np.int32), 2)
    rows, trials, critic = tree.rows(drawn), tree.batch(drawn, group), values(tree, logits, of_arm)
    of_turn = advantages(trials, of_arm, None if critic is None else critic[rows])
    weights = turn_weights(trials, of_arm) * len(pairs) * chance[trials.group]
    return score_sums(tree, np.exp(log_softmax(logits, tree.allowed)), of_turn * weights, rows)[0]


def cosine(a, b):
    return float((a * b).sum() / np.linalg.norm(a) / np.linalg.norm(b))


@pytest.mark.parametrize(
    ("world", "seeds"), [(0, (0, 14)), (1, (0, 26))], ids=["minesweeper", "hidden controls"]
)
def test_a_state_gone_back_to_is_the_state_that_playing_from_the_start_reaches(world, seeds):
    lab = load("gradient").worlds[world]
    mind, most = MINDS[lab.mind], min(4, lab.config.rollout.max_turns)
    env = make_env(lab.config.env, 1, split=None)
    for seed in seeds:
        board = explore(env, seed, mind.actions)
        paths = [((), 0)]
        while paths:
            path, state = paths.pop()
            env.reset(np.array([seed], np.uint64))
            for action in path:
                out = env.step([action], ONE)
            assert env.observe(ONE)[0] == board.views[state]
            assert int(env.anchors(ONE)[0]) == board.anchors[state]
            for reply, known in zip(board.actions[state], board.outcomes[state], strict=True):
                env.reset(np.array([seed], np.uint64))
                for action in (*path, reply):
                    out = env.step([action], ONE)
                assert (out.rewards[0], out.done[0], out.success[0]) == (
                    known.reward,
                    known.done,
                    known.success,
                )
                if len(path) < most:
                    paths.append(((*path, reply), known.state))


def test_going_back_draws_the_same_mines_again_and_restarts_to_the_same_start():
    env = make_env(options(width=3, num_mines=3, first_click="agent"), 1, split=None)
    env.reset(np.array([7], np.uint64))
    start, snapshot = env.observe(ONE), env.snapshot(ONE)
    seen = []
    for _ in range(2):
        env.restore(snapshot, ONE)
        env.step(["<action>(1, 1)</action>"], ONE)
        out = env.step(["<action>(2, 3)</action>"], ONE)
        seen.append((env.observe(ONE), out.rewards.tolist(), env.tasks(ONE).tolist()))
        env.restart(ONE)
        assert env.observe(ONE) == start
    assert seen[0] == seen[1]


def test_every_trial_is_there_once_and_is_what_the_environment_plays():
    mind, env = MINDS["notes"], options(width=2, num_mines=2)
    boards = alike(env, mind.actions, 3)
    tree, live = every_trial(boards, mind, 2, 12), make_env(env, 1, split=None)
    assert len({board.views[0] for board in boards}) == 1
    played = set()

    def play(board, episode, memory, so_far):
        for action in mind.actions(live, view) if (view := live.observe(ONE)[0]) else ():
            live.restart(ONE)
            out = live.step([action], ONE)
            after = live.observe(ONE)[0]
            turn = (Phase.PLAY, float(out.rewards[0]), episode)
            if out.success[0] or episode == 1:
                played.add((board, (*so_far, (action, *turn))))
            else:
                for i, note in enumerate(mind.notes(memory, after)):
                    live.restart(ONE)
                    play(board, episode + 1, note, (*so_far, (action, *turn), (i, Phase.REFLECT, 0.0, 1)))
            live.restart(ONE)

    for b, board in enumerate(boards):
        live.reset(np.array([board.seed], np.uint64))
        play(b, 0, NOTHING, ())
    trials, names = tree.every(), boards[0].actions[0]
    found = []
    for m in range(tree.num_trials):
        rows = range(trials.cu_trials[m], trials.cu_trials[m + 1])
        turns = []
        for r in rows:
            action = int(tree.turns["action"][r])
            play_turn = trials.phase[r] == Phase.PLAY
            told = (names[action] if play_turn else action, trials.phase[r])
            turns.append((*told, float(trials.rewards[r]), int(trials.episode[r])))
        found.append((int(tree.board[m]), tuple(turns)))
    assert len(set(found)) == len(found)
    assert set(found) == played
    trials.validate()
    chance = chances(tree, random_policy(tree, 3, 1.0))
    np.testing.assert_allclose(np.bincount(tree.board, chance), 1, rtol=1e-12)


@pytest.mark.parametrize("name", OBJECTIVES)
def test_the_true_gradient_is_that_of_finite_differences(name):
    tree, objective = small_tree(), OBJECTIVES[name]
    logits = random_policy(tree, 1, 1.0)
    exact = true_gradient(tree, logits, objective)

    def value(at):
        chance = chances(tree, at)
        return mean_over_trials(tree, chance, objective(tree, chance))

    check(value, logits, exact)


def test_the_true_gradient_of_pass_at_k_over_trials_is_that_of_finite_differences():
    tree = small_tree()
    logits = random_policy(tree, 1, 1.0)

    def value(at):
        won = chances(tree, at) * success(tree, chances(tree, at))
        return float((1 - (1 - np.bincount(tree.board, won)) ** 3).mean())

    check(value, logits, true_gradient(tree, logits, partial(of_k_trials, k=3)))


def check(value, logits, exact, step=1e-5):
    assert np.linalg.norm(exact) > 1e-3
    for x, a in product(*map(range, logits.shape)):
        up, down = logits.copy(), logits.copy()
        up[x, a] += step
        down[x, a] -= step
        assert exact[x, a] == pytest.approx((value(up) - value(down)) / 2 / step, abs=1e-8)


EXACT = {
    "rloo without discount": (dict(estimator="rloo", **UNDISCOUNTED), 1.0),
    "rloo, discount inside episodes": (dict(estimator="rloo", gamma_traj=1.0, gamma_step=0.5), 1.0),
    "pass@k over episodes": (dict(estimator="pass_at_k"), 1.0),
    "pass@k over trials": (dict(estimator="pass_at_k", pass_over="trials", pass_k=2), 1.0),
    "a critic that knows": (dict(estimator="gae", **LAMBDA_1, **UNDISCOUNTED), 1.0),
    "the group's mean halves it, one episode": (dict(estimator="grpo", scale="none", **UNDISCOUNTED), 0.5),
}


@pytest.mark.parametrize("name", EXACT)
def test_over_all_groups_of_two_the_unbiased_give_the_gradient_of_what_they_claim(name):
    """The last is thinking-machines-lab/tinker-cookbook#135: (G - 1) / G of the gradient, as its own trial is
    part of the mean."""
    algo, scale = EXACT[name]
    tree = small_tree(episodes=1 if "one episode" in name else 2)
    logits, of_arm = random_policy(tree, 2, 1.0), arm(**algo)
    true = true_gradient(tree, logits, claimed(of_arm.algo, 2)[1])
    np.testing.assert_allclose(exact_update(tree, logits, of_arm), scale * true, atol=2e-6)


BIASED = {
    "the discount between episodes that no turn is weighed by": dict(estimator="rloo", gamma_traj=0.5),
    "the discount inside episodes, by returns of turns": dict(
        estimator="gae", **LAMBDA_1, gamma_step=0.5, gamma_traj=1.0
    ),
    "own turns in the baseline": dict(estimator="rloo", stats_unit="turn", **UNDISCOUNTED),
    "the deviation": dict(estimator="grpo", **UNDISCOUNTED),
    "the length of a trial": dict(
        estimator="rloo", **UNDISCOUNTED, aggregation="sequence_mean", sequences="trials"
    ),
    "credit that stays in its episode": dict(estimator="rloo", episode_credit="own"),
}


@pytest.mark.parametrize("name", BIASED)
def test_over_all_groups_of_two_the_biased_point_elsewhere(name):
    """Reported of others: ufal/npfl122#117 (gamma^t), volcengine/verl#742 (the deviation),
    OpenRLHF/OpenRLHF#899 (the length)."""
    settings = dict(BIASED[name])
    lab_settings = {key: settings.pop(key) for key in ("aggregation", "sequences") if key in settings}
    tree = tree_of_two_turns() if "inside" in name else small_tree(boards=3)
    logits, of_arm = random_policy(tree, 2, 1.0), arm(**lab_settings, **settings)
    true = true_gradient(tree, logits, claimed(of_arm.algo, 2)[1])
    assert cosine(exact_update(tree, logits, of_arm), true) < 0.999


def tree_of_two_turns():
    mind = MINDS["notes"]
    return every_trial(alike(options(), mind.actions, 2), mind, 1, 12)


def test_sampled_updates_have_the_mean_of_all_groups_also_where_it_is_biased():
    tree = small_tree()
    logits = random_policy(tree, 2, 1.0)
    arms = [arm("lamer"), arm("grpo", estimator="grpo"), arm("rloo", estimator="rloo", **UNDISCOUNTED)]
    found = measure(tree, logits, arms, groups=16, size=2, updates=400, seed=5)
    for of_arm in arms:
        z = z_scores(found[of_arm.name][WHOLE], exact_update(tree, logits, of_arm))
        z = z[z != 0]
        assert abs(z).max() < 5 and 0.4 < (z**2).mean() < 2.2, (of_arm.name, z)
    unbiased = found["rloo"][WHOLE].direction(SUCCESS)
    assert unbiased.cosine > 0.99
    biased = z_scores(found["grpo"][WHOLE], true_gradient(tree, logits, claimed(arms[1].algo, 2)[1]))
    assert abs(biased).max() > 10


def test_trials_are_drawn_by_their_chances_and_a_group_plays_one_board():
    tree = small_tree()
    chance = chances(tree, random_policy(tree, 2, 1.0))
    drawn = draw(tree, chance, 20_000, 4, np.random.default_rng(0))
    boards = tree.board[drawn].reshape(-1, 4)
    assert (boards == boards[:, :1]).all()
    expected = chance / len(tree.seeds) * len(drawn)
    seen = np.bincount(drawn, minlength=tree.num_trials)
    chi2 = float(((seen - expected) ** 2 / expected).sum())
    assert chi2 < 2 * tree.num_trials


def test_moments_take_their_own_noise_off():
    rng, g = np.random.default_rng(0), np.zeros(50)
    g[0] = 1.0
    found = Moments({"g": g, "aside": np.ones(50)})
    for _ in range(20):
        found.add(0.5 * g + rng.normal(0, 1, (100, 50)))
    got = found.direction("g")
    assert got.scale == pytest.approx(0.5, abs=4 * got.scale_error)
    assert got.cosine == pytest.approx(1.0, abs=4 * got.cosine_error + 0.02)
    assert got.noise == pytest.approx(50 / 0.25, rel=0.15)
    assert found.direction("aside").cosine == pytest.approx(50**-0.5, abs=0.05)
    plain = cosine(found.mean(), g)
    assert plain < 0.98, "without it the mean would look off"


def test_climbing_the_true_gradient_wins_more():
    tree = small_tree()
    first = random_policy(tree, 0, 0.5)
    won = [
        mean_over_trials(tree, chances(tree, logits), success(tree, chances(tree, logits)))
        for logits in (first, climbed(tree, first, success, 10, 0.5))
    ]
    assert won[1] > won[0] + 0.05


SMALL = """
extends = "gradient"
updates = 20
trials = 16
sizes = [4, 2]
[worlds.mines]
boards = 2
rollout.episodes = 2
[worlds.controls]
boards = 2
[arms.mine]
algo = { estimator = "rloo", gamma_traj = 0.45 }
sizes = true
"""


def test_an_arm_of_ones_own_is_measured_beside_what_is_known(tmp_path, capsys):
    source = tmp_path / "small.toml"
    source.write_text(SMALL.replace("[arms.mine]", "[arms.others]"))
    line = [str(source), "--out", str(tmp_path / "out"), "--only", "mines-first,mines-trained-2"]
    assert study_command.run(line) == 0
    path = tmp_path / "out" / "small" / "cells" / "mines-first-4.json"
    before = read(path)
    source.write_text(
        SMALL + '[arms.others]\nalgo = { estimator = "rloo", gamma_traj = 0.45 }\nsizes = true\n'
    )
    assert study_command.run([*line, "--list"]) == 0
    assert "to do     mines-first-4" in capsys.readouterr().out
    assert study_command.run(line) == 0
    after = read(path)
    assert before.arms.keys() < after.arms.keys() and before.arms["lamer"] == after.arms["lamer"]
    assert after.arms["mine"].parts == after.arms["others"].parts, "the same trials, the same numbers"
    assert "| mine | discounted |" in (tmp_path / "out" / "small" / "tables.md").read_text()
    source.write_text(SMALL.replace("updates = 20", "updates = 40"))
    with pytest.raises(ValueError, match=r"updates was 20, the lab says 40"):
        study_command.run(line)


def test_what_the_repository_keeps_is_what_the_shipped_lab_asks():
    lab, folder = load("gradient"), Path(__file__).parents[2] / "benchmarks/studies/gradient"
    for cell in lab.cells():
        assert missing(path_of(folder, cell), lab.settings(cell), cell) == []


WRONG = [  # in place of what SMALL has, and what the error says of it
    ("trials = 16", "trials = 17", "trials = 17 is no multiple of sizes = 4"),
    ("updates = 20", "updates = 30", "updates = 30 is no multiple of 20"),
    ("updates = 20", 'updates = "many"', "updates = 'many', must be"),
    ("sizes = [4, 2]", "sizes = 4", "sizes = 4, must be a list"),
    ("sizes = [4, 2]", "sizes = [0]", "sizes = 0, must be"),
    ("trials = 16", "trials = 16\nspread = -1", "spread = -1, must be"),
    ("trials = 16", "trials = 16\npolicies = 3", "policies = 3, must be a table"),
    ("[arms.mine]", "[policies]\nfirst = -1\n[arms.mine]", "policies.first = -1, must be"),
    ("[arms.mine]", "[arms]\nother = 3\n[arms.mine]", "arms.other = 3, must be a table"),
    ("[arms.mine]", "[worlds.other]\nmind = 'notes'\n[arms.mine]", "worlds.other.recipe is missing"),
    ("boards = 2", 'boards = "two"', "worlds.mines.boards = 'two', must be"),
    ("boards = 2", "boards = 2\nenv = 7", "worlds.mines.env = 7, must be a table"),
    ("gamma_traj = 0.45", "gama_traj = 0.45", "gama_traj"),
    ("sizes = true", "size = true", "arms.mine.size"),
    ("updates = 20", "updats = 20", "updats"),
    ('estimator = "rloo"', 'estimator = "rlo"', "'rlo'"),
    ('estimator = "rloo"', 'estimator = "pass_at_k", pass_k = 9', "arms.mine, groups of 4: algo.pass_k = 9"),
]


@pytest.mark.parametrize(("change", "into", "says"), WRONG)
def test_a_wrong_lab_is_told_before_anything_runs(tmp_path, change, into, says):
    (tmp_path / "small.toml").write_text(SMALL.replace(change, into, 1))
    with pytest.raises(ValueError, match=re.escape(says)) as error:
        load(str(tmp_path / "small.toml"))
    assert "small.toml" in str(error.value)


def test_the_page_has_the_figures_of_the_committed_cells():
    folder, lab = ROOT / "benchmarks" / "studies" / "gradient", load("gradient")
    found = {cell.name: read(path_of(folder, cell)) for cell in lab.all_cells()}
    tables = tables_of(lab, found)
    text = "\n".join(f"{table.title}\n\n{table.markdown()}\n" for table in tables)
    assert (folder / "tables.md").read_text() == text

    _, shown = arms_on_the_page("## Which estimator points the right way?")
    assert len(shown) > 20
    for name, row in shown.items():
        expected = []
        for world in ("mines", "controls"):
            parts = found[f"{world}-trained-8"].arms[name].parts
            goal = parts[WHOLE][SUCCESS]
            expected += [f"{parts[WHOLE][CLAIM].cosine:.2f}", f"{goal.cosine:.2f}"]
            expected += [f"{parts['blank'][SUCCESS].cosine:+.2f}"] if world == "controls" else []
            expected += [f"{goal.noise:.0f}", f"{goal.one:.2f}"]
        assert row == expected, name


def arms_on_the_page(heading):
    """The section's text, and of each arm in its table the cells after the name and what it is."""
    page = (ROOT / "docs" / "study.md").read_text()
    section = page.split(heading)[1].split("\n## ")[0]
    lines = (line for line in section.splitlines() if line.startswith("|"))
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    return section, {row[0].strip("`"): row[2:] for row in rows if row[0].startswith("`")}
