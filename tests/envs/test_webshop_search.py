"""WebShop's search: scores, ties, and what a query may be."""

import numpy as np
import pytest

pytest.importorskip("Stemmer", reason="webshop needs PyStemmer")

from lamer_fast.envs.adapters.webshop.search import K1, B, Index, IndexBuilder


def index_of(texts, folder):
    builder = IndexBuilder()
    for text in texts:
        builder.add(text)
    builder.save(folder)
    return Index(folder, len(texts))


def test_a_hand_checked_score(tmp_path):
    index = index_of(["red shoe red", "blue shoe", "green hat for men"], tmp_path)
    idf, length = np.log(1 + (3 - 1 + 0.5) / 1.5), 3 / (8 / 3)  # `for` is no word of the index
    assert index.scores("red").tolist() == pytest.approx([idf * 2 / (2 + 0.9 * (0.6 + 0.4 * length)), 0, 0])
    assert (
        index.search("red", 50) == (0,)
        and index.search("for", 50) == ()
        and index.search("shoes", 50) == (1, 0)
    )


def test_ties_stand_in_the_order_of_the_products(tmp_path):
    texts = ["lamp", "tin lamp", "lamp", "kettle", "lamp tin", "lamp"]
    index = index_of(texts, tmp_path)
    assert index.search("lamp", 50) == (0, 2, 5, 1, 4)
    assert index.search("lamp", 2) == (0, 2) and index.search("tin", 1) == (1,)
    assert index.search("lamp lamp", 50) == (0, 2, 5, 1, 4)


def test_the_best_are_those_of_all_scores(tmp_path):
    rng = np.random.default_rng(0)
    words = [f"w{i}" for i in range(60)]
    texts = [" ".join(rng.choice(words, rng.integers(1, 12))) for _ in range(400)]
    index = index_of(texts, tmp_path)
    for count in (1, 10, 50, 1000):
        for _ in range(20):
            query = " ".join(rng.choice(words, rng.integers(1, 6)))
            scores = index.scores(query)
            best = np.argsort(-scores, kind="stable")[:count]
            assert list(index.search(query, count)) == [p for p in best.tolist() if scores[p] > 0]


def test_scores_are_those_of_bm25s(tmp_path):
    bm25s = pytest.importorskip("bm25s", reason="the comparison needs bm25s")
    rng = np.random.default_rng(1)
    words = [f"w{i}" for i in range(200)]
    documents = [list(rng.choice(words, rng.integers(1, 40))) for _ in range(300)]
    peer = bm25s.BM25(k1=K1, b=B, method="lucene")
    peer.index([list(map(str, d)) for d in documents], show_progress=False)
    index = index_of([" ".join(d) for d in documents], tmp_path)
    for _ in range(30):
        query = list(map(str, rng.choice(words, 5, replace=False)))
        np.testing.assert_allclose(
            index.scores(" ".join(query)), peer.get_scores(query), rtol=1e-5, atol=1e-6
        )


def test_chunks_change_nothing(tmp_path, monkeypatch):
    texts = [f"lamp {i % 7} of {i % 3} colours" for i in range(50)] + ["", "  "]
    (tmp_path / "a").mkdir(), (tmp_path / "b").mkdir()
    whole = index_of(texts, tmp_path / "a")
    monkeypatch.setattr("lamer_fast.envs.adapters.webshop.search.CHUNK", 5)
    parts = index_of(texts, tmp_path / "b")
    for name in ("token", "start", "product", "score"):
        assert (getattr(whole, name) == getattr(parts, name)).all()


def test_stems_stop_words_and_possessives(tmp_path):
    index = index_of(["men's running shoes", "the women\u2019s run", "running of dogs"], tmp_path)
    assert set(index.search("run", 9)) == {0, 1, 2} and index.search("Shoe", 9) == (0,)
    assert index.search("men", 9) == (0,) and index.search("the of and", 9) == ()
    assert index.search("x " * 100_000 + "shoes", 9) == () and index.search("\0 \ud800 !!", 9) == ()
