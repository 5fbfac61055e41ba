"""Every test here runs with poisoned memory: an output that is not fully written cannot pass."""

import numpy as np
import pytest
import torch


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    def poison(allocate):
        def allocate_poisoned(*args, **kwargs):
            out = allocate(*args, **kwargs)
            if out.is_floating_point():
                return out.fill_(float("nan"))
            return out if out.dtype == torch.bool else out.fill_(torch.iinfo(out.dtype).max)

        return allocate_poisoned

    def empty_array(shape, dtype=float, *args, **kwargs):
        out = allocate_array(shape, dtype, *args, **kwargs)
        out.fill(np.nan if out.dtype.kind == "f" else 1 if out.dtype.kind == "b" else np.iinfo(out.dtype).max)
        return out

    allocate_array = np.empty
    monkeypatch.setattr(np, "empty", empty_array)
    monkeypatch.setattr(torch, "empty", poison(torch.empty))
    monkeypatch.setattr(torch, "empty_like", poison(torch.empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", poison(torch.Tensor.new_empty))
