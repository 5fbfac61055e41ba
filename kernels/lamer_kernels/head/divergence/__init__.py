"""Divergences of two heads over the whole vocabulary, for distillation."""

from .op import Divergence, linear_divergence
from .reference import linear_divergence_ref

__all__ = ["Divergence", "linear_divergence", "linear_divergence_ref"]
