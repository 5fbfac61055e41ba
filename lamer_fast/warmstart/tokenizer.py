"""A small tokenizer: whole words of an environment's texts, every byte for anything else."""

import re
from collections.abc import Iterable, Sequence
from typing import Any

# ChatML in shape; a turn costs two tokens beside its text.
CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] }}{% if m['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SPECIAL = ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>")
TAGS = ("<action>", "</action>", "<remark>", "</remark>")
TRIAL_WORDS = ("\nreflect", "attempt ")
KEPT_WHOLE = re.compile("|".join(map(re.escape, SPECIAL + TAGS)))


def make_tokenizer(words: Sequence[str]) -> Any:
    """A `PreTrainedTokenizerFast` over the 256 bytes and `words`: any text makes the round trip."""
    from tokenizers import Tokenizer, models, pre_tokenizers

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: i for i, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    return _with_chat(tokenizer, (*TAGS, *TRIAL_WORDS, *words))


def train_tokenizer(texts: Iterable[str], replies: Sequence[str], num_tokens: int) -> Any:
    """The same over at most `num_tokens` pieces of the words of `texts`, and `replies` as a token each."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    trainer = trainers.BpeTrainer(
        vocab_size=len(alphabet) + num_tokens,
        min_frequency=2,
        show_progress=False,
        initial_alphabet=alphabet,
    )
    tokenizer.train_from_iterator((piece for text in texts for piece in KEPT_WHOLE.split(text)), trainer)
    return _with_chat(tokenizer, (*TAGS, *replies))


def _with_chat(tokenizer: Any, words: Sequence[str]) -> Any:
    from tokenizers import AddedToken, decoders
    from transformers import PreTrainedTokenizerFast

    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    whole = [AddedToken(word, normalized=False) for word in dict.fromkeys(words) if len(word) > 1]
    tokenizer.add_tokens(whole)
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
