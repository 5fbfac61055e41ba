"""A Qwen3 decoder of demo size with random weights."""

from typing import Any

import torch
import transformers
from transformers import Qwen3Config, Qwen3ForCausalLM

from lamer_fast.warmstart.settings import WarmstartSettings


def make_base_model(settings: WarmstartSettings, tokenizer: Any, max_tokens: int) -> Any:
    """Qwen3ForCausalLM in float32 over the tokenizer's ids. Positions are rotary, up to `max_tokens`."""
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=settings.hidden_size,
        intermediate_size=settings.mlp_size,
        num_hidden_layers=settings.num_layers,
        num_attention_heads=settings.num_heads,
        num_key_value_heads=settings.num_kv_heads,
        head_dim=settings.head_size,
        max_position_embeddings=max_tokens,
        rope_parameters={"rope_type": "default", "rope_theta": settings.rope_theta},
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    transformers.utils.logging.disable_progress_bar()  # of the shards of one file
    torch.manual_seed(settings.seed)
    return Qwen3ForCausalLM(config).float()
