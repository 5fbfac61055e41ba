"""Numba: counting sort, and a tree of 64-bit words that finds the least room >= a length."""

import numpy as np

from .._core.jit import njit

MAX_ROOM = 1 << 22  # the largest tables that are made; above it the reference runs


@njit
def _lowest_bit(word):
    bit = word & (~word + np.uint64(1))
    n = 0
    for shift in (32, 16, 8, 4, 2, 1):
        if bit >> np.uint64(shift):
            bit >>= np.uint64(shift)
            n += shift
    return n


@njit
def _find(words, level_starts, num_levels, x):
    """Least set position >= x, or -1. Level 0: the bits; level k+1: a bit per non-empty word of level k."""
    for level in range(num_levels):
        word_idx = x >> 6
        if level_starts[level] + word_idx >= level_starts[level + 1]:
            return -1
        word = words[level_starts[level] + word_idx] >> np.uint64(x & 63)
        if word != 0:
            x += _lowest_bit(word)
            for below in range(level - 1, -1, -1):
                x = (x << 6) + _lowest_bit(words[level_starts[below] + x])
            return x
        x = word_idx + 1
    return -1


@njit
def pack(lengths, max_tokens, bins):
    num = len(lengths)
    slots = np.zeros(max_tokens + 2, np.int64)  # counting sort, longest first
    for i in range(num):
        slots[max_tokens - lengths[i] + 1] += 1
    for k in range(max_tokens + 1):
        slots[k + 1] += slots[k]
    order = np.empty(num, np.int64)
    for i in range(num):
        k = max_tokens - lengths[i]
        order[slots[k]] = i
        slots[k] += 1

    level_starts = np.zeros(6, np.int64)
    num_levels = 0
    size = max_tokens + 1
    while True:
        size = (size + 63) >> 6
        level_starts[num_levels + 1] = level_starts[num_levels] + size
        num_levels += 1
        if size == 1:
            break
    words = np.zeros(level_starts[num_levels], np.uint64)
    top = np.full(max_tokens + 1, -1, np.int32)  # last bin with this room, `under` links to the one before it
    under = np.empty(num, np.int32)
    num_bins = 0
    for j in range(num):
        i = order[j]
        room = _find(words, level_starts, num_levels, lengths[i])
        if room < 0:
            room, chosen = np.int64(max_tokens), num_bins
            num_bins += 1
        else:
            chosen = top[room]
            top[room] = under[chosen]
            if top[room] < 0:
                x = room
                for level in range(num_levels):
                    at = level_starts[level] + (x >> 6)
                    words[at] &= ~(np.uint64(1) << np.uint64(x & 63))
                    if words[at] != 0:
                        break
                    x >>= 6
        bins[i] = chosen
        room -= lengths[i]
        under[chosen] = top[room]
        top[room] = chosen
        x = room
        for level in range(num_levels):
            at = level_starts[level] + (x >> 6)
            words[at] |= np.uint64(1) << np.uint64(x & 63)
            x >>= 6
