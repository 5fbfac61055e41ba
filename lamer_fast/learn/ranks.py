"""Ranks: the processes of one run, and the few things that they tell one another."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from torch import Tensor
from torch.distributed.device_mesh import DeviceMesh, init_device_mesh

from lamer_fast.config import Config
from lamer_fast.launch import started_by_torchrun

T = TypeVar("T")
BUCKET = 1 << 24  # elements that are summed over the ranks by one call


class Ranks:
    """Rank r of `world`. Every rank makes the same calls in the same order, also one that has nothing to add.

    Alone, each method returns what it was given. `waited` are the seconds spent in calls so far: mostly for
    the slowest rank.
    """

    def __init__(self, rank: int = 0, world: int = 1, device: str = "cpu") -> None:
        self.rank, self.world, self.device, self.waited = rank, world, device, 0.0

    @property
    def is_first(self) -> bool:
        """The one that writes and speaks."""
        return self.rank == 0

    def gather(self, value: T) -> list[T]:
        """What each rank gave, in their order; small objects that pickle."""
        if self.world == 1:
            return [value]
        found: list[T] = [value] * self.world
        with self.waiting():
            dist.all_gather_object(found, value)
        return found

    def any(self, flag: object) -> bool:
        """Whether it holds on some rank."""
        return bool(flag) if self.world == 1 else any(self.gather(bool(flag)))

    def from_first(self, value: T) -> T:
        """What rank 0 gave; a small object that pickles."""
        if self.world == 1:
            return value
        found: list[T] = [value]
        with self.waiting():
            dist.broadcast_object_list(found, src=0)
        return found[0]

    def copy_first(self, tensor: Tensor) -> None:
        """Overwrites it with rank 0's; of one shape and type everywhere."""
        if self.world > 1:
            with self.waiting():
                dist.broadcast(tensor, src=0)

    def total(self, numbers: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """0-d tensors of the same names everywhere, each summed over the ranks in float64."""
        if self.world == 1:
            return numbers
        summed = torch.stack([x.double() for x in numbers.values()]).to(self.device)
        with self.waiting():
            dist.all_reduce(summed)
        return dict(zip(numbers, summed, strict=True))

    def add_up(self, tensors: Sequence[Tensor]) -> None:
        """Adds to each what the other ranks have under its place; all of one type, shapes equal everywhere.

        Every rank gets the same bits.
        """
        if self.world == 1:
            return
        for bucket in _buckets(tensors):
            flat = torch.cat([x.reshape(-1) for x in bucket])
            with self.waiting():
                dist.all_reduce(flat)
            parts = torch.split(flat, [x.numel() for x in bucket])
            for x, summed in zip(bucket, parts, strict=True):
                x.copy_(summed.view_as(x))

    @cached_property
    def mesh(self) -> DeviceMesh:
        """All ranks in a row."""
        return init_device_mesh(self.device, (self.world,))

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Counts its block, which is a call of all ranks."""
        started = time.perf_counter()
        yield
        self.waited += time.perf_counter() - started


ALONE = Ranks()


def _buckets(tensors: Sequence[Tensor]) -> Iterator[list[Tensor]]:
    bucket: list[Tensor] = []
    for tensor in tensors:
        if bucket and sum(x.numel() for x in bucket) + tensor.numel() > BUCKET:
            yield bucket
            bucket = []
        bucket.append(tensor)
    if bucket:
        yield bucket


def join_ranks(config: Config) -> Ranks:
    """The ranks that torchrun started this process among; without it, this one alone.

    Each takes the GPU of its number on this machine. Where they find each other is torchrun's to say. The
    process ends by `leave`, which ends the group.

    Raises:
        ValueError: torchrun started another number of processes here than the configuration says, or more
            than there are GPUs.
    """
    if not started_by_torchrun():
        return ALONE
    here, local = int(os.environ["LOCAL_WORLD_SIZE"]), int(os.environ["LOCAL_RANK"])
    if config.train.processes not in (1, here):
        raise ValueError(
            f"torchrun started {here} processes on this machine, train.processes = {config.train.processes}; "
            "leave that out where torchrun starts them"
        )
    cuda = config.train.device != "cpu" and torch.cuda.is_available()
    if cuda:
        if here > torch.cuda.device_count():
            raise ValueError(f"{here} processes on this machine, torch sees {torch.cuda.device_count()} GPUs")
        torch.cuda.set_device(local)
    limit = timedelta(seconds=config.train.watchdog_s)
    store = _store_of_attempt(limit)
    where = {"store": store, "rank": int(os.environ["RANK"]), "world_size": int(os.environ["WORLD_SIZE"])}
    more: dict[str, Any] = where if store is not None else {}
    dist.init_process_group("cpu:gloo,cuda:nccl" if cuda else "gloo", timeout=limit, **more)
    return Ranks(dist.get_rank(), dist.get_world_size(), "cuda" if cuda else "cpu")


def _store_of_attempt(timeout: timedelta) -> Any:
    """Where ranks of one machine find each other; None: torch's own choice.

    The agent's store outlives a restart, and with it the addresses of those that died: a rank that reads
    them before they are written anew waits for nobody. Each attempt has its own keys here. Agents of several
    machines count their attempts apart.
    """
    e = os.environ
    if e.get("GROUP_WORLD_SIZE") != "1" or e.get("TORCHELASTIC_USE_AGENT_STORE") != "True":
        return None
    c10d: Any = dist  # its types do not name them
    store = c10d.TCPStore(e["MASTER_ADDR"], int(e["MASTER_PORT"]), is_master=False, timeout=timeout)
    return c10d.PrefixStore(f"attempt {e['TORCHELASTIC_RESTART_COUNT']}", store)
