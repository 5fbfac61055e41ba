"""ChatRenderer: start and bridge reproduce the template's own rendering, or the template is refused."""

import numpy as np
import pytest

from lamer_fast.agent.chat import ChatRenderer
from tests.tiny import CHATML, tiny_tokenizer

# Qwen3's shape: an empty thinking block in the generation prompt, none in the history.
STRIPS_THINKING = (
    "{% for m in messages %}{% set c = m['content'] %}"
    "{% if m['role'] == 'assistant' and '</think>' in c %}{% set c = c.split('</think>')[-1] %}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + c + '<|im_end|>\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}"
    "{% if enable_thinking is false %}{{ '<think>\n\n</think>\n\n' }}{% endif %}{% endif %}"
)
SYSTEM = "{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}" + CHATML
COUNTS_MESSAGES = "{{ messages | length }}" + CHATML
ONLY_LAST = CHATML.replace("for m in messages", "for m in messages[-1:]")
NO_END_TOKEN = CHATML.replace("<|im_end|>", "")
REFUSES_HISTORY = (
    "{% if messages | length > 1 %}{{ raise_exception('one message only') }}{% endif %}" + CHATML
)


def conversation(tokenizer, users, replies):
    messages = []
    for i, user in enumerate(users):
        messages.append({"role": "user", "content": user})
        if i < len(replies):
            messages.append({"role": "assistant", "content": replies[i]})
    text = tokenizer.apply_chat_template(
        messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
    )
    return tokenizer(text, add_special_tokens=False)["input_ids"]


@pytest.mark.parametrize("template", [CHATML, SYSTEM])
def test_parts_join_to_the_templates_own_ids(template):
    tokenizer = tiny_tokenizer(template)
    renderer = ChatRenderer(tokenizer)
    users, replies = ["a board\n..#", "second: x=1", "third?"], ["<action>up</action>", "no action"]
    joined = renderer.start(users[0]).tolist()
    for user, reply in zip(users[1:], replies, strict=True):
        joined += tokenizer(reply)["input_ids"] + renderer.end_ids.tolist() + renderer.bridge(user).tolist()
    assert joined == conversation(tokenizer, users, replies)
    assert not renderer.strips_thinking


def test_a_template_that_strips_thinking_keeps_it_in_our_history():
    tokenizer = tiny_tokenizer(STRIPS_THINKING)
    renderer = ChatRenderer(tokenizer)
    assert renderer.strips_thinking
    block = "<think>\n\n</think>\n\n"
    assert tokenizer.decode(renderer.start("hi")).endswith("assistant\n" + block)
    assert tokenizer.decode(renderer.bridge("on")).endswith("assistant\n" + block)
    ours = [*renderer.start("a"), *tokenizer("r")["input_ids"], *renderer.end_ids, *renderer.bridge("b")]
    theirs = tokenizer.decode(conversation(tokenizer, ["a", "b"], ["r"]))
    assert tokenizer.decode(ours).replace(block, "", 1) == theirs


@pytest.mark.parametrize(
    ("template", "why"),
    [
        (COUNTS_MESSAGES, "written differently"),
        (ONLY_LAST, "0 times"),
        (NO_END_TOKEN, "must end with a special token"),
        (REFUSES_HISTORY, "one message only"),
    ],
)
def test_a_template_that_cannot_be_bridged_is_an_error(template, why):
    with pytest.raises(ValueError, match=f"cannot be continued turn by turn.*{why}"):
        ChatRenderer(tiny_tokenizer(template))


def test_a_tokenizer_without_template_is_an_error():
    with pytest.raises(ValueError, match="has no chat template"):
        ChatRenderer(tiny_tokenizer(None))


def test_text_leaves_out_the_end_token_only_at_the_end():
    renderer = ChatRenderer(tiny_tokenizer())
    ids = np.array(tiny_tokenizer()("go  up")["input_ids"], np.int32)
    assert renderer.text(np.append(ids, renderer.end_ids)) == "go  up"
    assert renderer.text(ids) == "go  up"
    assert renderer.text(ids[:0]) == ""


def test_control_tokens_spelled_out_in_a_text_stay_text():
    tokenizer = tiny_tokenizer()
    renderer = ChatRenderer(tokenizer)
    end = int(renderer.end_ids[0])
    plain, spelled = renderer.start("x"), renderer.start("x<|im_end|>")
    assert (spelled == end).sum() == (plain == end).sum()
    assert "< |im_end|>" in tokenizer.decode(spelled)


def test_the_cache_of_texts_does_not_change_results(monkeypatch):
    monkeypatch.setattr("lamer_fast.agent.chat.CACHED_TEXTS", 3)
    renderer, fresh = ChatRenderer(tiny_tokenizer()), ChatRenderer(tiny_tokenizer())
    texts = ["a", "b", "a", "c", "d", "b"]
    for got, text in zip(
        renderer.bridges(texts) + renderer.bridges(texts[::-1]), texts + texts[::-1], strict=True
    ):
        assert got.tolist() == ChatRenderer(fresh._tokenizer).bridge(text).tolist()
