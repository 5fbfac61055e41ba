"""Packing of sequences into bins of bounded size."""

from .op import pack
from .reference import pack_ref

__all__ = ["pack", "pack_ref"]
