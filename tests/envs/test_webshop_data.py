"""WebShop's files: what is read of them, what is built, which goals come of it, and what broken ones say."""

import json
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("rapidfuzz", reason="webshop needs rapidfuzz")
pytest.importorskip("Stemmer", reason="webshop needs PyStemmer")

from lamer_fast import cli
from lamer_fast.envs.adapters.webshop import invent, json_stream, nouns
from lamer_fast.envs.adapters.webshop.catalogue import open_catalogue
from lamer_fast.envs.adapters.webshop.goals import NO_LIMIT, Goals, limit, make_goals, price
from lamer_fast.envs.adapters.webshop.products import price as read_price
from lamer_fast.envs.panel import panel
from lamer_fast.envs.registry import eval_seeds
from tests.envs.shop_files import ATTRIBUTES, HUMAN, PRODUCTS, shop_options, write_shop


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def odd(tmp_path_factory, cache):
    return open_catalogue(shop_options(cache, data=str(write_shop(tmp_path_factory.mktemp("odd")))))


def test_products_are_read_as_the_original_reads_them(odd):
    asins = [odd.product(p).asin for p in range(len(odd))]
    assert asins == ["B001", "B002", "B003", "B004", "B005"] and odd.meta["dropped"] == 5
    stool = odd.product(0)
    assert (stool.title, stool.query, stool.bullets) == ("Oak Stool", "stool", ("made by hand",))
    assert stool.options == (("color", ("red", "sky | blue")),)
    assert odd.product(1).attributes == ("solid woods",) and odd.product(2).attributes == ("DUMMY_ATTR",)
    box = odd.product(4)
    assert box.options == (("buy [now]", ("a [b] c", "buy now")), ("twice", ("a [b] c", "line break ?")))
    assert len(odd.product(3).description) == 99_999


def test_prices_are_read_from_any_text(odd):
    assert odd.prices.tolist() == [[20, 20], [20, 20], [1200.5, 1300], [100, 100], [5, 5]]
    assert odd.product(2).price_text == "$1200.5 to $1300.0" and odd.product(3).price_text == "$100.0"
    assert read_price("$5.00 to $7") == ("$5.0 to $7.0", (5.0, 7.0))
    assert read_price(None) == read_price("free") == read_price("$") == ("$100.0", (100.0, 100.0))
    assert read_price("$1.2.3")[1] == (1.2, 1.2)


def test_a_price_is_drawn_by_product_and_seed_alone(odd):
    draws = {seed: price(odd, 2, seed) for seed in range(20)}
    assert all(1200.5 <= drawn < 1300 for drawn in draws.values()) and len(set(draws.values())) == 20
    assert draws[7] == price(odd, 2, 7) and price(odd, 0, 7) == 20


def test_a_limit_is_the_larger_of_two_of_the_next_four_tens():
    limits = {limit(23.0, seed, "B001") for seed in range(200)}
    assert limits == {40.0, 50.0, 60.0}  # 30 is never the larger one
    assert limit(980.0, 0, "B001") == NO_LIMIT and limit(975.0, 0, "B001") == 990.0


def test_goals_of_people_and_made_ones(odd):
    human = {goal.text: goal for goal in make_goals(odd, "human", 0)}
    wood = next(goal for text, goal in human.items() if "solid wood" in text)
    assert wood.text == f"i want a stool of solid wood, and price lower than {wood.max_price:.2f} dollars"
    assert wood.options == ("red",) and len(human) == 2
    made = {goal.text.partition(", and price")[0] for goal in make_goals(odd, "synthetic", 0)}
    assert made == {f"Find me a stool, solid wood with color: {c}" for c in ("red", "sky | blue")}


def test_too_many_combinations_of_options_end_somewhere(tmp_path, cache):
    groups = {f"o{i}": [{"value": f"v{i}{j}"} for j in range(10)] for i in range(12)}
    many = [PRODUCTS[0] | {"customization_options": groups}]
    catalogue = open_catalogue(shop_options(cache, data=str(write_shop(tmp_path, many))))
    assert len(make_goals(catalogue, "synthetic", 0)) == 1000


def test_the_invented_shop_is_the_same_everywhere(cache):
    options = shop_options(cache)
    catalogue = open_catalogue(options)
    assert catalogue.folder.name == "c8cf985a1476c0c2-lexicon-2" and len(catalogue) == 320
    digests = {split: panel(options, split, None).digest for split in ("train", "valid", "test")}
    assert digests == {"train": "0a430dcd22369a6a", "valid": "f7c54ff131f6c30a", "test": "3fb3a38080ab28d7"}


def test_splits_are_disjoint_or_say_that_they_are_not(cache):
    options = shop_options(cache)
    goals = Goals(open_catalogue(options), options)
    parts = {split: set(goals.tasks[goals.of(split)].tolist()) for split in ("test", "valid", "train")}
    assert [len(parts[s]) for s in ("test", "valid", "train")] == [500, 1000, 1380]
    assert len(set.union(*parts.values())) == 2880
    published = Goals(open_catalogue(options), shop_options(cache, panels="published"))
    assert published.of("train").tolist() == list(range(500, 2880))
    assert published.of("valid").tolist() == published.of("test").tolist() == list(range(500))
    assert len(eval_seeds(options, "valid", None)) == 1000


def test_the_order_depends_on_the_number_of_goals_alone(cache):
    options = shop_options(cache)
    first, other = (make_goals(open_catalogue(options), "human", seed) for seed in (0, 1))
    assert [goal.product for goal in first] == [goal.product for goal in other]
    assert [goal.text for goal in first] != [goal.text for goal in other]
    assert panel(options, "test", 50).digest != panel(shop_options(cache, data_seed=1), "test", 50).digest


def test_a_split_without_goals_is_told(tmp_path, cache):
    options = shop_options(cache, data=str(write_shop(tmp_path)))
    with pytest.raises(
        ValueError, match="split train has no goal: it begins at goal 1,500, the files give 2"
    ):
        eval_seeds(options, "train", 1)


def test_another_process_draws_the_same_goals(cache):
    code = (
        "from tests.envs.shop_files import shop_options; from lamer_fast.envs.panel import panel\n"
        f"print(panel(shop_options({str(cache)!r}), 'test', 20).digest)"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout.strip() == panel(shop_options(cache), "test", 20).digest


def test_missing_files_say_where_they_are_to_be_had(tmp_path, cache, capsys):
    write_shop(tmp_path)
    (tmp_path / "items_human_ins.json").unlink()
    assert cli.main(["envs", "data", "webshop", str(tmp_path), "--env.cache", str(cache)]) == 2
    said = capsys.readouterr().err
    assert (
        "items_human_ins.json is missing" in said
        and "princeton-nlp/WebShop" in said
        and "gdown 14Kb5" in said
    )
    assert cli.main(["envs", "data", "webshop", str(tmp_path / "no"), "--env.cache", str(cache)]) == 2
    assert "items_shuffle.json is missing" in capsys.readouterr().err


def test_the_small_files_count_where_the_large_are_missing(tmp_path, cache):
    write_shop(tmp_path)
    for name in ("items_shuffle", "items_ins_v2"):
        (tmp_path / f"{name}.json").rename(tmp_path / f"{name}_1000.json")
    assert len(open_catalogue(shop_options(cache, data=str(tmp_path)))) == 5
    assert len(open_catalogue(shop_options(cache, data=str(tmp_path), products=1))) == 1


@pytest.mark.parametrize("name", ["items_shuffle", "items_ins_v2", "items_human_ins"])
@pytest.mark.parametrize("keep", [0, 1, 0.5, -1])
def test_a_truncated_file_is_told_with_its_place(name, keep, tmp_path, cache):
    file = write_shop(tmp_path) / f"{name}.json"
    whole = file.read_text()
    file.write_text(whole[: int(len(whole) * keep) if keep == 0.5 else keep])
    with pytest.raises(
        ValueError, match=rf"{name}.json is broken or only partly downloaded: .* at character"
    ):
        open_catalogue(shop_options(cache, data=str(tmp_path)))


def test_data_prints_counts_and_digests(tmp_path, cache, capsys):
    arguments = ["envs", "data", "webshop", str(write_shop(tmp_path)), "--env.cache", str(cache)]
    assert cli.main([*arguments, "--env.nouns", "lexicon"]) == 0
    said = capsys.readouterr().out
    assert "5 products (5 dropped" in said and "instructions: 2 human, 1 synthetic" in said
    assert "split test: 2 goals, panel " in said and "split train: split train has no goal" in said


def test_a_stream_is_what_json_reads(tmp_path, monkeypatch):
    values = [{"a": [1, 2.5, "x\u00e9\U0001f600]}"]}, 12, "text", None, [], {}, -3e5, True]
    (tmp_path / "list").write_text(json.dumps(values, indent=1))
    (tmp_path / "object").write_text(json.dumps({f"k{i}": v for i, v in enumerate(values)}))
    for chunk in (1, 2, 7, 1 << 20):
        monkeypatch.setattr(json_stream, "CHUNK", chunk)
        assert list(json_stream.elements(tmp_path / "list")) == values
        assert [v for _, v in json_stream.members(tmp_path / "object")] == values


def test_a_digest_follows_the_contents(tmp_path, cache):
    options = shop_options(cache, data=str(write_shop(tmp_path)))
    before = open_catalogue(options).folder
    write_shop(tmp_path, PRODUCTS, ATTRIBUTES, HUMAN | {"B002": HUMAN["B001"]})
    assert (
        open_catalogue(options).folder != before and len(make_goals(open_catalogue(options), "human", 0)) == 3
    )


def test_the_invented_files_read_no_clock_and_no_hash_seed(tmp_path):
    invent.write(tmp_path / "a")
    invent.write(tmp_path / "b")
    invent.write(tmp_path / "c", seed=1)
    read = {
        f: [(tmp_path / d / f"{f}.json").read_bytes() for d in "abc"]
        for f in ("items_shuffle", "items_human_ins")
    }
    assert all(a == b != c for a, b, c in read.values())
    assert sum(len(a) for a, *_ in read.values()) < 1_000_000
    assert np.unique([p["asin"] for p in json.loads(read["items_shuffle"][0])]).size == 320


def test_nouns_are_those_of_a_lexicon_or_of_spacy_where_it_is(monkeypatch, tmp_path):
    assert nouns.reader("lexicon")(["Soft Red Oak-Wood Stool, 2 for Men's Rooms", ""]) == [
        ("oak", "wood", "stool", "men's", "rooms"), ()
    ]  # fmt: skip
    monkeypatch.setattr(nouns, "find_spec", lambda name: None)
    assert nouns.choose("auto") == nouns.choose("lexicon") == "lexicon"
    with pytest.raises(ValueError, match=r"needs spaCy and one of its models.*or --env.nouns lexicon"):
        nouns.choose("spacy")
    monkeypatch.setattr(nouns, "find_spec", lambda name: name != "en_core_web_lg")
    assert nouns.choose("auto") == nouns.choose("spacy") == "en_core_web_sm"
    monkeypatch.syspath_prepend(tmp_path)
    (tmp_path / "spacy.py").write_text("raise ImportError('built for another numpy')")
    with pytest.raises(
        ValueError, match="en_core_web_sm is installed, but fails: ImportError: built for another"
    ):
        nouns.reader("en_core_web_sm")
