"""Bounds against counted operations."""

import numpy as np
import torch
from torch.utils.flop_counter import FlopCounterMode

from lamer_fast.cost.limits import Rates, decode_seconds, measure, shape_of, training_flop


def tiny():
    from transformers import Qwen3Config, Qwen3ForCausalLM

    config = Qwen3Config(
        vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, tie_word_embeddings=True, attn_implementation="eager",
    )  # fmt: skip
    return Qwen3ForCausalLM(config)


def test_training_flop_against_a_counter():
    model, T = tiny(), 48
    ids = torch.randint(0, 64, (1, T))
    with FlopCounterMode(display=False) as counter:
        model(ids).logits.sum().backward()
    ours = training_flop(shape_of(model), np.array([T]), T)
    attention = 6.0 * 2 * 64 * T**2  # eager attention multiplies the masked half too: counted once more
    # the first layer's input needs no gradient, norms and rotary positions are no products
    assert abs(ours + attention - counter.get_total_flops()) < 0.06 * counter.get_total_flops()


def test_decode_reads_weights_once_and_every_cache():
    shape, rates = shape_of(tiny()), Rates(flops=1e18, bytes=1.0)
    one, two = decode_seconds(shape, rates, 1, 10), decode_seconds(shape, rates, 2, 10)
    assert two - one == 10 * shape.kv_bytes
    assert one == (shape.body + shape.head) * 4 + 10 * shape.kv_bytes


def test_rates_are_plausible():
    rates = measure(torch.float32, torch.device("cpu"))
    assert 1e8 < rates.bytes < 1e13 and 1e9 < rates.flops < 1e15
