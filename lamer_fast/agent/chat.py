"""Chat rendering to token ids, derived from the tokenizer's own chat template and checked against it.

A conversation only ever grows at its end, and what the model sampled is kept as ids. So two texts are all
that is needed of a template: the START (everything up to the first generation prompt) and the BRIDGE (from a
sampled end token to the next generation prompt). Both are found by rendering a probe conversation and are
compared with a longer one; a template that writes earlier messages differently as the conversation grows
cannot be bridged.

One deviation is allowed: templates such as Qwen3's put a thinking block into the generation prompt (and keep
the one of a reply) but strip it from earlier replies. Here the block stays in the history as it was sampled;
the model then sees its own earlier thinking. `strips_thinking` says so.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int32]

# Probe messages: plain letters, so that no template escapes, strips or splits them.
USERS, REPLIES = ("Quark", "Lepton", "Boson"), ("Ganymede", "Callisto")
CACHED_TEXTS = 4096  # boards repeat over trials and turns


class ChatRenderer:
    """Token ids of the parts of a growing conversation.

    Attributes:
        end_ids: what ends a reply that was cut: the template's end token, [1].
        stop_ids: sampled ids after which a reply is over.
        strips_thinking: the template would strip the thinking block of earlier replies; it stays here.
    """

    def __init__(self, tokenizer: Any) -> None:
        if not getattr(tokenizer, "chat_template", None):
            raise ValueError(f"the tokenizer {_name(tokenizer)} has no chat template")
        self._tokenizer = tokenizer
        self._head, self._tail, bridge, self.strips_thinking = _derive(tokenizer)
        end_id, rest = _split_end_token(tokenizer, bridge[0])
        self._bridge = (rest, bridge[1])
        self.end_ids: Ids = np.array([end_id], np.int32)
        eos_id = tokenizer.eos_token_id
        self.stop_ids: tuple[int, ...] = (end_id,) if eos_id in (None, end_id) else (end_id, int(eos_id))

        written = "".join((self._head, self._tail, *bridge))
        controls = [token for token in tokenizer.all_special_tokens if token in written]
        self._control = re.compile("|".join(map(re.escape, sorted(controls, key=len, reverse=True))))
        self._starts: dict[str, Ids] = {}
        self._bridges: dict[str, Ids] = {}

    def start(self, user_text: str) -> Ids:
        """Ids of a new conversation up to and including the first generation prompt."""
        return self.starts([user_text])[0]

    def bridge(self, user_text: str) -> Ids:
        """Ids that follow a reply's end token, up to and including the next generation prompt."""
        return self.bridges([user_text])[0]

    def starts(self, user_texts: Sequence[str]) -> list[Ids]:
        return self._encode(user_texts, self._head, self._tail, self._starts)

    def bridges(self, user_texts: Sequence[str]) -> list[Ids]:
        return self._encode(user_texts, *self._bridge, self._bridges)

    def text(self, token_ids: Ids) -> str:
        """The reply as text, its end token left out."""
        return self.texts([token_ids])[0]

    def texts(self, token_ids: Sequence[Ids]) -> list[str]:
        stripped = [ids[:-1] if len(ids) and int(ids[-1]) in self.stop_ids else ids for ids in token_ids]
        return list(
            self._tokenizer.batch_decode(
                [ids.tolist() for ids in stripped],
                skip_special_tokens=False,
                clean_up_tokenization_spaces=False,
            )
        )

    def _encode(self, user_texts: Sequence[str], before: str, after: str, cache: dict[str, Ids]) -> list[Ids]:
        missing = [text for text in dict.fromkeys(user_texts) if text not in cache]
        if missing:
            if len(cache) + len(missing) > CACHED_TEXTS:
                cache.clear()
                missing = list(dict.fromkeys(user_texts))
            # A control token that a text spells out is data: a space keeps it from being read as one.
            whole = [before + self._control.sub(_defuse, text) + after for text in missing]
            encoded = self._tokenizer(whole, add_special_tokens=False, return_attention_mask=False)[
                "input_ids"
            ]
            for text, ids in zip(missing, encoded, strict=True):
                cache[text] = np.array(ids, np.int32)
        return [cache[text] for text in user_texts]


def _defuse(match: re.Match[str]) -> str:
    return match[0][0] + " " + match[0][1:]


def _derive(tokenizer: Any) -> tuple[str, str, tuple[str, str], bool]:
    """(head, tail) around the first user text, (before, after) around a later one, strips_thinking."""
    first = _render(tokenizer, 1)
    if first.count(USERS[0]) != 1:
        raise _unbridgeable(tokenizer, f"it writes a user message {first.count(USERS[0])} times, not once")
    head, tail = first.split(USERS[0])

    second = _render(tokenizer, 2)
    for text in (*USERS[:2], REPLIES[0]):
        if second.count(text) != 1:
            raise _unbridgeable(
                tokenizer, f"it writes a message of a history {second.count(text)} times, not once"
            )
    history, _, rest = second.partition(REPLIES[0])
    before, found, after = rest.partition(USERS[1])
    if not found or not history.startswith(head + USERS[0]):
        raise _unbridgeable(tokenizer, "earlier messages are written differently once others follow")
    # In a history the generation prompt may lack the thinking block that a fresh one ends with.
    past_tail = history[len(head) + len(USERS[0]) :]
    if not tail.startswith(past_tail):
        raise _unbridgeable(
            tokenizer, f"a reply follows {past_tail!r} in a history but {tail!r} when it is asked for"
        )
    if after != tail and not after.startswith(past_tail):
        raise _unbridgeable(tokenizer, f"later generation prompts are {after!r}, the first is {tail!r}")

    middle = before + USERS[1] + past_tail
    expected = head + USERS[0] + past_tail + REPLIES[0] + middle + REPLIES[1] + before + USERS[2] + after
    if _render(tokenizer, 3) != expected:
        raise _unbridgeable(tokenizer, f"a third turn gives {_render(tokenizer, 3)!r}, expected {expected!r}")
    return head, tail, (before, after), past_tail != tail


def _render(tokenizer: Any, num_users: int) -> str:
    messages = [{"role": "user", "content": USERS[0]}]
    for reply, user in zip(REPLIES, USERS[1:num_users], strict=False):
        messages += [{"role": "assistant", "content": reply}, {"role": "user", "content": user}]
    try:
        return str(
            tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=True, enable_thinking=False
            )
        )
    except Exception as error:
        raise _unbridgeable(tokenizer, f"it fails on {len(messages)} messages: {error}") from error


def _split_end_token(tokenizer: Any, before: str) -> tuple[int, str]:
    """The id of the end token that follows a reply, and the text after it."""
    text = before.lstrip(" ")
    for token in sorted(tokenizer.all_special_tokens, key=len, reverse=True):
        if text.startswith(token):
            return int(tokenizer.convert_tokens_to_ids(token)), text[len(token) :]
    raise _unbridgeable(tokenizer, f"a reply must end with a special token, but it is followed by {before!r}")


def _unbridgeable(tokenizer: Any, why: str) -> ValueError:
    return ValueError(f"the chat template of {_name(tokenizer)} cannot be continued turn by turn: {why}")


def _name(tokenizer: Any) -> str:
    return repr(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
