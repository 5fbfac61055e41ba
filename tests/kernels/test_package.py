"""lamer_kernels as a package: what importing it loads, what replaces numba, how backends resolve."""

import inspect
import json
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import torch

import lamer_kernels
from lamer_kernels._core.dispatch import resolve_backend

ROOT = Path(__file__).parents[2]


def run_python(code):
    out = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env={"PYTHONPATH": "kernels"}, capture_output=True, text=True
    )
    assert out.returncode == 0, out.stderr
    return out.stdout.strip()


def test_every_export_is_there_and_none_is_hidden_by_its_folder():
    for name in lamer_kernels.__all__:
        assert callable(getattr(lamer_kernels, name)), name
    assert set(lamer_kernels.__all__) == set(lamer_kernels._EXPORTS)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        lamer_kernels.nothing  # noqa: B018


def test_ops_load_neither_numba_nor_triton_nor_the_trainer():
    code = (
        "import sys, lamer_kernels; [getattr(lamer_kernels, n) for n in lamer_kernels.__all__]; "
        "heavy = {'numba', 'triton', 'lamer_fast', 'transformers'}; "
        "print(*sorted({m.split('.')[0] for m in sys.modules} & heavy))"
    )
    assert run_python(code) == ""


def test_switches_need_no_torch():
    assert run_python("import sys, lamer_kernels.credit.switches; print('torch' in sys.modules)") == "False"


def test_credit_works_with_torch_and_numpy_alone():
    code = """
import sys
sys.modules["numba"] = sys.modules["triton"] = None
from importlib import util
find = util.find_spec
util.find_spec = lambda name, *rest: None if name in ("numba", "triton") else find(name, *rest)
import numpy as np
import lamer_kernels as lk
rewards, zeros, cu = np.array([0.0, 10.0, 0.0, 0.0]), np.zeros(4, np.int64), np.array([0, 2, 4])
print(lk.meta_advantages(rewards, zeros, zeros, zeros, cu, anchors=np.array([7, 8, 7, 9])).round(3).tolist())
print(lk.pack(np.array([3, 4, 5]), 8).tolist())
try:
    lk.pack(np.array([3]), 8, backend="cpu")
except ValueError as error:
    print(error)
"""
    assert run_python(code).splitlines() == [
        "[9.5, 4.75, -9.5, -4.75]",
        "[0, 1, 0]",
        "backend 'cpu' needs CPU tensors and the numba package, got cpu tensors",
    ]


def test_backends_resolve_by_device(monkeypatch):
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    cpu, cuda = torch.device("cpu"), torch.device("cuda", 0)
    assert [resolve_backend("auto", d, cpu_needs_numba=True) for d in (cpu, cuda)] == ["cpu", "triton"]
    assert resolve_backend("reference", cuda) == "reference"
    with pytest.raises(ValueError, match="backend 'cpu' needs CPU tensors, got cuda:0"):
        resolve_backend("cpu", cuda)
    with pytest.raises(ValueError, match=r"backend must be one of .* got 'torch'"):
        resolve_backend("torch", cpu)


def test_numba_without_a_folder_to_cache_in(tmp_path):
    for package in ("kernels/lamer_kernels", "lamer_fast"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    compiled = [
        path for path in tmp_path.rglob("*.py") if re.search("^@(numba.)?n?jit", path.read_text(), re.M)
    ]
    modules = [".".join(path.relative_to(tmp_path).with_suffix("").parts) for path in compiled]
    modules = [name.removeprefix("kernels.") for name in modules]
    assert {"lamer_kernels.credit.groups.cpu", "lamer_kernels.layers.cached_attention.cpu"} <= set(modules)
    for folder in {path.parent for path in tmp_path.rglob("*.py")}:
        (folder / "__pycache__").touch()  # a file where numba would make its folder: read-only for root too
    code = f"""
import importlib, warnings
warnings.simplefilter("error")
warnings.filterwarnings("once", message="numba finds no folder", category=RuntimeWarning)
import torch, numba, lamer_kernels as lk
import lamer_kernels.layers  # an op that writes to an argument makes Python forget what it has shown once
for module in {modules}:
    importlib.import_module(module)
print(lk.__file__)
scores, group = torch.tensor([0.0, 2.0, 5.0]), torch.tensor([0, 0, 1])
print(lk.group_advantages(scores, group, backend="cpu").tolist())
"""
    said = subprocess.run(
        [sys.executable, "-B", "-c", code], cwd=tmp_path, capture_output=True, text=True,
        env={"PYTHONPATH": f"kernels:{tmp_path}", "HOME": "/dev/null"},
    )  # fmt: skip
    assert said.returncode == 0, said.stderr
    where, advantages = said.stdout.splitlines()
    assert Path(where).is_relative_to(tmp_path) and advantages == "[-1.0, 1.0, 0.0]"
    assert said.stderr.count("set NUMBA_CACHE_DIR") == 1  # once, not once per function


def test_a_second_copy_under_another_name_has_ops_of_its_own(tmp_path):
    """As the Hugging Face hub loads a package: from a folder, under a name made from its revision."""
    subprocess.run([sys.executable, str(ROOT / "kernels" / "hub.py"), str(tmp_path)], check=True)
    variant = tmp_path / "build" / "torch-cpu"
    assert json.loads((variant / "metadata.json").read_text())["backend"] == {"type": "cpu"}
    code = f"""
import importlib.util, sys, torch, lamer_kernels
spec = importlib.util.spec_from_file_location("_lamer-kernels_0f3a", {str(variant / "__init__.py")!r})
second = sys.modules[spec.name] = importlib.util.module_from_spec(spec)
spec.loader.exec_module(second)
scores, group = torch.tensor([0.0, 2.0, 5.0]), torch.tensor([0, 0, 1])
for copy in (lamer_kernels, second):
    for name in copy.__all__:
        getattr(copy, name)
    print(copy.group_advantages(scores, group).tolist(), copy.group_advantages.__module__)
ours, theirs = torch.ops.lamer_kernels.group_advantages, torch.ops._lamer_kernels_0f3a.group_advantages
print(ours.default is theirs.default)
print(second.head.logprob.op._linear_logprob._qualname)
"""
    lines = run_python(code).splitlines()
    assert lines[:2] == [
        "[-1.0, 1.0, 0.0] lamer_kernels.credit.groups.op",
        "[-1.0, 1.0, 0.0] _lamer-kernels_0f3a.credit.groups.op",
    ]
    assert lines[2:] == ["False", "_lamer_kernels_0f3a::linear_logprob"]


def test_the_hub_loads_it(tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")  # read when it is imported
    kernels = pytest.importorskip("kernels")
    if not hasattr(kernels, "get_local_kernel"):  # the folder of this repository, found from its root
        pytest.skip("needs the package kernels")
    subprocess.run([sys.executable, str(ROOT / "kernels" / "hub.py"), str(tmp_path)], check=True)
    loaded = kernels.get_local_kernel(tmp_path, backend="cpu", trust_remote_code=True)
    assert loaded.__name__ != lamer_kernels.__name__
    scores, group = torch.tensor([0.0, 2.0, 5.0]), torch.tensor([0, 0, 1])
    assert loaded.group_advantages(scores, group).tolist() == [-1.0, 1.0, 0.0]


def public_functions():
    for name in lamer_kernels.__all__:
        public = getattr(lamer_kernels, name)
        if inspect.isfunction(public):
            yield name, public
        for method, function in vars(public).items() if inspect.isclass(public) else ():
            function = getattr(function, "__func__", function)  # of a class method
            if inspect.isfunction(function) and not method.startswith("_"):
                yield f"{name}.{method}", function


def test_public_signatures_say_their_types():
    found = dict(public_functions())
    assert {"gae", "LamerHead.forward", "LamerHead.of"} <= set(found)
    for name, function in found.items():
        parameters = list(inspect.signature(function).parameters.values())
        untyped = [p.name for p in parameters if p.annotation is p.empty and p.name not in ("self", "cls")]
        assert untyped == [], name
        assert inspect.signature(function).return_annotation is not inspect.Signature.empty, name
        assert "Any" not in str(inspect.signature(function)), name


def test_no_op_names_its_namespace_by_hand():
    found = {
        path.name: text
        for path in (ROOT / "kernels" / "lamer_kernels").rglob("*.py")
        for text in re.findall(r'"[^"]*lamer_kernels::[^"]*"', path.read_text())
    }
    assert found == {}


def test_few_turns_wait_for_no_compiler():
    """A worker that starts, credits one batch and ends: numba and its empty cache cost it nothing."""
    code = """
import sys, torch, lamer_kernels as lk
from lamer_kernels._core.dispatch import FEW_ROWS
def turns(n):
    rows, zeros = torch.arange(n), torch.zeros(n, dtype=torch.long)
    trials = (rows.float(), zeros, zeros, rows // 8, torch.arange(0, n + 1, 4))
    lk.meta_advantages(*trials, anchors=rows % 3)
    lk.cross_episode_returns(*trials[:3], trials[4], gamma_step=0.9, gamma_traj=0.5)
    lk.pack(rows + 1, n)
    return "numba" in sys.modules
print(turns(FEW_ROWS), lk.pack(torch.ones(FEW_ROWS + 1, dtype=torch.long), 8).shape, "numba" in sys.modules)
"""
    assert run_python(code) == "False torch.Size([4097]) True"


@pytest.mark.long
def test_wheel_holds_its_licence_and_the_one_version(tmp_path):
    for name in ("kernels", "LICENSE"):  # a copy: a build leaves folders behind
        copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
        copy(ROOT / name, tmp_path / name)
    build = [
        sys.executable,
        "-m",
        "pip",
        "wheel",
        "-q",
        "--no-deps",
        "--no-build-isolation",
        "-w",
        str(tmp_path),
    ]
    subprocess.run([*build, str(tmp_path / "kernels")], check=True, env={"PATH": os.environ["PATH"]})
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as opened:
        text = {Path(name).name: name for name in opened.namelist()}
        metadata = opened.read(text["METADATA"]).decode()
        assert opened.read(text["LICENSE"]) == (ROOT / "LICENSE").read_bytes()
    for name in ("CHANGELOG.md", "OPS.md", "STABILITY.md"):
        assert name in text
    assert f"Version: {lamer_kernels.__version__}\n" in metadata and "py.typed" in text
    assert "Requires-Python: <3.15,>=3.11" in metadata


def test_every_op_stands_in_the_group_of_ops():
    project = tomllib.loads((ROOT / "kernels" / "pyproject.toml").read_text())["project"]
    points = project["entry-points"]["lamer_kernels.ops"]
    ops = [name for name in lamer_kernels.__all__ if name[0].islower()]
    assert points == {name: f"lamer_kernels:{name}" for name in ops}
