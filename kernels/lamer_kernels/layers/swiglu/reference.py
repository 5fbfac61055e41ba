"""Reference: the definition of the gated activation. Any float dtype; rounded once."""

import torch
from torch import Tensor


def swiglu_ref(gate_up: Tensor) -> Tensor:
    gate, up = gate_up.to(torch.promote_types(gate_up.dtype, torch.float32)).chunk(2, dim=-1)
    return (gate * torch.sigmoid(gate) * up).to(gate_up.dtype)
