"""token_weights: the aggregation of per-token losses as data."""

import torch
from torch import Tensor

from .._checks import check_choice, check_offsets, check_tensor

KINDS = ("token_mean", "sequence_mean", "constant")


def token_weights(
    kind: str,
    loss_mask: Tensor,
    *,
    cu_sequences: Tensor | None = None,
    constant: float | None = None,
    validate: bool = False,
) -> Tensor:
    """Weights [L] with which the sum of weight x loss is the wanted mean over a whole minibatch.

    ``token_mean``     1 / number of loss tokens (DAPO, PPO)
    ``sequence_mean``  1 / (sequences with loss tokens x loss tokens of the sequence) (GRPO, GSPO)
    ``constant``       1 / constant (Dr. GRPO: constant = sequences x longest length)

    Call it once per minibatch, before the split into micro-batches; for several ranks scale by the ratio of
    the local to the reduced denominator.

    Args:
        loss_mask: [L] bool over the minibatch; a token outside gets weight exactly 0.
        cu_sequences: [S+1] int64 or int32, sequences (or turns) in L; needed by ``sequence_mean``.
        constant: the denominator of ``constant``.

    Returns:
        [L] float32.
    """
    check_choice("kind", kind, KINDS)
    check_tensor("loss_mask", loss_mask, shape=(None,), dtypes=(torch.bool,))
    if (kind == "constant") != (constant is not None):
        raise ValueError(f"constant goes with kind 'constant' and only there, got kind {kind!r}, {constant=}")
    if kind == "constant" and not (constant is not None and constant > 0):
        raise ValueError(f"constant must be > 0, got {constant}")
    if (kind == "sequence_mean") != (cu_sequences is not None):
        raise ValueError(f"cu_sequences goes with kind 'sequence_mean' and only there, got kind {kind!r}")

    mask = loss_mask.to(torch.float64)
    if kind == "token_mean":
        weights = mask / mask.sum().clamp(min=1)
    elif constant is not None:
        weights = mask / constant
    else:
        assert cu_sequences is not None
        check_tensor(
            "cu_sequences", cu_sequences, shape=(None,), dtypes=(torch.int64, torch.int32), like=loss_mask
        )
        if validate:
            check_offsets("cu_sequences", cu_sequences, loss_mask.shape[0])
        lengths = cu_sequences.long().diff()
        counts = torch.segment_reduce(mask, "sum", lengths=lengths, unsafe=True, initial=0)
        denominators = (counts * (counts > 0).sum()).clamp(min=1)
        weights = mask / denominators.repeat_interleave(lengths, output_size=loss_mask.shape[0])
    return weights.to(torch.float32)
