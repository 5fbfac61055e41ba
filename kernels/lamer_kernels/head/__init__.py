"""The language-model head: log-probs and policy losses without a [T, V] tensor."""
