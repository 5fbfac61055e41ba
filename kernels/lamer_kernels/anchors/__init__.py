"""Step groups: turns of a group that start from the same state."""

from .op import anchor_groups, gigpo_advantages
from .reference import pair_ids_ref

__all__ = ["anchor_groups", "gigpo_advantages", "pair_ids_ref"]
