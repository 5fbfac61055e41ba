"""Every test here runs with poisoned memory: an output that is not fully written cannot pass."""

import pytest
import torch
from torch.utils._device import _device_constructors

# torch keeps here which functions a `with torch.device(...)` acts on: filled while one of them is poisoned it
# would not know the true one for the rest of the process, and shapes on meta would take real memory
_device_constructors()


@pytest.fixture(autouse=True)
def poisoned_memory(monkeypatch):
    def poison(allocate):
        def allocate_poisoned(*args, **kwargs):
            out = allocate(*args, **kwargs)
            if out.is_floating_point():
                return out.fill_(float("nan"))
            return out if out.dtype == torch.bool else out.fill_(torch.iinfo(out.dtype).max)

        return allocate_poisoned

    monkeypatch.setattr(torch, "empty", poison(torch.empty))
    monkeypatch.setattr(torch, "empty_like", poison(torch.empty_like))
    monkeypatch.setattr(torch.Tensor, "new_empty", poison(torch.Tensor.new_empty))
