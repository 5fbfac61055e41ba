"""The embedded sampler: the trainer's own weights."""
