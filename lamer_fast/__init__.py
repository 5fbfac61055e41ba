"""lamer-fast: meta-RL over trials for language agents."""
