"""What a row pass of the divergences is told of a chunk of tokens, and where its results go."""

from typing import NamedTuple

import torch
from torch import Tensor


class Rows(NamedTuple):
    targets: Tensor | None  # [C] int64
    weights: Tensor  # [C]
    outputs: tuple[Tensor, Tensor, Tensor]  # values, logprobs, teacher_logprobs [C], to be written
    kind: str
    beta: float
    temperature: float
    dtype: torch.dtype | None  # of dlogits; None: none are wanted
