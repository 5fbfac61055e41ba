"""The random numbers of a run: each a function of the run's seed and of what it is for.

No generator outlives the call that makes it, so that a checkpoint stores none, and the order in which trials
are played changes nothing.
"""

import numpy as np
from numpy.typing import NDArray

# what a number is for, so that two uses of one seed share nothing
BOARDS = 0xB0A2D5
SHUFFLE = 0x5317


def mix(*values: NDArray[np.uint64] | int) -> NDArray[np.uint64]:
    """Hash integers into one uint64 (arrays broadcast): a splitmix64 step per value."""
    state: NDArray[np.uint64] = np.zeros(1, np.uint64)
    with np.errstate(over="ignore"):
        for value in values:
            state = (state ^ np.asarray(value, np.uint64)) + np.uint64(0x9E3779B97F4A7C15)
            state = (state ^ (state >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
            state = (state ^ (state >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
            state = state ^ (state >> np.uint64(31))
    return state


def uniforms(seeds: NDArray[np.uint64], counters: NDArray[np.int64]) -> NDArray[np.float32]:
    """One number in [0, 1) per (seed, counter); multiples of 2^-23, exact in float32."""
    return (mix(seeds, counters.astype(np.uint64)) >> np.uint64(41)).astype(np.float32) * np.float32(2.0**-23)


def board_seeds(seed: int, iteration: int, groups: NDArray[np.int32], draw: int = 0) -> NDArray[np.uint64]:
    """The board of each trial, [M], by its group [M]; `draw` counts those that took its place."""
    boards = mix(BOARDS, seed, iteration, groups.astype(np.uint64))
    return mix(boards, draw) if draw else boards


def sampling_seed(seed: int, iteration: int, draw: int = 0) -> int:
    """Key of everything that is sampled in an iteration; `turn_seeds` makes those of requests of it."""
    key = [seed, iteration, draw] if draw else [seed, iteration]
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)


def turn_seeds(seed: int, trials: NDArray[np.int64], turns: NDArray[np.int64]) -> NDArray[np.uint64]:
    """One per (trial, number of its turn), [B] each."""
    return mix(mix(seed, trials.astype(np.uint64)), turns.astype(np.uint64))


def shuffled(seed: int, iteration: int, count: int) -> NDArray[np.int64]:
    """The order in which the trials of an iteration are dealt to its minibatches."""
    return np.random.default_rng([seed, iteration, SHUFFLE]).permutation(count)


def generator(*key: int) -> np.random.Generator:
    """For a use that draws many numbers in one place."""
    return np.random.default_rng(key if len(key) > 1 else key[0])
