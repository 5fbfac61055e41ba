"""Advantages of every turn of a batch of trials: one call, every switch."""

from .op import meta_advantages
from .reference import meta_advantages_ref

__all__ = ["meta_advantages", "meta_advantages_ref"]
