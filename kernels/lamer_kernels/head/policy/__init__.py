"""Policy losses: linear_policy_loss (with the head), policy_loss (without it), token_weights."""

from .covariance import Covariance
from .importance import importance_weights
from .linear import linear_policy_loss
from .op import PolicyLoss, policy_loss
from .reference import linear_policy_loss_ref, policy_loss_ref
from .weights import token_weights

__all__ = [
    "Covariance",
    "PolicyLoss",
    "importance_weights",
    "linear_policy_loss",
    "linear_policy_loss_ref",
    "policy_loss",
    "policy_loss_ref",
    "token_weights",
]
