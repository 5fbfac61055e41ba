"""Functions of SkyRL, prime-rl and slime from a checkout, without the imports that they do not use.

Each takes the folder that holds the package and returns modules by name.
"""

import sys
import typing
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import torch


def stub(name: str, **attributes: Any) -> None:
    module = ModuleType(name)
    vars(module).update(attributes)
    sys.modules[name] = module


def package(name: str, folder: Path) -> None:
    """A package whose ``__init__`` does not run."""
    stub(name, __path__=[str(folder)])


def skyrl(folder: Path) -> SimpleNamespace:
    if sys.version_info < (3, 12):  # pydantic refuses the standard library's before
        import typing_extensions

        typing.TypedDict = typing_extensions.TypedDict  # type: ignore[assignment, misc]
    sys.path[:0] = [str(folder), str(folder / "skyrl-gym")]
    return SimpleNamespace(
        ppo=import_module("skyrl.backends.skyrl_train.utils.ppo_utils"),
        config=import_module("skyrl.train.config"),
    )


@dataclass
class DefaultLossConfig:
    dppo_mask_low: float = 0.2
    dppo_mask_high: float = 0.2
    adv_tau: float = 1.0
    kl_tau: float = 1e-3


def prime_rl(folder: Path) -> SimpleNamespace:
    torch.compile = lambda *_, **__: lambda f: f  # type: ignore[assignment]
    for name in ("", ".trainer", ".trainer.rl", ".trainer.models", ".trainer.models.layers"):
        package(f"prime_rl{name}", folder / f"prime_rl{name}".replace(".", "/"))
    names = ("CustomLossConfig", "IPOLossConfig", "LossConfig")
    stub("prime_rl.configs")
    stub("prime_rl.utils")
    stub(
        "prime_rl.configs.trainer",
        DefaultLossConfig=DefaultLossConfig,
        **{name: type(name, (), {}) for name in names},
    )
    stub("prime_rl.utils.utils", import_object=None)
    stub("prime_rl.utils.logger", get_logger=lambda: SimpleNamespace(info=print))
    stub("prime_rl.utils.vlm", get_final_logit_softcapping=lambda config: None)
    return SimpleNamespace(
        loss=import_module("prime_rl.trainer.rl.loss"),
        head=import_module("prime_rl.trainer.models.layers.lm_head"),
    )


def slime(folder: Path) -> SimpleNamespace:
    torch.compile = lambda *_, **__: lambda f: f  # type: ignore[assignment]
    sys.path.insert(0, str(folder))
    one = {"get_context_parallel_world_size": lambda: 1}
    groups = ("get_tensor_model_parallel_group", "get_context_parallel_group")
    none = {name: lambda *_, **__: None for name in groups}
    stub("megatron")
    stub("megatron.core", mpu=SimpleNamespace(**one, **none))
    stub("slime.utils.http_utils", is_port_available=None)
    package("slime.backends.megatron_utils", folder / "slime/backends/megatron_utils")
    return SimpleNamespace(
        loss=import_module("slime.backends.megatron_utils.loss"),
        cp=import_module("slime.backends.megatron_utils.cp_utils"),
        groups=import_module("slime.rollout._fanout_test_helpers"),
        types=import_module("slime.utils.types"),
    )
