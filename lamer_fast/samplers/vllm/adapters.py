"""Adapters beside vLLM's own copy of a frozen base: the base comes once, the adapter after every update.

vLLM's public way for an adapter is a folder; here the tensors go over in memory, into the one slot there is.
"""

from collections.abc import Iterator, Mapping
from typing import Any, get_args

from torch import Tensor

from lamer_fast.config import ModelConfig

ADAPTER_ID = 1
BASE_FORMAT = "lamer-frozen-base"


def adapter_options(config: ModelConfig) -> dict[str, Any]:
    """Arguments of `vllm.LLM` for one adapter of this rank at a time."""
    from vllm.config.lora import MaxLoRARanks

    rank = min(size for size in get_args(MaxLoRARanks) if size >= config.lora_rank)
    return dict(enable_lora=True, max_loras=1, max_cpu_loras=1, max_lora_rank=rank, load_format=BASE_FORMAT)


def adapter_request() -> Any:
    """What a request names to be answered with the adapter. Its path is never read: the id is known."""
    from vllm.lora.request import LoRARequest

    return LoRARequest("policy", ADAPTER_ID, "in memory")


def register_base(weights: Iterator[tuple[str, Tensor]]) -> None:
    """The next engine of `BASE_FORMAT` starts with `weights`, by their Hugging Face names.

    Once adapters wrap its layers, vLLM's transfer of weights no longer finds them.
    """
    from vllm.model_executor.model_loader import register_model_loader
    from vllm.model_executor.model_loader.base_loader import BaseModelLoader

    class FrozenBase(BaseModelLoader):  # type: ignore[misc]
        def download_model(self, model_config: Any) -> None:
            pass

        def load_weights(self, model: Any, model_config: Any) -> None:
            model.load_weights(weights)

    register_model_loader(BASE_FORMAT)(FrozenBase)


def load_adapter(model: Any, tensors: Mapping[str, Tensor], config: ModelConfig) -> None:
    """Replaces the adapter of vLLM's module. What was there is freed.

    Args:
        tensors: under the names of a peft folder; copied.

    Raises:
        ValueError: vLLM has no such layer.
    """
    from vllm.lora.lora_model import LoRAModel
    from vllm.lora.peft_helper import PEFTHelper

    manager = model.lora_manager
    settings = PEFTHelper(
        r=config.lora_rank, lora_alpha=config.lora_alpha, target_modules=config.lora_targets
    )
    copies = {name: x.to(manager.lora_config.lora_dtype, copy=True) for name, x in tensors.items()}
    adapter = LoRAModel.from_lora_tensors(ADAPTER_ID, copies, settings, device=manager.device)
    packed = (name for names in manager.packed_modules.values() for name in names)
    unknown = sorted(adapter.loras.keys() - manager.modules.keys() - set(packed))
    if unknown:
        raise ValueError(f"vLLM has no layer {unknown[0]} for the adapter: take rollout.adapter = 'merged'")
    manager.remove_adapter(ADAPTER_ID)
    manager.add_adapter(adapter)
    manager.activate_adapter(ADAPTER_ID)
