"""linear_logprob: log-probs, entropies and sums of squared probabilities of a language-model head."""

from .op import LinearLogprob, linear_logprob
from .reference import linear_logprob_ref

__all__ = ["LinearLogprob", "linear_logprob", "linear_logprob_ref"]
