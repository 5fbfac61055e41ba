"""Cores and GPUs of this machine, shared out among the cells that run at a time."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterable, Sequence

from lamer_fast.config import Config

VISIBLE = "CUDA_VISIBLE_DEVICES"


def gpus_for(config: Config) -> list[str]:
    """Those that cells may use, by their names in CUDA_VISIBLE_DEVICES; none where cells run on a CPU."""
    if config.train.device == "cpu":
        return []
    import torch

    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    named = os.environ.get(VISIBLE)
    return [str(i) for i in range(count)] if named is None else named.split(",")[:count]


def jobs_for(config: Config, gpus: Sequence[str]) -> int:
    """Cells that there is room for: each takes a GPU, or its threads, for each of its processes."""
    each = config.train.processes
    if gpus:
        return max(1, len(gpus) // each)
    return max(1, (os.cpu_count() or 1) // (max(1, config.train.num_threads) * each))


def least_used(gpus: Sequence[str], taken: Iterable[Sequence[str]], count: int) -> list[str]:
    """`count` of the GPUs, those that the fewest running cells have; of equals the first."""
    uses = Counter(name for own in taken for name in own)
    return sorted(gpus, key=lambda name: uses[name])[:count]


def surroundings(config: Config, gpus: Sequence[str]) -> dict[str, str]:
    """Environment variables of a cell's process."""
    found = os.environ | {"OMP_NUM_THREADS": str(config.train.num_threads or 1), "NO_COLOR": "1"}
    return found | ({VISIBLE: ",".join(gpus)} if gpus else {})
