"""A model behind an OpenAI-compatible server, for evaluations: messages out, texts in. Needs no torch."""
