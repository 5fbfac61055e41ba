"""Step groups: turns of a group that start from the same state."""

from .op import anchor_groups
from .reference import pair_ids_ref

__all__ = ["anchor_groups", "pair_ids_ref"]
