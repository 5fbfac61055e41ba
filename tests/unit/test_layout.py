"""Import rules and packaging guards of docs/architecture.md."""

import subprocess
import sys
from pathlib import Path

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


def test_only_one_file_knows_vllm():
    users = [
        p.relative_to(ROOT).as_posix()
        for p in (ROOT / "lamer_fast").rglob("*.py")
        if any(line.strip().startswith(("import vllm", "from vllm")) for line in p.read_text().splitlines())
    ]
    assert users in ([], ["lamer_fast/rollout/samplers/vllm.py"])
