"""lamer-fast: meta-RL over trials for language agents."""

__version__ = "0.1.0"  # the one place: pyproject.toml reads it, every run records it
