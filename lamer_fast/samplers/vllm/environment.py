"""The process environment that vLLM reads at import: the one place where behaviour hangs on variables."""

import os
from pathlib import Path

from lamer_fast.config import Config

ALWAYS = {
    "VLLM_ENABLE_V1_MULTIPROCESSING": "0",  # the engine lives in this process: tensors by reference
    "VLLM_NO_USAGE_STATS": "1",
    "DO_NOT_TRACK": "1",
    "VLLM_HOST_IP": "127.0.0.1",
}
DEFAULTS = {"VLLM_LOGGING_LEVEL": "ERROR"}  # what a user may have set stands
ON_CPU = {"TORCH_COMPILE_DISABLE": "1"}  # its first call would compile for half a minute
CPU_DEFAULTS = {"OMP_NUM_THREADS": "1"}  # spinning barriers of more threads cost a tenfold under load


def prepare_for(config: Config) -> None:
    """Every command calls this between resolving its configuration and importing torch."""
    if config.rollout.sampler == "vllm":
        prepare_environment(cpu=on_cpu(config))


def prepare_environment(*, cpu: bool) -> None:
    """Call before torch is imported."""
    os.environ.update(ALWAYS | (ON_CPU if cpu else {}))
    for name, value in (DEFAULTS | (CPU_DEFAULTS if cpu else {})).items():
        os.environ.setdefault(name, value)


def on_cpu(config: Config) -> bool:
    """Decided without torch, which may not be imported yet."""
    return config.train.device == "cpu" or not Path("/dev/nvidia0").exists()


def prepared() -> bool:
    return all(os.environ.get(name) == value for name, value in ALWAYS.items())
