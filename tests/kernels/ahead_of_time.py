"""Kernels compiled for a GPU that is not there, through the package's launchers, and what they then need.

A stand-in driver names the target, and a launch compiles instead of running: signature, specialisation and
launch options are those of a real call. CPU tensors stand for the pointers.
"""

import re
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any, NamedTuple

import lamer_kernels


class Target(NamedTuple):
    backend: str
    arch: int | str
    warp: int  # threads
    shared_limit: int  # bytes that a block may use


TARGETS = {
    "sm_80": Target("cuda", 80, 32, 166_912),
    "sm_90": Target("cuda", 90, 32, 232_448),
    "sm_100": Target("cuda", 100, 32, 232_448),
    "gfx942": Target("hip", "gfx942", 64, 65_536),
}


class Needs(NamedTuple):
    """What a compiled kernel asks of its GPU."""

    registers: int  # of a thread
    stack: int  # bytes of a thread's stack: registers that did not fit
    shared: int  # bytes of a block
    load: int  # bytes, of the widest load of a thread from global memory; 0 where all are scalar ones
    store: int


class Driver:
    """What the JIT asks of a driver before it compiles."""

    def __init__(self, target: str = "sm_90") -> None:
        self.target = TARGETS[target]

    def get_current_target(self) -> Any:
        from triton.backends.compiler import GPUTarget

        return GPUTarget(*self.target[:3])

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int) -> int:
        return 0


def kernels_of_the_package() -> dict[str, Any]:
    """Name -> kernel, of all modules `gpu.py`."""
    root = Path(lamer_kernels.__file__).parent
    found = {}
    for path in root.rglob("gpu.py"):
        module = import_module(".".join(["lamer_kernels", *path.relative_to(root).with_suffix("").parts]))
        found |= {name: x for name, x in vars(module).items() if name.endswith("_kernel")}
    return found


@contextmanager
def compiling_for(target: str) -> Iterator[list[tuple[str, Any]]]:
    """[(name of the kernel, what came of it)], filled by launches; a form that was compiled is not again."""
    from triton.runtime.driver import driver
    from triton.runtime.jit import JITFunction

    seen: list[tuple[str, Any]] = []
    run, active = JITFunction.run, driver._active

    def compile_only(kernel: Any, *args: Any, grid: Any, warmup: Any, **options: Any) -> None:
        seen.append((kernel.fn.__name__, run(kernel, *args, grid=grid, warmup=True, **options)))

    def forget() -> None:  # a kernel keeps what it compiled for "device 0", whatever that is
        for kernel in kernels_of_the_package().values():
            kernel.device_caches.clear()

    forget()
    JITFunction.run, driver._active = compile_only, Driver(target)
    try:
        yield seen
    finally:
        JITFunction.run, driver._active = run, active
        forget()


def form(kernel: Any) -> dict[str, Any]:
    """Parameter -> what it was compiled for: a value, or a type; "/16" where 16 divides it."""
    found: dict[str, Any] = {}
    for i, (name, kind) in enumerate(kernel.src.signature.items()):
        if kind == "constexpr":
            found[name] = kernel.src.constants.get((i,))
        else:
            even = any(key == "tt.divisibility" for key, _ in kernel.src.attrs.get((i,), ()))
            found[name] = kind.removeprefix("*") + "/16" * even
    return found | {"num_warps": kernel.metadata.num_warps}


def needs(kernel: Any) -> Needs:
    """By NVIDIA's cuobjdump, which triton brings, or by the notes in AMD's assembly."""
    return of_nvidia(kernel) if "cubin" in kernel.asm else of_amd(kernel)


def of_nvidia(kernel: Any) -> Needs:
    import triton

    tool = Path(triton.__file__).parent / "backends" / "nvidia" / "bin" / "cuobjdump"
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        Path(file.name).write_bytes(kernel.asm["cubin"])
        text = subprocess.run([tool, "-res-usage", file.name], capture_output=True, text=True, check=True)
    used = {key: int(value) for key, value in re.findall(r"(REG|STACK|LOCAL):(\d+)", text.stdout)}
    widest = {
        kind: max(
            int(number or 1) * int(bits) // 8
            for number, bits in re.findall(rf"\b{kind}\.global[.\w:]*?(?:\.v(\d))?\.[bfsu](\d+)", ptx)
        )
        for ptx in [kernel.asm["ptx"]]
        for kind in ("ld", "st")
    }
    return Needs(
        used["REG"], used["STACK"] + used["LOCAL"], kernel.metadata.shared, widest["ld"], widest["st"]
    )


BYTES = {"ubyte": 1, "byte": 1, "sbyte": 1, "ushort": 2, "short": 2, "sshort": 2, "dword": 4}


def of_amd(kernel: Any) -> Needs:
    text = kernel.asm["amdgcn"]

    def note(key: str) -> int:
        found = re.search(rf"\.{key}:\s+(\d+)", text)
        assert found, key
        return int(found[1])

    def widest(kind: str) -> int:
        found = re.findall(rf"\b(?:global|buffer|flat)_{kind}_([a-z]+)(?:_d16(?:_hi)?|x(\d))?\b", text)
        return max((BYTES[unit] * int(number or 1) for unit, number in found), default=0)

    return Needs(
        note("vgpr_count"),
        note("private_segment_fixed_size"),
        kernel.metadata.shared,
        widest("load"),
        widest("store"),
    )
