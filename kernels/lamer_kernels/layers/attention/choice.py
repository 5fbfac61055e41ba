"""Which implementation computes varlen_attention: by device, dtype, head size and what the GPU can do.

| CUDA compute capability | 16 bit, first that imports            | else |
|-------------------------|---------------------------------------|------|
| 7.x and below           | xformers (float16), see below         | sdpa |
| 8.x                     | flash_attn, torch, flex               | sdpa |
| 9.0                     | flash_attn_3, flash_attn, torch, flex | sdpa |
| 10.x, 11.x              | flash_attn_4, xformers, torch, flex   | sdpa |
| 12.x and above          | torch, flex                           | sdpa |
| ROCm                    | flash_attn, torch                     | sdpa |

The flash kernels take head sizes that are multiples of 8, up to 256 (flash_attn_4: 128). xformers counts
where it says that it has operators of both passes (0.0.35 has none below 8.0); on 8.x and 9.0 it brings
the kernels that torch has too, and its masks wait for the GPU. Under torch.compile torch's own comes
first, the one that is a graph node on every card.

flex is torch's FlexAttention: for head sizes of 16 to 128 that the flash kernels do not take, and for a torch
without varlen attention. It is one launch for all sequences and reads no offset on the host, where sdpa waits
for the offsets and launches one by one; it is compiled once, for seconds, needs Triton, and has no
deterministic backward pass.
"""

import torch

from ..._core.dispatch import HAS_NUMBA, HAS_TRITON
from .vendors import VENDORS, constant, load, xformers_runs

BLOCKED_DTYPES = (torch.float32, torch.bfloat16)
HALF_DTYPES = (torch.float16, torch.bfloat16)
NAMES = ("blocked", "sdpa", *VENDORS)


@constant
def choose(
    device: torch.device, dtype: torch.dtype, head_dim: int, *, deterministic: bool, compiling: bool = False
) -> str:
    """A name of ``NAMES``; imports optional packages, and passes over those that do not import."""
    if device.type == "cpu" and HAS_NUMBA and dtype in BLOCKED_DTYPES:
        return "blocked"
    if device.type != "cuda" or dtype not in HALF_DTYPES:
        return "sdpa"
    names = _candidates(device, dtype, head_dim)
    if compiling:
        names = [name for name in names if name == "torch"]
    for name in names:
        function = load(name)
        if function is None or (deterministic and not function.deterministic):
            continue
        if name != "xformers" or xformers_runs(torch.cuda.get_device_capability(device), dtype, head_dim):
            return name
    return "sdpa"


def _candidates(device: torch.device, dtype: torch.dtype, head_dim: int) -> list[str]:
    flash = head_dim % 8 == 0 and head_dim <= 256
    if torch.version.hip is not None:
        return ["flash_attn", "torch"] if flash else []
    major, _ = torch.cuda.get_device_capability(device)
    if major < 8:
        return ["xformers"] if dtype == torch.float16 and flash else []
    flex = ["flex"] if HAS_TRITON and 16 <= head_dim <= 128 else []
    if not flash:
        return flex
    if major == 8:
        return ["flash_attn", "torch", *flex]
    if major == 9:
        return ["flash_attn_3", "flash_attn", "torch", *flex]
    return [*(["flash_attn_4", "xformers"] if major < 12 and head_dim <= 128 else []), "torch", *flex]


@constant
def check_can(name: str, device: torch.device, dtype: torch.dtype, *, deterministic: bool) -> None:
    """An implementation asked for by name runs or raises ``ValueError``."""
    got = f"{str(dtype).removeprefix('torch.')} on {device}"
    if name == "blocked" and not (device.type == "cpu" and HAS_NUMBA and dtype in BLOCKED_DTYPES):
        raise ValueError(
            f"implementation 'blocked' needs numba and float32 or bfloat16 CPU tensors, got {got}"
        )
    if name not in VENDORS:
        return
    if device.type != "cuda" or dtype not in HALF_DTYPES:
        raise ValueError(f"implementation {name!r} needs float16 or bfloat16 CUDA tensors, got {got}")
    function = load(name)
    if function is None:
        raise ValueError(f"implementation {name!r} needs {VENDORS[name]}, which does not import")
    if deterministic and not function.deterministic:
        raise ValueError(
            f"implementation {name!r} has no deterministic backward pass, and "
            "torch.use_deterministic_algorithms is on"
        )
