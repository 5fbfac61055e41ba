"""Language models: their files, and one decoder for the sampler and the trainer over their parameters."""
