"""A small tokenizer for the games: whole words of the compact texts, every byte for anything else."""

from typing import Any

from lamer_fast.envs.options import EnvOptions
from lamer_fast.envs.registry import entry

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


def make_tokenizer(env: EnvOptions) -> Any:
    """A `PreTrainedTokenizerFast` over the 256 bytes and some words: any text makes the round trip."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: i for i, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    words = dict.fromkeys((*TAGS, *TRIAL_WORDS, *entry(env.name).words(env)))
    tokenizer.add_tokens([AddedToken(word, normalized=False) for word in words if len(word) > 1])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<|pad|>",
        eos_token="<|end|>",
        additional_special_tokens=["<|user|>", "<|assistant|>"],
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = CHAT_TEMPLATE
    return fast
