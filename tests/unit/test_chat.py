"""ChatRenderer: replies as text, quoted replies, the cache. Templates: test_chat_families.py."""

import numpy as np
import pytest

from lamer_fast.agent.agent import Agent, Ask
from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.agent.memory import Memory
from lamer_fast.config import Config, RolloutConfig
from tests.chat_families import FAMILIES
from tests.scripted import PlannedEnv
from tests.tiny import tiny_tokenizer


def test_text_leaves_out_the_end_token_only_at_the_end():
    renderer = ChatRenderer(tiny_tokenizer())
    ids = np.array(tiny_tokenizer()("go  up")["input_ids"], np.int32)
    assert renderer.text(np.append(ids, renderer.end_ids)) == "go  up"
    assert renderer.text(ids) == "go  up"
    assert renderer.text(ids[:0]) == ""


def test_every_stop_token_is_left_out_of_a_text():
    renderer = ChatRenderer(*FAMILIES["several eos"].make())
    ids = np.array(renderer._tokenizer("up")["input_ids"], np.int32)
    assert len(renderer.stop_ids) == 4
    assert {renderer.text(np.append(ids, i)) for i in renderer.stop_ids} == {"up"}


def test_control_tokens_spelled_out_in_a_text_stay_text():
    tokenizer = tiny_tokenizer()
    renderer = ChatRenderer(tokenizer)
    end = int(renderer.end_ids[0])
    plain, spelled = renderer.start("x"), renderer.start("x<|im_end|>")
    assert (spelled == end).sum() == (plain == end).sum()
    assert "< |im_end|>" in tokenizer.decode(spelled)


def test_a_board_of_rules_stays_a_board_where_a_rule_ends_a_turn():
    renderer = ChatRenderer(*FAMILIES["chatml, a rule for an end"].make())
    ids = renderer.start("####\n#.@#").tolist()
    assert "# # ##\n#.@#" in renderer._tokenizer.decode(ids)
    assert ids.count(renderer.end_ids[0]) == renderer.start("x").tolist().count(renderer.end_ids[0]) == 1


@pytest.mark.parametrize("context", ["episode", "turn"])
def test_control_tokens_that_a_model_sampled_are_text_where_it_is_quoted(context):
    """In its own turn they stay the ids that were sampled; a later prompt quotes the reply as data."""
    renderer = ChatRenderer(tiny_tokenizer())
    start, end = (renderer._tokenizer.convert_tokens_to_ids(t) for t in ("<|im_start|>", "<|im_end|>"))
    reply = renderer.text(np.array([20, end, start, 20, end], np.int32))
    config = Config(rollout=RolloutConfig(context=context, memory="both"))
    agent = Agent(renderer, PlannedEnv([["3L", "3L"]]), config)

    def prompt(said: str) -> list[int]:
        memory = Memory("board", [[(said, said)], []], [said])
        return agent.ids(Ask.EPISODE, [memory], [1], [said], [""])[0].tolist()

    assert reply == "k<|im_end|><|im_start|>k"
    for token in (start, end):
        assert prompt(reply).count(token) == prompt("k").count(token)


def test_the_cache_of_texts_does_not_change_results(monkeypatch):
    monkeypatch.setattr("lamer_fast.agent.chat.CACHED_TEXTS", 3)
    renderer, fresh = ChatRenderer(tiny_tokenizer()), ChatRenderer(tiny_tokenizer())
    texts = ["a", "b", "a", "c", "d", "b"]
    for got, text in zip(
        renderer.bridges(texts) + renderer.bridges(texts[::-1]), texts + texts[::-1], strict=True
    ):
        assert got.tolist() == ChatRenderer(fresh._tokenizer).bridge(text).tolist()


def test_thinking_is_asked_for_by_the_templates_own_switch():
    tokenizer, _ = FAMILIES["cuts thoughts, an empty block asked for"].make()
    for thinking, asks in ((False, "assistant\n<think>\n\n</think>\n\n"), (True, "assistant\n")):
        renderer = ChatRenderer(tokenizer, thinking=thinking)
        for ids in (renderer.start("board"), renderer.bridge("board")):
            assert tokenizer.decode(ids).endswith(f"board<|im_end|>\n<|im_start|>{asks}")
        assert renderer.strips_thinking
    with pytest.raises(
        ValueError, match=r"model.thinking = True, but the chat template of .* knows no thinking"
    ):
        ChatRenderer(FAMILIES["chatml"].make()[0], thinking=True)
