"""Tensors in a folder whose rows several ranks write, and any number of ranks reads, one among them.

By torch.distributed.checkpoint, as safetensors. It reads the whole tensors of one process as well.
"""

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.state_dict_loader import load
from torch.distributed.checkpoint.state_dict_saver import save


def write(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Every rank calls it with its rows. Tensors that are whole are equal everywhere and are written once."""
    save(dict(tensors), storage_writer=HuggingFaceStorageWriter(str(folder), save_distributed=True))


def read(folder: Path, masters: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Everything in `folder`; of what has a master's shape and is named after it, the rows that it has."""
    reader = HuggingFaceStorageReader(str(folder))
    stored: dict[str, Any] = reader.read_metadata().state_dict_metadata
    found = {}
    for name, entry in stored.items():
        master = masters.get(name, masters.get(name.rpartition("/")[0]))
        dtype = entry.properties.dtype
        if master is not None and master.shape == entry.size:
            found[name] = torch.zeros_like(master, dtype=dtype)
        else:
            found[name] = torch.zeros(entry.size, dtype=dtype)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "torch.distributed is disabled")  # each rank reads alone
        load(found, storage_reader=reader, no_dist=True)
    return found
