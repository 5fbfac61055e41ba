"""Where the package's torch ops are registered: under its own name, so that two copies share a process.

The Hugging Face hub loads a package under a name made from its revision, and torch refuses a second op of the
same qualified name.
"""

import re

PACKAGE = __name__.rpartition("._core.")[0]
NAMESPACE = re.sub(r"\W", "_", PACKAGE)  # `torch.ops.lamer_kernels`, whoever imports it as `lamer_kernels`


def qualified(name: str) -> str:
    """ "namespace::name", as `torch.library.custom_op` wants it."""
    return f"{NAMESPACE}::{name}"
