"""Is the sampler the trainer? Whole next-token distributions, and the first layer that differs."""

from lamer_fast.audit.callables import audit

__all__ = ["audit"]
