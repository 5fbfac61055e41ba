"""The border of linear_logprob and linear_policy_loss: what is given becomes what they compute with."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import inf, isinf

import torch
from torch import Tensor

from .._core.checks import OFFSET_DTYPES, as_floats, check_tensor, has_values, readable
from .._core.numbers import check_integer, check_number
from .projection import HEAD_DTYPES, Head, default_workspace_bytes, make_head

ACC_DTYPES = (torch.float32, torch.float64)


@dataclass(frozen=True)
class HeadInputs:
    """Attributes:
    hidden: [T, H], the rows of hidden as given.
    targets: [L] int64, 0 where absent.
    token_idx: [L] int64 rows of hidden, or None.
    temperature: one value, or [L].
    present: [L] bool, False where the label is ignore_index; None: all are there.
    shape: of the targets as given, and so of the results per token.
    """

    hidden: Tensor
    targets: Tensor
    token_idx: Tensor | None
    temperature: float | Tensor
    softcap: float | None
    workspace_bytes: int
    present: Tensor | None
    shape: tuple[int, ...]

    @property
    def temperatures(self) -> Tensor | None:
        return self.temperature if isinstance(self.temperature, Tensor) else None

    @property
    def one_temperature(self) -> float:
        return 1.0 if isinstance(self.temperature, Tensor) else self.temperature

    @property
    def numbers(self) -> list[float]:
        """As a custom op takes them: temperature, softcap (infinite: none), bytes of workspace."""
        softcap = inf if self.softcap is None else self.softcap
        return [self.one_temperature, softcap, float(self.workspace_bytes)]

    def shaped(self, x: Tensor) -> Tensor:
        """A result [L] as the targets came, 0 where absent."""
        return (x if self.present is None else x.masked_fill(~self.present, 0)).view(self.shape)

    def at(self, idx: Tensor) -> "HeadInputs":
        """The tokens at ``idx`` [K], all of them present; results have shape [K]."""
        return replace(
            self,
            targets=self.targets[idx],
            token_idx=idx if self.token_idx is None else self.token_idx[idx],
            temperature=self.temperature[idx] if isinstance(self.temperature, Tensor) else self.temperature,
            present=None,
            shape=(idx.shape[0],),
        )


def left_out(given: HeadInputs, backend: str) -> bool:
    """Absent tokens leave before anything is computed: where the host may look at the labels."""
    if given.present is None:
        return False
    return readable(given.present) or (backend == "reference" and has_values(given.present))


def spread(rows: Tensor, idx: Tensor, shape: tuple[int, ...]) -> Tensor:
    """``rows`` [K] at the places ``idx`` of ``shape``, 0 elsewhere."""
    out = rows.new_zeros(torch.Size(shape).numel())
    return out.index_copy(0, idx, rows).view(shape)


def head_inputs(
    hidden: Tensor,
    weight: Tensor,
    targets: Tensor,
    *,
    token_idx: Tensor | None,
    temperature: float | Tensor,
    bias: Tensor | None,
    softcap: float | None,
    weight_cast: Tensor | None,
    ignore_index: int | None,
    workspace_bytes: int | None,
    validate: bool,
) -> HeadInputs:
    check_tensor("hidden", hidden, shape=None, dtypes=HEAD_DTYPES)
    if hidden.dim() < 2:
        raise ValueError(f"hidden must have shape (..., H), got {tuple(hidden.shape)}")
    num_hidden = hidden.shape[-1]
    check_tensor("weight", weight, shape=(None, num_hidden), dtypes=HEAD_DTYPES, like=hidden)
    vocab = weight.shape[0]
    if vocab == 0:
        raise ValueError(
            f"weight must have a row for each entry of the vocabulary, got {tuple(weight.shape)}"
        )
    rows = tuple(hidden.shape[:-1]) if token_idx is None else None
    check_tensor("targets", targets, shape=rows, dtypes=OFFSET_DTYPES, like=hidden)
    shape = tuple(targets.shape)
    hidden, targets = hidden.reshape(-1, num_hidden), targets.reshape(-1).long()
    if token_idx is not None:
        check_tensor("token_idx", token_idx, shape=shape, dtypes=OFFSET_DTYPES, like=hidden)
        token_idx = token_idx.reshape(-1).long()
        if validate or readable(token_idx):
            _check_ids("token_idx", token_idx, hidden.shape[0], None)
    present = None
    if ignore_index is not None:
        ignore_index = check_integer("ignore_index", ignore_index, -(2**63))
        present = targets != ignore_index
        if readable(present) and bool(present.all()):
            present = None
        else:
            targets = torch.where(present, targets, 0)
    if validate or readable(targets):
        _check_ids("targets", targets, vocab, ignore_index)
    if bias is not None:
        check_tensor("bias", bias, shape=(vocab,), dtypes=HEAD_DTYPES, like=hidden)
    if weight_cast is not None:
        cast = (vocab, num_hidden)
        check_tensor("weight_cast", weight_cast, shape=cast, dtypes=(hidden.dtype,), like=hidden)
    return HeadInputs(
        hidden,
        targets,
        token_idx,
        _temperature(temperature, hidden, shape, validate),
        None if softcap is None else check_number("softcap", softcap, "(0, inf)"),
        default_workspace_bytes(hidden.device)
        if workspace_bytes is None
        else check_integer("workspace_bytes", workspace_bytes, 1),
        present,
        shape,
    )


def _temperature(
    temperature: float | Tensor, hidden: Tensor, shape: tuple[int, ...], validate: bool
) -> float | Tensor:
    if not isinstance(temperature, Tensor):
        return check_number("temperature", temperature, "(0, inf)")
    (temperature,) = as_floats(temperature)
    wanted = () if temperature.dim() == 0 else shape
    check_tensor("temperature", temperature, shape=wanted, dtypes=ACC_DTYPES, like=hidden)
    if temperature.requires_grad:
        raise ValueError("temperature gets no gradient, got a tensor that requires one")
    good = (temperature > 0) & temperature.isfinite()
    if (validate or readable(temperature)) and not bool(good.all()):
        raise ValueError(f"temperature must lie in (0, inf), got {float(temperature[~good][0])}")
    return temperature.expand(shape).reshape(-1).contiguous()


def _check_ids(name: str, ids: Tensor, limit: int, ignore_index: int | None) -> None:
    if ids.numel() == 0:
        return
    low, high = (int(end) for end in ids.aminmax())
    if not (low >= 0 and high < limit):
        hint = "" if ignore_index is None else f" or be ignore_index {ignore_index}"
        raise ValueError(f"{name} must lie in [0, {limit}){hint}, got {low} to {high}")


def head_of(
    weights: tuple[Tensor, Tensor | None, Tensor | None],
    temperatures: Tensor | None,
    numbers: Sequence[float],
    dtype: torch.dtype,
) -> Head:
    """weights: weight, its cast or None, bias or None; numbers: ``HeadInputs.numbers``; dtype of hidden."""
    weight, weight_cast, bias = weights
    temperature, softcap, _ = numbers
    return make_head(
        weight if weight_cast is None else weight_cast,
        bias,
        None if isinf(softcap) else softcap,
        temperature if temperatures is None else temperatures,
        dtype,
    )
