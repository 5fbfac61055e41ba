"""Chat templates and tokenizers as families of models have them, made by hand in their behaviour alone."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

MERGES = [("Ċ", "Ċ"), ("Ġ", "b"), ("u", "s"), ("us", "er"), ("e", "r"), ("Ċ", "b"), (".", "Ċ")]


def byte_level(
    special: Sequence[str | AddedToken], plain: Sequence[str] = (), eos: str | None = None, **options: Any
) -> PreTrainedTokenizerFast:
    """Bytes, and merges that reach over the ends of texts. `special` is marked so in the file alone."""
    words = [*sorted(pre_tokenizers.ByteLevel.alphabet()), *dict.fromkeys("".join(pair) for pair in MERGES)]
    tokenizer = Tokenizer(models.BPE({word: i for i, word in enumerate(words)}, sorted(MERGES, key=len)))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    return _finish(tokenizer, special, plain, eos, **options)


def sentencepiece(
    special: Sequence[str | AddedToken], plain: Sequence[str] = (), eos: str | None = None,
    prefix: str = "first", **options: Any,
) -> PreTrainedTokenizerFast:  # fmt: skip
    """Characters with ▁ for a blank, one put before the first (or every) piece; bytes for all others."""
    words = ["<unk>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", *map(chr, range(33, 127)), "▁b", "er"]
    merges = [("▁", "b"), ("e", "r")]
    tokenizer = Tokenizer(
        models.BPE({w: i for i, w in enumerate(words)}, merges, unk_token="<unk>", byte_fallback=True)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme=prefix, split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    return _finish(tokenizer, special, plain, eos, unk_token="<unk>", **options)


def _finish(
    tokenizer: Tokenizer, special: Sequence[str | AddedToken], plain: Sequence[str], eos: str | None,
    normalizer: Any = None, adds_bos: bool = False, **options: Any,
) -> PreTrainedTokenizerFast:  # fmt: skip
    if normalizer is not None:
        tokenizer.normalizer = normalizer
    tokenizer.add_special_tokens(list(special))
    tokenizer.add_tokens([AddedToken(token, normalized=False) for token in plain])
    if adds_bos:
        bos = options["bos_token"]
        tokenizer.post_processor = processors.TemplateProcessing(
            single=f"{bos} $A", special_tokens=[(bos, tokenizer.token_to_id(bos))]
        )
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=eos, **options)


@dataclass(frozen=True)
class Family:
    """A template with a tokenizer, and what becomes of it."""

    template: Any  # text, names to texts, or None
    tokenizer: Any = None  # made by a call without arguments
    end: str = ""  # the end token; empty: refused
    stops: tuple[str, ...] = ()  # all tokens that end a reply
    eos: tuple[str, ...] = ()  # what generation_config.json names
    refused: str = ""  # the reason
    notes: tuple[str, ...] = ()  # a part of each
    exact: bool = True  # earlier replies are written as they were sampled, so that ids equal the template's

    def make(self) -> tuple[Any, list[int]]:
        """(tokenizer, eos ids)"""
        tokenizer = self.tokenizer()
        tokenizer.chat_template = self.template
        return tokenizer, [tokenizer.convert_tokens_to_ids(token) for token in self.eos]


def messages(body: str, asks: str, before: str = "") -> str:
    return (
        f"{before}{{% for m in messages %}}{body}{{% endfor %}}"
        f"{{% if add_generation_prompt %}}{asks}{{% endif %}}"
    )


IM_BODY = "{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>\n' }}"
IM_ASKS = "{{ '<|im_start|>assistant\n' }}"
CHATML = messages(IM_BODY, IM_ASKS)
CUTS_THOUGHTS = messages(
    "{% set c = m['content'] %}{% if m['role'] == 'assistant' and '</think>' in c %}"
    "{% set c = c.split('</think>')[-1].lstrip('\n') %}{% endif %}"
    "{{ '<|im_start|>' + m['role'] + '\n' + c + '<|im_end|>\n' }}",
    "{{ '<|im_start|>assistant\n' }}{% if enable_thinking is false %}{{ 'ASKS' }}{% endif %}",
)
HEADER = "'<|start_header_id|>' + %s + '<|end_header_id|>\n\n'"
LLAMA3 = messages(
    "{{ " + HEADER % "m['role']" + " + m['content'] | trim + '<|eot_id|>' }}",
    "{{ " + HEADER % "'assistant'" + " }}",
    "{{ bos_token }}{% if strftime_now is defined %}{% set today = strftime_now('%d %b %Y') %}"
    "{% else %}{% set today = '26 Jul 2024' %}{% endif %}"
    "{{ " + HEADER % "'system'" + " + 'Today Date: ' + today + '\n\n<|eot_id|>' }}",
)
ROLE_MARKS = messages(
    "{{ '<|' + m['role'] + '|>\n' + m['content'] + '<|end|>\n' }}", "{{ '<|assistant|>\n' }}"
)
ALTERNATES = (
    "{% if (m['role'] == 'user') != (loop.index0 % 2 == 0) %}"
    "{{ raise_exception('roles must alternate user/assistant/user') }}{% endif %}"
)
INST = messages(
    ALTERNATES + "{% if m['role'] == 'user' %}{{ '[INST] ' + m['content'] + ' [/INST]' }}"
    "{% else %}{{ ' ' + m['content'] + eos_token }}{% endif %}",
    "",
    "{{ bos_token }}"
    "{% if messages[0]['role'] == 'system' %}{{ raise_exception('no system role') }}{% endif %}",
)
TURNS = messages(
    ALTERNATES + "{{ '<start_of_turn>' + (m['role'] if m['role'] == 'user' else 'model') + '\n' }}"
    "{{ m['content'] | trim + '<end_of_turn>\n' }}",
    "{{ '<start_of_turn>model\n' }}",
    "{{ bos_token }}",
)
ROLE_ENDS = messages(
    "{{ '<|' + m['role'] + '|>\n' + m['content'] }}", "{{ '<|assistant|>\n' }}", "{{ '[gMASK]' }}"
)
PLAIN_MARKS = messages(
    "{{ '<|' + m['role'] + '|>\n' + m['content'] + eos_token + '\n' }}", "{{ '<|assistant|>\n' }}"
)
INSTRUCTION = messages(
    "{% if m['role'] == 'user' %}{{ '### Instruction:\n' + m['content'] + '\n\n' }}"
    "{% else %}{{ '### Response:\n' + m['content'] + '\n\n' }}{% endif %}",
    "{{ '### Response:\n' }}",
)
WANTS_SYSTEM = (
    "{% if messages[0]['role'] != 'system' %}{{ raise_exception('a system message first') }}{% endif %}"
)
ONE_MESSAGE = "{% if messages | length > 1 %}{{ raise_exception('one message only') }}{% endif %}"
BLANKS_AND_WORDS = ("  ", "   ", "\n\n", "user", "assistant", "##", "####", "..")
IM = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
THINK = ("<think>", "</think>")
HEADERS = (
    "<|begin_of_text|>",
    "<|end_of_text|>",
    "<|start_header_id|>",
    "<|end_header_id|>",
    "<|eom_id|>",
    "<|eot_id|>",
)
MARKS = ("<|endoftext|>", "<|system|>", "<|user|>", "<|assistant|>", "<|end|>")
TAKE_BLANKS = (
    MARKS[0],
    *(AddedToken(token, rstrip=True, normalized=False, special=True) for token in MARKS[1:]),
)
TURN_MARKS = ("<bos>", "<eos>", "<start_of_turn>", "<end_of_turn>")


def im(
    eos: str = "<|im_end|>", special: Sequence[str] = IM, plain: Sequence[str] = THINK, **options: Any
) -> Any:
    return lambda: byte_level(special, plain, eos, **options)


def headers(**options: Any) -> Any:
    return lambda: byte_level(HEADERS, (), "<|end_of_text|>", bos_token="<|begin_of_text|>", **options)


def llama(
    prefix: str = "first", special: Sequence[str | AddedToken] = ("<s>", "</s>"), eos: str = "</s>"
) -> Any:
    return lambda: sentencepiece(special, (), eos, prefix, bos_token="<s>" if "<s>" in special else None)


def marks(special: Sequence[str | AddedToken]) -> Any:
    return lambda: byte_level(special, (), "<|endoftext|>")


STRIPS, TRIMS, DATE, PLAIN = (
    "strips earlier thinking",
    "trims earlier replies",
    "writes the date",
    "plain text",
)
NO_END, CHANGES, FAILS = "a token of its own", "changes the text of a user", "it fails on 1 messages"


def chatml(content: str = "m['content']", start: str = "", tokenizer: Any = None, **expected: Any) -> Family:
    """ChatML with `content` written for a message, and `start` before all of them."""
    if "refused" not in expected:
        expected = {"end": "<|im_end|>", "stops": ("<|im_end|>",)} | expected
    return Family(start + CHATML.replace("m['content']", content), tokenizer or im(), **expected)


def cuts(asks: str, closing: str = "</think>", **expected: Any) -> Family:
    """ChatML that cuts earlier replies behind `closing`; its generation prompt ends in `asks`."""
    template = CUTS_THOUGHTS.replace("</think>' in", f"{closing}' in").replace("ASKS", asks)
    template = template.replace("split('</think>", f"split('{closing}")
    stops = ("<|im_end|>",)
    return Family(template, im(), end=stops[0], stops=stops, exact=False, **{"notes": (STRIPS,)} | expected)


FAMILIES = {
    "chatml": chatml(),
    "chatml, its end no special token": chatml(tokenizer=im(None, IM[:1], IM[1:])),
    "chatml, a system prompt of its own": chatml(start="{{ '<|im_start|>system\nBe brief.<|im_end|>\n' }}"),
    "chatml on characters with prefix": chatml(tokenizer=llama("always", IM, "<|im_end|>")),
    "chatml, named templates": Family(
        {"default": CHATML, "tool_use": "{{ 1 / 0 }}"}, im(), end="<|im_end|>", stops=("<|im_end|>",)
    ),
    "chatml, a saved truncation": chatml(tokenizer=lambda: truncated(im()())),
    "chatml, tokens for blanks and words": chatml(tokenizer=im(plain=(*THINK, *BLANKS_AND_WORDS))),
    "chatml, a rule for an end": Family(
        CHATML.replace("<|im_end|>", "\n###"),
        im(None, plain=("###",)),
        end="###",
        stops=("###",),
        notes=(TRIMS,),
        exact=False,
    ),
    "eos is not the end of a turn": chatml(
        tokenizer=im("<|endoftext|>"), stops=("<|im_end|>", "<|endoftext|>")
    ),
    "no eos": chatml(tokenizer=im(None)),
    "several eos": chatml(
        tokenizer=im("<|endoftext|>", (*IM, "<|stop|>", "<|call|>")),
        eos=("<|endoftext|>", "<|stop|>", "<|call|>"),
        stops=("<|im_end|>", "<|endoftext|>", "<|stop|>", "<|call|>"),
    ),
    "llama 3": Family(
        LLAMA3,
        headers(),
        end="<|eot_id|>",
        eos=("<|end_of_text|>", "<|eom_id|>", "<|eot_id|>"),
        stops=("<|eot_id|>", "<|end_of_text|>", "<|eom_id|>"),
        notes=(TRIMS, DATE),
        exact=False,
    ),
    "llama 3 that adds bos as well": Family(
        LLAMA3,
        headers(adds_bos=True),
        end="<|eot_id|>",
        stops=("<|eot_id|>", "<|end_of_text|>"),
        notes=(TRIMS, DATE),
        exact=False,
    ),
    "marked special in the file only": Family(
        ROLE_MARKS, marks(MARKS), end="<|end|>", stops=("<|end|>", "<|endoftext|>")
    ),
    "tokens that take the blanks after them": Family(
        ROLE_MARKS, marks(TAKE_BLANKS), end="<|end|>", stops=("<|end|>", "<|endoftext|>")
    ),
    "the same on characters": Family(
        ROLE_MARKS,
        llama("first", TAKE_BLANKS, "<|endoftext|>"),
        end="<|end|>",
        stops=("<|end|>", "<|endoftext|>"),
    ),
    "alternation, no system role": Family(
        INST, llama(), end="</s>", stops=("</s>",), notes=(TRIMS, PLAIN), exact=False
    ),
    "the same, its markers tokens": Family(
        INST,
        llama("first", ("<s>", "</s>", "[INST]", "[/INST]")),
        end="</s>",
        stops=("</s>",),
        notes=(TRIMS,),
        exact=False,
    ),
    "trimmed turns": Family(
        TURNS,
        lambda: byte_level(TURN_MARKS, (), "<eos>", bos_token="<bos>"),
        end="<end_of_turn>",
        stops=("<end_of_turn>", "<eos>"),
        notes=(TRIMS,),
        exact=False,
    ),
    "the next role ends a reply": Family(
        ROLE_ENDS,
        marks(("[gMASK]", *MARKS, "<|observation|>")),
        end="<|user|>",
        eos=("<|endoftext|>", "<|user|>", "<|observation|>"),
        stops=("<|user|>", "<|endoftext|>", "<|observation|>"),
    ),
    "roles in letters, an end token": Family(PLAIN_MARKS, llama("always"), end="</s>", stops=("</s>",)),
    "cuts thoughts, an empty block asked for": cuts("<think>\n\n</think>\n\n"),
    "cuts thoughts, no block asked for": cuts(""),
    "cuts thoughts, the prompt opens them": cuts("<think>\n", notes=(STRIPS, "opens a thinking block")),
    "cuts thoughts in brackets": cuts("", "[/THINK]"),
    "no template": Family(None, im(), refused="has no chat template"),
    "empty template": Family("", im(), refused="has no chat template"),
    "named templates, no default": Family({"rag": CHATML, "tool_use": CHATML}, im(), refused=FAILS),
    "broken template": Family("{% for m in messages %}", im(), refused=FAILS),
    "wants a system message": chatml(start=WANTS_SYSTEM, refused=f"{FAILS}: a system message first"),
    "one message only": chatml(start=ONE_MESSAGE, refused="it fails on 3 messages: one message only"),
    "counts messages": chatml(start="{{ messages | length }}", refused="written differently"),
    "last message only": Family(
        CHATML.replace("in messages", "in messages[-1:]"), im(), refused="0 times, not once"
    ),
    "text twice": chatml("m['content'] * 2", refused="2 times, not once"),
    "content in parts": chatml("m['content'][0]['text']", refused="has no attribute 'text'"),
    "chance": chatml(start="{{ range(99999) | random }}" * 3, refused="differently each time"),
    "no end of a turn": Family(CHATML.replace("<|im_end|>", ""), im(), refused=NO_END),
    "end in letters": Family(INSTRUCTION, im(), refused=NO_END),
    "end not in the vocabulary": chatml(tokenizer=im("<|endoftext|>", IM[:2]), refused=NO_END),
    "upper case": chatml("m['content'] | upper", refused="0 times, not once"),
    "one blank for many": chatml("m['content'].split() | join(' ')", refused=CHANGES),
    "escapes": chatml("m['content'].replace('&', '&amp;')", refused=CHANGES),
}
ACCEPTED = [name for name, family in FAMILIES.items() if family.end]
REFUSED = [name for name, family in FAMILIES.items() if not family.end]


def truncated(tokenizer: PreTrainedTokenizerFast) -> PreTrainedTokenizerFast:
    """As a tokenizer.json that was saved after a training with short texts."""
    tokenizer.backend_tokenizer.enable_truncation(max_length=8)
    tokenizer.backend_tokenizer.enable_padding(length=16)
    return tokenizer


def folds_characters() -> PreTrainedTokenizerFast:
    """Its end token is looked for after a normalisation that makes `<` of a wide one."""
    end = AddedToken("<|im_end|>", normalized=True, special=True)
    tokenizer = byte_level((*IM[:2], end), THINK, "<|im_end|>", normalizer=normalizers.NFKC())
    tokenizer.chat_template = CHATML
    return tokenizer
