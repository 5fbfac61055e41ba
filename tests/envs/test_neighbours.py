"""Minesweeper under neighbourhoods that must be found out: rules, splits, beliefs, the best explorer."""

import re
from functools import cache
from itertools import combinations

import numpy as np
import pytest

from lamer_fast import _C
from lamer_fast.cli.play_yourself import Game
from lamer_fast.config import resolve as recipe
from lamer_fast.envs import check_env, make, text_env
from lamer_fast.envs.native.neighbours import NUM_RULES, Memory, bound
from lamer_fast.envs.registry import entry, eval_seeds, make_env

WAYS = [(0, 1), (1, 0), (1, 1), (1, -1)]  # of the lines: row, column, diagonal, antidiagonal
TINY = {"height": 2, "width": 3, "num_mines": 2, "neighbours": "hidden"}


def seeds(count, first=0):
    return np.arange(first, first + count, dtype=np.uint64)


def numbers(height, width, mines, rule):
    """Cell -> how many mines its neighbours are, from the definition."""
    found = {}
    for cell in range(height * width):
        row, column = divmod(cell, width)
        beside = []
        for line, (down, right) in enumerate(WAYS):
            if rule + 1 >> line & 1:
                beside += [(row + s * down, column + s * right) for s in (1, -1)]
        inside = [r * width + c for r, c in beside if 0 <= r < height and 0 <= c < width]
        found[cell] = sum(c in mines for c in inside)
    return found


def shown(batch):
    """[boards] of [cells] symbols."""
    return [text.replace("\n", "") for text in batch.texts()]


def every_cell(batch):
    """[boards, cells] symbols: each cell opened in an episode of its own."""
    cells = []
    for cell in range(batch.num_actions):
        batch.restart()
        before = shown(batch)
        batch.step(np.full((batch.num_envs, 1), cell, np.int32))
        after = shown(batch)
        cells.append([text[cell] for text in after])
        for a, b in zip(before, after, strict=True):  # it opens alone
            assert a.count("?") == batch.num_actions - 1 and [i for i, x in enumerate(a) if x != b[i]] in (
                [cell],
                [],
            )
    return np.array(cells).T


@pytest.mark.parametrize(("height", "width", "num_mines"), [(3, 4, 4), (8, 8, 30), (1, 5, 2), (5, 2, 3)])
def test_numbers_are_those_of_the_rule_and_cells_open_alone(height, width, num_mines):
    batch = make("minesweeper", 120, height=height, width=width, num_mines=num_mines, neighbours="hidden")
    batch.reset(seeds(120))
    rules = batch.rules().tolist()
    assert len(set(rules)) == NUM_RULES
    for rule, symbols in zip(rules, every_cell(batch), strict=True):
        mines = set(np.flatnonzero(symbols == "*").tolist())
        assert len(mines) == num_mines
        right = numbers(height, width, mines, rule)
        assert all(symbol in ("*", ".12345678"[right[cell]]) for cell, symbol in enumerate(symbols))


def test_with_all_lines_the_numbers_are_those_of_the_ordinary_game():
    hidden = make("minesweeper", 300, height=5, width=5, num_mines=6, neighbours="hidden")
    hidden.reset(seeds(300))
    symbols = every_cell(hidden)[hidden.rules() == NUM_RULES - 1]
    assert len(symbols) > 5
    for row in symbols:
        plain = make("minesweeper", 1, height=5, width=5, num_mines=6)
        plain.lay((row == "*")[None], np.flatnonzero(row != "*")[:1].astype(np.int32))
        while not plain.flags()[0][0]:
            left = plain.legal_actions()[0] & (row != "*")
            plain.step(np.array([[np.flatnonzero(left)[0]]], np.int32))
        assert shown(plain)[0] == "".join(row).replace("*", "?")


def test_a_mine_as_the_last_cell_loses():
    """Also where as many cells are open then as there are free ones."""
    batch = make("minesweeper", 20, height=3, width=3, num_mines=2, neighbours="hidden")
    batch.reset(seeds(20))
    symbols = every_cell(batch)
    batch.restart()
    start = np.array([next(c for c, s in enumerate(text) if s != "?") for text in shown(batch)])
    free = np.array(
        [
            np.flatnonzero((row != "*") & (np.arange(9) != cell))
            for row, cell in zip(symbols, start, strict=True)
        ]
    )
    for cells in free.T[:-1]:
        batch.step(cells.astype(np.int32)[:, None])
    data = batch.snapshot()
    for last, won in (
        (np.array([np.flatnonzero(row == "*")[0] for row in symbols]), False),
        (free[:, -1], True),
    ):
        out = batch.step(last.astype(np.int32)[:, None])
        assert out.done.all() and (out.success == won).all() and (out.dead != won).all()
        batch.restore(data)


def test_check_env_finds_nothing():
    env = text_env("minesweeper", 5, split="train", height=4, width=3, num_mines=3, neighbours="hidden")
    assert check_env(env) == []
    assert "you have to find it out" in env.task_prompt()


def test_the_rule_belongs_to_the_task_and_a_snapshot_keeps_it():
    batch = make("minesweeper", 6, **TINY)
    batch.reset(np.repeat(seeds(2, 5), 3))
    rules, tasks = batch.rules(), batch.tasks()
    assert len(set(tasks[:3].tolist())) == 1 and (rules[:3] == rules[0]).all()
    batch.step(batch.expert_actions()[:, None])
    texts, data = batch.texts(), batch.snapshot()
    batch.restart()
    assert (batch.rules() == rules).all() and (batch.tasks() == tasks).all() and batch.texts() != texts
    batch.reset(seeds(6, 100))
    batch.restore(data)
    assert (batch.rules() == rules).all() and batch.texts() == texts and batch.snapshot() == data


def test_held_out_rules_and_boards():
    found = {}
    for split in ("train", "valid", "test"):
        batch = make(
            "minesweeper",
            600,
            split=split,
            height=4,
            width=4,
            num_mines=4,
            neighbours="hidden",
            held_out_rules=True,
        )
        batch.reset(seeds(600))
        assert {_C.split_of(task) for task in batch.tasks().tolist()} == {split}
        found[split] = set(batch.rules().tolist())
    assert not found["train"] & found["valid"] and not found["train"] & found["test"]
    assert not found["valid"] & found["test"]
    assert [len(found[split]) for split in found] == [9, 2, 4]


@pytest.mark.parametrize("held_out", [False, True])
def test_tasks_are_counted_and_splits_share_none(held_out):
    config = TINY | {"held_out_rules": held_out}
    counts = [make("minesweeper", 1, split=s, **config).num_tasks() for s in (None, "train", "valid", "test")]
    assert all(exact for _, exact in counts)
    assert sum(count for count, _ in counts[1:]) == counts[0][0]
    batch = make("minesweeper", 3000, **config)
    batch.reset(seeds(3000))
    assert len(set(batch.tasks().tolist())) == counts[0][0]


def test_small_boards_share_layouts_among_the_splits_but_none_with_its_rule():
    """A policy can know 84 layouts by heart: `train` has all, unless rules are held out."""
    for held_out in (False, True):
        pairs = {}
        for split in ("train", "valid", "test"):
            config = {
                "height": 3,
                "width": 3,
                "num_mines": 3,
                "neighbours": "hidden",
                "held_out_rules": held_out,
            }
            batch = make("minesweeper", 4000, split=split, **config)
            batch.reset(seeds(4000))
            mines = [row.tobytes() for row in every_cell(batch) == "*"]
            pairs[split] = set(zip(mines, batch.rules().tolist(), strict=True))
        layouts = {split: {mines for mines, _ in found} for split, found in pairs.items()}
        for a, b in combinations(pairs, 2):
            assert not pairs[a] & pairs[b]
            assert bool(layouts[a] & layouts[b]) is not held_out
        assert held_out or len(layouts["train"]) == 84


@pytest.mark.parametrize(
    ("config", "words"),
    [
        ({"neighbours": "some"}, "'all' or 'hidden', got 'some'"),
        ({"held_out_rules": True}, "held_out_rules is True, but neighbours is 'all'"),
        ({"neighbours": "hidden", "height": 9}, "1x1 to 8x8"),
        ({"neighbours": "hidden", "first_click": "agent"}, "needs first_click='env'"),
    ],
)
def test_wrong_options(config, words):
    with pytest.raises(ValueError, match=words):
        make("minesweeper", 1, **config)


# ---- the best explorer


@cache
def every(height, width, num_mines):
    layouts = [frozenset(mines) for mines in combinations(range(height * width), num_mines)]
    return [
        (mines, tuple(numbers(height, width, mines, r).values()))
        for mines in layouts
        for r in range(NUM_RULES)
    ]


def brute_force(height, width, num_mines, start, number, episodes):
    """The chance to win from its definition: every plan, history by history, cell by cell.

    A plan sees all that was shown in the trial and chooses the next closed cell of this episode, also one
    that it has opened before. Nothing is remembered by what is known, and no cell is preferred.
    """
    free = height * width - num_mines
    agreeing = [h for h in every(height, width, num_mines) if start not in h[0] and h[1][start] == number]

    def wins(hypotheses, now, known, left):
        """How many hypotheses are won; `now`: open in this episode; `known`: what was seen of cells."""
        best = 0
        for cell in range(height * width):
            if cell in now or known.get(cell) == "*":
                continue
            if (
                cell in known and len(known) < height * width
            ):  # known to be free: shows nothing, costs nothing
                opened = now | {cell}
                total = len(hypotheses) if len(opened) == free else wins(hypotheses, opened, known, left)
                return max(best, total)
            total, found = 0, {}
            for mines, values in hypotheses:
                found.setdefault("*" if cell in mines else values[cell], []).append((mines, values))
            for what, those in found.items():
                seen = known | {cell: what}
                if what == "*":
                    total += wins(those, frozenset({start}), seen, left - 1) if left > 1 else 0
                else:
                    opened = now | {cell}
                    total += len(those) if len(opened) == free else wins(those, opened, seen, left)
            best = max(best, total)
        return best

    return wins(agreeing, frozenset({start}), {start: number}, episodes) / len(agreeing)


def starts_of(batch):
    """(cell, number) that each board shows at first."""
    return [next((c, ".12345678".index(s)) for c, s in enumerate(text) if s != "?") for text in shown(batch)]


@pytest.mark.parametrize(
    ("height", "width", "num_mines", "episodes"),
    [(2, 2, 1, 1), (2, 2, 2, 2), (1, 5, 2, 2), (2, 3, 2, 1), (2, 3, 1, 2)],
)
def test_the_explorer_is_the_best_plan(height, width, num_mines, episodes):
    batch = make("minesweeper", 12, height=height, width=width, num_mines=num_mines, neighbours="hidden")
    batch.reset(seeds(12))
    starts = starts_of(batch)
    expected = [brute_force(height, width, num_mines, cell, number, episodes) for cell, number in starts]
    np.testing.assert_allclose(bound(batch, episodes)[:, -1], expected, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_the_explorer_is_the_best_plan_over_three_episodes():
    batch = make("minesweeper", 4, **TINY)
    batch.reset(seeds(4))
    starts = starts_of(batch)
    expected = [brute_force(2, 3, 2, cell, number, 3) for cell, number in starts]
    np.testing.assert_allclose(bound(batch, 3)[:, -1], expected, rtol=0, atol=1e-12)


def test_beliefs_are_counts_of_what_agrees():
    batch = make("minesweeper", 40, height=3, width=3, num_mines=3, neighbours="hidden")
    batch.reset(seeds(40))
    rng = np.random.default_rng(0)
    for _ in range(2):
        legal = batch.legal_actions()
        cells = np.where(legal, rng.random(legal.shape), -1).argmax(axis=1).astype(np.int32)
        batch.step(np.where(legal.any(axis=1), cells, -1).astype(np.int32)[:, None])
    memory = Memory(batch, 40)
    memory.look(np.arange(40))
    mined, lines = batch.beliefs(memory.seen, memory.hit)
    for board, text in enumerate(shown(batch)):
        agree = []
        for number, (mines, values) in enumerate(every(3, 3, 3)):
            right = ["*" if c in mines else ".12345678"[values[c]] for c in range(9)]
            if all(symbol in ("?", right[c]) for c, symbol in enumerate(text)):
                agree.append((mines, number % NUM_RULES + 1))
        np.testing.assert_allclose(
            mined[board], [np.mean([c in mines for mines, _ in agree]) for c in range(9)]
        )
        np.testing.assert_allclose(
            lines[board], [np.mean([lines >> i & 1 for _, lines in agree]) for i in range(4)]
        )


def test_a_cell_that_is_not_what_it_is_said_to_be_is_refused():
    batch = make("minesweeper", 1, **TINY)
    batch.reset(seeds(1))
    everything = np.ones((1, 6), bool)
    for seen, hit in ((everything, ~everything), (~everything, everything)):
        with pytest.raises(ValueError, match="is a mine, or one of `hit` is none"):
            batch.explore(seen, hit, np.ones(1, np.int32))
    large = make("minesweeper", 1, height=8, width=8, num_mines=10, neighbours="hidden")
    large.reset(seeds(1))
    nothing = np.zeros((1, 64), bool)
    with pytest.raises(ValueError, match="too many to look at each"):
        large.beliefs(nothing, nothing)
    assert large.expert_actions().tolist() == [-1]


def played(expert, env, count, episodes):
    won = np.zeros((count, episodes), bool)
    for episode in range(episodes):
        boards = np.flatnonzero(~won.any(axis=1))
        env.restart(boards)
        while len(boards):
            out = env.step(expert.play(boards)[0], boards)
            won[boards, episode] = out.success
            boards = boards[~out.done]
        lost = np.flatnonzero(~won.any(axis=1))
        notes = dict(zip(lost.tolist(), expert.reflect(lost), strict=True))
        assert expert.play(lost[:0])[0] == []  # a turn in which every trial reflects
    return np.logical_or.accumulate(won, axis=1).mean(axis=0), notes


def test_the_best_explorer_reaches_the_bound_and_the_teacher_stays_below():
    options = recipe.resolve("hidden-neighbours-tiny").env
    game, count = entry("minesweeper"), 1000
    env = make_env(options, count, split="train")
    env.reset(seeds(count))
    best = bound(env.batch, 3).mean(axis=0)
    error = np.sqrt(best * (1 - best) / count)
    rng = np.random.default_rng(0)
    explorer, _ = played(game.explorer(env, [0.0], 1.0, count, rng, max_turns=6, episodes=3), env, count, 3)
    assert abs(explorer[2] - best[2]) < 4 * error[2] and (explorer <= best + 4 * error).all()
    teacher, notes = played(game.expert(env, [0.0], 1.0, count, rng), env, count, 3)
    assert (teacher <= best + 4 * error).all() and teacher[2] > teacher[0] + 0.1
    rules = env.batch.rules()
    for board, note in notes.items():
        for said in re.findall(r"\w+ (?:counts|not)", note):
            line, word = said.split(" ")
            counts = rules[board] + 1 >> ("row", "column", "diagonal", "antidiagonal").index(line) & 1
            assert (word == "counts") == bool(counts)


def test_hints_win_as_often_as_they_say(capsys):
    config = recipe.resolve("hidden-neighbours-tiny")
    chances, won = [], []
    for seed in eval_seeds(config.env, "test", 40):
        made = Game(make_env(config.env, 1, split="test"), config, np.array([seed]))
        chances.append(made.guide.hint(0, 0)[1])
        while not made.over:
            made.take(":hint")
            made.take(capsys.readouterr().out.rpartition("hint: ")[2].strip())
        won.append(made.result.solved is not None)
    assert np.mean(won) == pytest.approx(np.mean(chances), abs=0.2)
