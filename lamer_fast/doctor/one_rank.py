"""One of the processes that `ranks` starts: PORT PATIENCE_S RANK WORLD. It says each step it took."""

import sys
from datetime import timedelta
from typing import Any


def main(port: int, patience_s: float, rank: int, world: int) -> None:
    import torch
    import torch.distributed as dist

    from lamer_fast.launch import LOOPBACK

    c10d: Any = dist  # its types do not name the store
    print("started", flush=True)
    limit = timedelta(seconds=patience_s)
    store = c10d.TCPStore(LOOPBACK, port, is_master=False, timeout=limit)
    print("reached the rendezvous", flush=True)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=world, timeout=limit)
    print("joined the group", flush=True)
    tensor = torch.full((3,), rank + 1.0)
    dist.all_reduce(tensor)
    expected = [world * (world + 1) / 2] * 3
    if tensor.tolist() != expected:
        raise SystemExit(f"the sum is {tensor.tolist()}, expected {expected}")
    print("added tensors up", flush=True)


if __name__ == "__main__":
    from lamer_fast.leave import leave

    main(int(sys.argv[1]), float(sys.argv[2]), int(sys.argv[3]), int(sys.argv[4]))
    leave(0)
