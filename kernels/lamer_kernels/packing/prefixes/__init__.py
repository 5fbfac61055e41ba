"""Sequences that begin alike, with each common beginning held once."""

from .op import PrefixTree, plan_prefixes, prefix_tree
from .reference import prefix_tree_ref

__all__ = ["PrefixTree", "plan_prefixes", "prefix_tree", "prefix_tree_ref"]
