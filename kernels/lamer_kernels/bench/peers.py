"""Other packages as providers: who imports, runs on the device and has the expected signature takes part.

What is absent is named, with the reason.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version
from inspect import signature
from pathlib import Path
from typing import Any, NamedTuple

from .record import ROOT


class Peer(NamedTuple):
    """A function of another package, and the parameters that we pass it."""

    name: str
    distribution: str
    module: str
    function: str  # or "Class.forward"
    parameters: tuple[str, ...]
    gpu_only: bool = False


class Absent(Exception):
    """The reason why a peer takes no part."""


def load(peer: Peer, device: str) -> Any:
    """The function.

    Raises:
        Absent: not installed, does not import, needs a GPU, or has another signature.
    """
    _add_peer_folders()
    try:
        version(peer.distribution)
    except PackageNotFoundError:
        raise Absent(f"{peer.distribution} is not installed") from None
    if peer.gpu_only and not device.startswith("cuda"):
        raise Absent("needs a CUDA device")
    try:
        owner: Any = import_module(peer.module)
        for part in peer.function.split("."):
            owner, found = getattr(owner, part), owner
    except Exception as error:  # also what a half-installed package raises at its start
        raise Absent(f"{type(error).__name__}: {error}".splitlines()[0][:90]) from error
    missing = set(peer.parameters) - set(signature(owner).parameters)
    if missing:
        raise Absent(
            f"{peer.module}.{peer.function} of {peer.distribution} {version(peer.distribution)} "
            f"has no parameter {', '.join(sorted(missing))}"
        )
    return found if peer.function.endswith(".forward") else owner


def present(candidates: Iterable[tuple[Peer, Callable[[Any], Any]]], device: str) -> dict[str, Any]:
    """name -> provider, made by `make(function)`, of every peer that takes part; prints why others do not."""
    providers = {}
    for peer, make in candidates:
        try:
            providers[peer.name] = make(load(peer, device))
        except Absent as reason:
            print(f"{peer.name}: absent, {reason}")
    return providers


def _add_peer_folders() -> None:
    """PEERS_PATH, and the environment that `make bench-peers` makes in a checkout."""
    folders = [os.environ["PEERS_PATH"]] if "PEERS_PATH" in os.environ else []
    python = f"python{sys.version_info[0]}.{sys.version_info[1]}"
    if ROOT:
        folders.append(str(ROOT / ".venv-peers" / "lib" / python / "site-packages"))
    sys.path += [folder for folder in folders if Path(folder).is_dir() and folder not in sys.path]
