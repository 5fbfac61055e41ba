"""The processes of a run on one machine, started and watched by torchrun's own agent inside this process."""

import os
import sys
from collections.abc import Sequence

from lamer_fast.config import TrainConfig

LOOPBACK = "127.0.0.1"


def started_by_torchrun() -> bool:
    """This process is one of several ranks; torchrun says which in the environment."""
    return "TORCHELASTIC_RUN_ID" in os.environ


def loopback_variables() -> dict[str, str]:
    """What keeps gloo on the loopback, unless the environment says otherwise."""
    return {"GLOO_SOCKET_IFNAME": "lo"} if sys.platform == "linux" else {}


def launch(arguments: Sequence[str], train: TrainConfig) -> int:
    """Runs `lamer-fast ARGUMENTS` in `train.processes` processes; the exit status of the first that failed.

    A signal to this process goes to all of them; they end together after their iteration. Nothing listens
    beyond the loopback.
    """
    os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // train.processes)))
    os.environ.setdefault("TORCH_ELASTIC_SHUTDOWN_TIMEOUT", str(int(train.watchdog_s)))
    for name, value in loopback_variables().items():
        os.environ.setdefault(name, value)
    from torch.distributed.elastic.multiprocessing.api import SignalException
    from torch.distributed.elastic.multiprocessing.errors import ChildFailedError
    from torch.distributed.run import parse_args, run

    options = {
        "--nproc-per-node": train.processes,
        "--max-restarts": train.max_restarts,
        "--rdzv-backend": "c10d",
        "--rdzv-endpoint": f"{LOOPBACK}:0",
        "--local-addr": LOOPBACK,
    }
    words = [f"{key}={value}" for key, value in options.items()]
    try:
        run(parse_args([*words, "-m", "lamer_fast", *arguments]))  # type: ignore[no-untyped-call]
    except ChildFailedError as error:
        rank, failure = error.get_first_failure()
        print(f"lamer-fast: rank {rank} ended first, with {failure.exitcode}", file=sys.stderr)
        return failure.exitcode if failure.exitcode > 0 else 1
    except SignalException as signal:
        return 128 + int(signal.sigval)
    return 0
