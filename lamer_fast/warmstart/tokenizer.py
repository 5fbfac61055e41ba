"""A small tokenizer for the games: whole words of the compact texts, every byte for anything else."""

from itertools import pairwise, product
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
TRIAL_WORDS = ("\nreflect", "attempt ")
MAX_ROW_CELLS = 3


def make_tokenizer(env: EnvConfig) -> Any:
    """A `PreTrainedTokenizerFast` over the 256 bytes and some words: any text makes the round trip."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({byte: i for i, byte in enumerate(alphabet)}, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(list(SPECIAL))
    words = dict.fromkeys((*TAGS, *TRIAL_WORDS, *game_words(env)))
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


def game_words(env: EnvConfig) -> list[str]:
    """Rows of the board, coordinates, whole replies, words of prompts and notes."""
    if env.name == "minesweeper":
        cells = [f"({r}, {c})" for r in range(1, env.height + 1) for c in range(1, env.width + 1)]
        words = cells + [f"<action>{cell}</action>" for cell in cells]
        words += ["mine ", "no mine", "Minesweeper ", f"{env.height}x{env.width}"]
        words += [", ", " mines.\n", "(row, column)"]
        return words + _minesweeper_rows(env)
    words = ["up", "down", "left", "right", ", ", "stuck: ", "too slow: ", "Sokoban. "]
    words += [" pushes ", " to ", " is wall.\n"]
    return words + [cell + "\n" for cell in "#_OX*PS"]


def _minesweeper_rows(env: EnvConfig) -> list[str]:
    """A token per row and content of it: it says where its cells are, and a board costs `height` tokens.

    Left out, and so spelled in bytes: what no game shows (a blank beside a closed cell, two mines gone off).
    Boards wider than MAX_ROW_CELLS, or of another style than "numbered", get a token per cell.
    """
    symbols = "?." + "12345678"[: env.num_mines] + "*"
    if env.style != "numbered" or env.width > MAX_ROW_CELLS:
        return [symbol + "\n" for symbol in symbols]
    rows = []
    for cells in product(symbols, repeat=env.width):
        pairs = {a + b for a, b in pairwise(cells)}
        if cells.count("*") <= 1 and not pairs & {".?", "?.", ".*", "*."}:
            rows.append(" ".join(cells))
    numbered = [f"Row {r}: {row}" for r in range(1, env.height + 1) for row in rows]
    return [row if row.startswith("Row 1:") else "\n" + row for row in numbered]
