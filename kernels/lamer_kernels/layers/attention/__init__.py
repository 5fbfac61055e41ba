"""Attention over packed sequences, and its registration with Hugging Face models."""

from .huggingface import register_attention
from .op import varlen_attention
from .reference import varlen_attention_ref

__all__ = ["register_attention", "varlen_attention", "varlen_attention_ref"]
