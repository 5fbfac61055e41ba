"""lamer-fast: meta-RL over trials for language agents."""

from lamer_fast.trials import read_trials

__all__ = ["__version__", "read_trials"]

__version__ = "0.1.0"  # the one place: pyproject.toml reads it, every run records it
