"""A head as a module: what shards, gathers or watches parameters by module does so for the fused ops too."""

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from .logprob import LinearLogprob, linear_logprob
from .policy import PolicyLoss, linear_policy_loss


class LamerHead(nn.Linear):
    """An ``nn.Linear`` head whose forward takes targets, and reads the weight where FSDP2 has gathered it.

    ``head(hidden)`` gives logits, like any ``nn.Linear``. ``head(hidden, targets, **options)`` is
    ``linear_logprob``, and ``head(hidden, targets, old_logprobs, advantages, **options)`` is
    ``linear_policy_loss``, with the module's own weight and bias.

    Under FSDP2's mixed precision give the head ``cast_forward_inputs=False``: log-probs, advantages and token
    weights are float32 and would be cast as well (bfloat16 ones are refused).
    """

    @classmethod
    def of(cls, linear: nn.Linear) -> "LamerHead":
        """A head with the very parameters of ``linear``, tied or not: ``lm_head = LamerHead.of(lm_head)``."""
        if not isinstance(linear, nn.Linear):
            raise TypeError(
                f"the head must be an nn.Linear, got {type(linear).__name__}; merge an adapter first"
            )
        has_bias = linear.bias is not None
        head = cls(linear.in_features, linear.out_features, bias=has_bias, device="meta")
        head.weight, head.bias = linear.weight, linear.bias
        return head.train(linear.training)

    def forward(  # type: ignore[override]
        self,
        hidden: Tensor,
        targets: Tensor | None = None,
        old_logprobs: Tensor | None = None,
        advantages: Tensor | None = None,
        **options: object,
    ) -> Tensor | LinearLogprob | PolicyLoss:
        if targets is None:
            return super().forward(hidden)
        if advantages is None:
            if old_logprobs is not None:
                raise ValueError("old_logprobs need advantages, got None")
            logprob = cast(Callable[..., LinearLogprob], linear_logprob)
            return logprob(hidden, self.weight, targets, bias=self.bias, **options)
        loss = cast(Callable[..., PolicyLoss], linear_policy_loss)
        return loss(hidden, self.weight, targets, old_logprobs, advantages, bias=self.bias, **options)
