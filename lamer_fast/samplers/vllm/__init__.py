"""vLLM in the process; nothing else in the project knows it."""
