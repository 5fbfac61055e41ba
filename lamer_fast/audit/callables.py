"""The audit of any two callables from token ids to logits."""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from lamer_fast.audit.examine import Audit, examine
from lamer_fast.audit.reference import Reference
from lamer_fast.audit.replay import Replay, of_sequences
from lamer_fast.audit.sides import Place, all_rows
from lamer_fast.audit.trace import Trace, traced_module

Model = Callable[[Tensor], Any]


def audit(
    sampler: Model,
    trainer: Model,
    sequences: Sequence[Any],
    *,
    model: Any = None,
    temperature: float = 1.0,
) -> Audit:
    """Compares whole next-token distributions, and names the first layer that differs.

    Args:
        sampler, trainer: from token ids [n] int64 to logits [n, V], before temperature. A Hugging Face causal
            language model is one, and its layers are walked; any other callable shows its logits alone.
        sequences: of token ids, each [n].
        model: the Hugging Face model whose weights both should compute; None: `trainer` itself. Its rounding
            in its dtype against float64 is what the tolerance is derived from.
        temperature: both sides' logits are divided by it.

    Returns:
        An `Audit`; printed, it is a table and a verdict.

    Raises:
        ValueError: `model` is missing or of a family that the reference does not compute, or a sequence is
            empty.
    """
    model = trainer if model is None else model
    if not hasattr(model, "get_decoder"):
        raise ValueError(
            f"the trainer is a {type(trainer).__name__}: pass model=, the Hugging Face model whose weights "
            "both sides should compute, since the tolerance is derived from it"
        )
    reference = Reference(model, temperature)
    sides = [CallableSide(name, f, temperature) for name, f in (("sampler", sampler), ("trainer", trainer))]
    replays = of_sequences(sequences)
    num_ids = len(model.get_output_embeddings().weight)
    return examine(sides[0], sides[1], replays, lambda: reference, num_ids=num_ids, together=False)


class CallableSide:
    """A callable; of a Hugging Face model the layers can be seen."""

    def __init__(self, name: str, call: Model, temperature: float) -> None:
        self.name, self._call, self.temperature = name, call, temperature
        self._is_module = hasattr(call, "get_decoder")
        self._last: tuple[Replay, Tensor] | None = None  # logits of one sequence at a time

    def at(self, replays: Sequence[Replay], where: Sequence[Place]) -> Tensor:
        (index,) = {r for r, _, _ in where}
        replay = replays[index]
        if self._last is None or self._last[0] is not replay:
            self._last = None
            self._last = replay, self._logits(replay)
        first = int(replay.places.searchsorted(where[0][1]))
        rows = self._last[1][first : first + len(where)]
        return torch.log_softmax(rows.float() / self.temperature, -1)

    @torch.no_grad()
    def trace(self, replays: Sequence[Replay], index: int) -> Trace | None:
        if not self._is_module:
            return None
        model: Any = self._call
        replay = replays[index]
        trace = Trace(len(replay.token_ids), model.config.num_hidden_layers)
        with traced_module(model, trace, all_rows):
            logits = self._logits(replay)
        for place, row in zip(replay.places.tolist(), logits, strict=True):
            trace.logprobs[place] = torch.log_softmax(row.float() / self.temperature, -1)
        return trace

    @torch.no_grad()
    def _logits(self, replay: Replay) -> Tensor:
        ids = torch.from_numpy(replay.token_ids)
        if not self._is_module:
            out: Tensor = self._call(ids)
            return out[torch.from_numpy(replay.places - 1)]
        model: Any = self._call
        ids = ids.to(model.get_input_embeddings().weight.device)
        logits: Tensor = model(input_ids=ids[None], use_cache=False).logits[0]
        return logits[torch.from_numpy(replay.places - 1)]
