"""Train, valid and test share no task, judged by an own canonical form over the 8 symmetries."""

import itertools

import numpy as np
import pytest

from lamer_fast import _C
from lamer_fast.envs import distinct_seeds, iterate_tasks, make, num_tasks

SPLITS = ("train", "valid", "test")
CASES = [
    ("sokoban", {"num_boxes": 1}),
    ("sokoban", {"num_boxes": 2}),
    ("minesweeper", {}),
    ("minesweeper", {"height": 4, "width": 5, "num_mines": 3}),
]


def mine_grids(batch):
    """[E, height, width] bool, found by opening each cell in turn."""
    grids = np.zeros((batch.num_envs, batch.num_actions), bool)
    for cell in range(batch.num_actions):
        grids[:, cell] = batch.step(np.full((batch.num_envs, 1), cell, np.int32)).dead
        batch.restart()
    return grids.reshape(batch.num_envs, batch.height, batch.width)


def to_corner(codes):
    """Each board moved so that its first row and column with anything but wall (0) come first."""
    rows = np.argmax((codes != 0).any(axis=2), axis=1)[:, None, None] + np.arange(codes.shape[1])[:, None]
    columns = np.argmax((codes != 0).any(axis=1), axis=1)[:, None, None] + np.arange(codes.shape[2])
    boards = np.arange(len(codes))[:, None, None]
    return codes[boards, rows % codes.shape[1], columns % codes.shape[2]]


def canonical(batch):
    """[E] uint64: least hash over the symmetries of the start; Sokoban: wherever in the room it lies."""
    texts = "\n".join(batch.texts(style="compact")) + "\n"
    cells = np.frombuffer(texts.encode(), np.uint8).reshape(-1, batch.height, batch.width + 1)[:, :, :-1]
    if batch.name == "sokoban":
        codes = cells - np.uint8(ord("#"))
    else:
        codes = (cells != ord("?")) + np.uint8(2) * mine_grids(batch)
    shape = codes.shape[1:]
    rng = np.random.default_rng(0)
    weights = {size: rng.integers(0, 2**64, size, np.uint64) for size in sorted({shape, shape[::-1]})}
    hashes = []
    for turns, flip in itertools.product(range(4), (False, True)):
        turned = np.rot90(codes, turns, axes=(1, 2))
        turned = turned[:, :, ::-1] if flip else turned
        turned = to_corner(turned) if batch.name == "sokoban" else turned
        hashes.append(turned.reshape(len(codes), -1).astype(np.uint64) @ weights[turned.shape[1:]].ravel())
    return np.min(hashes, axis=0)


def draw(name, config, split, count, first=0):
    batch = make(name, count, split=split, **config)
    batch.reset(np.arange(first, first + count, dtype=np.uint64))
    return batch


@pytest.mark.parametrize(("name", "config"), CASES)
def test_task_ids_are_the_canonical_forms(name, config):
    batch = draw(name, config, None, 20_000)
    pairs = set(zip(batch.tasks().tolist(), canonical(batch).tolist(), strict=True))
    tasks, forms = zip(*pairs, strict=True)
    assert len(set(tasks)) == len(set(forms)) == len(pairs)


SLOW = pytest.param(*CASES[1], marks=pytest.mark.slow)


@pytest.mark.long
@pytest.mark.parametrize(("name", "config"), [CASES[0], SLOW, *CASES[2:]])
def test_no_overlap_over_200_000_draws(name, config):
    """The same seeds in all three splits, so that seeds cannot be what keeps them apart."""
    forms = {}
    for split, count in zip(SPLITS, (100_000, 50_000, 50_000), strict=True):
        batch = draw(name, config, split, count)
        assert {_C.split_of(task) for task in set(batch.tasks().tolist())} == {split}
        forms[split] = set(canonical(batch).tolist())
        assert len(forms[split]) > 1
    for one, other in itertools.combinations(SPLITS, 2):
        assert not forms[one] & forms[other]


def test_shares():
    batch = draw("sokoban", {}, None, 20_000)
    names = [_C.split_of(task) for task in set(batch.tasks().tolist())]
    for split, share in zip(SPLITS, (0.8, 0.1, 0.1), strict=True):
        assert abs(names.count(split) / len(names) - share) < 0.02


@pytest.mark.parametrize("split", [None, *SPLITS])
def test_every_task_of_a_small_board_is_known(split):
    config = {"height": 4, "width": 4, "num_mines": 2}
    count, exact = num_tasks("minesweeper", split, **config)
    assert exact
    seeds = distinct_seeds("minesweeper", split, **config)
    assert seeds.dtype == np.uint64 and len(seeds) == count
    np.testing.assert_array_equal(seeds, distinct_seeds("minesweeper", split, **config))
    batch = make("minesweeper", count, split=split, **config)
    batch.reset(seeds)
    assert len(set(batch.tasks().tolist())) == len(set(canonical(batch).tolist())) == count
    listed = list(iterate_tasks("minesweeper", split, **config))
    assert [seed for seed, _ in listed] == seeds.tolist()
    assert [task for _, task in listed] == batch.tasks().tolist()


def test_the_splits_of_a_small_board_add_up():
    config = {"height": 4, "width": 4, "num_mines": 2}
    counts = [num_tasks("minesweeper", split, **config)[0] for split in SPLITS]
    assert sum(counts) == num_tasks("minesweeper", **config)[0]
    assert len(set(canonical(draw("minesweeper", config, None, 50_000)).tolist())) == sum(counts)


def test_a_split_without_tasks_is_empty():
    config = {"levels": ["#####\n#@$.#\n#####"]}
    sizes = [num_tasks("sokoban", split, **config) for split in SPLITS]
    assert sorted(sizes) == [(0, True), (0, True), (1, True)]
    for split, (count, _) in zip(SPLITS, sizes, strict=True):
        assert len(distinct_seeds("sokoban", split, **config)) == count
        assert len(list(iterate_tasks("sokoban", split, **config))) == count


@pytest.mark.long
def test_the_rarest_task_is_found():
    """Among 25,024 tasks some come once in 265,650 boards."""
    config = {"height": 5, "width": 5, "num_mines": 4}
    assert len(distinct_seeds("minesweeper", None, **config)) == num_tasks("minesweeper", **config)[0]


def test_distinct_seeds_of_a_large_space():
    seeds = distinct_seeds("sokoban", "test", 500)
    batch = make("sokoban", 500, split="test")
    batch.reset(seeds)
    assert len(set(batch.tasks().tolist())) == 500
    assert (np.diff(seeds.astype(np.int64)) > 0).all()
    first = list(itertools.islice(iterate_tasks("sokoban", "test"), 500))
    assert [seed for seed, _ in first] == seeds.tolist()


@pytest.mark.long
def test_estimates_are_marked_as_such():
    count, exact = num_tasks("sokoban", num_boxes=1)
    assert not exact and 20_000 < count < 60_000  # about 30,000 are known from 400,000 draws
