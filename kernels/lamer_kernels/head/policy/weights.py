"""token_weights: the aggregation of per-token losses as data."""

import torch
from torch import Tensor

from ..._core.arrays import accepts_numpy
from ..._core.checks import as_mask, check_choice, check_cu, check_tensor
from ..._core.numbers import check_number

KINDS = ("token_mean", "sequence_mean", "constant")


@accepts_numpy
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
        loss_mask: [L] or [S, L] bool, or integers 0 and 1, over the minibatch; a token outside gets weight
            exactly 0.
        cu_sequences: [S+1] int64 or int32, sequences (or turns) in L, which ``sequence_mean`` needs; of a
            mask [S, L] the rows, where not given.
        constant: the denominator of ``constant``.

    Returns:
        float64, the shape of ``loss_mask``; the losses round it to their own precision.
    """
    check_choice("kind", kind, KINDS)
    loss_mask = as_mask("loss_mask", loss_mask, validate=validate)
    check_tensor("loss_mask", loss_mask, shape=None, dtypes=(torch.bool,))
    shape = tuple(loss_mask.shape)
    if kind == "sequence_mean" and cu_sequences is None and len(shape) == 2:
        cu_sequences = torch.arange(shape[0] + 1, device=loss_mask.device) * shape[1]
    loss_mask = loss_mask.reshape(-1)
    if (kind == "constant") != (constant is not None):
        raise ValueError(f"constant goes with kind 'constant' and only there, got kind {kind!r}, {constant=}")
    if constant is not None:
        constant = check_number("constant", constant, "(0, inf)")
    if (kind == "sequence_mean") != (cu_sequences is not None):
        raise ValueError(f"cu_sequences goes with kind 'sequence_mean' and only there, got kind {kind!r}")

    mask = loss_mask.to(torch.float64)
    if kind == "token_mean":
        weights = mask / mask.sum().clamp(min=1)
    elif constant is not None:
        weights = mask / constant
    else:
        assert cu_sequences is not None
        check_cu("cu_sequences", cu_sequences, loss_mask.shape[0], like=loss_mask, validate=validate)
        lengths = cu_sequences.long().diff()
        counts = torch.segment_reduce(mask, "sum", lengths=lengths, unsafe=True, initial=0)
        denominators = (counts * (counts > 0).sum()).clamp(min=1)
        weights = mask / denominators.repeat_interleave(lengths, output_size=loss_mask.shape[0])
    return weights.view(shape)
