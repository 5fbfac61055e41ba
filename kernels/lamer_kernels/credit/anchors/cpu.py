"""Numba: exact ids by hashing, one small table per value of `a`, in cache while its rows are near."""

import numpy as np

from ..._core.jit import njit


def pair_ids(a: np.ndarray, num_a: int, b: np.ndarray) -> tuple[np.ndarray, int]:
    """([R] int32 number of each pair (a[i], b[i]) in order of first appearance, how many there are).

    a: [R] int32, dense: 0 <= a < num_a. b: [R] int64.
    """
    ids = np.empty(len(b), np.int32)
    return ids, number_pairs(a, num_a, b, ids)


def dense_ids(a: np.ndarray) -> tuple[np.ndarray, int]:
    return pair_ids(np.zeros(len(a), np.int32), 1, a)


@njit
def number_pairs(a, num_a, b, ids):
    num_rows = len(b)
    starts = np.zeros(num_a + 1, np.int64)
    for i in range(num_rows):
        starts[a[i] + 1] += 1
    masks = np.empty(num_a, np.int64)
    for k in range(num_a):
        size = 1
        while size < 2 * starts[k + 1]:
            size *= 2
        masks[k] = size - 1
        starts[k + 1] = starts[k] + size
    keys = np.empty(starts[num_a], np.int64)
    owners = np.zeros(starts[num_a], np.int32)  # id + 1, 0 = free
    count = 0
    for i in range(num_rows):
        key = b[i]
        if i > 0 and a[i] == a[i - 1] and key == b[i - 1]:
            ids[i] = ids[i - 1]
            continue
        x = np.uint64(key)
        x = (x ^ (x >> np.uint64(32))) * np.uint64(0x9E3779B97F4A7C15)
        mask = masks[a[i]]
        slot = np.int64(x >> np.uint64(32)) & mask
        start = starts[a[i]]
        while owners[start + slot] != 0 and keys[start + slot] != key:
            slot = (slot + 1) & mask
        if owners[start + slot] == 0:
            count += 1
            keys[start + slot] = key
            owners[start + slot] = count
        ids[i] = owners[start + slot] - 1
    return count
