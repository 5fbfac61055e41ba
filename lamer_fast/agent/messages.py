"""Chat rendering without a tokenizer: a token is a character, a conversation can be read back as messages.

It stands where `ChatRenderer` does, for a sampler that sends messages and gets texts. The marks between
messages are numbers beyond Unicode, so that no text can spell them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from lamer_fast.agent.chat import Ids, as_unicode

USER, REPLY, END = 0x110000, 0x110001, 0x110002  # a user's text begins, a reply is asked for, it has ended
NO_REPLY = "(no reply)"  # stands for an empty one in later requests: some servers refuse empty messages


class MessageRenderer:
    """The interface of `ChatRenderer`, for characters."""

    end_ids: Ids = np.array([END], np.int32)
    stop_ids: tuple[int, ...] = (END,)
    max_token_chars = 1

    def start(self, user_text: str) -> Ids:
        return np.concatenate([[USER], _characters(user_text), [REPLY]]).astype(np.int32)

    def starts(self, user_texts: Sequence[str]) -> list[Ids]:
        return [self.start(text) for text in user_texts]

    bridge, bridges = start, starts

    def text(self, token_ids: Ids) -> str:
        ids = token_ids[:-1] if len(token_ids) and token_ids[-1] == END else token_ids
        return ids.astype("<u4").tobytes().decode("utf-32-le")

    def texts(self, token_ids: Sequence[Ids]) -> list[str]:
        return [self.text(ids) for ids in token_ids]

    def reply(self, text: str, ended: bool) -> Ids:
        """The ids of a reply; `ended` False: it was cut."""
        characters = _characters(text)
        return np.concatenate([characters, self.end_ids]) if ended else characters


def messages(token_ids: NDArray[np.int32]) -> list[dict[str, str]]:
    """A conversation as `{"role", "content"}`, users and assistants in turn, the last one a user's."""
    marks = np.flatnonzero(token_ids >= USER)
    ends = [*marks[1:].tolist(), len(token_ids)]
    found = []
    for mark, end in zip(marks.tolist(), ends, strict=True):
        kind = token_ids[mark]
        text = token_ids[mark + 1 : end].astype("<u4").tobytes().decode("utf-32-le")
        if kind == USER:
            found.append({"role": "user", "content": text})
        elif kind == REPLY and end < len(token_ids):
            found.append({"role": "assistant", "content": text if text.strip() else NO_REPLY})
    return found


def _characters(text: str) -> Ids:
    return np.frombuffer(as_unicode(text).encode("utf-32-le"), "<u4").astype(np.int32)
