"""Writes pack_lengths.npz: 100,000 token counts with the shape of sequences of turns (seed 0, numpy PCG64).

A mixture: short replies, whole episodes, and whole trials near the limit of 16,384 tokens.
"""

from pathlib import Path

import numpy as np

MAX_TOKENS = 16_384


def make_lengths() -> np.ndarray:
    rng = np.random.default_rng(0)
    kind = rng.choice(3, 100_000, p=[0.6, 0.3, 0.1])
    median, spread = np.array([300.0, 1500.0, 5000.0])[kind], np.array([0.6, 0.5, 0.5])[kind]
    return np.clip(median * np.exp(spread * rng.standard_normal(100_000)), 1, MAX_TOKENS).astype(np.int32)


if __name__ == "__main__":
    np.savez_compressed(Path(__file__).with_name("pack_lengths.npz"), lengths=make_lengths())
