"""Benchmarks of the kernels, each gated on a check: python -m lamer_kernels.bench [NAME ...] [flags]

Names: credit, head, layers, attention, pack; all of them without a name. Peers that are installed take part.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib import import_module

from .command import parser, run

NAMES = ("credit", "head", "layers", "attention", "pack")


def main(argv: Sequence[str] | None = None) -> int:
    """Exit status: 0, 1 after a red check or a regression, 2 where it cannot start."""
    args = parse(argv)
    status = 0
    for name in args.names or NAMES:
        module = import_module(f".{name}", __package__)
        status = max(status, run(f"bench_{name}", module.bench, module.cases, args))
    return status


def parse(argv: Sequence[str] | None) -> argparse.Namespace:
    """Before torch is imported."""
    flags = parser("python -m lamer_kernels.bench", __doc__, sized=True)
    flags.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    args = flags.parse_args(argv)
    for name in args.names:
        if name not in NAMES:
            flags.error(f"no benchmark {name!r}; there are {', '.join(NAMES)}")
    if args.compare and len(args.names) != 1:
        flags.error("--compare needs the one NAME that the record is of")
    return args


if __name__ == "__main__":
    sys.exit(main())
