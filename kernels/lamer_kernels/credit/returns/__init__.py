"""Returns over turns, episodes and trials."""

from .op import cross_episode_returns, discounted_returns, gae
from .reference import PLAY, REFLECT, cross_episode_returns_ref, gae_ref

__all__ = [
    "PLAY",
    "REFLECT",
    "cross_episode_returns",
    "cross_episode_returns_ref",
    "discounted_returns",
    "gae",
    "gae_ref",
]
