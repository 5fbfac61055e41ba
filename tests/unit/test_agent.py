"""Prompts of all contexts, memories and lengths: what each must show, and what it must not."""

from dataclasses import replace
from itertools import product

import pytest

from lamer_fast.agent.agent import Agent, Ask
from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.agent.memory import Memory
from lamer_fast.agent.prompts import PROMPTS, action_text, reflection_text
from lamer_fast.config import Config
from lamer_fast.envs.toy import NumberHunt
from tests.tiny import tiny_tokenizer

RENDERER = ChatRenderer(tiny_tokenizer())


def make_agent(prompt="full", **rollout) -> Agent:
    config = Config()
    config = replace(
        config, env=replace(config.env, prompt=prompt), rollout=replace(config.rollout, **rollout)
    )
    return Agent(RENDERER, NumberHunt(1), config)


def played(num_reflections=2) -> Memory:
    """Two failed episodes and two turns of a third."""
    episodes = [[(f"act-{k}-{t}", f"board-{k}-{t}") for t in range(n)] for k, n in enumerate((3, 1, 2))]
    reflections = [f"note-{k}" for k in range(num_reflections)]
    return Memory("start-board", episodes, reflections)


@pytest.mark.parametrize("prompt", ["full", "compact"])
def test_the_first_prompt_is_the_same_in_all_contexts(prompt):
    texts = {
        make_agent(prompt, context=context).text(Ask.FIRST, Memory(), 0, "B0")
        for context in ("trial", "episode", "turn")
    }
    assert len(texts) == 1
    text = texts.pop()
    assert text.startswith(NumberHunt(1).task_prompt()) and "B0" in text


@pytest.mark.parametrize(
    ("prompt", "context", "memory", "reflect"),
    list(
        product(
            ("full", "compact"), ("episode", "turn"), ("both", "reflection", "history", "none"), (True, False)
        )
    ),
)
def test_a_later_episode_shows_what_its_memory_says(prompt, context, memory, reflect):
    agent = make_agent(prompt, context=context, memory=memory, reflect=reflect, history_boards=7)
    past = played(2 if reflect else 0)
    past.episodes[-1] = []
    text = agent.text(Ask.EPISODE, past, 2, "now-board")
    assert text.count(agent.task) == 1 and "now-board" in text and "{" not in text
    for k in (0, 1):
        assert (f"note-{k}" in text) == (reflect and memory in ("both", "reflection"))
        assert (f"act-{k}-0" in text) == (memory in ("both", "history"))
        assert (f"board-{k}-0" in text) == (memory in ("both", "history"))


@pytest.mark.parametrize("prompt", ["full", "compact"])
def test_context_trial_says_only_what_is_new(prompt):
    agent = make_agent(prompt)
    assert agent.text(Ask.TURN, played(), 2, "now") == "now"
    assert agent.text(Ask.REFLECTION, played(), 1, "last").startswith("last")
    episode = agent.text(Ask.EPISODE, played(), 1, "first", "")
    assert agent.task not in episode and "note-0" not in episode and episode.endswith("first")
    unreflected = agent.text(Ask.EPISODE, played(), 1, "first", "last")
    assert unreflected.startswith("last") and unreflected.endswith(episode)


def test_windows_of_context_turn():
    agent = make_agent(context="turn", memory="history", history_turns=3, history_boards=2)
    memory = Memory("start-board", [[(f"act-{t}", f"board-{t}") for t in range(5)]], [])
    text = agent.text(Ask.TURN, memory, 0, "board-4")
    assert [f"act-{t}" in text for t in range(5)] == [False, False, True, True, True]
    assert [f"board-{t}" in text for t in range(5)] == [False, False, False, True, True]
    assert text.count("board-4") == 1, "the present board is the last of the list"
    assert "start-board" in text and "Turn 5" in text and "Turn 2" not in text


def test_the_reflection_prompt_of_context_turn_is_about_the_failed_episode_alone():
    agent = make_agent(context="turn", history_turns=7, history_boards=1)
    text = agent.text(Ask.REFLECTION, played(), 2, "board-2-1")
    assert "board-2-0" in text and "board-2-1" in text, "every board of the window is shown"
    assert "start-board" in text and "note-0" not in text and "act-0-0" not in text


def test_reflections_are_quoted_and_cut():
    full, compact = PROMPTS["full"], PROMPTS["compact"]
    assert reflection_text("so <remark>a</remark> then <remark> go\nleft </remark>.", full, 99) == (
        "go\nleft",
        True,
    )
    assert reflection_text("<remark>abcdef</remark>", full, 3) == ("abc", True)
    assert reflection_text("no tag", full, 99) == ("", False)
    assert reflection_text("<remark>  </remark>", full, 99) == ("", False)
    assert reflection_text("<remark>cut off", full, 99) == ("", False)
    assert reflection_text(" mine at 2 3 ", compact, 6) == ("mine a", True)
    assert reflection_text(" \n", compact, 6) == ("", False)


def test_histories_list_actions_without_the_reasoning():
    assert action_text("I think <action> up, left </action>") == "up, left"
    assert action_text("x" * 500 + "end").endswith("end") and len(action_text("x" * 500)) < 500


@pytest.mark.parametrize(
    ("context", "opens"),
    [("trial", {Ask.FIRST}), ("episode", {Ask.FIRST, Ask.EPISODE}), ("turn", set(Ask))],
)
def test_which_asks_open_a_sequence(context, opens):
    agent = make_agent(context=context)
    assert {ask for ask in Ask if agent.starts_sequence(ask)} == opens


@pytest.mark.parametrize("prompt", ["full", "compact"])
@pytest.mark.parametrize("context", ["trial", "episode", "turn"])
def test_choices_and_what_a_task_asks_are_shown(context, prompt):
    """Choices wherever a move is asked for, without tags; the task's own text where a sequence opens."""
    agent, memory = make_agent(prompt, context=context), played()
    memory.task = "Heat the soup."
    choices = ["<action>up</action>", "<action>left, up</action>", "look"]
    for ask in (Ask.FIRST, Ask.TURN, Ask.EPISODE):
        plain = agent.text(ask, memory, 2, "now-board", "last-board")
        listed = agent.text(ask, memory, 2, "now-board", "last-board", choices)
        assert listed.count("up\nleft, up\nlook") == 1 and "left, up" not in plain
        assert ("Heat the soup." in plain) == agent.starts_sequence(ask)
    assert ("Heat the soup." in agent.text(Ask.REFLECTION, memory, 2, "now")) == (context == "turn")


def test_showing_choices_needs_an_environment_that_knows_them():
    config = Config()
    config = replace(config, env=replace(config.env, show_actions=True))
    with pytest.raises(ValueError, match=r"env\.show_actions = True, but NumberHunt has no legal_actions"):
        Agent(RENDERER, NumberHunt(2), config)


def test_a_reflection_is_asked_for_by_name_or_by_a_text_of_ones_own(tmp_path):
    from lamer_fast.agent.prompts import PROMPTS, REFLECTIONS, prompts_asking
    from lamer_fast.config.resolve import read_config, resolve, to_json
    from lamer_fast.config.schema import REFLECT_PROMPTS

    for length, shipped in REFLECTIONS.items():
        assert tuple(shipped) == REFLECT_PROMPTS and len(set(shipped.values())) == len(shipped)
        assert prompts_asking(length, "think", "plan") == PROMPTS[length]
    assert all("<remark>" in text for text in REFLECTIONS["full"].values())
    (tmp_path / "mine.txt").write_text("What {now}? Put it in <remark></remark>.\n")
    given = ["--rollout.reflect-prompt", str(tmp_path / "mine.txt")]
    config = resolve("minesweeper-qwen3-4b", given)
    (tmp_path / "mine.txt").unlink()
    (tmp_path / "config.json").write_text(to_json(config))
    kept = read_config(tmp_path / "config.json").rollout.reflect_prompt
    assert prompts_asking("full", "think", kept).reflect == "What {now}? Put it in <remark></remark>."
    with pytest.raises(ValueError, match=r"mine\.txt' cannot be read"):
        resolve("minesweeper-qwen3-4b", given)
    with pytest.raises(ValueError, match="must be one of: plan, facts, short"):
        resolve("minesweeper-qwen3-4b", ["--rollout.reflect-prompt", "fact"])
    with pytest.raises(ValueError, match="ask for a note between <remark>"):
        resolve("minesweeper-qwen3-4b", ["--rollout.reflect-prompt", "what was wrong?"])


def test_an_action_is_asked_for_by_name_or_by_a_text_of_ones_own():
    from lamer_fast.agent.prompts import FULL, PLAYS
    from lamer_fast.config.resolve import resolve
    from lamer_fast.config.schema import PLAY_PROMPTS

    assert tuple(PLAYS) == PLAY_PROMPTS and len(set(PLAYS.values())) == len(PLAYS)
    texts = dict(PLAYS) | {"say it in {one} word": "say it in {one} word"}
    for context in ("trial", "episode", "turn"):
        for asked, text in texts.items():
            given = ["--rollout.context", context, "--rollout.memory", "both", "--rollout.play-prompt", asked]
            config = resolve("minesweeper-qwen3-4b", given)
            first = Agent(RENDERER, NumberHunt(2), config).text(Ask.FIRST, Memory("board"), 0, "board")
            assert first.endswith(FULL.gap + text)
    with pytest.raises(ValueError, match="must be one of: think, direct, react"):
        resolve("minesweeper-qwen3-4b", ["--rollout.play-prompt", "reakt"])
    with pytest.raises(ValueError, match=r"rollout.play_prompt = 'react' contradicts env.prompt = 'compact'"):
        resolve("minesweeper-tiny", ["--rollout.play-prompt", "react"])
