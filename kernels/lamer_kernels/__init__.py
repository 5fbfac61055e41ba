"""RL kernels: credit assignment and the packed log-prob policy loss.

Every op takes flat tensors and a ``backend`` ("auto", "triton", "cpu" or "reference"). Importing the
package needs torch and numpy; numba and triton are imported by the first call that uses them. Contracts: the
docstring of each op; formulas, errors and speed: ``kernels/README.md``.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .anchors import anchor_groups
    from .attention import register_attention, varlen_attention
    from .groups import group_advantages
    from .lamer_head import LamerHead
    from .logprob import linear_logprob
    from .meta import gigpo_advantages, meta_advantages
    from .packing import pack
    from .pass_at_k import pass_at_k_advantages
    from .policy import linear_policy_loss, policy_loss, token_weights
    from .returns import cross_episode_returns, discounted_returns, gae

__version__ = "0.1.0"  # the one place: pyproject.toml reads it

# A folder never bears the name of its function: importing the folder would hide the function.
_EXPORTS = {
    "cross_episode_returns": "returns",
    "discounted_returns": "returns",
    "gae": "returns",
    "group_advantages": "groups",
    "anchor_groups": "anchors",
    "gigpo_advantages": "meta",
    "meta_advantages": "meta",
    "pass_at_k_advantages": "pass_at_k",
    "pack": "packing",
    "LamerHead": "lamer_head",
    "linear_logprob": "logprob",
    "linear_policy_loss": "policy",
    "policy_loss": "policy",
    "token_weights": "policy",
    "varlen_attention": "attention",
    "register_attention": "attention",
}

__all__ = [
    "LamerHead",
    "anchor_groups",
    "cross_episode_returns",
    "discounted_returns",
    "gae",
    "gigpo_advantages",
    "group_advantages",
    "linear_logprob",
    "linear_policy_loss",
    "meta_advantages",
    "pack",
    "pass_at_k_advantages",
    "policy_loss",
    "register_attention",
    "token_weights",
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
