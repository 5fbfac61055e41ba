"""What a model's files say before its weights are read, and what of it no run can use."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from huggingface_hub import try_to_load_from_cache
from safetensors import safe_open

from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.agent.template import USERS
from lamer_fast.config import RolloutConfig
from lamer_fast.model.architecture import LAYOUTS, Architecture, decoder_computes
from lamer_fast.say import log
from lamer_fast.strict_json import finite, json_text

T = TypeVar("T")
NEEDED = ("hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size")
UNSCALED = ("default", "llama3")  # rotary positions whose max_position_embeddings counts all of them


@dataclass(frozen=True)
class ModelFiles:
    name: str  # as model.path has it
    config: Any  # transformers' configuration of the model
    tokenizer: Any
    eos_ids: tuple[int, ...]  # what generation_config.json, or else config.json, ends a text with
    shape: Any  # the model on the meta device, without weights
    thinking: bool = False  # as model.thinking has it

    @property
    def num_parameters(self) -> int:
        return sum(parameter.numel() for parameter in self.shape.parameters())

    def renderer(self) -> ChatRenderer:
        """Raises ValueError when the chat template cannot be continued turn by turn."""
        return ChatRenderer(self.tokenizer, self.eos_ids, thinking=self.thinking)

    def check(self, rollout: RolloutConfig, *, training: bool) -> None:
        """Raises ValueError when sequences may grow longer than the model has positions, or the sampler, the
        trainer or the plan of a run does not know its architecture."""
        if rollout.sampler == "torch":
            try:
                Architecture.of(self.config)
            except ValueError as error:
                raise ValueError(f"rollout.sampler = 'torch' cannot sample this model: {error}") from None
        config = self.config.get_text_config()
        absent = [name for name in NEEDED if getattr(config, name, None) is None]
        if absent or config is not self.config:
            why = f"its configuration has no {absent[0]}" if absent else "it has more than a decoder of text"
            raise ValueError(f"model type {self.config.model_type!r} is not supported: {why}")
        if training:
            decoder_computes(config)
        positions, longest = getattr(config, "max_position_embeddings", None), rollout.max_sequence_tokens
        scaling = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
        if positions is not None and scaling in UNSCALED and longest > positions:
            raise ValueError(
                f"rollout.max_sequence_tokens = {longest}, but model.path = {self.name!r} has {positions} "
                f"positions (max_position_embeddings); take at most {positions}"
            )


def read_model_files(name: str, path: str, extra: dict[str, str]) -> ModelFiles:
    """Configuration, tokenizer and the heads of the files of weights, compared with each other.

    Args:
        name: model.path.
        path: a folder or hub id.
        extra: further arguments of from_pretrained.

    Raises:
        ValueError: a file is missing or damaged, the model is quantised or smaller than its tokenizer.
    """
    import transformers

    def load(kind: Any) -> Any:
        return kind.from_pretrained(path, trust_remote_code=False, **extra)

    def shape() -> Any:
        with torch.device("meta"):
            return transformers.AutoModelForCausalLM.from_config(config, trust_remote_code=False)

    if Path(path).is_dir() and not extra:
        reading(name, "its files", lambda: _check_files(Path(path)))
    elif not extra and try_to_load_from_cache(path, "config.json") is None:
        log.warning(f"asking the hub for {path}")
    hint = (
        "" if extra or Path(path).is_dir() else "; without the hub, give a folder of it: --model.path FOLDER"
    )
    config = reading(name, "its configuration", lambda: load(transformers.AutoConfig), hint)
    tokenizer = reading(name, "its tokenizer", lambda: load(transformers.AutoTokenizer))
    eos_ids = reading(name, "generation_config.json", lambda: _eos_ids(path, config, bool(extra)))
    quantisation = getattr(config, "quantization_config", None)
    if quantisation is not None and not extra:
        method = quantisation.get("quant_method") if isinstance(quantisation, dict) else quantisation
        raise ValueError(
            f"model.path = {name!r} is quantised ({method}); training needs weights in float32, bfloat16 or "
            "float16"
        )
    ids = tokenizer(USERS[0], add_special_tokens=False)["input_ids"]
    if not set(ids) - {tokenizer.unk_token_id}:
        raise ValueError(f"model.path = {name!r}: the tokenizer knows no letters, {USERS[0]!r} is {ids}")
    rows, num_ids = config.get_text_config().vocab_size, num_tokenizer_ids(tokenizer)
    if num_ids > rows:
        raise ValueError(
            f"model.path = {name!r}: the tokenizer has {num_ids} ids, the model {rows} rows of embeddings; "
            "take the model's own tokenizer, or resize the model to it (resize_token_embeddings)"
        )
    meta = reading(name, "its configuration", shape)
    if not extra and config.model_type in LAYOUTS and Path(path).is_dir():
        reading(name, "its weights", lambda: _check_weights(Path(path), meta))
    return ModelFiles(name, config, tokenizer, tuple(i for i in eos_ids if i < num_ids), meta)


def num_tokenizer_ids(tokenizer: Any) -> int:
    """One more than the largest id; ids in between may be unused."""
    return int(max(tokenizer.get_vocab().values())) + 1


def reading(name: str, what: str, load: Callable[[], T], hint: str = "") -> T:
    """`load()`, quietly. ValueError with one line for whatever a library says of a file that is missing, cut
    or of another kind."""
    try:
        with _quiet():
            return load()
    except Exception as error:
        text = " ".join(str(error).split()) or type(error).__name__
        raise ValueError(f"model.path = {name!r} cannot be loaded, {what}: {text}{hint}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Without what transformers and the hub's client tell their users beside the error."""
    from huggingface_hub.utils import logging as hub
    from transformers.utils import logging

    before = [(library, library.get_verbosity()) for library in (logging, hub)]
    for library, _ in before:
        library.set_verbosity(logging.CRITICAL)
    try:
        yield
    finally:
        for library, verbosity in before:
            library.set_verbosity(verbosity)


def _check_files(folder: Path) -> None:
    """Every JSON file that is read is an object, and the weights are there as safetensors."""
    for file in (folder / name for name in JSON_FILES):
        if not file.is_file():
            continue
        try:
            found = json.loads(file.read_bytes())
        except ValueError as error:  # of bytes that are no text, too
            raise ValueError(f"{file.name} is damaged, expected a JSON object: {error}") from None
        if not isinstance(found, dict):
            raise ValueError(f"{file.name} holds {json_text(finite(found))[:40]}, expected a JSON object")
    if not (folder / "config.json").is_file():
        raise ValueError("there is no config.json")
    if not (folder / "model.safetensors").is_file() and not (folder / INDEX).is_file():
        others = sorted(path.name for path in folder.iterdir() if path.suffix in (".bin", ".pt", ".pth"))
        found = f"; {others[0]} is not read, convert it" if others else ""
        raise ValueError(f"there is neither model.safetensors nor {INDEX}{found}")


INDEX = "model.safetensors.index.json"
JSON_FILES = (
    "config.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json",
    "special_tokens_map.json", "added_tokens.json", INDEX,
)  # fmt: skip


def _eos_ids(path: str, config: Any, is_file: bool) -> list[int]:
    import transformers

    file = Path(path) / "generation_config.json"
    values = config.get_text_config()
    if not is_file and file.is_file():  # the folder of a GGUF file is not its own
        values = transformers.GenerationConfig(**json.loads(file.read_bytes()))
    elif not Path(path).is_dir():
        with suppress(OSError):  # the hub has none
            values = transformers.GenerationConfig.from_pretrained(path)
    eos = getattr(values, "eos_token_id", None)
    ids = [] if eos is None else eos if isinstance(eos, list) else [eos]
    if not all(type(i) is int and i >= 0 for i in ids):
        raise ValueError(f"eos_token_id = {eos!r}, must be an id or a list of ids")
    return ids


def _check_weights(folder: Path, model: Any) -> None:
    """Names and shapes in the heads of the folder's safetensors files, which are all that is read of them."""
    index = folder / INDEX
    shards = sorted(set(json.loads(index.read_bytes())["weight_map"].values())) if index.is_file() else []
    files = [folder / shard for shard in shards] or [folder / "model.safetensors"]
    found: dict[str, tuple[int, ...]] = {}
    for file in files:
        found |= _shapes(file)
    weights = {name: tuple(weight.shape) for name, weight in model.named_parameters()}
    if not weights.keys() & found.keys():  # of the trunk alone
        found = {f"{model.base_model_prefix}.{name}": shape for name, shape in found.items()}
    absent = sorted(weights.keys() - found.keys())
    if absent:
        count = f"{len(absent)} of the {len(weights)} that config.json asks for are missing"
        raise ValueError(f"{count}, {absent[0]} among them")
    for name, shape in weights.items():
        if found[name] != shape:
            raise ValueError(f"{name} has shape {found[name]}, by config.json it is {shape}")


def _shapes(file: Path) -> dict[str, tuple[int, ...]]:
    try:
        with safe_open(file, "pt") as head:
            return {name: tuple(head.get_slice(name).get_shape()) for name in head.keys()}  # noqa: SIM118
    except Exception as error:
        raise ValueError(f"{file.name}: {error}") from error
