"""Cosines and sines of positions, as the model's own rotary module has them."""

from typing import Any

import torch
from torch import Tensor


class RotaryTables:
    """Rounded to the model's dtype, as the module rounds them; grown on demand.

    Args:
        module: of a Hugging Face model, with `inv_freq` [R] and `attention_scaling`.
    """

    def __init__(self, module: Any) -> None:
        # on the host, where a cosine is the same for every device
        self._inv_freq = module.inv_freq.float() if module.inv_freq.is_meta else module.inv_freq.float().cpu()
        self._scaling = float(module.attention_scaling)
        self._key: tuple[Any, ...] = ()
        self._tables: dict[bool, tuple[Tensor, Tensor]] = {}

    def get(self, length: int, dtype: torch.dtype, device: torch.device) -> dict[bool, tuple[Tensor, Tensor]]:
        """[>= length, R] float32 each; under False, [>= length, 0]: what turns nothing."""
        if self._key != (dtype, device) or len(self._tables[True][0]) < length:
            angles = torch.arange(2 * length, device=self._inv_freq.device)[:, None] * self._inv_freq
            scaled = (x * self._scaling for x in (angles.cos(), angles.sin()))
            cos, sin = (x.to(dtype).float().to(device) for x in scaled)
            nothing = cos[:, :0].contiguous()
            self._tables, self._key = {True: (cos, sin), False: (nothing, nothing)}, (dtype, device)
        return self._tables
