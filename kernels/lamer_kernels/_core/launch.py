"""How every Triton kernel of the package is launched."""

from typing import Any

import torch
from torch import Tensor


def launch(kernel: Any, num_programs: int, *args: Any, **options: Any) -> None:
    """``num_programs`` programs of ``kernel``, on the device of its tensors whatever the current device is.

    Kernels read a vector as ``ptr + i``: a strided or expanded one is packed here. Outputs must be packed.
    """
    if num_programs == 0:
        return
    args = tuple(x.contiguous() if isinstance(x, Tensor) and x.dim() == 1 else x for x in args)
    on = next(x for x in args if isinstance(x, Tensor))
    with torch.cuda.device_of(on):  # type: ignore[no-untyped-call]
        kernel[(num_programs,)](*args, **options)
