"""A small tokenizer for the games: whole words of the compact texts, every byte for anything else."""

from itertools import product
from typing import Any

from lamer_fast.config import EnvConfig

# ChatML in shape; a turn costs two tokens beside its text.
CHAT_TEMPLATE = (
    "{% for m in messages %}"
    "{{ '<|' + m['role'] + '|>' + m['content'] }}{% if m['role'] == 'assistant' %}{{ '<|end|>' }}{% endif %}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|assistant|>' }}{% endif %}"
)
SPECIAL = ("<|pad|>", "<|user|>", "<|assistant|>", "<|end|>")
TAGS = ("<action>", "</action>", "<remark>", "</remark>")
TRIAL_WORDS = ("reflect", "attempt ", "\n")


def make_tokenizer(env: EnvConfig, cells_per_token: int = 1) -> Any:
    """A `PreTrainedTokenizerFast` over the 256 bytes and some words, so that any text makes the round trip.

    Args:
        cells_per_token: neighbouring cells of a row that share a token. Fewer tokens, but the model has
            to learn each combination.
    """
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: i for i, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    words = dict.fromkeys((*TAGS, *TRIAL_WORDS, *game_words(env, cells_per_token)))
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


def game_words(env: EnvConfig, cells_per_token: int) -> list[str]:
    """Groups of cells (also with a line end), coordinates, whole replies, words of prompts and notes."""
    if env.name == "minesweeper":
        symbols = "?." + "12345678"[: env.num_mines] + "*"
        cells = [f"({r}, {c})" for r in range(1, env.height + 1) for c in range(1, env.width + 1)]
        words = cells + [f"<action>{cell}</action>" for cell in cells]
        words += ["mine ", "no mine", "Minesweeper ", f"{env.height}x{env.width}"]
        words += [", ", " mines.\n", "(row, column)"]
    else:
        symbols = "#_OX*PS"
        words = ["up", "down", "left", "right", ", ", "stuck: ", "too slow: ", "Sokoban. "]
        words += [" pushes ", " to ", " is wall.\n"]
    groups = ["".join(group) for group in product(symbols, repeat=cells_per_token)]
    return words + groups + [group + "\n" for group in groups]
