"""Random models of the shapes that bench_train.py and bench_decode.py measure."""

from typing import Any

import torch

from lamer_kernels import register_attention
from lamer_kernels.bench import shapes

SHAPES = {name: shapes.SHAPES[name] for name in ("tiny", "Qwen3-0.6B", "Qwen3-1.7B", "Qwen3-4B")}
ON_GPU = torch.cuda.is_available()
DEVICE = torch.device("cuda" if ON_GPU else "cpu")
NAMES = [name for name in SHAPES if (name != "tiny") == ON_GPU]


def make_model(name: str) -> Any:
    """bfloat16 parameters on the device, made there."""
    from transformers import Qwen3Config, Qwen3ForCausalLM

    hidden, mlp, layers, heads, kv_heads, head_dim, vocab = SHAPES[name]
    config = Qwen3Config(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=mlp, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_dim, tie_word_embeddings=True,
        max_position_embeddings=8192, initializer_range=0.02,
    )  # fmt: skip
    torch.manual_seed(0)
    default = torch.get_default_dtype()
    torch.set_default_dtype(torch.bfloat16)
    try:
        with DEVICE:
            model = Qwen3ForCausalLM(config)
    finally:
        torch.set_default_dtype(default)
    model.set_attn_implementation(register_attention())
    return model
