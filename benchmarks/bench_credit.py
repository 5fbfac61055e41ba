"""How fast is credit assignment (GiGPO + cross-episode returns) on one CPU thread, and packing?

Baselines: numpy tuned for this very case (sorting by radix and vector instructions, no Python per row), and
plain Python with one dictionary access per turn, linear, at a small size. The released implementations are
slower than the latter by a quadratic pass over all turns; no number of theirs is extrapolated here.
"""

from pathlib import Path

import numpy as np
from harness import Case, Row, compare, main

from lamer_kernels import pack
from lamer_kernels.bench import credit

LENGTHS = Path(__file__).parents[1] / "tests" / "kernels" / "data" / "pack_lengths.npz"


def cases(device: str, shape: str | None, sizes: tuple[int, ...]) -> list[Case]:
    """Those of the package, and bins of the lengths that its tests keep."""
    return [*credit.cases(device, shape, sizes), Case(op="pack", S=100_000)]


def bench(case: Case) -> list[Row]:
    if case.op != "pack":
        return credit.bench(case)
    lengths = np.load(LENGTHS)["lengths"]
    bins = 1.02 * np.ceil(lengths.sum() / 16_384)
    return compare(
        {
            "lamer_kernels": lambda: pack(lengths, 16_384),
            "without numba": lambda: pack(lengths, 16_384, backend="reference"),
        },
        check=np.array_equal,
        verify=lambda: pack(lengths, 16_384).max() < bins,
        goal=20e-3,
        repeats=7,
    )


if __name__ == "__main__":
    main(bench, cases)
