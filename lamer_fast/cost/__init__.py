"""What a configuration costs before it runs: upper bounds of tokens and memory."""
