"""A chat template, taken apart: what it writes around each message, and what it does to a message.

A conversation only ever grows at its end, and what the model sampled is kept as ids. So two texts are all
that is needed of a template: the START (everything up to the first generation prompt) and the BRIDGE (from a
sampled end token to the next generation prompt). Both are found by rendering a probe conversation and are
compared with a longer one; a template that writes earlier messages differently as the conversation grows
cannot be bridged, and one that changes the text of a user beyond its outer white space cannot be followed.

Earlier replies are the one deviation: they stay as they were sampled where a template would trim them, or cut
out their thinking. `notes` says so. docs/models.md lists the families of templates and what becomes of each.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache, partial
from string import ascii_letters
from typing import Any

Render = Callable[..., str]  # users, replies and the day -> the conversation, as the template writes it

# Probe messages: plain letters, so that no template escapes, strips or splits them.
USERS, REPLIES, THOUGHT = ("Quark", "Lepton", "Boson"), ("Ganymede", "Callisto"), "Muon"
PADDED = ("\n \tQuark\t \n", " \n\tQuark\t\n ")  # tell every way of trimming from every other
ODD = "a  b\n\n\nc\\n <b>&amp; \"q\" 'r' {{ s }} {% t %} é"
TAGS = ("think", "thinking", "thought", "reasoning", "seed:think")
THINKING = (*((f"<{tag}>", f"</{tag}>") for tag in TAGS), ("[THINK]", "[/THINK]"))
# What a template that writes the date is given: the same on every day, as everything else in a run.
DAY, OTHER_DAY = datetime(2024, 7, 26), datetime(1999, 12, 31)


@dataclass(frozen=True)
class Template:
    head: str  # before the first text of a user
    tail: str  # between that text and the reply
    end: str  # the token that ends a reply
    before: str  # between that token and the next text of a user
    after: str  # between that text and the reply
    trim: tuple[str, str | None]  # what it does to a user's text: a method of str and its argument
    strips_thinking: bool  # it would cut the thinking out of earlier replies
    opens_thinking: bool  # the generation prompt opens a thinking block that the reply has to close
    notes: tuple[str, ...]  # what its user should know

    def trimmed(self, text: str) -> str:
        method, characters = self.trim
        trimmed: str = getattr(text, method)(characters)
        return trimmed


def take_apart(tokenizer: Any, eos_ids: Sequence[int] = (), *, thinking: bool = False) -> Template:
    """Raises ValueError with the reason when the tokenizer has no template or one that cannot be bridged.

    Args:
        eos_ids: what the tokenizer and the model name as the end of a text.
        thinking: what the template is told as `enable_thinking`.
    """
    if not getattr(tokenizer, "chat_template", None):
        raise ValueError(f"the tokenizer {_name(tokenizer)} has no chat template")
    render = partial(_render, tokenizer, thinking)
    if thinking and "think" not in tokenizer.get_chat_template():
        raise ValueError(
            f"model.thinking = True, but the chat template of {_name(tokenizer)} knows no thinking"
        )
    first = render(USERS[:1])
    if first != render(USERS[:1]):
        raise _unbridgeable(tokenizer, "it writes the same conversation differently each time")
    _check_once(tokenizer, first, USERS[:1])
    head, tail = first.split(USERS[0])

    second = render(USERS[:2], REPLIES[:1])
    _check_once(tokenizer, second, (*USERS[:2], REPLIES[0]))
    history, _, rest = second.partition(REPLIES[0])
    between, found, after = rest.partition(USERS[1])
    if not found or not history.startswith(head + USERS[0]):
        raise _unbridgeable(tokenizer, "earlier messages are written differently once others follow")
    past_tail = history[len(head) + len(USERS[0]) :]
    added = _added_by_asking(tokenizer, tail, past_tail)
    if after != tail and not after.startswith(past_tail):
        raise _unbridgeable(tokenizer, f"later generation prompts are {after!r}, the first is {tail!r}")

    middle = between + USERS[1] + past_tail
    expected = head + USERS[0] + past_tail + REPLIES[0] + middle + REPLIES[1] + between + USERS[2] + after
    third = render(USERS, REPLIES)
    if third != expected:
        raise _unbridgeable(tokenizer, f"a third turn gives {third!r}, expected {expected!r}")

    gap, end, before = _split_end_token(tokenizer, head, between, eos_ids)
    start_of_second = history + REPLIES[0] + between
    trim = _trim(tokenizer, render, head, tail, start_of_second, after)
    strips_thinking = bool(added.strip()) or _cuts_thoughts(render)
    opens_thinking = tail.rfind("<think>") > tail.rfind("</think>")
    as_sampled = past_tail != tail or bool(gap) or _trims_replies(render)
    return Template(
        head, tail, end, before, after, trim, strips_thinking, opens_thinking,
        notes=tuple(_notes(tokenizer, render, before + after, strips_thinking, opens_thinking, as_sampled)),
    )  # fmt: skip


def added_tokens(tokenizer: Any) -> dict[str, int]:
    """Text -> id of every token that the tokenizer matches as a whole, special or not."""
    added = {str(token): int(i) for i, token in getattr(tokenizer, "added_tokens_decoder", {}).items()}
    return added | {token: int(tokenizer.convert_tokens_to_ids(token)) for token in special_tokens(tokenizer)}


def special_tokens(tokenizer: Any) -> set[str]:
    """Texts of the special tokens: those that the tokenizer names, and those that its file marks so."""
    decoder = getattr(tokenizer, "added_tokens_decoder", {})
    marked = {str(token) for token in decoder.values() if getattr(token, "special", False)}
    return marked | set(tokenizer.all_special_tokens)


def control_tokens(tokenizer: Any, written: str) -> dict[str, int]:
    """Text -> id of the tokens that no message may make: special ones, and marks that the template writes.

    A mark has letters and something else (`<|user|>`), unlike added tokens for blanks, words or rules. The
    tag of a thinking block is none, since a prompt may well ask for such a block and no turn ends with it;
    nor is the token for characters that the vocabulary lacks.
    """
    special = special_tokens(tokenizer)
    tags = {tag for pair in THINKING for tag in pair}
    return {
        token: i
        for token, i in added_tokens(tokenizer).items()
        if (token in special or (token in written and _is_mark(token)))
        and token not in tags
        and token != tokenizer.unk_token
    }


def _is_mark(token: str) -> bool:
    letters = sum(c.isalnum() for c in token)
    return 0 < letters < len("".join(token.split()))


@cache
def date_macro(day: datetime) -> str:
    """To stand before a template: its `strftime_now` tells this day. transformers 5.24 takes no function.

    Jinja cuts the end of the line, so that the template still begins one.
    """
    codes = [f"%{dash}{letter}" for dash in ("-", "") for letter in ascii_letters]
    told = "".join(f"|replace({code!r}, {day.strftime(code)!r})" for code in codes)
    return "{% macro strftime_now(format) %}{{ format" + told + " }}{% endmacro %}\n"


def _render(
    tokenizer: Any, thinking: bool, users: Sequence[str], replies: Sequence[str] = (), day: datetime = DAY
) -> str:
    messages = []
    for user, reply in zip(users, [*replies, None], strict=True):
        messages.append({"role": "user", "content": user})
        if reply is not None:
            messages.append({"role": "assistant", "content": reply})
    try:
        return str(
            tokenizer.apply_chat_template(
                messages,
                chat_template=date_macro(day) + tokenizer.get_chat_template(),
                tokenize=False,
                add_generation_prompt=True,
                enable_thinking=thinking,
            )
        )
    except Exception as error:
        why = " ".join(str(error).split())
        raise _unbridgeable(tokenizer, f"it fails on {len(messages)} messages: {why}") from error


def _check_once(tokenizer: Any, rendered: str, texts: Sequence[str]) -> None:
    for text in texts:
        if rendered.count(text) != 1:
            raise _unbridgeable(tokenizer, f"it writes a message {rendered.count(text)} times, not once")


def _added_by_asking(tokenizer: Any, tail: str, past_tail: str) -> str:
    """What a generation prompt has and the same place in a history has not: a thinking block, or nothing."""
    if tail.startswith(past_tail):
        return tail[len(past_tail) :]
    if past_tail.startswith(tail) and past_tail[len(tail) :].isspace():
        return ""  # the reply itself begins with white space
    raise _unbridgeable(
        tokenizer, f"a reply follows {past_tail!r} in a history but {tail!r} when it is asked for"
    )


def _split_end_token(tokenizer: Any, head: str, between: str, eos_ids: Sequence[int]) -> tuple[str, str, str]:
    """(white space, the token that ends a reply, the text after it)."""
    text, tokens = between.lstrip(), added_tokens(tokenizer)
    end = max((token for token in tokens if token and text.startswith(token)), key=len, default="")
    before = text[len(end) :]
    # the token that begins a user's turn ends a reply only if the model was made to stop there
    begins_turn = head.endswith(end + before) and not _has_control(tokenizer, before)
    if not end or (begins_turn and tokens[end] not in eos_ids):
        raise _unbridgeable(
            tokenizer, f"a reply must end with a token of its own, it is followed by {between!r}"
        )
    return between[: len(between) - len(text)], end, before


def _trim(
    tokenizer: Any, render: Render, head: str, tail: str, start_of_second: str, after: str
) -> tuple[str, str | None]:
    """How the template trims a user's text, first and later ones alike."""

    def written(text: str) -> list[str]:
        first = render([text])
        second = render([USERS[0], text], REPLIES[:1])
        ends = ((first, head, tail), (second, start_of_second, after))
        if not all(whole.startswith(start) and whole.endswith(end) for whole, start, end in ends):
            raise _unbridgeable(tokenizer, f"it writes something else around the text {text!r}")
        return [whole[len(start) : len(whole) - len(end)] for whole, start, end in ends]

    images = [(text, image) for text in PADDED for image in written(text)]
    ways: list[tuple[str, str | None]] = [("removeprefix", "")]  # the text as it is
    ways += [(way, characters) for characters in (None, "\n", " ") for way in ("strip", "lstrip", "rstrip")]
    fitting = [(w, c) for w, c in ways if all(getattr(text, w)(c) == image for text, image in images)]
    changed = [(text, image) for text, image in images if not fitting]
    changed += [(ODD, image) for image in written(ODD) if image != ODD]
    if changed:
        text, image = changed[0]
        raise _unbridgeable(tokenizer, f"it changes the text of a user: {text!r} becomes {image!r}")
    return fitting[0]


def _cuts_thoughts(render: Render) -> bool:
    for opening, closing in THINKING:
        reply = f"{opening}\n{THOUGHT}\n{closing}\n\n{REPLIES[0]}"
        if THOUGHT not in render(USERS[:2], [reply]):
            return True
    return False


def _trims_replies(render: Render) -> bool:
    padded = f"\n {REPLIES[0]} \n"
    return padded not in render(USERS[:2], [padded])


def _notes(
    tokenizer: Any, render: Render, bridge: str, strips_thinking: bool, opens_thinking: bool, as_sampled: bool
) -> list[str]:
    notes = []
    if strips_thinking:
        notes.append("the chat template strips earlier thinking from a history; here it stays as sampled")
    elif as_sampled:
        notes.append("the chat template trims earlier replies or pads them; here they stay as sampled")
    if opens_thinking:
        notes.append("the generation prompt opens a thinking block: a reply counts from its </think> on")
    if render(USERS[:1]) != render(USERS[:1], day=OTHER_DAY):
        notes.append(f"the chat template writes the date; here it is always {DAY:%d %b %Y}")
    if not _has_control(tokenizer, bridge):
        notes.append(
            f"the chat template marks whose turn it is by plain text, {bridge.strip()!r}, which the text of "
            "an environment or a quoted reply can spell out too"
        )
    return notes


def _has_control(tokenizer: Any, text: str) -> bool:
    return any(token in text for token in control_tokens(tokenizer, text))


def _unbridgeable(tokenizer: Any, why: str) -> ValueError:
    return ValueError(f"the chat template of {_name(tokenizer)} cannot be continued turn by turn: {why}")


def _name(tokenizer: Any) -> str:
    return repr(getattr(tokenizer, "name_or_path", "") or type(tokenizer).__name__)
