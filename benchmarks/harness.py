"""`lamer_kernels.bench` under the name that these benchmarks import, also where it is not installed."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "kernels"))  # for interpreters of peers

from lamer_kernels.bench.command import main
from lamer_kernels.bench.harness import Case, Row, compare, measured, resident_bytes, short
from lamer_kernels.bench.record import RESULTS, ROOT

__all__ = ["RESULTS", "ROOT", "Case", "Row", "compare", "main", "measured", "resident_bytes", "short"]
