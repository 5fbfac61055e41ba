"""Other weights of the same size: a tensor that a transfer leaves behind shows."""

import torch
from torch import Tensor

SHARE = 0.1


@torch.no_grad()
def disturb(tensor: Tensor, generator: torch.Generator) -> None:
    """Adds noise of a tenth of the tensor's deviation. Equal values have none and take their own size; zeros,
    as of a new adapter's second matrix, take what keeps the size of a product's inputs."""
    wide = tensor.float()
    size = float(wide.std(correction=0)) or float(wide.abs().mean()) or tensor.shape[-1] ** -0.5
    tensor += (SHARE * size * torch.randn(tensor.shape, generator=generator)).to(tensor)
