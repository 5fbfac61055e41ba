"""The device of a run, and what a configuration sets for the whole process."""

import os
import platform

import torch

from lamer_fast.config import Config

GIB = 1 << 30  # bytes


def prepare_process(config: Config) -> None:
    """What a configuration sets for the whole process, by commands only: threads, determinism."""
    if config.train.num_threads:
        torch.set_num_threads(config.train.num_threads)
    if config.train.deterministic:
        os.environ.setdefault(
            "CUBLAS_WORKSPACE_CONFIG", ":4096:8"
        )  # torch asks for it; read by the first product
        torch.use_deterministic_algorithms(True)


def pick_device(name: str) -> torch.device:
    if name == "cuda" and not torch.cuda.is_available():
        raise ValueError("train.device = 'cuda', but torch sees no GPU; take 'auto' or 'cpu'")
    if name == "auto":
        name = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(name)


def cpu_name() -> str:
    try:
        with open("/proc/cpuinfo") as f:
            return next(x.split(":")[1].strip() for x in f if x.startswith("model name"))
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
