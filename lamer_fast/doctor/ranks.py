"""Can processes of this machine find one another, as the ranks of a run do? A step that fails is named."""

from __future__ import annotations

import ipaddress
import os
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from lamer_fast.doctor.check import Failed
from lamer_fast.launch import LOOPBACK, loopback_variables

PATIENCE_S = 300.0  # two imports of torch on a busy machine
WORLD = 2
STEPS = ("start", "reach the rendezvous", "join the group", "add tensors up", "end")
INTERFACE = "GLOO_SOCKET_IFNAME"
SEVERAL_MACHINES = "over several machines torchrun needs --local-addr"


def launch() -> str:
    """A port; a rendezvous on it; two processes that meet there and add tensors up over gloo; and what other
    machines would call this one."""
    environment = loopback_variables() | os.environ
    check_port()
    check_interface(environment)
    seconds = exchange(rendezvous(), environment)
    met = f"{WORLD} processes met on {LOOPBACK} and added up over gloo in {seconds:.1f} s"
    return f"{met}; {of_name(socket.getfqdn())}"


def check_port() -> None:
    """A connection that stays on this machine."""
    try:
        with (
            socket.create_server((LOOPBACK, 0)) as server,
            socket.create_connection(server.getsockname(), timeout=5),
        ):
            pass
    except OSError as error:
        raise Failed(
            f"ports: no process can reach another at {LOOPBACK}: {error.strerror or error}",
            "bring the loopback up (ip link set lo up), and let a firewall pass what stays on it",
        ) from None


def check_interface(environment: Mapping[str, str]) -> None:
    there = [name for _, name in socket.if_nameindex()]
    wanted = environment.get(INTERFACE, "")
    unknown = [name for name in wanted.split(",") if name and name not in there]
    if unknown:
        raise Failed(
            f"interface: {INTERFACE} = {wanted!r}, this machine has {', '.join(there)}",
            f"unset {INTERFACE}, or name one of these",
        )


def rendezvous(patience_s: float = 20.0) -> Any:
    """The store in which ranks leave their addresses, on a free port, and a client of it in this process."""
    from torch import distributed

    c10d: Any = distributed  # its types do not name them
    limit = timedelta(seconds=patience_s)
    try:
        store = c10d.TCPStore(LOOPBACK, 0, is_master=True, wait_for_workers=False, timeout=limit)
        c10d.TCPStore(LOOPBACK, store.port, is_master=False, timeout=limit).set("doctor", "here")
        store.get("doctor")
    except RuntimeError as error:
        raise Failed(
            f"rendezvous: {last_line(str(error))}",
            f"something holds the ports of {LOOPBACK}, or answers in their place: look for a firewall",
        ) from None
    return store


def exchange(store: Any, environment: Mapping[str, str], patience_s: float = PATIENCE_S) -> float:
    """The seconds that two processes took to meet at `store` and to get the sum of their tensors.

    Raises:
        Failed: names the rank that got least far, the step that it did not take, and its last words.
    """
    started = time.monotonic()
    command = [sys.executable, "-m", "lamer_fast.doctor.one_rank", str(store.port), str(patience_s)]
    processes = [
        subprocess.Popen(
            [*command, str(rank), str(WORLD)], env={**environment, "OMP_NUM_THREADS": "1"},
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, errors="replace",
        )
        for rank in range(WORLD)
    ]  # fmt: skip
    try:
        while any(p.poll() is None for p in processes) and not any(p.poll() for p in processes):
            if time.monotonic() > started + patience_s:
                break
            time.sleep(0.05)
    finally:
        late = [process.poll() is None for process in processes]
        for process in processes:
            process.kill()
        said = [process.communicate() for process in processes]
    taken = [out.count("\n") for out, _ in said]
    if any(process.returncode for process in processes):
        failed = [rank for rank in range(WORLD) if processes[rank].returncode and not late[rank]]
        rank = min(failed or range(WORLD), key=taken.__getitem__)
        status = f"in {patience_s:.0f} s" if late[rank] else f"and ended with {processes[rank].returncode}"
        why = last_line(said[rank][1])
        raise Failed(
            f"{STEPS[taken[rank]]}: rank {rank} did not {status}{f': {why}' if why else ''}",
            f"set {INTERFACE} to an interface that both can use; `ip address` lists them",
        )
    return time.monotonic() - started


def last_line(text: str) -> str:
    return next((line.strip() for line in reversed(text.splitlines()) if line.strip()), "")


def of_name(name: str) -> str:
    """What torchrun tells other machines of this one, and whether they could use it."""
    try:
        address = str(socket.getaddrinfo(name, None, type=socket.SOCK_STREAM)[0][4][0])
    except OSError as error:
        return f"its name {name!r} does not resolve ({error.strerror}): {SEVERAL_MACHINES}"
    if ipaddress.ip_address(address.partition("%")[0]).is_loopback:
        return f"its name {name!r} is the loopback's: {SEVERAL_MACHINES}"
    try:
        with socket.create_server((address, 0), family=socket.AF_INET6 if ":" in address else socket.AF_INET):
            return f"other machines reach it as {name!r}, {address}"
    except OSError:
        return f"its name {name!r} resolves to {address}, which is no address of it: {SEVERAL_MACHINES}"
