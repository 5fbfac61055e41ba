"""WebShop's pages, purchases and replies."""

import numpy as np
import pytest

pytest.importorskip("rapidfuzz", reason="webshop needs rapidfuzz")
pytest.importorskip("Stemmer", reason="webshop needs PyStemmer")

from lamer_fast.envs.adapters.webshop.goals import Goal
from lamer_fast.envs.adapters.webshop.pages import parse
from lamer_fast.envs.adapters.webshop.products import Product
from lamer_fast.envs.adapters.webshop.reward import alike, color, kind_score, score, title_score
from lamer_fast.envs.check import check_env
from tests.envs.shop_files import click, search, shop, shop_options, write_shop

ONE = np.zeros(1, np.int64)


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def odd_folder(tmp_path_factory):
    return write_shop(tmp_path_factory.mktemp("odd"))


@pytest.fixture
def odd(cache, odd_folder):
    """One board of the odd shop, on the goal of the stool."""
    env = shop(shop_options(cache, data=str(odd_folder)), 1)
    seed = next(s for s in range(2) if env.goals.all[s].product == 0)
    env.reset(np.array([seed], np.uint64))
    return env


def play(env, *replies):
    """The turn of the last reply, and what is seen then."""
    for reply in replies:
        out = env.step([reply], ONE)
    return out, env.observe(ONE)[0]


def labels(env):
    return [reply.removeprefix("<action>click[")[:-10] for reply in env.legal_actions(ONE)[0]]


def thing(**changes):
    fields = dict(
        asin="B0", title="Name 1", price_text="$20", query="q", department="", category="a \u203a b \u203a c",
        description="", bullets=(), options=(), attributes=(), nouns=("name",),
    )  # fmt: skip
    return Product(**fields | changes)


def test_hand_checked_scores():
    goal = Goal(0, "", ("tea tree", "essential oils", "natural"), ("grey", "pack of 12"), 30.0)
    listed = thing(attributes=("tea tree", "essential oil"), bullets=("all natural",))
    chosen = ["pack of 12", "dark grey"]
    wanted = thing()
    assert score(listed, 20.0, ["pack of 12", "grey"], goal, wanted).total == 1.0
    assert (
        score(listed, 30.0, ["grey", "pack of 12"], goal, wanted).total == 1.0
    )  # the limit itself is allowed
    assert score(listed, 30.01, ["grey", "pack of 12"], goal, wanted).total == 5 / 6
    one_attribute = thing(attributes=("tea tree",))
    assert score(one_attribute, 20.0, ["pack of 12", "grey"], goal, wanted).total == (1 + 2 + 1) / 6
    more = Goal(0, "", goal.attributes, (*goal.options, "xl"), 30.0)
    assert score(one_attribute, 20.0, ["pack of 12", "grey"], more, wanted).total == 4 / 7
    half = thing(attributes=("tea tree",), query="other", category="d", nouns=("name",))
    wide = thing(nouns=("name", "b", "c", "d", "e"))  # title score 0.2: not above it
    assert score(half, 20.0, ["pack of 12", "grey"], more, wide).total == 2 / 7
    assert score(listed, 20.0, chosen, goal, wanted).options == 1  # dark comes before grey in the list


def test_the_kind_of_product():
    goal = thing(nouns=("name",))
    assert kind_score(thing(), goal) == 1
    assert kind_score(thing(query="x", category="b \u203a c \u203a a"), goal) == 1
    assert title_score(thing(), thing(nouns=())) == 0.2
    many = thing(nouns=("name", *"abcdefghijk"), query="x", category="y")
    assert kind_score(thing(), many) == 0.1 and kind_score(thing(nouns=("other",)), many) == 0
    four = thing(nouns=("name", "name", "a", "b", "c"), query="x", category="a \u203a a \u203a d")
    assert (
        title_score(thing(), four) == 0.2 and kind_score(thing(), four) == 0.5
    )  # repeated nouns count in the whole


def test_alike_texts_and_colours():
    assert alike("cool powder snow", "powder snow") and alike("natural ingredients", "Natural Ingredient!")
    assert (
        not alike("tea bag", "tea tree") and not alike("", "") and not alike("\u65e5\u672c", "\u65e5\u672c")
    )
    assert (color("cashew"), color("dark olive"), color("size 9")) == ("ash", "dark", "size 9")


def test_the_way_to_a_purchase(odd):
    assert odd.observe(ONE)[0] == "WebShop\nSearch"
    _, page = play(odd, search("oak stool"))
    assert page.startswith("Back to Search\nPage 1 (Total results: 2)\nNext >\nB001\nOak Stool\n$20.0\nB002")
    assert labels(odd) == ["back to search", "next >", "b001", "b002"]
    _, page = play(odd, click("B001"))
    assert page.split("\n")[:8] == [
        "Back to Search", "< Prev", "color", "red", "sky | blue", "Oak Stool", "Price: $20.0", "Rating: N.A."
    ]  # fmt: skip
    assert labels(odd) == [
        "back to search", "< prev", "red", "sky | blue", "description", "features", "reviews", "buy now"
    ]  # fmt: skip
    play(odd, click("sky | blue"), click("Red"), click("Features"))
    assert odd.observe(ONE)[0] == "Back to Search\n< Prev\nmade by hand"
    out, page = play(odd, click("< prev"))
    assert page.endswith("Chosen: red") and not out.done[0]
    out, page = play(odd, click("Buy Now"))
    assert out.rewards[0] == 10 and out.done[0] and out.success[0] and out.valid[0]
    assert page == "You bought\nB001\nOak Stool\n$20.0\nred"
    out, again = play(odd, search("bench"))
    assert out.rewards[0] == 0 and out.done[0] and out.success[0] and again == page and labels(odd) == []


def test_wrong_purchases_pay_nothing_or_their_score(cache, odd_folder, odd):
    way = (search("oak stool"), click("b001"), click("buy now"))
    out, _ = play(odd, *way)
    assert out.done[0] and not out.success[0] and out.rewards[0] == 0
    dense = shop(shop_options(cache, data=str(odd_folder), rewards="dense"), 1)
    dense.reset(np.array([odd.sessions[0].goal], np.uint64))
    out, _ = play(dense, *way)
    assert out.rewards[0] == pytest.approx(20 / 3) and not out.success[0]  # attribute and price of three
    dense.restart(ONE)
    out, _ = play(dense, search("stool"), click("b002"), click("red"), click("buy now"))
    assert out.rewards[0] == 10 and out.success[0]  # "solid woods" is alike


def test_a_search_and_going_back_forget_the_options(odd):
    for away in (click("< prev"), click("back to search"), search("oak stool")):
        play(odd, search("oak stool"), click("b001"), click("red"), away)
        assert odd.sessions[0].chosen == {}
        assert "Chosen" not in play(odd, search("oak stool"), click("b001"))[1]


def test_pages_of_results_go_on_past_the_end(odd):
    _, page = play(odd, search("oak stool"), click("next >"))
    assert page == "Back to Search\nPage 2 (Total results: 2)\n< Prev\nNext >"
    assert labels(odd) == ["back to search", "< prev", "next >"]
    assert "B001" in play(odd, click("next >"), click("< prev"), click("< prev"))[1]
    before = play(odd, click("< prev"))[1]
    assert "Page 1" in before and play(odd, click("search"))[1] == before
    assert play(odd, search("wuthering"))[1] == "Back to Search\nPage 1 (Total results: 0)\nNext >"


def test_odd_options_can_be_clicked(odd):
    play(odd, search("odd box"), click("b005"))
    play(odd, click("a [b] c"))
    assert odd.sessions[0].chosen == {1: "a [b] c"}  # of equal values the last option's
    out, page = play(odd, click("buy now"))
    assert not out.done[0] and "Chosen: a [b] c, buy now" in page  # an option of that name hides the button
    assert (
        "Chosen: a [b] c, buy now, line break ?" in play(odd, click("line break ?"))[1]
        or odd.sessions[0].chosen
    )
    play(odd, search("bench"), click("b004"))
    assert len(play(odd, click("description"))[1]) == 8000 and odd.observe(ONE)[0].endswith("... (cut)")


def test_the_original_joins_texts_by_separators(cache, odd_folder):
    env = shop(shop_options(cache, data=str(odd_folder), style="peers", show_attributes=True), 1)
    env.reset(np.zeros(1, np.uint64))
    _, page = play(env, search("oak stool"))
    assert page.startswith(
        "Back to Search [SEP] Page 1 (Total results: 2) [SEP] Next > [SEP] B001 [SEP] Oak Stool"
    )
    _, page = play(env, click("b001"), click("red"))
    assert page.endswith("[SEP] Description [SEP] Features [SEP] Reviews [SEP] Attributes [SEP] Buy Now")
    assert play(env, click("attributes"))[1] == (
        "Back to Search [SEP] < Prev [SEP] solid wood [SEP] non slip [SEP] home [SEP] stool"
        " [SEP] home \u203a seats \u203a stools"
    )


HOSTILE = [
    *("", "\0", "\ud800", "<action>", "search[", "x" * 1_000_000, search(""), click("")),
    *("<action>" + "[" * 1_000_000 + "</action>", "<action>buy[it]</action>", "<action>search</action>"),
]
HARMLESS = [
    *(search("\0"), search("\ud800 \0"), search("a" * 1_000_000), search("\u65e5\u672c \U0001f600")),
    *(search("[" * 500_000), click("nothing"), click("b" * 1_000_000)),
    "<think>" + click("b001") + "</think>" + search("stool"),
]


@pytest.mark.parametrize("page", [(), (search("oak stool"),), (search("oak stool"), click("b001"))])
def test_hostile_replies_change_nothing_or_are_searches(odd, page):
    for reply in HOSTILE:
        odd.restart(ONE)
        play(odd, *page) if page else None
        before = odd.observe(ONE)
        out = odd.step([reply], ONE)
        assert odd.observe(ONE) == before and not out.done[0] and out.rewards[0] == 0 and not out.valid[0], (
            reply[:30]
        )
    for reply in HARMLESS:
        assert odd.step([reply], ONE).valid[0], reply[:30]
    assert "Oak Stool" in odd.observe(ONE)[0]
    assert parse("Search [x]") is None and parse("click[ A ]") == ("click", "a")


@pytest.mark.parametrize("style", ["lines", "peers", "compact"])
def test_the_protocol_is_kept(cache, style):
    options = shop_options(cache, style=style, page_products=3, max_results=7)
    env = shop(options, 6, "train")
    assert check_env(env, num_turns=14, make=lambda n: shop(options, n, "train")) == []


def test_a_restart_is_the_same_task_from_any_state(cache):
    boards = np.arange(64)
    env = shop(shop_options(cache), 64, "train")
    env.reset(boards.astype(np.uint64))
    first = env.observe(boards), env.task_texts(boards), env.anchors(boards).tolist()
    rng = np.random.default_rng(0)

    def game(turns, seed):
        rng = np.random.default_rng(seed)
        told = []
        for _ in range(turns):
            replies = [str(rng.choice(legal)) if legal else "" for legal in env.legal_actions(boards)]
            out = env.step(replies, boards)
            told.append(
                (env.observe(boards), out.rewards.tolist(), out.done.tolist(), env.anchors(boards).tolist())
            )
        return told

    story = game(10, 1)
    for turns in (0, 1, 3, 9):
        game(turns, int(rng.integers(99)))
        env.restart(boards)
        assert (env.observe(boards), env.task_texts(boards), env.anchors(boards).tolist()) == first
        assert game(10, 1) == story
        env.restart(boards)


def test_a_snapshot_goes_on_in_another_environment(cache):
    boards = np.arange(16)
    env, other = (shop(shop_options(cache), 16, "valid") for _ in range(2))
    env.reset(boards.astype(np.uint64))
    for turn in range(3):
        env.step(env.expert_replies(boards, 0.3, boards.astype(np.uint64) + turn), boards)
    other.restore(env.snapshot(boards), boards)
    seeds = np.full(16, 5, np.uint64)
    replies = env.expert_replies(boards, 0.0, seeds)
    assert replies == other.expert_replies(boards, 0.0, seeds)
    assert env.step(replies, boards).rewards.tolist() == other.step(replies, boards).rewards.tolist()
    assert env.observe(boards) == other.observe(boards)
    for wrong in (b"", b"[]", b"[1]", b'[["x"]]', env.snapshot(boards)[:-1]):
        with pytest.raises(ValueError):
            other.restore(wrong, ONE)


def test_who_knows_the_product_always_succeeds(cache):
    boards = np.arange(500)
    env = shop(shop_options(cache), 500, "test")
    env.reset(boards.astype(np.uint64))
    for turn in range(6):
        out = env.step(env.expert_replies(boards, 0.0, boards.astype(np.uint64) + turn), boards)
    assert out.success.all()


def test_a_board_that_was_never_reset_says_so(cache):
    with pytest.raises(ValueError, match="board 0 was never reset"):
        shop(shop_options(cache), 1).observe(ONE)
