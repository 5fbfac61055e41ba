"""What several ranks wait for and send: simulated with recorded lengths, computed from sizes of models.

    python benchmarks/simulate_ranks.py docs/scaling.md

writes its tables between `<!-- simulated: NAME -->` and `<!-- end -->`. `trial_lengths.json` has the sampled
tokens of every trial of some iterations of a recipe. Rank r plays groups r, r + W, ... of a collection.
Axis letters: D draws of a collection, W ranks, N groups of a rank, G trials of a group.
"""

from __future__ import annotations

import json
import re
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
MARKERS = re.compile(r"(<!-- simulated: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
RANKS = (1, 2, 4, 8, 16, 32, 64)
DRAWS = 200

PARAMETERS = {"Qwen3-0.6B": 0.596e9, "Qwen3-4B": 4.02e9, "Qwen3-8B": 8.19e9}
LINKS = {"NVLink 4": 450e9, "PCIe 5 x16": 64e9, "InfiniBand 400 Gb": 50e9, "Ethernet 100 Gb": 12.5e9}  # B/s
FLOPS = 0.4 * 989e12  # of a GPU that trains: 40 % of an H100's dense bf16 rate
MICRO_BATCHES = 4  # of an update

Lengths = NDArray[np.float64]


def recorded() -> Lengths:
    """[groups, G] sampled tokens of each recorded trial."""
    record = json.loads((HERE / "trial_lengths.json").read_text())
    return np.array(record["sampled"], float).reshape(-1, record["trials_per_group"])


def stretched(groups: Lengths, spread: float) -> Lengths:
    """Lengths of the same mean whose deviation over mean is `spread`, log-normal, of as many trials."""
    sigma = np.sqrt(np.log1p(spread**2))
    drawn = np.random.default_rng(1).lognormal(-(sigma**2) / 2, sigma, groups.shape)
    return groups.mean() * drawn / drawn.mean()


def collections(groups: Lengths, ranks: int, per_rank: int) -> Lengths:
    """[D, W, N * G] lengths by rank: group g of a collection is rank g % W's."""
    chosen = np.random.default_rng(0).integers(len(groups), size=(DRAWS, per_rank, ranks))
    return groups[chosen].swapaxes(1, 2).reshape(DRAWS, ranks, -1)


def idle(work: NDArray[np.float64]) -> float:
    """Share of the ranks' time that they wait for the slowest; `work` [D, W]."""
    return float(1 - work.mean() / work.max(axis=1).mean())


def idle_table(groups: Lengths) -> str:
    lines = ["| lengths | groups per rank | limit | " + " | ".join(f"W = {w}" for w in RANKS) + " |"]
    lines.append("|---" * (3 + len(RANKS)) + "|")
    spread = groups.std() / groups.mean()
    for name, lengths in (
        (f"recorded, spread {spread:.2f}", groups),
        ("log-normal, spread 1.00", stretched(groups, 1.0)),
    ):
        for per_rank in (1, 4, 16):
            drawn = {w: collections(lengths, w, per_rank) for w in RANKS}
            for limit, of_rank in (("steps", np.max), ("tokens", np.sum)):
                shares = " | ".join(f"{idle(of_rank(drawn[w], axis=2)):.0%}" for w in RANKS)
                lines.append(f"| {name} | {per_rank} | {limit} | {shares} |")
    return "\n".join(lines)


def bytes_per_parameter(ranks: int) -> dict[str, float]:
    """What a rank sends in one update (the last: in one iteration), ring algorithms, bytes a parameter."""
    share = (ranks - 1) / ranks
    return {
        "none": share * 2 * 4,  # all-reduce of float32 gradients
        "optimizer": share * (4 + 2),  # reduce-scatter, then bf16 weights once
        "full": share * (4 + 2 * 2 * MICRO_BATCHES),  # bf16 weights for each forward and backward pass
        "weights for the sampler": share * 2,
    }


def bytes_table() -> str:
    lines = ["| W = 8 | | GB | " + " | ".join(LINKS) + " |", "|---" * (3 + len(LINKS)) + "|"]
    for model, parameters in PARAMETERS.items():
        for what, each in bytes_per_parameter(8).items():
            sent = each * parameters
            times = " | ".join(f"{sent / rate * 1e3:.0f} ms" for rate in LINKS.values())
            lines.append(f"| {model} | {what} | {sent / 1e9:.1f} | {times} |")
    return "\n".join(lines)


def tokens_to_hide(each: float, rate: float, share: float = 0.1) -> float:
    """Tokens of one rank and update from which sending takes at most `share` of its training time.

    Bytes and operations both grow with the parameters, so that the size of the model drops out.
    """
    return each / rate * FLOPS / 6 / share


def tokens_table() -> str:
    lines = ["| W = 8 | " + " | ".join(LINKS) + " |", "|---" * (1 + len(LINKS)) + "|"]
    for what, each in bytes_per_parameter(8).items():
        lines.append(
            f"| {what} | "
            + " | ".join(f"{tokens_to_hide(each, r) / 1e3:.0f}k" for r in LINKS.values())
            + " |"
        )
    return "\n".join(lines)


def beside(groups: Lengths, ratio: float) -> dict[str, float]:
    """Gain in rate of sampling beside updates where sampling takes `ratio` times the updates on one device.

    one: one device whose decoding costs by the step; the next collection begins in the slots that this one's
    tail leaves empty. The others: one device samples and one updates, against both doing both.
    """
    trials = collections(groups, 1, 16)[:, 0]
    filled = trials.mean() / trials.max(axis=1).mean()
    halves = collections(groups, 2, 8).max(axis=2).max(axis=1).mean() / trials.max(axis=1).mean()
    split = max(ratio, 1.0)
    return {
        "one": (ratio + 1) / (ratio * filled + 1) - 1,
        "two, steps": (ratio * halves + 0.5) / split - 1,
        "two, tokens": (ratio + 1) / 2 / split - 1,
    }


def beside_table(groups: Lengths) -> str:
    lines = ["| sampling / updates | one device | two, by steps | two, by tokens |", "|---|---|---|---|"]
    for ratio in (0.5, 1.0, 2.0, 4.0, 8.0):
        lines.append(
            f"| {ratio:g} | " + " | ".join(f"{g:+.0%}" for g in beside(groups, ratio).values()) + " |"
        )
    return "\n".join(lines)


def tables() -> dict[str, str]:
    groups = recorded()
    return {
        "idle": idle_table(groups),
        "bytes": bytes_table(),
        "tokens": tokens_table(),
        "beside": beside_table(groups),
    }


def filled(page: str) -> str:
    """`page` with its tables as they are computed now."""
    made = tables()
    return MARKERS.sub(lambda found: found[1] + made[found[2]] + "\n" + found[3], page)


if __name__ == "__main__":
    for path in map(Path, sys.argv[1:]):
        path.write_text(filled(path.read_text()))
    if len(sys.argv) == 1:
        print("\n\n".join(tables().values()))
