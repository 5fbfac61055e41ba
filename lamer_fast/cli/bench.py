"""`lamer-fast bench`: kernels by `lamer_kernels.bench`, boards and trainer by scripts of the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from lamer_fast.cli.flags import Command, Target
from lamer_fast.files import check_folder
from lamer_kernels.bench.__main__ import NAMES as KERNELS

SCRIPTS = ("envs", "levels", "iteration", "train")
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class BenchOptions:
    device: str = ""
    """cpu, cuda or cuda:1; left out: the first GPU where there is one."""
    shape: str = ""
    """Sizes of a model, say qwen3-4b or smollm2-360m; of kernels."""
    sizes: str = ""
    """Tokens, turns or sequences of the cases, N,N,...; of kernels."""
    only: str = ""
    """Run the cases whose text contains this."""
    json: bool = False
    """Write the record: benchmarks/results of a checkout, else lamer-bench below this folder."""
    csv: bool = False
    """Write it with the columns of Liger-Kernel too."""
    plot: bool = False
    """Draw it over size, PNG and SVG (matplotlib)."""
    compare: str = ""
    """An earlier record of this device: exit status 1 where ours is slower beyond noise and 5 %."""
    out: str = ""
    """Folder for a copy of what is written."""
    allow_dirty: bool = False
    """Write although the tree has changes."""


COMMAND = Command(
    "bench",
    "Measure: each number is behind a check, peers that are installed take part. The kernels alone, without "
    "the trainer: `python -m lamer_kernels.bench`.",
    BenchOptions,
    Target("NAME", f"{', '.join((*KERNELS, *SCRIPTS))}; left out: {', '.join(KERNELS)}", ""),
)


def run(argv: Sequence[str]) -> int:
    name, options, _ = COMMAND.parse(argv)
    if name not in ("", *KERNELS, *SCRIPTS):
        raise ValueError(f"no benchmark {name!r}; there are {', '.join((*KERNELS, *SCRIPTS))}")
    if options.out:
        check_folder("--out", Path(options.out))
    if name in SCRIPTS:
        return run_script(name, options)
    from lamer_kernels.bench.__main__ import main

    return main([*filter(None, [name]), *flags_of(options)])


def flags_of(options: BenchOptions) -> list[str]:
    """As they stand on a command line."""
    flags = []
    for key, value in asdict(options).items():
        flag = f"--{key.replace('_', '-')}"
        flags += [flag] if value is True else [flag, value] if value else []
    return flags


def run_script(name: str, options: BenchOptions) -> int:
    script = ROOT / "benchmarks" / f"bench_{name}.py"
    if not script.is_file():
        raise ValueError(f"{name} is measured in a checkout of the repository: there is no {script}")
    if options.shape or options.sizes:
        raise ValueError(f"--shape and --sizes have no effect on {name}: its cases are its own")
    paths = [str(ROOT), str(ROOT / "kernels"), os.environ.get("PYTHONPATH", "")]
    env = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, paths))}
    return subprocess.run([sys.executable, str(script), *flags_of(options)], env=env).returncode
