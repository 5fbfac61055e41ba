"""The workload of bench_iteration.py, the same on both sides: a tiny Qwen3 and a chatty environment.

32 trials (4 prompts x 8), 6 turns of 24 sampled tokens each (a forced length), 31 to 32 observation tokens
between them, prompts of 64 tokens: 4,608 sampled and about 11,800 tokens per update. A token is a character.
"""

from __future__ import annotations

import random
from typing import Any

PROMPTS, TRIALS_PER_PROMPT, TURNS, REPLY, OBSERVATION, PROMPT = 4, 8, 6, 24, 32, 64
NUM_TRIALS = PROMPTS * TRIALS_PER_PROMPT
LR = 1e-4
# a user message, then the reply and its end token: nothing else stands between turns
TEMPLATE = (
    "{% for m in messages %}{{ m['content'] }}{% if m['role'] == 'assistant' %}<eos>{% endif %}{% endfor %}"
)


VOCAB = 512
# hidden_size, intermediate_size, num_hidden_layers, num_attention_heads, num_key_value_heads, head_dim
SIZES = {"tiny": (128, 384, 4, 4, 2, 32), "25m": (512, 1536, 8, 8, 4, 64)}


def make_model(size: str = "tiny") -> tuple[Any, Any]:
    """Random float32 parameters (tiny: 853,376 of them) and a byte tokenizer."""
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM

    vocab = {"<pad>": 0, "<eos>": 1, "<bos>": 2}
    for character in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocab[character] = len(vocab)
    for i in range(len(vocab), VOCAB):
        vocab[f"<extra_{i}>"] = i
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="<eos>", bos_token="<bos>"
    )
    fast.chat_template = TEMPLATE
    torch.manual_seed(0)
    hidden, mlp, layers, heads, kv_heads, head_dim = SIZES[size]
    config = Qwen3Config(
        vocab_size=VOCAB, hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim, tie_word_embeddings=True,
        max_position_embeddings=2048, initializer_range=0.02, pad_token_id=0, eos_token_id=1, bos_token_id=2,
    )  # fmt: skip
    return Qwen3ForCausalLM(config).float(), fast


def prompt_text(seed: int) -> str:
    """64 characters."""
    rng = random.Random(seed)
    return "".join(rng.choice("abcdefgh ") for _ in range(PROMPT))


def answer(reply: str) -> tuple[str, float]:
    """(observation, reward) after a reply; both depend on it."""
    h = sum(map(ord, reply)) % 97
    return (f"result {h}. " * 4)[: OBSERVATION - 1], h / 97
