"""Import rules and packaging guards of docs/architecture.md."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


def imported_modules(statement: str) -> set[str]:
    code = f"import sys; sys.path[:0] = ['.', 'kernels']; {statement}; print(*sorted(sys.modules))"
    out = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    return set(out.stdout.split())


def test_kernels_is_a_source_root_not_a_package():
    assert not (ROOT / "kernels" / "__init__.py").exists(), "it would shadow Hugging Face's `kernels`"


def test_kernels_never_import_the_trainer():
    assert not {m for m in imported_modules("import lamer_kernels") if m.startswith("lamer_fast")}


def test_envs_and_cli_need_no_torch():
    for module in ("lamer_fast.envs", "lamer_fast.cli"):
        heavy = imported_modules(f"import {module}") & {"torch", "vllm", "transformers", "gymnasium"}
        assert not heavy, f"importing {module} loads {heavy}"


@pytest.mark.parametrize(("package", "source"), [("lamer_fast", ROOT), ("lamer_kernels", ROOT / "kernels")])
def test_every_file_is_packaged_and_setuptools_has_nothing_to_say(package, source, tmp_path):
    """Each distribution has all files of its package, and none of the other's."""
    build = ["-q", "egg_info", "-e", str(tmp_path), "build_py", "-d", str(tmp_path / "lib")]
    script = (
        ["setup.py"] if (source / "setup.py").exists() else ["-c", "from setuptools import setup; setup()"]
    )
    command = [sys.executable, *script, *build]
    out = subprocess.run(command, cwd=source, capture_output=True, text=True, check=True)
    said = [x for x in out.stderr.splitlines() if x.strip() and "byte-compiling is disabled" not in x]
    assert not said, out.stderr
    files = [p for p in (source / package).rglob("*") if p.is_file() and "__pycache__" not in p.parts]
    wanted = {p.relative_to(source) for p in files if p.suffix != ".so"}
    built = tmp_path / "lib"
    assert wanted == {p.relative_to(built) for p in built.rglob("*") if p.is_file()}


COMMANDS = {
    "train": "from lamer_fast import cli; cli.main(['train', *sys.argv[1:]])",
    "eval": "from lamer_fast import cli; cli.main(['eval', *sys.argv[1:]])",
    "play": "from lamer_fast import cli; cli.main(['play', *sys.argv[1:]])",
    "demo": "from lamer_fast import cli; cli.main(['demo', *sys.argv[1:]])",
}
STOP_AT_TORCH = """
import os, sys
class Stop:
    def find_spec(self, name, *rest):
        if name == "torch":
            print(os.environ.get("VLLM_ENABLE_V1_MULTIPROCESSING"), flush=True)
            os._exit(0)
sys.meta_path.insert(0, Stop())
"""


@pytest.mark.parametrize("sampler", ["vllm", "torch"])
@pytest.mark.parametrize("command", COMMANDS)
def test_vllm_finds_its_environment_before_torch_is_imported(command, sampler, tmp_path):
    target = [] if command == "demo" else ["minesweeper-tiny"]
    env = {k: v for k, v in os.environ.items() if not k.startswith("VLLM_")}
    env["PYTHONPATH"] = f"{ROOT}:{ROOT / 'kernels'}"
    out = subprocess.run(
        [sys.executable, "-c", STOP_AT_TORCH + COMMANDS[command], *target, "--rollout.sampler", sampler],
        cwd=tmp_path, env=env, capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert out.stdout.split() == ["0" if sampler == "vllm" else "None"], out.stderr


def test_vllm_has_not_shaped_this_process():
    """Collecting all tests must neither switch torch.compile off nor import vLLM."""
    assert "vllm" not in sys.modules and str(ROOT / "tests") not in sys.path
    assert "VLLM_HOST_IP" not in os.environ and "TORCH_COMPILE_DISABLE" not in os.environ


MOST_ARGUMENTS = 12
FACE = "a public face: keywords with defaults, each in the docstring"
LONGER = {
    "meta_advantages": FACE,
    "linear_logprob": FACE,
    "linear_policy_loss": FACE,
    "policy_loss": FACE,
    "_linear_divergence": "a custom op: what the face has checked, two heads of it",
    "policy_loss_ref": "the face of policy_loss, as its definition",
    "compare": "keywords of one measurement, nearly all at their defaults",
}


def argument_counts(root):
    """(function, arguments); a Triton kernel is left out: it takes pointers and sizes one by one."""
    for path in (ROOT / root).rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            if any("triton.jit" in ast.unparse(decorator) for decorator in node.decorator_list):
                continue
            a = node.args
            several = [a.vararg, a.kwarg]
            named = [*a.posonlyargs, *a.args, *a.kwonlyargs]
            yield node.name, len(named) + sum(x is not None for x in several)


def test_argument_lists_are_short_or_have_a_reason():
    counts = [x for root in ("lamer_fast", "kernels", "benchmarks") for x in argument_counts(root)]
    assert {name for name, count in counts if count > MOST_ARGUMENTS} == set(LONGER)
