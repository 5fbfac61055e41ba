"""Every family of chat templates is accepted with its stop ids and notes, or refused with the reason; every
text is data in all of them."""

from datetime import datetime

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.agent.template import DAY, date_macro
from tests.chat_families import ACCEPTED, FAMILIES, REFUSED, folds_characters

CONTROLS = sorted(
    {token for family in FAMILIES.values() for token in (family.end, *family.stops, *family.eos)} - {""}
)
CONTROLS += [
    "<|im_start|>",
    "<|user|>",
    "<|assistant|>",
    "<|start_header_id|>",
    "<s>",
    "[INST]",
    "<unk>",
    "[/INST]",
]
TEXTS = [
    "", " ", "###", "#####\n#.@#", "\n", "board\n", "\n\nboard ..#\n\n", "b", " b", "user", "a\r\nb\tc",
    "\x00", "a\x00\x07\x1b[31mb", "\ufeffx", "\u202eright to left\u202c \u05d0\u05d1", "e\u0301 \u200d\u200b",
    "\U0001f600", "\ud83d\ude00", "\ud800", "a\udfffb", "<", "<|", "|>", "<|im_", "{{ 1 / 0 }} {% raw %}",
    "<think>\nhm\n</think>\n\nx", "x" * 20_000, "<|im_end|>" * 2_000,
]  # fmt: skip
TEXTS += CONTROLS + [f"a{token}b\n" for token in CONTROLS] + [token + token for token in CONTROLS]


@pytest.fixture(scope="module")
def renderers():
    return {name: ChatRenderer(*FAMILIES[name].make()) for name in ACCEPTED}


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted_with_its_stop_ids_and_notes(renderers, name):
    family, renderer = FAMILIES[name], renderers[name]
    tokenizer = renderer._tokenizer
    assert tokenizer.convert_ids_to_tokens(renderer.end_ids.tolist()) == [family.end]
    assert sorted(tokenizer.convert_ids_to_tokens(list(renderer.stop_ids))) == sorted(family.stops)
    assert len(renderer.notes) == len(family.notes)
    for note, part in zip(renderer.notes, family.notes, strict=True):
        assert part in note


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_a_line_that_says_why(name):
    with pytest.raises(ValueError, match="chat template") as caught:
        ChatRenderer(*FAMILIES[name].make())
    assert FAMILIES[name].refused in str(caught.value) and "\n" not in str(caught.value)


def conversation(tokenizer, users, replies):
    messages = [{"role": "user", "content": users[0]}]
    for reply, user in zip(replies, users[1:], strict=True):
        messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": user}]
    dated = tokenizer.get_chat_template().replace("strftime_now('%d %b %Y')", "'26 Jul 2024'")
    options = {"chat_template": dated, "enable_thinking": False}
    return tokenizer.apply_chat_template(messages, add_generation_prompt=True, return_dict=False, **options)


STARTS = ["", "\n", "\n\n", "  ", "  {% if true %}x{% endif %}", "{%- if true %}x{% endif %}"]


@pytest.mark.parametrize("start", STARTS)
def test_a_date_is_told_and_nothing_else_changes(start):
    tokenizer, _ = FAMILIES["chatml"].make()
    codes = "%d %b %Y, %-d %B, %A %H:%M:%S %Z|%j %y-%-m %F %D %G-%V %u %l"
    body = start + "{{ DATE[3:] }}{% macro inner() %}{{ DATE + '!' }}{% endmacro %}{{ inner() }}"
    told = body.replace("DATE", f"'{DAY.strftime(codes)}'")
    asks = body.replace("DATE", f"strftime_now('{codes}')")
    texts = [
        tokenizer.apply_chat_template([{"role": "user", "content": "a"}], chat_template=text, tokenize=False)
        for text in (told, date_macro(DAY) + asks)
    ]
    assert texts[0] == texts[1]


USERS = ["board\n..#\n  ####\n", "\nb (2, 3)", " user x=1  ", "####  ####\n\n..assistant"]


@pytest.mark.parametrize("name", ACCEPTED)
def test_prompts_have_the_templates_own_ids(renderers, name):
    tokenizer, renderer = renderers[name]._tokenizer, renderers[name]
    for user in (text for text in USERS if FAMILIES[name].end not in text):
        assert renderer.start(user).tolist() == conversation(tokenizer, [user], [])


@pytest.mark.parametrize("name", [name for name in ACCEPTED if FAMILIES[name].exact])
def test_grown_conversations_have_the_templates_own_ids(renderers, name):
    """The replies begin with a letter that no token joins to what stands before it."""
    tokenizer, renderer = renderers[name]._tokenizer, renderers[name]
    replies = ["Z <action>up</action>", "Z no action", "Z  ## z"]
    whole = conversation(tokenizer, USERS, replies)
    head = renderer.start(USERS[0]).tolist()
    assert whole[: len(head)] == head
    grown = head
    for user in USERS[1:]:
        reply_end = whole.index(int(renderer.end_ids[0]), len(grown))
        grown += whole[len(grown) : reply_end + 1] + renderer.bridge(user).tolist()
        assert whole[: len(grown)] == grown
    assert grown == whole


@pytest.mark.parametrize("name", ACCEPTED)
def test_every_text_is_data(renderers, name):
    renderer = renderers[name]
    tokenizer = renderer._tokenizer
    special = [i for i, token in tokenizer.added_tokens_decoder.items() if token.special]
    special = [
        i for i in special if i not in (tokenizer.unk_token_id, *tokenizer("<think></think>")["input_ids"])
    ]

    def controls(ids):
        return [i for i in ids.tolist() if i in special or i in renderer.stop_ids]

    for render in (renderer.starts, renderer.bridges):
        plain = controls(render(["b"])[0])
        for text, ids in zip(TEXTS, render(TEXTS), strict=True):
            assert controls(ids) == plain, text[:40]
            assert ids.min() >= 0 and ids.max() < len(tokenizer)


ALPHABET = st.one_of(st.characters(), st.sampled_from(CONTROLS), st.characters(categories=["Cs"]))


@settings(deadline=None, max_examples=200)
@given(st.lists(ALPHABET, max_size=12).map("".join), st.sampled_from(ACCEPTED))
def test_any_text_is_data(name_of, text, name):
    renderer = name_of[name]
    for render in (renderer.start, renderer.bridge):
        assert renderer._num_controls(render(text)) == renderer._num_controls(render("b"))


@pytest.fixture(scope="module")
def name_of(renderers):
    return renderers


def test_a_normalizer_that_makes_a_control_token_of_other_characters():
    renderer = ChatRenderer(folds_characters())
    end = int(renderer.end_ids[0])
    for text in ("\uff1c|im_end|\uff1e", "a\uff1c|im_end|>b", "<|im_end|>"):
        assert (renderer.start(text) == end).sum() == (renderer.start("x") == end).sum()
        assert (renderer.bridge(text) == end).sum() == (renderer.bridge("x") == end).sum()


def test_a_thinking_tag_in_a_prompt_stays_one_token():
    renderer = ChatRenderer(*FAMILIES["cuts thoughts, an empty block asked for"].make())
    opening = renderer._tokenizer.convert_tokens_to_ids("<think>")
    assert (renderer.start("put your thoughts into <think> </think>") == opening).sum() == 2


def test_the_date_in_a_prompt_is_the_same_on_every_day(monkeypatch):
    from transformers.utils import chat_template_utils

    prompts = []
    for day in (datetime(2025, 1, 1), datetime(2031, 12, 24, 23, 59)):
        clock = type("Clock", (datetime,), {"now": classmethod(lambda cls, tz=None, day=day: day)})
        monkeypatch.setattr(chat_template_utils, "datetime", clock)
        renderer = ChatRenderer(*FAMILIES["llama 3"].make())
        today = renderer._tokenizer.apply_chat_template([{"role": "user", "content": "x"}], tokenize=False)
        assert f"{day:%d %b %Y}" in today, "the clock is not the template's, this test shows nothing"
        prompts.append((renderer.prompts(), renderer.start("x").tolist(), renderer.bridge("y").tolist()))
    assert prompts[0] == prompts[1]


def test_a_thought_that_was_cut_has_no_answer_in_it():
    from lamer_fast.agent.prompts import action_text
    from lamer_fast.envs.replies import action

    renderer = ChatRenderer(*FAMILIES["cuts thoughts, the prompt opens them"].make())
    tokenizer = renderer._tokenizer
    cut, whole = "try <action>up</action>", "try <action>up</action></think> <action>left</action>"
    replies = renderer.texts([np.array(tokenizer(text)["input_ids"], np.int32) for text in (cut, whole)])
    assert [action(reply) for reply in replies] == [None, "left"]
    assert [action_text(reply) for reply in replies] == ["", "left"]


def test_long_texts_are_not_kept():
    renderer = ChatRenderer(*FAMILIES["chatml"].make())
    long = "x " * 100_000
    assert renderer.start(long).tolist() == renderer.start(long).tolist()
    assert not any(len(text) > 100_000 for text in renderer._start.cache)
