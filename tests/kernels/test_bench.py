"""The benchmarks as a command: without the repository, gated, compared, peers there or named."""

import csv
import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import asdict
from pathlib import Path

import pytest
import torch

from lamer_kernels.bench import command, peers, plot, record, regressions, shapes
from lamer_kernels.bench.__main__ import NAMES, main, parse
from lamer_kernels.bench.harness import Case, Row, compare, measured

ROOT = Path(__file__).parents[2]


def test_the_package_alone_measures_itself(tmp_path):
    """A copy without the repository; what is written goes below the working directory."""
    ignore = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "kernels" / "lamer_kernels", tmp_path / "site" / "lamer_kernels", ignore=ignore)
    command = [
        sys.executable,
        "-m",
        "lamer_kernels.bench",
        "credit",
        "--sizes",
        "256",
        "--json",
        "--device",
        "cpu",
    ]
    env = {"PYTHONPATH": str(tmp_path / "site"), "PATH": os.environ["PATH"], "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = (tmp_path / "lamer-bench").glob("*/bench_credit.json")
    written = json.loads(path.read_text())
    assert written["commit"] is None and written["versions"]["lamer-kernels"]
    assert all(row["check"] == "passed" for row in written["rows"])


@pytest.mark.long
def test_every_benchmark_passes_its_check_and_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    flags = ["--shape", "tiny", "--sizes", "1024", "--json", "--csv", "--device", "cpu", "--allow-dirty"]
    assert main(flags) == 0
    (folder,) = tmp_path.iterdir()
    assert {path.name for path in folder.iterdir()} == {
        f"bench_{name}.{kind}" for name in NAMES for kind in ("json", "csv")
    }
    layers = json.loads((folder / "bench_layers.json").read_text())["rows"]
    assert all(row["roofline_share"] > 0 for row in layers if row["provider"] == "ours")
    lines = list(csv.DictReader((folder / "bench_head.csv").open()))
    ours = [line for line in lines if line["kernel_provider"] == "ours" and line["metric_name"] == "speed"]
    assert {(line["x_name"], line["x_value"], line["metric_unit"]) for line in ours} == {("T", "1024", "ms")}
    assert json.loads(ours[0]["extra_benchmark_config_str"])["V"] == shapes.SHAPES["tiny"].vocab


def test_columns_are_those_of_liger():
    rows = compare({"ours": lambda: 1}, verify=lambda: True, repeats=3, burst_s=1e-4, mode="fwd+bwd")
    rows[0].case = {"T": 64, "dtype": "bf16"}
    (speed, *memory) = record.csv_lines("bench_head", record.environment(), rows)
    assert tuple(speed) != () and set(speed) == set(record.COLUMNS)
    assert speed["kernel_name"] == "head" and speed["kernel_operation_mode"] == "full"
    assert speed["y_value_50"] == pytest.approx(rows[0].p50 * 1e3)
    assert [line["metric_name"] for line in memory] == ["memory"] * (rows[0].peak_memory_bytes is not None)
    failed = [measured("ours", [], "rate", "x", check="FAILED")]
    assert record.csv_lines("bench_head", record.environment(), failed) == []


def row(provider, p20, p50, p80, unit="s", **case):
    return Row(provider, "time", unit, p20, p50, p80, 5, case=case)


def test_regressions_are_what_noise_does_not_explain():
    old = [row("ours", 0.9, 1.0, 1.1, T=1), row("peer", 1.9, 2.0, 2.1, T=1)]
    old += [row("ours", 90.0, 100.0, 110.0, "GB/s", T=2), row("ours", 0.99, 1.0, 1.01, T=3)]
    same = [row("ours", 1.05, 1.2, 1.4, T=1), row("ours", 80.0, 89.0, 95.0, "GB/s", T=2)]
    assert regressions.changes(old, same) == []  # slower, but their spans overlap
    assert regressions.changes(old, [row("ours", 1.02, 1.03, 1.04, T=3)]) == []  # beyond noise, within 5 %
    assert regressions.changes(old, [row("ours", 9.0, 9.0, 9.0, T=4)]) == []  # a case that was not there
    worse = [row("ours", 1.2, 1.3, 1.4, T=1), row("peer", 3.0, 3.0, 3.0, T=1)]
    worse += [row("ours", 60.0, 70.0, 80.0, "GB/s", T=2)]
    found = regressions.changes(old, worse)
    assert [change.regression for change in found] == [True, False, True]
    assert "30% slower" in found[0].text and "43% slower" in found[2].text
    lost = Row("ours", "time", "s", None, None, None, 0, check="FAILED: ValueError", case={"T": 1})
    assert regressions.changes(old, [lost])[0].regression
    (faster,) = regressions.changes(old, [row("ours", 0.4, 0.5, 0.6, T=1)])
    assert "50% faster" in faster.text and not faster.regression


def test_a_regression_is_exit_status_1_and_another_device_is_refused(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(record, "RESULTS", tmp_path)
    monkeypatch.setattr(sys.modules["__main__"], "__file__", "bench_none.py", raising=False)
    spin = [10]

    def bench(case):
        return compare({"ours": lambda: sum(range(spin[0]))}, verify=lambda: True, repeats=5, burst_s=1e-3)

    command.main(bench, [Case(T=1)], argv=["--json", "--allow-dirty"])
    (path,) = tmp_path.glob("*/bench_none.json")
    spin[0] = 100_000
    with pytest.raises(SystemExit, match="1"):
        command.main(bench, [Case(T=1)], argv=["--compare", str(path)])
    assert "REGRESSION T=1, ours" in capsys.readouterr().out
    old = json.loads(path.read_text()) | {"device": "an abacus"}
    path.write_text(json.dumps(old))
    with pytest.raises(SystemExit, match="2"):
        command.main(bench, [Case(T=1)], argv=["--compare", str(path)])
    assert "device 'an abacus'" in capsys.readouterr().err


def test_panels_never_mix_configurations():
    """linkedin/Liger-Kernel#715: two settings of one kernel drawn as one curve."""
    rows = [row("ours", 1.0, 1.0, 1.0, T=T, dtype=dtype) for T in (128, 64) for dtype in ("bf16", "fp32")]
    found = plot.panels(rows)
    assert len(found) == 2
    assert all([point[0] for point in curves["ours"]] == [64.0, 128.0] for curves in found.values())


def test_plots_are_written_or_say_what_they_need(tmp_path, monkeypatch):
    rows = [row("ours", 0.9, 1.0, 1.1, T=T) for T in (64, 128)]
    monkeypatch.setattr(plot, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install matplotlib, or the extra lamer-kernels\[bench\]"):
        plot.write_plots("bench_head", record.environment(), rows, tmp_path / "head")
    monkeypatch.undo()
    pytest.importorskip("matplotlib", reason="matplotlib is not installed (extra plot)")
    paths = plot.write_plots("bench_head", record.environment(), rows, tmp_path / "head")
    assert [path.suffix for path in paths] == [".png", ".svg"] and all(path.stat().st_size for path in paths)


def test_peers_are_named_when_they_cannot_take_part(tmp_path, monkeypatch, capsys):
    (tmp_path / "some_peer").mkdir()
    (tmp_path / "some_peer" / "__init__.py").write_text("def head(x, w): return 7\n")
    (tmp_path / "some_peer-2.0.dist-info").mkdir()
    (tmp_path / "some_peer-2.0.dist-info" / "METADATA").write_text("Name: some-peer\nVersion: 2.0\n")
    monkeypatch.setenv("PEERS_PATH", str(tmp_path))
    monkeypatch.setattr(sys, "path", [*sys.path])
    peer = peers.Peer("works", "some-peer", "some_peer", "head", ("x", "w"))
    others = [
        peer._replace(name="moved", parameters=("x", "softcap")),
        peer._replace(name="gpu", gpu_only=True),
        peer._replace(name="lost", distribution="no-such-peer"),
        peer._replace(name="renamed", function="new_head"),
    ]
    found = peers.present([(p, lambda function: function) for p in (peer, *others)], "cpu")
    assert list(found) == ["works"] and found["works"](1, 2) == 7
    said = capsys.readouterr().out.splitlines()
    assert said[0].endswith("some_peer.head of some-peer 2.0 has no parameter softcap")
    assert said[1:3] == ["gpu: absent, needs a CUDA device", "lost: absent, no-such-peer is not installed"]
    assert said[3].startswith("renamed: absent, AttributeError")


def test_arguments_are_checked_before_torch_is_imported(capsys):
    code = (
        "import sys; from lamer_kernels.bench.__main__ import parse; parse([]); print('torch' in sys.modules)"
    )
    run = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": "kernels"}, capture_output=True, text=True
    )
    assert run.stdout == "False\n", run.stderr
    for argv, message in (
        (["hed"], "no benchmark 'hed'"),
        (["head", "--shape", "qwen3-5b"], "the nearest is Qwen3-"),
        (["head", "--sizes", "0"], "sizes must be positive"),
        (["head", "--sizes", "1024,many"], "sizes must be positive whole numbers"),
        (["head", "pack", "--compare", "x.json"], "needs the one NAME"),
    ):
        with pytest.raises(SystemExit, match="2"):
            parse(argv)
        assert message in capsys.readouterr().err
    assert parse(["head", "--shape", "SMOLLM2-135m"]).shape == "SmolLM2-135M"
    assert main(["head", "--device", "cpu", "--sizes", "100"]) == 2
    assert "100 is no multiple of 1024" in capsys.readouterr().err


def test_shapes_have_whole_heads():
    for shape in shapes.SHAPES.values():
        assert shape.heads % shape.kv_heads == 0 and min(shape) > 0


@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_has_cases_for_every_shape(name):
    module = __import__(f"lamer_kernels.bench.{name}", fromlist=["cases"])
    for device in ("cpu", "cuda"):
        default = [str(case) for case in module.cases(device)]
        assert len(set(default)) == len(default) > 0
        for shape in shapes.SHAPES:
            assert module.cases(device, shape, (1024,))


@pytest.mark.gpu
@pytest.mark.parametrize("name", NAMES)
def test_every_benchmark_runs_on_a_gpu(name):
    module = __import__(f"lamer_kernels.bench.{name}", fromlist=["cases"])
    for case in module.cases("cuda", "SmolLM2-135M", (1024,)):
        case.device = "cuda"
        rows = module.bench(case)
        assert all(row.check == "passed" for row in rows), [asdict(row) for row in rows]
    assert torch.cuda.is_available() and re.search(r"\d", record.environment(None, "cuda")["driver"])


def test_the_page_names_every_flag():
    page = (ROOT / "docs" / "benchmarks.md").read_text()
    shown = set(re.findall(r"`(--[\w-]+)", page))
    flags = command.parser("bench", None, sized=True)
    ours = {word for action in flags._actions for word in action.option_strings if word.startswith("--")}
    assert shown == ours - {"--help", "--commit"}
    assert {word.split()[3] for word in re.findall(r"python -m lamer_kernels.bench \w+", page)} <= set(NAMES)
