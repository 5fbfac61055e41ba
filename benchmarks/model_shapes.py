"""Random models of the shapes that bench_train.py and bench_decode.py measure."""

from typing import Any

import torch

from lamer_kernels import register_attention

# hidden, mlp, layers, heads, kv heads, head size, vocabulary; the head is tied
SHAPES = {
    "tiny": (128, 384, 4, 4, 2, 32, 4096),
    "Qwen3-0.6B": (1024, 3072, 28, 16, 8, 128, 151_936),
    "Qwen3-1.7B": (2048, 6144, 28, 16, 8, 128, 151_936),
    "Qwen3-4B": (2560, 9728, 36, 32, 8, 128, 151_936),
}
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
