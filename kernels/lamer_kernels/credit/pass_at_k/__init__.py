"""Policy-gradient weights for pass@k."""

from .op import pass_at_k_advantages
from .reference import pass_at_k_episodes_ref, pass_at_k_trials_ref

__all__ = ["pass_at_k_advantages", "pass_at_k_episodes_ref", "pass_at_k_trials_ref"]
