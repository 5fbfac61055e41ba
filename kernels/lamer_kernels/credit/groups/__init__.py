"""Advantages relative to a group."""

from .op import group_advantages
from .reference import group_advantages_ref

__all__ = ["group_advantages", "group_advantages_ref"]
