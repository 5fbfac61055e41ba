"""The benchmark harness: no number without a check, none after a red one, a record with its commit."""

import importlib.util
import json
import sys
from pathlib import Path

import pytest

from lamer_kernels.bench import command, record
from lamer_kernels.bench.harness import Case, compare, measured

ROOT = Path(__file__).parent.parent.parent


def benchmark(name):
    spec = importlib.util.spec_from_file_location(name, ROOT / "benchmarks" / f"{name}.py")
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # dataclasses look their module up
    spec.loader.exec_module(module)
    return module


FAST = {"repeats": 3, "burst_s": 1e-4}


def test_rows_hold_rates_in_order():
    calls = []
    providers = {"ours": lambda: calls.append("ours") or 1, "other": lambda: calls.append("other") or 1}
    rows = compare(providers, check=lambda a, b: a == b, work=10, unit="boards/s", goal=5.0, **FAST)
    assert [row.provider for row in rows] == ["ours", "other"]
    assert rows[0].goal == 5.0 and rows[1].goal is None
    for row in rows:
        assert row.check == "passed" and 0 < row.p20 <= row.p50 <= row.p80 and row.repeats == 3


def test_providers_that_disagree_get_no_number():
    rows = compare({"ours": lambda: 1, "other": lambda: 2}, check=lambda a, b: a == b, **FAST)
    assert [row.p50 for row in rows] == [None, None]
    assert all(row.check.startswith("FAILED") for row in rows)


def test_a_provider_that_raises_costs_its_own_row_only():
    rows = compare({"ours": lambda: 1, "broken": lambda: 1 / 0}, check=lambda a, b: a == b, **FAST)
    assert rows[0].p50 is not None
    assert rows[1].p50 is None and "ZeroDivisionError" in rows[1].check


def test_a_red_verify_gates_every_row():
    rows = compare({"ours": lambda: 1, "other": lambda: 1}, verify=lambda: False, **FAST)
    assert [row.p50 for row in rows] == [None, None]


def test_a_number_without_a_check_is_refused():
    with pytest.raises(ValueError, match="without a check"):
        compare({"ours": lambda: 1})
    with pytest.raises(ValueError, match="'sundial'"):
        compare({"ours": lambda: 1}, verify=lambda: True, clock="sundial")


def test_record_and_exit_code(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "bench_none.py", raising=False)

    def bench(case):
        return compare({"ours": lambda: 1}, verify=lambda: case.good, **FAST)

    command.main(bench, [Case(good=True)], argv=["--json", "--allow-dirty"])
    (path,) = tmp_path.glob("*/bench_none.json")
    written = json.loads(path.read_text())
    assert {"device", "driver", "versions", "commit", "dirty", "date"} <= set(written)
    assert written["rows"][0]["case"] == {"good": True}
    with pytest.raises(SystemExit, match="1"):
        command.main(bench, [Case(good=False)], argv=[])
    assert "FAILED" in capsys.readouterr().out


@pytest.mark.parametrize("bad", ["nan", "inf"])
def test_a_value_that_is_not_finite_is_no_number_and_leaves_the_record_readable(bad, tmp_path):
    found = {"ours": [1.0, float(bad), 2.0], "theirs": [1.0]}
    rows = [measured(name, values, "loss", "nats") for name, values in found.items()]
    assert (rows[0].p50, rows[0].check) == (None, f"FAILED: a value is {bad}")
    (path,) = record.write_record("bench_none", {}, rows, [tmp_path])
    written = json.loads(path.read_text(), parse_constant=pytest.fail)
    assert [row["p50"] for row in written["rows"]] == [None, 1.0]


def test_a_case_that_fails_costs_no_other_case(tmp_path, monkeypatch, capsys):
    """What intel/intel-xpu-backend-for-triton#1995 tells of: one broken benchmark, and no results at all."""
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "bench_none.py", raising=False)

    def bench(case):
        if case.T == 1:
            raise MemoryError("no room for 1")
        return compare({"ours": lambda: 1}, verify=lambda: True, **FAST)

    with pytest.raises(SystemExit, match="1"):
        command.main(bench, [Case(T=1), Case(T=2)], argv=["--json", "--allow-dirty"])
    (path,) = tmp_path.glob("*/bench_none.json")
    first, second = json.loads(path.read_text())["rows"]
    assert first["check"] == "FAILED: MemoryError: no room for 1" and first["p50"] is None
    assert second["check"] == "passed" and second["p50"] > 0


def test_peak_memory_is_that_of_a_call_and_not_of_a_first_call():
    kept = []

    def call():
        if not kept:  # as imports and compiled code are
            kept.append(bytearray(64 << 20))
        return sum(bytearray(1 << 20))

    (row,) = compare({"ours": call}, verify=lambda: True, **FAST)
    assert row.peak_memory_bytes is None or row.peak_memory_bytes < 32 << 20


def test_a_dirty_tree_gets_no_record(monkeypatch, capsys):
    changed = record.environment("abc") | {"dirty": True}
    monkeypatch.setattr(record, "environment", lambda *_: changed)
    with pytest.raises(SystemExit, match="2"):
        command.main(lambda case: [], [], argv=["--json"])
    assert "differs from commit abc" in capsys.readouterr().err


def test_scripts_import_the_one_harness():
    assert benchmark("harness").compare is compare


def test_gpu_check_names_files_that_are_there():
    check = benchmark("gpu_check")
    assert all(any(folder.glob("test_*.py")) for folder in check.TESTS.values())
    scripts = [
        part for command in check.speed_steps(None, None).values() for part in command if part.endswith(".py")
    ]
    assert len(scripts) == 1 + len(check.RECORDS)
    assert all(Path(script).is_file() for script in scripts)
