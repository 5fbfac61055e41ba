"""Records of a benchmark: where and on what it ran, as JSON and as CSV. Imports the standard library only."""

from __future__ import annotations

import csv
import json
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

from .. import __version__
from .harness import Row

_ABOVE = Path(__file__).resolve().parents[3]  # of the repository, where this is a checkout of it
ROOT = _ABOVE if (_ABOVE / "kernels" / "pyproject.toml").is_file() else None
RESULTS = ROOT / "benchmarks" / "results" if ROOT else Path("lamer-bench")
VERSIONS = (
    *("numpy", "torch", "triton", "numba", "transformers", "vllm"),
    *("liger-kernel", "trl", "verl", "cut-cross-entropy", "quack-kernels", "flash-attn", "xformers"),
)
# a record or a study's table does not make the tree dirty for the next one
TRACKED = (".", ":(exclude)benchmarks/results", ":(exclude)benchmarks/studies")
# As Liger-Kernel's all_benchmark_data.csv has them, with our version in the place of its own.
COLUMNS = (
    *("kernel_name", "kernel_provider", "kernel_operation_mode", "metric_name", "metric_unit"),
    *("x_name", "x_label", "x_value", "y_value_50", "y_value_20", "y_value_80"),
    *("extra_benchmark_config_str", "gpu_name", "timestamp", "lamer_kernels_version"),
)
MODES = {"fwd": "forward", "fwd+bwd": "full", "bwd": "backward"}
SIZES = {"T": "tokens", "R": "turns", "S": "sequences", "sequences": "sequences", "V": "vocabulary"}


def device_name(device: str | None = None) -> str:
    """The GPU's name where that is a GPU, by default where torch sees one; else the processor's."""
    if device and not device.startswith("cuda"):
        return cpu_name()
    if "torch" in sys.modules and (torch := sys.modules["torch"]).cuda.is_available():
        return str(torch.cuda.get_device_name(device))
    return cpu_name()


def cpu_name() -> str:
    try:
        info = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor() or platform.machine()
    fields = dict(re.findall(r"^(model name|cpu family|model)\s*:\s*(.+)$", info, re.MULTILINE))
    name = re.sub(r"\(R\)|\(TM\)|CPU|Processor", "", fields.get("model name", platform.machine())).strip()
    return f"{name} (family {fields.get('cpu family', '?')}, model {fields.get('model', '?')})"


def environment(commit: str | None = None, device: str | None = None) -> dict[str, Any]:
    """Where and on what the numbers were taken.

    Args:
        commit: of a tree without history, as handed in by whoever copied it. An installed package has none.
        device: "cpu", "cuda" or "cuda:1".
    """
    versions = {"python": platform.python_version(), "lamer-kernels": __version__}
    for name in VERSIONS:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "device": device_name(device),
        "cpu": cpu_name(),
        "driver": _command("nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"),
        "versions": versions,
        "commit": commit or _git("rev-parse", "--short=12", "HEAD"),
        "dirty": bool(_git("status", "--porcelain", "-uno", "--", *TRACKED)),
        "date": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def _git(*argv: str) -> str | None:
    return _command("git", "-C", str(ROOT), *argv) if ROOT else None


def _command(*argv: str) -> str | None:
    try:
        return subprocess.run(argv, capture_output=True, text=True, check=True, timeout=20).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return None


def write_record(
    name: str, env: dict[str, Any], rows: Sequence[Row], folders: Sequence[Path], *, as_csv: bool = False
) -> list[Path]:
    """NAME.json, or NAME.csv, in each folder."""
    paths = [folder / f"{name}.{'csv' if as_csv else 'json'}" for folder in folders]
    for path in paths:
        path.parent.mkdir(parents=True, exist_ok=True)
        if as_csv:
            with path.open("w", newline="") as opened:
                writer = csv.DictWriter(opened, COLUMNS)
                writer.writeheader()
                writer.writerows(csv_lines(name, env, rows))
        else:
            record = {"bench": name, **env, "rows": [asdict(row) for row in rows]}
            path.write_text(json.dumps(record, indent=1, allow_nan=False) + "\n")
    return paths


def folder_of(env: dict[str, Any]) -> Path:
    """results/<device>/ in a checkout, lamer-bench/<device>/ below the working directory elsewhere."""
    return RESULTS / re.sub(r"[^a-z0-9]+", "-", env["device"].lower()).strip("-")


def csv_lines(name: str, env: dict[str, Any], rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A line for each time or rate, and one for its peak memory; a row whose check failed has none."""
    lines = []
    for row in rows:
        if row.p50 is None or row.provider == "roofline":
            continue
        size = size_of(row.case)
        shared = {
            "kernel_name": name.removeprefix("bench_"),
            "kernel_provider": row.provider,
            "kernel_operation_mode": MODES.get(row.mode, row.mode),
            "x_name": size or "",
            "x_label": SIZES.get(size or "", size or ""),
            "x_value": row.case.get(size, "") if size else "",
            "extra_benchmark_config_str": json.dumps({k: v for k, v in row.case.items() if k != size}),
            "gpu_name": env["device"],
            "timestamp": env["date"],
            "lamer_kernels_version": env["versions"]["lamer-kernels"],
        }
        timed = row.unit == "s"
        factor = 1e3 if timed else 1.0  # its times are milliseconds
        values = {
            f"y_value_{q}": value and value * factor
            for q, value in (("20", row.p20), ("50", row.p50), ("80", row.p80))
        }
        name_and_unit = ("speed", "ms") if timed else (row.metric, row.unit)
        metric = dict(zip(("metric_name", "metric_unit"), name_and_unit, strict=True))
        lines.append({**shared, **metric, **values})
        if row.peak_memory_bytes is not None:
            memory = dict.fromkeys(values, row.peak_memory_bytes / 2**20)
            lines.append({**shared, "metric_name": "memory", "metric_unit": "MB", **memory})
    return lines


def size_of(case: dict[str, Any]) -> str | None:
    """The parameter that is the size of a case."""
    return next((name for name in SIZES if name in case), None)
