"""TRL 1.16: the log-prob head of GRPO, environment tokens left out of it, and credit across episodes.

class Trainer(LamerMixin, GRPOTrainer): ...

Trainer(model=..., args=..., reward_funcs=..., rollout_func=...).train()
"""

from collections.abc import Iterator
from contextlib import contextmanager
from functools import update_wrapper
from typing import Any

import torch
from accelerate.utils import gather_object
from torch import Tensor
from trl.trainer.utils import FusedCausalLMOutput

from ..head.logprob import linear_logprob
from .padded import LossTokens
from .turns import turn_advantages

SCALES = ("logit_scale", "output_multiplier", "lm_head_multiplier", "logits_scaling")


class LamerMixin:
    """Stands before GRPOTrainer among the bases.

    Where ``rollout_func`` returns ``turns``, advantages are those of turns: for each completion a list of
    mappings with ``start`` and ``end`` (its tokens in the completion) and what `turns.Turn` names. The
    completions of a prompt are the trials of a group.
    """

    credit: dict[str, Any] = {}  # noqa: RUF012, a subclass sets switches of `meta_advantages` here
    _turns: list[Any] | None = None

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        trainer: Any = self
        models = [m for m in (trainer.model, trainer.ref_model) if m is not None]
        self._heads = [
            Head(
                m.get_base_model() if hasattr(m, "get_base_model") else m,
                trainer.temperature,
                trainer.args.cast_lm_head_to_fp32,
            )
            for m in models
        ]

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        with self._heads[0].only(inputs.get("tool_mask")):
            return super()._compute_loss(model, inputs)  # type: ignore[misc]

    def _generate(self, *args: Any, **options: Any) -> Any:
        out = super()._generate(*args, **options)  # type: ignore[misc]
        self._turns = out[5].get("turns")
        return out

    def _generate_and_score_completions(self, *args: Any, **options: Any) -> dict[str, Any]:
        out: dict[str, Any] = super()._generate_and_score_completions(*args, **options)  # type: ignore[misc]
        if "tool_mask" in out:  # a ratio of 1 where the new log-prob is left out
            for name in ("old_per_token_logps", "ref_per_token_logps"):
                if name in out:
                    out[name] = out[name] * out["tool_mask"]
        if self._turns is not None:
            out["advantages"] = self._turn_advantages(out["completion_mask"])
        return out

    def _turn_advantages(self, mask: Tensor) -> Tensor:
        """[B, L] of this process's completions, from the turns of all processes."""
        trainer: Any = self
        training = trainer.model.training
        size = trainer.num_generations if training else trainer.num_generations_eval
        turns = gather_object(self._turns)
        per_trial = turn_advantages(turns, [i // size for i in range(len(turns))], **self.credit)
        out = torch.zeros(mask.shape)
        first = trainer.accelerator.process_index * len(mask)
        for row in range(len(mask)):
            for turn, advantage in zip(turns[first + row], per_trial[first + row], strict=True):
                out[row, turn["start"] : turn["end"]] = advantage
        return out.to(mask.device)


class Head:
    """Takes over ``model(..., labels=, fused_lm_head=True)``, which TRL has added to ``model``."""

    def __init__(self, model: Any, temperature: float, in_float32: bool = False) -> None:
        config = model.config.get_text_config()
        scaled = [name for name in SCALES if getattr(config, name, None) not in (None, 1.0)]
        if scaled:
            raise ValueError(f"{scaled[0]} = {getattr(config, scaled[0])} of the model's logits must be 1")
        self.model, self.temperature, self.before = model, temperature, model.forward
        self.softcap = getattr(config, "final_logit_softcapping", None)
        self.in_float32 = in_float32
        self.keep: Tensor | None = None
        update_wrapper(self, self.before)  # generate() reads the signature
        model.forward = self

    @contextmanager
    def only(self, mask: Tensor | None) -> Iterator[None]:
        """Scores the tokens of mask [B, K], the last K, alone; None: all that have a label."""
        self.keep = mask
        try:
            yield
        finally:
            self.keep = None

    def __call__(self, *args: Any, fused_lm_head: bool = False, labels: Any = None, **options: Any) -> Any:
        if not fused_lm_head or "shift_labels" in options or options.get("output_router_logits"):
            return self.before(*args, fused_lm_head=fused_lm_head, labels=labels, **options)
        options.pop("num_items_in_batch", None)
        if self.keep is not None:
            kept = torch.nn.functional.pad(
                self.keep.bool(), (labels.shape[1] - self.keep.shape[1], 0), value=True
            )
            labels = labels.masked_fill(~kept, -100)
        hidden = self.model.base_model(*args, **options | {"use_cache": False}).last_hidden_state[:, :-1]
        hidden = hidden.float() if self.in_float32 else hidden
        head, targets = self.model.get_output_embeddings(), labels[:, 1:].to(hidden.device)
        if hasattr(head, "base_layer"):  # looked at here: an adapter may have come later
            raise ValueError(
                f"lm_head is a {type(head).__name__} of peft, whose weight leaves its adapter out"
            )
        scored = LossTokens(targets != -100)
        out = linear_logprob(
            hidden, head.weight, targets.reshape(-1)[scored.idx], token_idx=scored.idx, bias=head.bias,
            temperature=self.temperature, softcap=self.softcap, entropy=True,
        )  # fmt: skip
        assert out.entropy is not None  # asked for
        return FusedCausalLMOutput(
            loss=-out.logprobs.sum() / max(len(scored), 1),
            log_probs=scored.put(out.logprobs),
            entropy=scored.put(out.entropy),
            label_mask=scored.mask,
        )
