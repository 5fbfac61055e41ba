"""The trained policy as a Hugging Face folder in the run's."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lamer_fast.files import replace_folder
from lamer_fast.model.adapters import adapter_settings, adapter_weights, save_adapter
from lamer_fast.model.path import base_name
from lamer_fast.model.quantised import num_weights
from lamer_fast.run.state import TrainState


def model_bytes(state: TrainState) -> int:
    policy = state.policy
    if state.is_sharded_fully:
        return num_weights(policy.model) * policy.dtype.itemsize
    return sum(weight.nbytes for _, weight in policy.named_weights())


def gather_weights(state: TrainState) -> tuple[dict[str, Any], dict[str, Any]]:
    """By name the weights, adapters merged, and these apart; every rank calls it.

    All of them on rank 0, and there on the host where it gathers them from the others.
    """
    policy, first = state.policy, state.ranks.is_first
    if not state.is_sharded_fully:
        named = dict(policy.named_weights()) if first else {}
        return named, adapter_weights(policy.model) if first else {}
    named = {name: weight.cpu() for name, weight in policy.named_weights() if first}
    return named, adapter_weights(policy.model)


def save_model(state: TrainState, folder: Path) -> None:
    """`folder`/model: a Hugging Face folder that transformers and vLLM load, in the compute dtype; with
    adapters merged, and these as a peft folder beside it."""
    policy, (weights, adapter) = state.policy, gather_weights(state)

    def write(path: Path) -> None:
        policy.model.save_pretrained(path, state_dict=weights)
        policy.tokenizer.save_pretrained(path)

    def write_adapter(path: Path) -> None:
        settings = adapter_settings(state.config.model, policy.model, base_name(state.config.model.path))
        save_adapter(policy.model, adapter, settings, path)

    replace_folder(folder / "model", write, model_bytes(state))
    if policy.has_adapters:
        adapter_bytes = 4 * policy.masters.num_elements
        replace_folder(folder / "adapter", write_adapter, adapter_bytes)
