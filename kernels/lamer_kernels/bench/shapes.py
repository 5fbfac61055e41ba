"""Shapes of models by name, from their published configurations."""

from difflib import get_close_matches
from typing import NamedTuple


class Shape(NamedTuple):
    hidden: int
    mlp: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    vocab: int


SHAPES = {
    "tiny": Shape(128, 384, 4, 4, 2, 32, 4096),
    "25 M": Shape(384, 1024, 12, 6, 2, 64, 4096),
    "SmolLM2-135M": Shape(576, 1536, 30, 9, 3, 64, 49_152),
    "SmolLM2-360M": Shape(960, 2560, 32, 15, 5, 64, 49_152),
    "SmolLM2-1.7B": Shape(2048, 8192, 24, 32, 32, 64, 49_152),
    "Qwen2.5-0.5B": Shape(896, 4864, 24, 14, 2, 64, 151_936),
    "Qwen2.5-1.5B": Shape(1536, 8960, 28, 12, 2, 128, 151_936),
    "Qwen2.5-3B": Shape(2048, 11_008, 36, 16, 2, 128, 151_936),
    "Qwen2.5-7B": Shape(3584, 18_944, 28, 28, 4, 128, 152_064),
    "Qwen3-0.6B": Shape(1024, 3072, 28, 16, 8, 128, 151_936),
    "Qwen3-1.7B": Shape(2048, 6144, 28, 16, 8, 128, 151_936),
    "Qwen3-4B": Shape(2560, 9728, 36, 32, 8, 128, 151_936),
    "Qwen3-8B": Shape(4096, 12_288, 36, 32, 8, 128, 151_936),
    "Llama-3.1-8B": Shape(4096, 14_336, 32, 32, 8, 128, 128_256),
}


def named(word: str) -> str:
    """The name of a shape as it is written above, whatever its case.

    Raises:
        ValueError: there is none of that name; the message has the nearest.
    """
    names = {name.lower(): name for name in SHAPES}
    if word.lower() in names:
        return names[word.lower()]
    near = get_close_matches(word.lower(), names, 1)
    hint = f", the nearest is {names[near[0]]}" if near else ""
    raise ValueError(f"no shape {word!r}{hint}; there are {', '.join(SHAPES)}")
