"""The same bytes whatever the number of threads, batch size, process, hash seed or vector instructions."""

import json
import multiprocessing
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from lamer_fast import _C
from lamer_fast.envs import make
from tests.envs.golden.record_digests import CONFIGS, PATH, digest

ROOT = Path(__file__).parent.parent.parent
GOLDEN = json.loads(PATH.read_text())
SOME = ["sokoban", "minesweeper", "minesweeper 8x8"]


@pytest.mark.parametrize("key", CONFIGS)
def test_golden_digests(key):
    assert digest(key) == GOLDEN[key]


@pytest.mark.parametrize("chunk", [1, 7])
@pytest.mark.parametrize("key", CONFIGS)
def test_batch_sizes(key, chunk):
    assert digest(key, chunk=chunk) == GOLDEN[key]


@pytest.mark.parametrize("num_threads", [2, 3])
@pytest.mark.parametrize("key", CONFIGS)
def test_threads(key, num_threads):
    assert digest(key, num_threads=num_threads) == GOLDEN[key]


@pytest.mark.long
@pytest.mark.parametrize("key", SOME)
def test_threads_of_batches_large_enough_to_be_split(key):
    alone = digest(key, num_boards=3100)
    assert digest(key, num_boards=3100, num_threads=2) == alone
    assert digest(key, num_boards=3100, num_threads=3) == alone


@pytest.fixture
def simd():
    yield
    _C.set_simd_level("best")


@pytest.mark.parametrize("level", ["scalar", "neon", "avx2", "avx512"])
@pytest.mark.parametrize("key", CONFIGS)
def test_dispatch_levels(key, level, simd):
    try:
        _C.set_simd_level(level)
    except ValueError as error:
        pytest.skip(str(error))
    assert _C.simd_level() == level
    assert digest(key) == GOLDEN[key]


def test_a_build_for_any_processor_plays_without_vectors():
    """A wheel is compiled for plain x86-64 or aarch64; a fresh process without vectors plays every board."""
    code = (
        "from lamer_fast import _C; best = _C.simd_level(); _C.set_simd_level('scalar');"
        "import json; from tests.envs.golden.record_digests import CONFIGS, digest;"
        "print(json.dumps([best, _C.simd_level(), {key: digest(key) for key in CONFIGS}]))"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    out = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    best, used, digests = json.loads(out.stdout)
    assert best == _C.simd_level() and used == "scalar"
    assert digests == GOLDEN


LANES = [
    (height, width, num_mines, config)
    for height, width, num_mines in [
        (6, 6, 3), (1, 3, 1), (3, 1, 1), (2, 2, 1), (4, 4, 2), (5, 5, 12), (5, 8, 20), (8, 3, 5), (6, 7, 39),
        (7, 7, 9), (8, 8, 1), (8, 8, 10), (8, 8, 31), (8, 8, 32), (8, 8, 62),
    ]
    for config in ({}, {"split": "train"}, {"split": "test"}, {"first_click": "agent"}, {"no_guess": True})
]  # fmt: skip


@pytest.mark.parametrize(("height", "width", "num_mines", "config"), LANES)
def test_minesweeper_boards_drawn_in_vectors(height, width, num_mines, config, simd):
    """Many boards at once, few at once, one by one: the same boards, or the same error."""

    def boards(level, count):
        try:
            _C.set_simd_level(level)
        except ValueError as error:
            pytest.skip(str(error))
        batch = make(
            "minesweeper", count, height=height, width=width, num_mines=num_mines, num_threads=1, **config
        )
        try:
            batch.reset(np.arange(count, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15))
        except ValueError as error:
            assert "no board" in str(error)
            return ["none"]
        return [batch.snapshot(np.array([i])) for i in range(count)]

    if config.get("no_guess") and (num_mines > 20 or height * width < 9):
        pytest.skip("few boards need no guess")
    expected = boards("scalar", 300)
    for level in ("avx2", "avx512"):
        for count in (300, 17, 8):
            got = boards(level, count)
            assert got == expected[: len(got)]


@pytest.mark.parametrize(("name", "config"), CONFIGS.values(), ids=CONFIGS)
def test_experts(name, config, simd):
    def expert(num_threads):
        batch = make(name, 40, num_threads=num_threads, **config)
        batch.reset(np.arange(40, dtype=np.uint64))
        return batch.expert_actions()

    alone = expert(1)
    assert (alone >= 0).all()
    assert (expert(3) == alone).all()
    _C.set_simd_level("scalar")
    assert (expert(1) == alone).all()


@pytest.mark.parametrize("hash_seed", ["0", "1", "random"])
def test_processes_and_hash_seeds(hash_seed):
    code = (
        "import json; from tests.envs.golden.record_digests import digest;"
        f"print(json.dumps({{key: digest(key) for key in {SOME}}}))"
    )
    env = {**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": str(ROOT)}
    out = subprocess.run([sys.executable, "-c", code], env=env, cwd=ROOT, capture_output=True, text=True)
    assert out.returncode == 0, out.stderr
    assert json.loads(out.stdout) == {key: GOLDEN[key] for key in SOME}


def _texts_in_child(batch, pipe):
    batch.restart()
    pipe.send(batch.texts())


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_can_use_a_batch_whose_threads_ran():
    batch = make("sokoban", 5000, num_threads=3, num_boxes=1)
    batch.reset(np.arange(5000, dtype=np.uint64))
    batch.step(np.zeros((5000, 2), np.int32))
    batch.restart()
    context = multiprocessing.get_context("fork")
    mine, theirs = context.Pipe()
    child = context.Process(target=_texts_in_child, args=(batch, theirs))
    child.start()
    assert mine.poll(60), "the child hangs"
    assert mine.recv() == batch.texts()
    child.join(60)
    assert child.exitcode == 0


def test_seeds_make_the_boards():
    """Equal seeds equal boards, whatever stands beside them; other seeds other boards."""
    batch = make("sokoban", 200)
    batch.reset(np.arange(200, dtype=np.uint64))
    texts = batch.texts()
    assert len(set(texts)) > 150
    shuffled = np.random.default_rng(0).permutation(200)
    batch.reset(shuffled.astype(np.uint64))
    assert batch.texts() == [texts[i] for i in shuffled]
    batch.reset(np.full(200, 7, np.uint64))
    assert set(batch.texts()) == {texts[7]}
