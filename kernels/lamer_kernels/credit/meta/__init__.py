"""Advantages of every turn: GiGPO's two brackets, and all switches in one call."""

from .gigpo import gigpo_advantages
from .op import meta_advantages
from .reference import meta_advantages_ref

__all__ = ["gigpo_advantages", "meta_advantages", "meta_advantages_ref"]
