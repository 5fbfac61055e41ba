"""What does every form of every Triton kernel need of the GPUs it is compiled for? Needs no GPU.

    python benchmarks/compile_table.py [--read | --json] [--targets sm_90 ...] [--only policy]

Compiles ahead of time, through the package's launchers; half an hour for all. `--json` writes the record,
`--read` prints the table of the one that stands.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
import tempfile
from collections import defaultdict
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "kernels")]
os.environ.setdefault("TRITON_CACHE_DIR", tempfile.mkdtemp(prefix="compile-table-"))

from lamer_kernels.bench.record import RESULTS, environment
from tests.kernels.ahead_of_time import TARGETS, Needs, compiling_for, form, needs
from tests.kernels.forms import EVERY_FORM

RECORD = RESULTS / "compile_table.json"
Forms = dict[str, dict[str, Any]]  # a form as JSON -> target -> its needs


def collect(targets: list[str], only: str) -> dict[str, Forms]:
    """Kernel -> its forms."""
    found: dict[str, Forms] = defaultdict(dict)
    for target in targets:
        for group, (launches, _) in EVERY_FORM.items():
            if only not in group:
                continue
            with compiling_for(target) as compiled:
                launches()
                distinct = {id(kernel): (name, kernel) for name, kernel in compiled}.values()
                for name, kernel in distinct:
                    key = json.dumps(form(kernel))
                    found[name].setdefault(key, {})[target] = needs(kernel)
            print(f"{target} {group}: {len(distinct)}", file=sys.stderr, flush=True)
    return found


def record(found: dict[str, Forms], env: dict[str, Any]) -> str:
    """JSON with a line for each form: the parameters in which the kernel's forms differ, then its needs."""
    head = {"bench": "compile_table"} | {key: env[key] for key in ("versions", "commit", "dirty", "date")}
    head["versions"] = {key: env["versions"][key] for key in ("torch", "triton")}
    head |= {"targets": list(TARGETS), "needs": list(Needs._fields)}
    kernels = []
    for name, forms in sorted(found.items()):
        decoded = [json.loads(key) for key in forms]
        differ = [p for p in decoded[0] if len({json.dumps(values[p]) for values in decoded}) > 1]
        same = {p: value for p, value in decoded[0].items() if p not in differ}
        lines = [
            json.dumps([*(values[p] for p in differ), *(needed[t] for t in TARGETS)], separators=(",", ":"))
            for values, needed in zip(decoded, forms.values(), strict=True)
        ]
        kernels.append(
            f"{json.dumps(name)}: {{\n"
            f'"same": {json.dumps(same)},\n"differ": {json.dumps(differ)},\n"forms": [\n'
            + ",\n".join(lines)
            + "\n]}"
        )
    return json.dumps(head, indent=1)[:-2] + ',\n "kernels": {\n' + ",\n".join(kernels) + "\n}}\n"


def table(kernels: dict[str, list[dict[str, Needs]]]) -> str:
    """Markdown, a line for each kernel: registers of a thread from the least to the most over its forms;
    bytes of a thread's stack, a block's shared memory, the widest load and store, the most of all targets."""
    targets = list(next(iter(kernels.values()))[0])
    lines = [
        f"| kernel | forms | registers {', '.join(targets)} | stack | shared | load, store |",
        "|---|---|---|---|---|---|",
    ]
    for name, forms in sorted(kernels.items()):
        spans = [span([f[t].registers for f in forms]) for t in targets]
        most = [max(x) for x in zip(*(n for f in forms for n in f.values()), strict=True)]
        lines.append(
            f"| {name.removesuffix('_kernel')} | {len(forms)} | {', '.join(spans)} | {most[1]} | {most[2]:,} "
            f"| {most[3]}, {most[4]} |"
        )
    return "\n".join(lines)


def span(values: list[int]) -> str:
    return f"{min(values)}-{max(values)}" if min(values) < max(values) else str(values[0])


def read(path: Path) -> dict[str, list[dict[str, Needs]]]:
    """Kernel -> the needs of its forms by target, of a record."""
    content = json.loads(path.read_text())
    targets = content["targets"]
    return {
        name: [
            {t: Needs(*n) for t, n in zip(targets, row[-len(targets) :], strict=True)}
            for row in kernel["forms"]
        ]
        for name, kernel in content["kernels"].items()
    }


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--json", action="store_true", help=f"write {RECORD.name}")
    parser.add_argument("--read", action="store_true", help="compile nothing: the table of the record")
    parser.add_argument("--targets", nargs="+", default=list(TARGETS), choices=TARGETS)
    parser.add_argument("--only", default="", help="groups of forms whose name contains this")
    args = parser.parse_args()
    if args.read:
        print(table(read(RECORD)))
        return 0
    if args.json and (args.only or len(args.targets) < len(TARGETS)):
        parser.error("--json writes every form for every target")
    env = environment(device="cpu")
    found = collect(args.targets, args.only)
    print(table({name: list(forms.values()) for name, forms in found.items()}))
    if args.json:
        RECORD.write_text(record(found, env))
    return 0


if __name__ == "__main__":
    sys.exit(main())
