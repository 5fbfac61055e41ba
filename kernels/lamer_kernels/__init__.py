"""RL kernels: credit assignment and the packed log-prob policy loss.

Every op takes flat tensors and a ``backend`` ("auto", "triton", "cpu" or "reference"). Importing the
package needs torch and numpy; numba and triton are imported by the first call that uses them. Contracts: the
docstring of each op; formulas, errors and speed: ``kernels/README.md``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .credit.anchors import anchor_groups
    from .credit.groups import group_advantages
    from .credit.meta import gigpo_advantages, meta_advantages
    from .credit.pass_at_k import pass_at_k_advantages
    from .credit.returns import cross_episode_returns, discounted_returns, gae
    from .head.divergence import Divergence, linear_divergence
    from .head.lamer_head import LamerHead
    from .head.logprob import linear_logprob
    from .head.policy import (
        Covariance,
        importance_weights,
        linear_policy_loss,
        policy_loss,
        token_weights,
    )
    from .layers.attention import register_attention, varlen_attention
    from .layers.tree import tree_attention
    from .packing import pack
    from .packing.prefixes import PrefixTree, plan_prefixes, prefix_tree

__version__ = "0.1.0"  # the one place: pyproject.toml reads it

# A folder never bears the name of its function: importing the folder would hide the function.
_EXPORTS = {
    "cross_episode_returns": "credit.returns",
    "discounted_returns": "credit.returns",
    "gae": "credit.returns",
    "group_advantages": "credit.groups",
    "anchor_groups": "credit.anchors",
    "gigpo_advantages": "credit.meta",
    "meta_advantages": "credit.meta",
    "pass_at_k_advantages": "credit.pass_at_k",
    "pack": "packing",
    "LamerHead": "head.lamer_head",
    "Divergence": "head.divergence",
    "linear_divergence": "head.divergence",
    "linear_logprob": "head.logprob",
    "Covariance": "head.policy",
    "importance_weights": "head.policy",
    "linear_policy_loss": "head.policy",
    "policy_loss": "head.policy",
    "token_weights": "head.policy",
    "PrefixTree": "packing.prefixes",
    "plan_prefixes": "packing.prefixes",
    "prefix_tree": "packing.prefixes",
    "tree_attention": "layers.tree",
    "varlen_attention": "layers.attention",
    "register_attention": "layers.attention",
}

__all__ = [
    "Covariance",
    "Divergence",
    "LamerHead",
    "PrefixTree",
    "anchor_groups",
    "cross_episode_returns",
    "discounted_returns",
    "gae",
    "gigpo_advantages",
    "group_advantages",
    "importance_weights",
    "linear_divergence",
    "linear_logprob",
    "linear_policy_loss",
    "meta_advantages",
    "pack",
    "pass_at_k_advantages",
    "plan_prefixes",
    "policy_loss",
    "prefix_tree",
    "register_attention",
    "token_weights",
    "tree_attention",
    "varlen_attention",
]


def __getattr__(name: str) -> Any:
    if name not in _EXPORTS:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(import_module(f".{_EXPORTS[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_EXPORTS})
