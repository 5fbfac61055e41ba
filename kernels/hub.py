"""The package as a repository that the Hugging Face `kernels` library loads: Python only, nothing built.

    python hub.py FOLDER
    kernels.get_local_kernel(Path("FOLDER"), trust_remote_code=True)

`build/torch-cpu` and `build/torch-cuda` hold the package and a metadata.json each; it is loaded under the id
in there, beside whatever version is installed. It needs torch and numpy, triton and numba for what uses them.
"""

import json
import re
import shutil
import sys
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent / "lamer_kernels"
LEFT_OUT = shutil.ignore_patterns("__pycache__", "bench", "integrations")  # neither is loaded by an op


def write(folder: Path) -> None:
    version = re.search(r'^__version__ = "(.+?)"', (PACKAGE / "__init__.py").read_text(), re.MULTILINE)
    assert version is not None
    for backend in ("cpu", "cuda"):
        variant = folder / "build" / f"torch-{backend}"
        shutil.copytree(PACKAGE, variant, ignore=LEFT_OUT)
        metadata = {
            "id": f"_lamer_kernels_{backend}_{version[1]}".replace(".", "_"),
            "name": "lamer-kernels",
            "version": int(version[1].split(".")[0]),
            "license": "Apache-2.0",
            "python-depends": [],
            "backend": {"type": backend},
        }
        (variant / "metadata.json").write_text(json.dumps(metadata, indent=1, allow_nan=False) + "\n")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    write(Path(sys.argv[1]))
