"""ALFWorld's games as tables, played by the native stepper: made games of every type, and broken ones."""

import random

import numpy as np
import pytest

from lamer_fast import _C
from lamer_fast.envs.adapters.alfworld.compiler.game import compile_game, tables
from lamer_fast.envs.adapters.alfworld.compiler.grammar import (
    Each,
    Fact,
    Listed,
    Name,
    Text,
    Value,
    read_query,
    read_symbols,
)
from lamer_fast.envs.adapters.alfworld.compiler.pddl import GameError
from lamer_fast.envs.adapters.alfworld.generate import game
from lamer_fast.envs.adapters.alfworld.tasks import BY_WORD, TASK_TYPES

SIZES = [("small", "train"), ("full", "valid_unseen")]


@pytest.fixture(scope="module")
def small():
    return game("small", "train", BY_WORD["heat"], 0).content


def command(reply):
    return reply.removeprefix("<action>").removesuffix("</action>")


class Player:
    def __init__(self, content):
        self.game = _C.AlfworldGame(compile_game(content))
        self.batch = _C.AlfworldBatch(1)
        self.batch.reset([self.game])

    def play(self, text):
        self.done, self.success, self.won, self.unclear = (flag.item() for flag in self.batch.step([text]))
        return self.text()

    def text(self):
        return self.batch.texts()[0]

    def menu(self):
        return [command(reply) for reply in self.batch.replies()[0]]


@pytest.mark.parametrize(
    ("size", "word"), [*(("small", task.word) for task in TASK_TYPES), ("full", "look"), ("full", "cool")]
)
def test_the_plan_wins(size, word):
    made = game(size, "train", BY_WORD[word], 0)
    player = Player(made.content)
    assert player.text() == player.game.intro
    for move in made.content["walkthrough"]:
        assert move in player.menu()
        said = player.play(move)
        assert said and said != "Nothing happens." and not player.unclear
    assert player.won and player.success and player.done
    assert player.menu() == []


@pytest.mark.parametrize(("size", "split"), SIZES)
def test_random_walks(size, split):
    """What can be done is exactly what the menu has; a state is what snapshot, restart and anchor say."""
    player = Player(game(size, split, BY_WORD["pick2"], 1).content)
    batch, rng = player.batch, random.Random(size)
    every = [command(reply) for reply in player.game.replies]
    assert every == sorted(set(every))
    start = player.text(), player.menu(), batch.anchors()[0]
    seen = {}
    for _ in range(400):
        menu, anchor = player.menu(), batch.anchors()[0]
        assert menu == [text for text in every if text in menu]
        assert seen.setdefault(anchor, menu) == menu
        other, saved = rng.choice(every), batch.snapshot()
        assert (player.play(other) != "Nothing happens.") == (other in menu)
        batch.restore(saved, [player.game])
        assert (player.menu(), batch.anchors()[0]) == (menu, anchor)
        move = rng.choice(menu)
        said = player.play(move)
        after = batch.anchors()[0]
        batch.restore(saved, [player.game])
        assert player.play(move) == said and batch.anchors()[0] == after
        if player.done or rng.random() < 0.02:
            batch.restart()
            assert (player.text(), player.menu(), batch.anchors()[0]) == start


def test_boards_are_their_own(small):
    """Boards of several games in one batch, stepped in turn and by threads, are as each alone."""
    contents = [small, game("full", "train", BY_WORD["look"], 0).content]
    games = [_C.AlfworldGame(compile_game(content)) for content in contents]
    E = 600
    batches = [_C.AlfworldBatch(E, num_threads=threads) for threads in (1, 2)]
    for batch in batches:
        batch.reset([games[i % 2] for i in range(E)])
    alone = [_C.AlfworldBatch(1) for _ in games]
    for batch, one in zip(alone, games, strict=True):
        batch.reset([one])
    rng = random.Random(0)
    for _ in range(25):
        menus = [batch.replies()[0] for batch in alone]
        moves = [command(rng.choice(menu)) if menu else None for menu in menus]
        for batch in batches:
            batch.step([moves[i % 2] for i in range(E)])
        for batch, move in zip(alone, moves, strict=True):
            batch.step([move])
        said = [batch.texts()[0] for batch in alone]
        for batch in batches:
            assert batch.texts() == [said[i % 2] for i in range(E)]
    some = np.array([3, 0], np.int64)
    batches[0].restart(some)
    assert batches[0].texts(some) == [games[1].intro, games[0].intro]
    assert batches[0].texts(np.array([2], np.int64)) == said[:1]


def test_what_is_written_is_said(small):
    """What is no ASCII reaches the intro; what no reader of the grammar reads does not."""
    content = small | {
        "grammar": small["grammar"].replace("Your task is to: ", "Your task is to: \u00e9 #no; ")
    }
    assert "Your task is to: \u00e9 " in Player(content).text()
    assert "no" not in Player(content).text().split("Your task is to: ")[1]


@pytest.mark.parametrize(
    ("text", "symbols"),
    [
        ("", ()),
        ("\n two\n", (Text("two\n"),)),  # white space at the start of a line is no text where a symbol starts
        ("a\n#b#\n c", (Text("a\n"), Name("b"), Text("\n c"))),
        ("#a#\t\tb", (Name("a"), Text("b"))),
        ("// gone\nleft", (Text("left"),)),
        ("a; b", (Text("a"),)),  # the rest is no symbol
        ("{r.name} }x", (Each(Value("r.name"), None), Text(" "))),
        ("[{o.name | p(o:object)}]!", (Listed(Each(Value("o.name "), "p(o:object)")), Text("!"))),
        ("{#a(b)#|p(o:object)}", (Each(Name("a(b)"), "p(o:object)"),)),
        ('"quoted" x', (Text("quoted"), Text(" x"))),
        ('"open', ()),
    ],
)
def test_symbols(text, symbols):
    assert read_symbols(text) == symbols


def test_queries():
    facts = read_query("not_in(o:object, r : receptacle) & at(l)")
    assert facts == (
        Fact("not_in", (("o", "object"), ("r", "receptacle"))),
        Fact("at", (("l", "l"),)),
    )
    with pytest.raises(GameError, match="cannot be read"):
        read_query("p(o:object")


@pytest.mark.parametrize(
    ("key", "old", "new", "message"),
    [
        ("pddl_problem", "(:goal", "(:aim", "has a section ':aim'"),
        ("pddl_problem", "(:goal", ";(:goal", "closes a bracket"),
        ("pddl_problem", "(isHot ?o)", "(inReceptacleObject ?o ?o)", "can never be met"),
        ("pddl_problem", "(isHot ?o)", "(isSticky ?o)", "do not declare so"),
        ("pddl_domain", "(define", "(refine", "does not begin with"),
        ("pddl_domain", "(isHot ?o)\n", "(forall (?x - object) (isHot ?x))\n", "not supported"),
        ("grammar", '"intro"', '"outro"', "no rule 'intro'"),
        ("grammar", "action look {", "action stare {", "no command for the action 'look'"),
        ("grammar", '"rhs": "-=', '"rhs" "-=', "no JSON"),
        ("grammar", "open {r}", "open {z}", "cannot be worked out"),
        ("grammar", 'feedback :: "#look', 'reply :: "#look', "needs a template and a feedback"),
        (
            "grammar",
            "close {r}",
            "close [{o.name | inreceptacle(o:object, r:receptacle)}]",
            "depends on the state",
        ),
    ],
)
def test_broken_games(small, key, old, new, message):
    assert old in small[key]
    with pytest.raises(GameError, match=message):
        compile_game(small | {key: small[key].replace(old, new)})


def test_games_that_end_early(small):
    for key in ("pddl_domain", "pddl_problem"):
        for share in (0.0, 0.3, 0.99):
            with pytest.raises(GameError):
                compile_game(small | {key: small[key][: int(share * len(small[key]))]})


def test_tables_are_kept(small, tmp_path):
    made = tables(small, tmp_path / "new")
    (kept,) = (tmp_path / "new").iterdir()
    assert kept.read_bytes() == made == compile_game(small)
    kept.write_bytes(b"taken from here")
    assert tables(small, tmp_path / "new") == b"taken from here"
    (tmp_path / "file").write_text("")
    assert tables(small, tmp_path / "file" / "x") == made  # nothing can be written there


def test_broken_tables(small):
    made = compile_game(small)
    for bad in (b"", made[:100], b"x" + made, made[:4] + b"\x09" + made[5:]):
        with pytest.raises(ValueError, match="no compiled game"):
            _C.AlfworldGame(bad)
