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
from lamer_fast.say import starting
from lamer_kernels.bench.__main__ import NAMES as KERNELS

SCRIPTS = ("envs", "levels", "iteration", "train")
ROOT = Path(__file__).resolve().parents[2]


@dataclass(frozen=True)
class BenchOptions:
    device: str = ""
    """cpu, cuda or cuda:1; by default the first GPU, if there is one."""
    shape: str = ""
    """Kernels: sizes of this model, for example qwen3-4b or smollm2-360m."""
    sizes: str = ""
    """Kernels: numbers of tokens, turns or sequences, N,N,...."""
    only: str = ""
    """Run only cases whose text contains this."""
    json: bool = False
    """Write the record to benchmarks/results in a checkout, otherwise to lamer-bench in this folder."""
    csv: bool = False
    """Write the record with the columns of Liger-Kernel as well."""
    plot: bool = False
    """Draw the figures over size, as PNG and SVG (needs matplotlib)."""
    compare: str = ""
    """Earlier record of this device; the exit status is 1 if ours is slower beyond noise and 5 %."""
    out: str = ""
    """Folder for a copy of all written files."""
    allow_dirty: bool = False
    """Write the record even if the tree has changes."""


COMMAND = Command(
    "bench",
    "Measure kernels, boards and trainer. Each result is checked before its time is printed, and installed "
    "peers take part. Without the trainer: `python -m lamer_kernels.bench`.",
    BenchOptions,
    Target(
        "NAME", f"{', '.join((*KERNELS, *SCRIPTS))}; left out: {', '.join(KERNELS)}", "", (*KERNELS, *SCRIPTS)
    ),
)


def run(argv: Sequence[str]) -> int:
    name, options, _ = COMMAND.parse(argv)
    if name not in ("", *KERNELS, *SCRIPTS):
        raise ValueError(f"no benchmark {name!r}; there are {', '.join((*KERNELS, *SCRIPTS))}")
    if options.out:
        check_folder("--out", Path(options.out))
    if name in SCRIPTS:
        return run_script(name, options)
    starting(f"measuring {name or ', '.join(KERNELS)}")
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
