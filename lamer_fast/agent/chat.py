"""Chat rendering to token ids, by the tokenizer's own chat template.

`template.py` takes the template apart; here its pieces and the texts become ids. A text is data: whatever an
environment, a user or a model wrote, its ids hold no token that controls a conversation.
"""

import re
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from lamer_fast.agent.template import USERS, control_tokens, take_apart

Ids = NDArray[np.int32]

CACHED_TEXTS = 4096  # boards repeat over trials and turns
CACHED_CHARS = 1 << 16  # of one text: a page that an environment quotes once is not kept
MAX_PIECES = 8  # ids of one character
MAX_DEFUSED = 4  # times over: of "####" with a control token "###", "# ###" is left at first
LONE_SURROGATE = re.compile("[\ud800-\udfff]")


class ChatRenderer:
    """Token ids of the parts of a growing conversation.

    Args:
        tokenizer: of transformers, with a chat template.
        eos_ids: what the model's generation_config.json ends a reply with.
        thinking: let the template ask for a reply that begins with thoughts, where it has a switch for that.

    Attributes:
        end_ids: what ends a reply that was cut: the template's end token, [1].
        stop_ids: sampled ids after which a reply is over: the template's, the tokenizer's, the model's.
        max_token_chars: characters of the longest token; n tokens never stand for more than n times as many.
        strips_thinking: the template would strip the thinking block of earlier replies; it stays here.
        notes: what else the user should know of the template.

    Raises:
        ValueError: no template, or one that cannot be continued turn by turn; says why.
    """

    def __init__(self, tokenizer: Any, eos_ids: Sequence[int] = (), *, thinking: bool = False) -> None:
        self._tokenizer = tokenizer
        self._texts: dict[bytes, str] = {}  # of few ids
        named = [] if tokenizer.eos_token_id is None else [int(tokenizer.eos_token_id)]
        named += [int(i) for i in eos_ids]
        self.template = template = take_apart(tokenizer, named, thinking=thinking)
        self.strips_thinking, self.notes = template.strips_thinking, template.notes
        end_id = self._end_id()
        self.end_ids: Ids = np.array([end_id], np.int32)
        self.stop_ids: tuple[int, ...] = tuple(dict.fromkeys([end_id, *named]))
        self.max_token_chars = max(map(len, tokenizer.get_vocab()))

        # A bridge is encoded with the end token before it, since a token may take the white space after it.
        parts = (template.head, template.tail), (template.end + template.before, template.after)
        written = "".join((*parts[0], *parts[1]))
        controls = control_tokens(tokenizer, written) | {template.end: end_id}
        self._control = re.compile("|".join(map(re.escape, sorted(controls, key=len, reverse=True))))
        self._is_control = np.zeros(max(controls.values()) + 1, bool)
        self._is_control[list(controls.values())] = True
        self._start = _Part(*parts[0], self._num_controls(self._ids([USERS[0].join(parts[0])])[0]))
        self._bridge = _Part(*parts[1], self._num_controls(self._ids([USERS[0].join(parts[1])])[0]))

    def start(self, user_text: str) -> Ids:
        """Ids of a new conversation up to and including the first generation prompt."""
        return self.starts([user_text])[0]

    def bridge(self, user_text: str) -> Ids:
        """Ids that follow a reply's end token, up to and including the next generation prompt."""
        return self.bridges([user_text])[0]

    def starts(self, user_texts: Sequence[str]) -> list[Ids]:
        return self._encode(user_texts, self._start)

    def bridges(self, user_texts: Sequence[str]) -> list[Ids]:
        return [ids[1:] for ids in self._encode(user_texts, self._bridge)]

    def text(self, token_ids: Ids) -> str:
        """The reply as text, its end token left out."""
        return self.texts([token_ids])[0]

    def texts(self, token_ids: Sequence[Ids]) -> list[str]:
        """Where the prompt opened a thinking block that a reply does not close, the text closes it."""
        stripped = [ids[:-1] if len(ids) and int(ids[-1]) in self.stop_ids else ids for ids in token_ids]
        replies: list[str] = self._tokenizer.batch_decode(
            [ids.tolist() for ids in stripped],
            skip_special_tokens=False,
            clean_up_tokenization_spaces=False,
        )
        if self.template.opens_thinking:
            return [reply if "</think>" in reply else reply + "</think>" for reply in replies]
        return replies

    def pieces(self, ids: Ids) -> list[str]:
        """The text that each of a reply's ids adds; the pieces of a character stand with its last id."""
        pieces: list[str] = []
        before = start = 0  # decoded from `before`: a tokenizer may drop the white space of a first token
        for end in range(1, len(ids) + 1):
            head = self._decoded(ids[before:start])
            text = self._decoded(ids[before:end])[len(head) :]
            whole = not text.endswith("\ufffd") or end == len(ids) or end - start >= MAX_PIECES
            pieces.append(text if whole else "")
            if whole:
                before, start = start, end
        return pieces

    def _decoded(self, ids: Ids) -> str:
        key = ids.tobytes()
        if key not in self._texts:
            if len(self._texts) >= CACHED_TEXTS:
                self._texts.clear()
            self._texts[key] = self._tokenizer.decode(
                ids.tolist(), skip_special_tokens=False, clean_up_tokenization_spaces=False
            )
        return self._texts[key]

    def replies(self, texts: Sequence[str]) -> list[Ids]:
        """Inverse of `texts`: ids of replies as a policy would have sampled them, with their end token."""
        return [np.concatenate([ids, self.end_ids[:1]]) for ids in self._ids(list(texts))]

    def prompts(self) -> dict[str, Any]:
        """What every prompt of a run is made with, ready for JSON: equal if and only if prompts are."""
        template = self.template
        return {
            "start": [template.head, template.tail],
            "bridge": [template.end, template.before, template.after],
            "stop_ids": list(self.stop_ids),
            "sample_ids": self.start(SAMPLE).tolist(),
        }

    def _encode(self, user_texts: Sequence[str], part: "_Part") -> list[Ids]:
        known = {text: part.cache[text] for text in user_texts if text in part.cache}
        missing = [text for text in dict.fromkeys(user_texts) if text not in known]
        if missing:
            if len(part.cache) + len(missing) > CACHED_TEXTS:
                part.cache.clear()
            for text, ids in zip(missing, self._encode_new(missing, part), strict=True):
                known[text] = ids
                if len(text) <= CACHED_CHARS:
                    part.cache[text] = ids
        return [known[text] for text in user_texts]

    def _encode_new(self, texts: Sequence[str], part: "_Part") -> list[Ids]:
        clean = [self._defused(self.template.trimmed(as_unicode(text))) for text in texts]
        encoded = self._ids([part.before + text + part.after for text in clean])
        for i, ids in enumerate(encoded):
            if self._num_controls(ids) != part.num_controls:  # a normalizer made one of other characters
                spaced = self._ids([part.before + " ".join(clean[i]) + part.after])[0]
                if self._num_controls(spaced) != part.num_controls:
                    raise ValueError(f"the tokenizer reads a control token in the text {texts[i][:200]!r}")
                encoded[i] = spaced
        return encoded

    def _defused(self, text: str) -> str:
        """A control token that a text spells out is data: a space keeps it from being read as one."""
        for _ in range(MAX_DEFUSED):
            text, found = self._control.subn(_defuse, text)
            if not found:
                break
        return text

    def _ids(self, texts: list[str]) -> list[Ids]:
        encoded = self._tokenizer(texts, add_special_tokens=False, return_attention_mask=False, verbose=False)
        return [np.array(ids, np.int32) for ids in encoded["input_ids"]]

    def _num_controls(self, ids: Ids) -> int:
        return int(self._is_control[ids[ids < len(self._is_control)]].sum())

    def _end_id(self) -> int:
        end = self.template.end
        ids = self._ids([end + self.template.before])[0]
        end_id = int(self._tokenizer.convert_tokens_to_ids(end))
        if len(ids) == 0 or ids[0] != end_id:
            raise ValueError(f"the tokenizer reads {end!r}, which ends a reply, as ids {ids.tolist()[:8]}")
        return end_id


SAMPLE = "Board 1:\n#?. x\n\nüß (2, 3)"


class _Part:
    """Text around a user's, how many control tokens it has, and the ids of whole parts by the user's text."""

    def __init__(self, before: str, after: str, num_controls: int) -> None:
        self.before, self.after, self.num_controls = before, after, num_controls
        self.cache: dict[str, Ids] = {}


def _defuse(match: re.Match[str]) -> str:
    return match[0][0] + " " + match[0][1:] if len(match[0]) > 1 else "\ufffd"


def as_unicode(text: str) -> str:
    """Pairs of surrogates joined, lone ones replaced: no tokenizer takes them."""
    if LONE_SURROGATE.search(text) is None:
        return text
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
