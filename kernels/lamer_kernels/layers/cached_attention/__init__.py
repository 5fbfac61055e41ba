from .op import cached_attention
from .reference import BLOCK, cached_attention_ref, new_slots, read_slot

__all__ = ["BLOCK", "cached_attention", "cached_attention_ref", "new_slots", "read_slot"]
