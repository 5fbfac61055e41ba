"""LoRA and DoRA through `peft`: small float32 layers beside projections that stay as they are.

The layers go into the model in place, under the names of the projections they wrap, so that the decoder calls
them as modules. With the base in another type they stay float32. No peft is imported for a model without.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lamer_fast.config import ModelConfig
from lamer_fast.model.path import ADAPTER_CONFIG, ADAPTER_WEIGHTS
from lamer_fast.model.quantised import all_weights, quantise_base, quantised_layers, round_base
from lamer_fast.model.rows import whole
from lamer_fast.strict_json import json_text

NAME = "default"  # peft's, of the one adapter
PREFIX = "base_model.model."  # of names in a peft folder
BASE = "lamer_fast.base"  # in the head of its file: what a quantised base was, as "nf4 bfloat16"


@torch.no_grad()
def add_adapters(
    model: Any,
    config: ModelConfig,
    dtype: torch.dtype,
    seed: int,
    device: torch.device = torch.device("cpu"),  # noqa: B008
) -> None:
    """Adapters around the projections that `config.lora_targets` names; all other parameters are frozen.

    The model computes the same as before, in `dtype`, and of a base that `config.base_format` quantises the
    same as that. Embedding and head take none: sampler and loss read their weights, and where they are tied
    an adapter on one of them would be an adapter on half of it.

    Args:
        device: where quantised layers are made, one after another; the rest stays where it is.

    Raises:
        ValueError: no peft or bitsandbytes, a target that the model does not have, embedding or head as one.
    """
    peft = require_peft("model.lora_rank > 0")
    names = [name.strip() for name in config.lora_targets.split(",") if name.strip()]
    check_targets(model, names)
    for parameter in model.parameters():
        parameter.data = parameter.data.to(dtype)
    settings = peft.LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules="all-linear" if names == ["all-linear"] else names,
        use_dora=config.dora,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=config.path,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        peft.inject_adapter_in_model(settings, model, adapter_name=NAME)
    if config.base_format != "plain":
        quantise_base(model, config.base_format, dtype, device)
    for layer in adapted(model).values():
        for parameter in adapter_parameters(layer).values():
            parameter.data = parameter.data.float()
        if config.dora:  # peft takes the norm in the base's type: in bf16 the first policy were another one
            layer.lora_magnitude_vector[NAME].weight.data = row_norms(layer.base_layer.weight)


def require_peft(what: str) -> Any:
    try:
        import peft
    except ImportError:
        raise ValueError(
            f"{what} needs peft, which is not installed: pip install 'lamer-fast[lora]'"
        ) from None
    return peft


def check_targets(model: Any, names: list[str]) -> None:
    if names == ["all-linear"]:
        return
    both = (model.get_input_embeddings(), model.get_output_embeddings())
    ends = {name.rpartition(".")[2]: m for name, m in model.named_modules() if hasattr(m, "weight")}
    linear = sorted(end for end, m in ends.items() if isinstance(m, nn.Linear) and m not in both)
    for name in names or [""]:
        if any(ends.get(name) is one for one in both):
            raise ValueError(
                f"model.lora_targets has {name!r}: embedding and head take no adapter, since the sampler and "
                f"the loss read their weights, and they may be one tensor; this model has {', '.join(linear)}"
            )
        if name not in linear:
            raise ValueError(
                f"model.lora_targets has {name!r}, must be all-linear or of this model's {', '.join(linear)}"
            )


def adapted(model: nn.Module) -> dict[str, Any]:
    """Name of a projection -> the layer that wraps it; empty for a model without adapters."""
    return {name: module for name, module in model.named_modules() if hasattr(module, "lora_A")}


def adapter_parameters(layer: Any) -> dict[str, nn.Parameter]:
    """Of one wrapping layer, by name in it."""
    found = layer.named_parameters()
    return {name: parameter for name, parameter in found if not name.startswith("base_layer.")}


def adapter_names(model: nn.Module) -> frozenset[str]:
    """Names of all parameters that belong to adapters."""
    layers = adapted(model).items()
    return frozenset(f"{name}.{own}" for name, layer in layers for own in adapter_parameters(layer))


@contextmanager
def without_adapters(model: nn.Module) -> Iterator[None]:
    """The frozen base, for passes without gradients."""
    layers = adapted(model).values()
    for layer in layers:
        layer.enable_adapters(False)
    try:
        yield
    finally:
        for layer in layers:
            layer.enable_adapters(True)


@torch.no_grad()
def merged_weight(layer: Any) -> Tensor:
    """[out, in] in the base's type: one rounding of what base and adapter are together.

    As all that gives whole tensors here, every rank calls it where each has rows of these.
    """
    base, down = whole(layer.base_layer.weight), whole(layer.lora_A[NAME].weight)
    weight = base.float() + whole(layer.lora_B[NAME].weight) @ down * layer.scaling[NAME]
    if NAME in layer.lora_magnitude_vector:
        weight *= (whole(layer.lora_magnitude_vector[NAME].weight) / row_norms(weight))[:, None]
    merged: Tensor = weight.to(base.dtype)
    return merged


def row_norms(weight: Tensor) -> Tensor:
    """[out] float32."""
    norms: Tensor = torch.linalg.vector_norm(weight.float(), dim=1)
    return norms


def merged_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Full tensors under their names in the model without adapters, one at a time, tied ones once."""
    layers, own = adapted(model), adapter_names(model)
    for name, weight in all_weights(model):
        if name in own:
            continue
        parent, _, last = name.rpartition(".base_layer.")
        if parent and last == "weight":
            yield f"{parent}.weight", merged_weight(layers[parent])
        else:
            yield name.replace(".base_layer.", "."), whole(weight)


def base_weights(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """As `merged_weights`, of the base alone."""
    own = adapter_names(model)
    for name, weight in all_weights(model):
        if name not in own:
            yield name.replace(".base_layer.", "."), whole(weight)


def merged_copy(model: Any) -> Any:
    """A plain model of the merged weights; what has no adapter is shared with `model`."""
    layers = adapted(model)
    wrapped = {id(p) for layer in layers.values() for p in layer.parameters()}
    shared = {id(p): p for p in model.parameters() if id(p) not in wrapped}
    kept = {id(layer): layer for layer in quantised_layers(model)}
    plain = copy.deepcopy(model, {**shared, **kept})
    for name, layer in layers.items():
        parent, _, last = name.rpartition(".")
        weight, bias = merged_weight(layer), plain.get_submodule(name).base_layer.bias
        linear = nn.Linear(weight.shape[1], weight.shape[0], bias=bias is not None, device="meta")
        linear.weight, linear.bias = nn.Parameter(weight, requires_grad=False), bias
        setattr(plain.get_submodule(parent), last, linear)
    return plain


def adapter_weights(model: nn.Module) -> dict[str, Tensor]:
    """Float32, under the names of a peft folder."""
    renamed = {}
    for name, layer in adapted(model).items():
        for own, parameter in adapter_parameters(layer).items():
            kind, _, rest = own.partition(f".{NAME}")
            suffix = "" if kind == "lora_magnitude_vector" else rest
            renamed[f"{PREFIX}{name}.{kind}{suffix}"] = whole(parameter.detach())
    return renamed


def adapter_settings(config: ModelConfig, model: nn.Module, base: str) -> dict[str, Any]:
    """adapter_config.json of a peft folder; `base` is where its base is found."""
    peft = require_peft("an adapter's folder")
    settings = peft.LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,
        target_modules=sorted({name.rpartition(".")[2] for name in adapted(model)}),
        use_dora=config.dora,
        lora_dropout=0.0,
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=base,
        inference_mode=True,
    )
    return {key: sorted(x) if isinstance(x, set) else x for key, x in settings.to_dict().items()}


def save_adapter(
    model: nn.Module, tensors: Mapping[str, Tensor], settings: dict[str, Any], folder: Path
) -> None:
    """A folder that peft and vLLM load; says what its base was quantised to, if it was.

    Args:
        tensors: `adapter_weights` of `model`.
    """
    (folder / ADAPTER_CONFIG).write_text(json_text(settings, indent=1, default=str))
    weights = {name: x.contiguous().cpu() for name, x in tensors.items()}
    said = {"format": "pt"}
    if layers := quantised_layers(model):
        said[BASE] = f"{layers[0].kind} {str(layers[0].dtype)[6:]}"
    save_file(weights, folder / ADAPTER_WEIGHTS, metadata=said)


def merge_folder(model: Any, folder: Path, base: str) -> Any:
    """`model`, the base, with the adapter of a peft folder in its weights. Of an adapter that was trained on
    a quantised base, the base is rounded to what that was.

    Raises:
        ValueError: no peft or bitsandbytes, or an adapter of another model; the message names both.
    """
    peft = require_peft(f"{folder}, an adapter's folder,")
    found = load_file(folder / ADAPTER_WEIGHTS)
    with safe_open(folder / ADAPTER_WEIGHTS, "pt") as file:
        rounded = (file.metadata() or {}).get(BASE)
    if rounded is not None:
        kind, dtype = rounded.split()
        round_base(model, kind, getattr(torch, dtype))
    try:
        # the base's own file of an adapter is checked below, tensor by tensor: peft would only warn
        wrapped = peft.PeftModel.from_pretrained(model, folder, autocast_adapter_dtype=False)
    except Exception as error:
        text = " ".join(str(error).split())
        raise ValueError(f"the adapter {folder} does not fit its base {base}: {text}") from error
    expected = peft.get_peft_model_state_dict(wrapped, save_embedding_layers=False)
    odd = sorted(expected.keys() ^ found.keys())
    if odd:
        where = "adapter" if odd[0] in found else "base"
        raise ValueError(f"the adapter {folder} does not fit its base {base}: only the {where} has {odd[0]}")
    return wrapped.merge_and_unload()
