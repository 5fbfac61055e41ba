"""Policy: a Hugging Face causal language model trained over packed sequences, with float32 master weights."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor, nn

from lamer_fast.config import Config, ModelConfig
from lamer_fast.learn.batch import Packed, PolicyBatch
from lamer_fast.learn.gradients import Masters
from lamer_fast.learn.ranks import ALONE, Ranks
from lamer_fast.model.adapters import (
    adapter_names,
    adapter_weights,
    add_adapters,
    merge_folder,
    merged_weights,
    without_adapters,
)
from lamer_fast.model.architecture import decoder_computes
from lamer_fast.model.decoder import Attention, Decoder, PackedAttention, TreeAttention
from lamer_fast.model.files import ModelFiles, num_tokenizer_ids, read_model_files, reading
from lamer_fast.model.path import adapter_folder, model_path
from lamer_kernels import linear_logprob, register_attention
from lamer_kernels.head.policy import PolicyLoss

T = TypeVar("T")


class Objective(Protocol):
    """What a policy is trained towards: the loss of a batch, from hidden states and the head."""

    def __call__(
        self, hidden: Tensor, weight: Tensor, batch: PolicyBatch, head_gradient: Tensor | None
    ) -> PolicyLoss:
        """
        Args:
            hidden: [L, H] at the positions that predict a target.
            weight: [num_ids, H], the head.
            head_gradient: see `Policy.forward`; an objective may leave it alone and use autograd.
        """
        ...


class Policy(nn.Module):
    """Trunk and head in one module, computing in `dtype`; what is trained of it are its `masters`.

    Args:
        num_ids: ids that can be sampled; None takes the tokenizer's. Rows of the head beyond it (a padded
            vocabulary) have no share in a log-probability: no sampler draws them.
        trained_head: beside adapters, which else are all that is trained.
        whole: see `Masters`.
    """

    model: Any  # a Hugging Face class, made at run time

    def __init__(
        self,
        model: Any,
        tokenizer: Any,
        dtype: torch.dtype,
        *,
        num_ids: int | None = None,
        frozen: bool = False,
        trained_head: bool = False,
        whole: bool = True,
    ) -> None:
        super().__init__()
        self._sharded: Any = None  # what `shard_fully` of `fsdp` gave
        self._ranks, self._reduces_each = ALONE, False
        self.model = model
        self.tokenizer = tokenizer
        self.dtype = dtype
        head = model.get_output_embeddings().weight
        ids = num_tokenizer_ids(tokenizer) if num_ids is None and tokenizer is not None else num_ids
        self.num_ids = len(head) if ids is None else min(ids, len(head))
        adapters = adapter_names(model)
        self.has_adapters = bool(adapters)
        if adapters and trained_head:
            adapters |= {name for name, parameter in model.named_parameters() if parameter is head}
        self.masters = Masters(model, dtype, frozen=frozen, adapters=adapters, whole=whole)

    @cached_property
    def decoder(self) -> Decoder | None:
        """None: the model's own module."""
        return Decoder(self.model) if decoder_computes(self.model.config) else None

    def forward(
        self, batch: PolicyBatch, objective: Objective, *, head_gradient: Tensor | None = None
    ) -> PolicyLoss:
        """Loss of a micro-batch, already weighted over its minibatch, and statistics per loss token [L].

        Args:
            head_gradient: [num_ids, H] float32, see `head_sum`: the head's gradient of this loss is added
                here, unrounded, in the forward pass already; `backward` gives the rest. None: it gives all.
        """
        return self._within(
            lambda: objective(self.hidden(batch.packed), self.head_weight, batch, head_gradient)
        )

    def shard_fully(self, ranks: Ranks, *, reduce_every: str = "update") -> None:
        """Leaves this rank its rows of every parameter, on its device; all have equal ones before.

        From now on the ranks make each pass together: over batches that `in_step` gives them.

        Args:
            reduce_every: see `LearnConfig`.
        """
        self._reduces_each = reduce_every == "microbatch"
        layers = self.model.get_decoder().layers if self.decoder is None else self.decoder.blocks
        for buffer in self.model.buffers():
            buffer.data = buffer.data.to(ranks.device)
        self._sharded, self._ranks = self.masters.shard_fully(layers, ranks), ranks

    def in_step(self, batches: Sequence[T], *, backward: bool) -> Iterator[T]:
        """`batches`, one pass each, and then an idle pass for each that another rank makes beyond them.

        Args:
            backward: the passes have one. Gradients are summed over the ranks by the last, or by each.
        """
        passes = len(batches)
        if self._sharded is not None:
            passes = max(self._ranks.gather(passes))
        for i in range(passes):
            if self._sharded is not None:
                self._sharded.set_requires_gradient_sync(self._reduces_each or i == passes - 1)
            if i < len(batches):
                yield batches[i]
            else:
                self._idle(backward)

    def _idle(self, backward: bool) -> None:
        """A pass over one token that changes nothing."""
        zero = torch.zeros(1, dtype=torch.int64, device=self.device)
        ends = torch.tensor([0, 1], dtype=torch.int32, device=self.device)
        with torch.set_grad_enabled(backward):
            one = Packed(zero, zero, ends, 1, zero, zero)
            loss = self._within(lambda: (self.hidden(one) @ self.head_weight[:1].mT).sum() * 0.0)
        if backward:
            loss.backward()  # type: ignore[no-untyped-call]
        else:
            self._sharded.reshard()

    def _within(self, function: Callable[[], T]) -> T:
        """What lies outside the layers is whole meanwhile."""
        return function() if self._sharded is None else self._sharded(function)

    def head_sum(self) -> Tensor | None:
        """[num_ids, H] float32: where the masters sum the head's gradient; None: the head is frozen."""
        total = self.masters.sum_of(self.model.get_output_embeddings().weight)
        return None if total is None else total[: self.num_ids]

    @torch.no_grad()
    def logprobs(self, packed: Packed, temperature: float) -> Tensor:
        """Log-probability of each loss token after temperature, [L] float32, nats."""

        def score() -> Tensor:
            hidden, targets = self.hidden(packed), packed.targets
            return linear_logprob(hidden, self.head_weight, targets, temperature=temperature).logprobs

        logprobs = self._within(score)
        if self._sharded is not None:
            self._sharded.reshard()
        return logprobs

    def hidden(self, packed: Packed) -> Tensor:
        """Last hidden states at the positions that predict a target, [L, H] in the compute dtype."""
        if self.decoder is not None:
            return self.decoder(packed.input_ids, packed_attention(packed))
        out = self.model.get_decoder()(
            input_ids=packed.input_ids[None],
            # offsets say all; without a mask transformers would look for sequences, and synchronise
            attention_mask=packed.input_ids.new_empty(1, 1, 0, 0),
            position_ids=packed.position_ids[None],
            use_cache=False,
            cu_seqlens=packed.cu_seqlens,
            max_seqlen=packed.max_seqlen,
            subtree_end=packed.subtree_end,
        )
        hidden: Tensor = out.last_hidden_state[0]
        return hidden[packed.token_idx]

    @property
    def head_weight(self) -> Tensor:
        """[num_ids, H]"""
        weight: Tensor = self.model.get_output_embeddings().weight
        return weight if len(weight) == self.num_ids else weight[: self.num_ids]

    @property
    def device(self) -> torch.device:
        device: torch.device = self.model.get_output_embeddings().weight.device
        return device

    def named_weights(self) -> Iterator[tuple[str, Tensor]]:
        """Full tensors in the compute dtype by Hugging Face name, tied ones once; adapters merged."""
        return merged_weights(self.model) if self.has_adapters else self.masters.weights()

    def weights_for(self, sampler: Any) -> Iterator[tuple[str, Tensor]]:
        """What `sampler.load_weights` takes: adapters alone under peft's names where it has them apart."""
        if getattr(sampler, "takes_adapter", False):
            return iter(adapter_weights(self.model).items())
        return self.named_weights()


class Scorer(Protocol):
    """Anything that gives the tokens of packed sequences their log-probabilities."""

    def logprobs(self, packed: Packed, temperature: float) -> Tensor: ...

    def in_step(self, batches: Sequence[T], *, backward: bool) -> Iterator[T]: ...


class BaseOf:
    """The model of `policy` as it was before training: the same tensors, without the adapters."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy

    def logprobs(self, packed: Packed, temperature: float) -> Tensor:
        with without_adapters(self.policy.model):
            return self.policy.logprobs(packed, temperature)

    def in_step(self, batches: Sequence[T], *, backward: bool) -> Iterator[T]:
        return self.policy.in_step(batches, backward=backward)


def packed_attention(packed: Packed) -> Attention:
    rest = (packed.max_seqlen, packed.token_idx)
    if packed.subtree_end is not None:
        return TreeAttention(packed.position_ids, packed.subtree_end, *rest)
    return PackedAttention(packed.position_ids, packed.cu_seqlens, *rest)


def read_model(config: Config, *, training: bool = True) -> ModelFiles:
    """All but the weights of `model.path`: shipped name, folder, hub id or GGUF file.

    Raises:
        ValueError: no such model, or one that no run, or not this one, can use.
    """
    files = read_model_files(config.model.path, *model_path(config.model.path))
    files = replace(files, thinking=config.model.thinking)
    check_head(files.shape)
    files.check(config.rollout, training=training)
    return files


def load_policy(
    config: ModelConfig,
    device: torch.device,
    files: ModelFiles | None = None,
    *,
    frozen: bool = False,
    seed: int = 0,
    whole: bool = True,
) -> Policy:
    """The model and tokenizer of `config.path`; `files` if they have been read. Adapters are added unless
    `frozen`, drawn by `seed`; an adapter's folder gives its base with the adapter merged. What is not
    `whole` waits on the host for `shard_fully`.

    Raises:
        ValueError: no such model, or one whose head the packed loss cannot compute.
    """
    import transformers

    transformers.utils.logging.disable_progress_bar()
    path, extra = model_path(config.path)
    adapter = adapter_folder(config.path)
    if adapter is not None and config.lora_rank and not frozen:
        raise ValueError(
            f"model.lora_rank = {config.lora_rank} on model.path = {config.path!r}, which is an adapter "
            "itself: take its merged model, which a run leaves beside it"
        )
    files = files or read_model_files(config.path, path, extra)

    def load() -> tuple[Any, Any]:
        return transformers.AutoModelForCausalLM.from_pretrained(  # type: ignore[no-any-return]
            path,
            output_loading_info=True,
            dtype="auto",
            attn_implementation=register_attention(),
            trust_remote_code=False,
            use_safetensors=None if extra else True,  # no pickles, from the hub neither
            **extra,
        )

    model, loading = reading(config.path, "its weights", load)
    wrong = sorted(loading["missing_keys"]) or [n for n, p in model.named_parameters() if not _finite(p)]
    if wrong:
        raise ValueError(
            f"model.path = {config.path!r}: {len(wrong)} weights are missing or not finite, {wrong[0]} among "
            "them"
        )
    if "gguf_file" in extra:  # read as plain numbers, trained and saved as such
        del model.config.quantization_config
        model.hf_quantizer = None
    check_head(model)
    if adapter is not None:
        model = merge_folder(model, adapter, path)
    make_saveable(model)
    if config.activation_checkpointing:
        model.gradient_checkpointing_enable(gradient_checkpointing_kwargs={"use_reentrant": False})
    dtype = compute_dtype(config, device)
    if config.lora_rank and not frozen:
        add_adapters(model, config, dtype, seed, device)
    model = model.to(device) if whole else model
    return Policy(model.train(), files.tokenizer, dtype, frozen=frozen, whole=whole)


def make_saveable(model: Any) -> None:
    """transformers reads a generation_config.json that it refuses to write, such as a temperature without
    `do_sample`. Of such a one the ids stay, so that the trained model can be saved."""
    before = model.generation_config
    try:
        before.validate(strict=True)
    except ValueError:
        ids = {name: getattr(before, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
        model.generation_config = type(before)(**ids)


def _finite(weight: Tensor) -> bool:
    return bool(weight.isfinite().all())


def check_head(model: Any) -> None:
    head, config = model.get_output_embeddings(), model.config
    if head is None or getattr(head, "bias", None) is not None:
        raise ValueError(f"{config.model_type}: the output layer must be linear without bias")
    for name in ("final_logit_softcapping", "logit_scale", "logits_scaling"):
        if getattr(config, name, None) not in (None, 1.0):
            raise ValueError(
                f"{config.model_type}: {name} = {getattr(config, name)} is not supported, only none"
            )


def compute_dtype(config: ModelConfig, device: torch.device) -> torch.dtype:
    """`auto`: bfloat16 where the hardware multiplies it natively."""
    if config.dtype != "auto":
        return torch.bfloat16 if config.dtype == "bfloat16" else torch.float32
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported(including_emulation=False)
    else:
        native = torch.cpu._is_avx512_bf16_supported()
    return torch.bfloat16 if native else torch.float32
