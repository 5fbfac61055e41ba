"""Timing and correctness gate of every benchmark: the only file that reads a clock.

    def bench(case):
        x = make_inputs(case)  # not timed
        return compare({"ours": lambda: ours(*x), "torch": lambda: plain(*x)}, check=lambda a, b: close(a, b))

    main(bench, [Case(T=1024), Case(T=4096)])  # of `command`

Providers run in turn, burst by burst, and their medians are compared. A provider whose check fails gets no
number. Only the standard library is imported, so that peers can be timed by the same code in an interpreter
of their own.
"""

from __future__ import annotations

import math
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from statistics import quantiles
from typing import Any

CPU_CLOCKS = {"thread": time.thread_time, "process": time.process_time, "wall": time.perf_counter}


class Case:
    """One line of a benchmark's grid: `Case(T=2048, D=2560)` has the attributes `T` and `D`."""

    device = "cpu"  # or "cuda", "cuda:1"; set by the command that runs it, no part of the case

    def __init__(self, **params: Any) -> None:
        self.params = params
        self.__dict__.update(params)

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"case {self} has no {name}")

    def __str__(self) -> str:
        if "name" in self.params:
            return str(self.params["name"])
        return " ".join(f"{name}={value}" for name, value in self.params.items())


class Progress:
    """One line on standard error, where that is a terminal: which case, and how far."""

    title = ""

    def say(self, text: str) -> None:
        if sys.stderr.isatty():
            print(f"\r\x1b[K{self.title}: {text}"[:110], end="", file=sys.stderr, flush=True)

    def clear(self) -> None:
        if sys.stderr.isatty():
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)


progress = Progress()


@dataclass
class Row:
    """One number: the median over bursts of `metric` in `unit`, None where the check failed."""

    provider: str
    metric: str
    unit: str
    p20: float | None
    p50: float | None
    p80: float | None
    repeats: int
    mode: str = ""
    peak_memory_bytes: int | None = None
    check: str = "passed"
    goal: float | None = None
    note: str = ""
    roofline_share: float | None = None  # of what the hardware allows
    case: dict[str, Any] = field(default_factory=dict)

    @property
    def higher_is_better(self) -> bool:
        return self.unit.endswith("/s") or self.unit in ("x", "share")


def compare(
    providers: Mapping[str, Callable[[], Any]],
    *,
    check: Callable[[Any, Any], bool | None] | None = None,
    verify: Callable[[], bool | None] | None = None,
    setup: Callable[[], Any] | None = None,
    work: float | None = None,
    unit: str = "s",
    work_flop: float | None = None,
    metric: str = "",
    mode: str = "fwd",
    clock: str = "thread",
    repeats: int = 25,
    burst_s: float = 0.02,
    goal: float | None = None,
    roofline: float | None = None,
    flush_l2: bool = False,
) -> list[Row]:
    """Times every provider and returns one row each, in the order given; the first one is ours.

    Args:
        providers: name -> call to be timed. What it returns goes to `check` (once, before any timing).
        check: check(output of the first provider, output of another) is False, or raises, when they disagree.
        verify: the same for a provider alone; it gates every row. One of `check`, `verify` is required.
        setup: called before each burst, outside the clock.
        work: amount done by one call; the row then holds work per second in `unit` (say "boards/s").
        unit: of the row; "s" (seconds per call) without `work`.
        work_flop: floating point operations of one call; the row then holds "Tflop/s".
        clock: "thread" or "process" CPU time, "wall" time, "cuda" (events on the current stream).
        burst_s: least length of one burst, seconds; short calls are repeated inside it.
        goal: of the first provider, in `unit`.
        roofline: what the hardware allows, in `unit`; printed as a row of its own.
        flush_l2: clock "cuda" only: overwrite the L2 cache before each call.

    Raises:
        ValueError: no check at all, or an unknown clock.
    """
    if check is None and verify is None:
        raise ValueError("compare() needs check= or verify=: a number without a check does not exist")
    if clock != "cuda" and clock not in CPU_CLOCKS:
        raise ValueError(f"clock must be one of {[*CPU_CLOCKS, 'cuda']}, got {clock!r}")
    if work_flop is not None:
        work, unit = work_flop / 1e12, "Tflop/s"
    failed, peaks = _run_checks(providers, check, verify, clock)

    timed = {name: call for name, call in providers.items() if name not in failed}
    if clock != "cuda":  # a process also grows by what a first call imports and compiles
        peaks |= {name: _peak_of(call, setup, clock) for name, call in timed.items()}
    seconds: dict[str, list[float]] = {name: [] for name in timed}
    calls = {name: _calls_per_burst(call, setup, clock, burst_s) for name, call in timed.items()}
    for repeat in range(repeats):
        progress.say(f"{repeat + 1} of {repeats} rounds")
        order = list(timed)[repeat % len(timed) :] + list(timed)[: repeat % len(timed)] if timed else []
        for name in order:
            if setup:
                setup()
            seconds[name].append(_burst(timed[name], calls[name], clock, flush_l2) / calls[name])

    label = metric or (f"{clock} time" if work is None else "rate")
    rows = []
    for i, name in enumerate(providers):
        values = [s if work is None else work / s for s in seconds.get(name, [])]
        row = measured(name, values, label, unit, check=failed.get(name, "passed"), mode=mode)
        row.peak_memory_bytes = peaks.get(name)
        row.goal = goal if i == 0 else None
        if roofline and row.p50:
            row.roofline_share = row.p50 / roofline if row.higher_is_better else roofline / row.p50
        rows.append(row)
    progress.clear()
    if roofline is not None:
        rows.append(measured("roofline", [roofline], label, unit, mode=mode))
    return rows


def measured(
    provider: str, values: Sequence[float], metric: str, unit: str, *, check: str = "passed", **more: Any
) -> Row:
    """A row from values timed elsewhere (a training run's own record, another interpreter)."""
    if check == "passed" and (wrong := [value for value in values if not math.isfinite(value)]):
        check = f"FAILED: a value is {wrong[0]}"
    if check != "passed" or not values:
        return Row(provider, metric, unit, None, None, None, 0, check=check, **more)
    cuts = quantiles(values, n=10, method="inclusive") if len(values) > 1 else [values[0]] * 9
    return Row(provider, metric, unit, cuts[1], cuts[4], cuts[7], len(values), check=check, **more)


def _run_checks(
    providers: Mapping[str, Callable[[], Any]],
    check: Callable[[Any, Any], bool | None] | None,
    verify: Callable[[], bool | None] | None,
    clock: str,
) -> tuple[dict[str, str], dict[str, int | None]]:
    """Names with the reason of their failure, and the peak memory of one call of each."""
    failed: dict[str, str] = {}
    peaks: dict[str, int | None] = {}
    outputs: dict[str, Any] = {}
    for name, call in providers.items():
        progress.say(f"check of {name}")
        try:
            memory = _PeakMemory(clock)
            outputs[name] = call()
            peaks[name] = memory.read()
        except Exception as error:  # a provider that cannot run is a row without a number, not a crash
            failed[name] = failure_of(error)
    ours = next(iter(providers))
    if ours in failed or (verify and (reason := _verdict(verify))):
        return dict.fromkeys(providers, failed.get(ours) or reason), peaks
    for name in outputs:
        if check and name != ours and (reason := _verdict(check, outputs[ours], outputs[name])):
            failed[ours] = failed[name] = reason  # two that disagree: neither is known to be right
    return failed, peaks


def _verdict(check: Callable[..., bool | None], *args: Any) -> str:
    try:
        return "FAILED" if check(*args) is False else ""
    except Exception as error:
        return failure_of(error)


def failure_of(error: Exception) -> str:
    return f"FAILED: {type(error).__name__}: {error}".splitlines()[0][:110]


def _calls_per_burst(
    call: Callable[[], Any], setup: Callable[[], Any] | None, clock: str, burst_s: float
) -> int:
    calls = 1
    while True:
        if setup:
            setup()
        seconds = _burst(call, calls, clock, flush_l2=False)
        if seconds >= burst_s or calls >= 1 << 20:
            return calls
        calls = max(calls + 1, min(calls * 10, int(calls * 1.2 * burst_s / max(seconds, 1e-7))))


def _burst(call: Callable[[], Any], calls: int, clock: str, flush_l2: bool) -> float:
    """Seconds of `calls` calls."""
    if clock == "cuda":
        return _cuda_burst(call, calls, flush_l2)
    now = CPU_CLOCKS[clock]
    start = now()
    for _ in range(calls):
        call()
    return now() - start


def _cuda_burst(call: Callable[[], Any], calls: int, flush_l2: bool) -> float:
    """Each call between its own pair of events; the writes before it keep the queue full, the cache cold."""
    import torch

    l2 = torch.empty(256 << 20 if flush_l2 else 16 << 20, dtype=torch.uint8, device="cuda")
    event = partial(torch.cuda.Event, enable_timing=True)
    events = [(event(), event()) for _ in range(calls)]
    for start, end in events:
        l2.zero_()
        start.record()
        call()
        end.record()
    torch.cuda.synchronize()
    return float(sum(start.elapsed_time(end) for start, end in events)) / 1e3


class _PeakMemory:
    """Peak bytes above the level at construction: of the CUDA allocator, else of the process (Linux)."""

    def __init__(self, clock: str) -> None:
        self.cuda = clock == "cuda"
        if self.cuda:
            import torch

            torch.cuda.reset_peak_memory_stats()
            self.base = torch.cuda.memory_allocated()
        else:
            try:
                Path("/proc/self/clear_refs").write_text("5")  # resets VmHWM to the present size
                self.base = resident_bytes()
            except OSError:
                self.base = 0

    def read(self) -> int | None:
        if self.cuda:
            import torch

            return int(torch.cuda.max_memory_allocated() - self.base)
        return max(0, _status_bytes("VmHWM") - self.base) if self.base else None


def _peak_of(call: Callable[[], Any], setup: Callable[[], Any] | None, clock: str) -> int | None:
    if setup:
        setup()
    memory = _PeakMemory(clock)
    call()
    return memory.read()


def resident_bytes() -> int:
    """Memory of this process, Linux."""
    return _status_bytes("VmRSS")


def _status_bytes(key: str) -> int:
    found = re.search(rf"{key}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    return int(found[1]) * 1024 if found else 0


def print_table(title: str, rows: Sequence[Row], *, header: bool) -> None:
    line = "{:<34} {:<18} {:>10} {:>17} {:>10} {:>9} {:>9}  {}"
    if header:
        print(line.format("case", "provider", "median", "20..80 %", "unit", "goal", "ours is", "").rstrip())
    ours = rows[0].p50 if rows else None
    for i, row in enumerate(rows):
        ratio = ""
        if i and row.p50 and ours and row.unit == rows[0].unit:
            ratio = f"{ours / row.p50 if row.higher_is_better else row.p50 / ours:.3g}x"
        spread = f"{short(row.p20)}..{short(row.p80)}" if row.repeats > 1 else ""
        remark = row.note if row.check == "passed" else row.check
        if row.roofline_share is not None:
            remark = f"{row.roofline_share:.0%} of the roofline {remark}".strip()
        if row.goal is not None and row.p50 is not None:
            met = row.p50 >= row.goal if row.higher_is_better else row.p50 <= row.goal
            remark = f"{'met' if met else f'MISSED by {abs(row.p50 / row.goal - 1):.0%}'} {remark}".strip()
        shown = (title if i == 0 else "", row.provider, short(row.p50), spread, row.unit, short(row.goal))
        print(line.format(*shown, ratio, remark).rstrip(), flush=True)


def short(value: float | None) -> str:
    """Three digits and an SI letter."""
    if value is None:
        return "-"
    for scale, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k"), (1.0, ""), (1e-3, "m"), (1e-6, "u")):
        if abs(value) >= scale:
            return f"{value / scale:.3g}{letter}"
    return f"{value:.3g}"
