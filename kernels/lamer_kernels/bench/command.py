"""The flags of a benchmark, and its run: tables, records, plots, the comparison with an old record."""

from __future__ import annotations

import argparse
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

from . import plot, record, regressions
from .harness import Case, Row, failure_of, measured, print_table, progress
from .shapes import SHAPES, named

Bench = Callable[[Case], list[Row]]
# (device, name of a shape or None, sizes or ()) -> cases, where the flags choose them
Cases = Iterable[Case] | Callable[[str, str | None, tuple[int, ...]], list[Case]]


def main(bench: Bench, cases: Cases, *, argv: Sequence[str] | None = None) -> None:
    """A script that is one benchmark: the flags come from the command line, the name from the file.

    Raises:
        SystemExit: code 1 after a red check or a regression, 2 for a record of a tree with changes.
    """
    script = sys.modules["__main__"]
    name = Path(getattr(script, "__file__", None) or "bench").stem
    args = parser(name, script.__doc__, sized=callable(cases)).parse_args(argv)
    status = run(name, bench, cases, args)
    if status:
        sys.exit(status)


def parser(name: str, doc: str | None, *, sized: bool) -> argparse.ArgumentParser:
    found = argparse.ArgumentParser(prog=name, description=doc, formatter_class=argparse.RawTextHelpFormatter)
    found.add_argument("--device", help="cpu, cuda or cuda:1; the first GPU where there is one")
    found.add_argument("--only", default="", help="run the cases whose text contains this")
    found.add_argument("--json", action="store_true", help="write the record")
    found.add_argument("--csv", action="store_true", help="write it with the columns of Liger-Kernel")
    found.add_argument("--plot", action="store_true", help="draw it over size, PNG and SVG")
    found.add_argument(
        "--compare", type=Path, metavar="OLD.json",
        help="an earlier record of this device: exit status 1 where ours is slower by more than 5 %%\n"
        "and more than the noise of both",
    )  # fmt: skip
    found.add_argument("--out", type=Path, help="folder for a copy of what is written")
    found.add_argument("--allow-dirty", action="store_true", help="write although the tree has changes")
    found.add_argument("--commit", help="of this tree, where it has no git history")
    if sized:
        found.add_argument("--shape", type=_shape, help=f"sizes of a model: {', '.join(SHAPES)}")
        found.add_argument(
            "--sizes",
            type=_sizes,
            default=(),
            metavar="N,N,...",
            help="tokens, turns or sequences of the cases",
        )
    return found


def _shape(word: str) -> str:
    try:
        return named(word)
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def _sizes(text: str) -> tuple[int, ...]:
    parts = text.split(",")
    if not all(part.strip().isdecimal() and int(part) > 0 for part in parts):
        raise argparse.ArgumentTypeError(f"sizes must be positive whole numbers, N,N,..., got {text!r}")
    return tuple(int(part) for part in parts)


def _default_device(cases: Cases) -> str:
    """Without torch for benchmarks that do without it."""
    if callable(cases):
        import_module("torch")
    loaded = sys.modules.get("torch")
    return "cuda" if loaded and loaded.cuda.is_available() else "cpu"


def run(name: str, bench: Bench, cases: Cases, args: argparse.Namespace) -> int:
    """Exit status: 0, 1 after a red check or a regression, 2 where it cannot start."""
    if args.device:
        _use(args.device)
    device = args.device or _default_device(cases)
    env = record.environment(args.commit, device)
    old = None
    try:
        if callable(cases):
            cases = cases(device, args.shape, args.sizes)
        if args.plot:
            plot.check_can_plot()
        if args.compare:
            old = regressions.read_record(args.compare, name, env["device"])
        if (args.json or args.csv or args.plot) and env["dirty"] and not args.allow_dirty:
            raise ValueError(
                f"the tree differs from commit {env['commit']}: commit first, or pass --allow-dirty"
            )
    except (ValueError, OSError) as error:
        print(f"{name}: error: {error}", file=sys.stderr)
        return 2

    folders = [folder for folder in (record.folder_of(env), args.out) if folder]
    rows: list[Row] = []
    written: dict[Path, None] = {}
    chosen = [case for case in cases if args.only in str(case)]
    for i, case in enumerate(chosen):
        progress.title = f"{name} {i + 1} of {len(chosen)}, {case}"
        case.device = device
        try:
            found = bench(case)
        except Exception as error:  # out of memory, say: the cases behind it run all the same
            progress.clear()
            traceback.print_exc()
            found = [measured("ours", [], "", "", check=failure_of(error))]
        for row in found:
            row.case = {k: v for k, v in case.params.items() if not callable(v)}
        print_table(str(case), found, header=not rows)
        rows += found
        for kind in ("json", "csv"):
            if getattr(args, kind):  # after each case: the next one may be stopped
                paths = record.write_record(name, env, rows, folders, as_csv=kind == "csv")
                written |= dict.fromkeys(paths)
    if args.plot:
        for folder in folders:
            written |= dict.fromkeys(plot.write_plots(name, env, rows, folder / name))
    print(f"\n{env['device']}, {version(env)}, {env['date'][:10]}")
    for path in written:
        print(f"record: {path}")
    worse = _compare(old, rows, args.compare) if old is not None else 0
    return 1 if worse or any(row.check != "passed" for row in rows) else 0


def version(env: dict[str, Any]) -> str:
    if env["commit"]:
        return f"commit {env['commit']}{'+changes' if env['dirty'] else ''}"
    return f"lamer-kernels {env['versions']['lamer-kernels']}"


def _use(device: str) -> None:
    import torch

    if device.startswith("cuda"):
        if not torch.cuda.is_available():
            raise SystemExit(f"--device {device}: torch {torch.__version__} sees no CUDA device")
        torch.cuda.set_device(torch.device(device, 0) if device == "cuda" else torch.device(device))
    elif device != "cpu":
        raise SystemExit(f"--device must be cpu, cuda or cuda:N, got {device}")


def _compare(old: Sequence[Row], new: Sequence[Row], path: Path) -> int:
    """Prints what changed; the number of regressions."""
    found = regressions.changes(old, new)
    print(f"\nagainst {path}: {len(found) or 'no'} changes beyond noise")
    for change in found:
        print(f"{'REGRESSION ' if change.regression else ''}{change.text}")
    return sum(change.regression for change in found)
