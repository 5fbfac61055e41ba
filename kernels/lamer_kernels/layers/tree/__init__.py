"""Attention over a prefix tree."""

from .op import tree_attention
from .reference import tree_attention_ref

__all__ = ["tree_attention", "tree_attention_ref"]
