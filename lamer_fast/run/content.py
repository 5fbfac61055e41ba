"""What a checkpoint folder holds, read and proven whole before anything of it reaches a run."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from lamer_fast.learn.optimizer_state import check_finite, check_tensor
from lamer_fast.run import shards
from lamer_fast.run.state import TrainState
from lamer_fast.strict_json import json_text

FORMAT = 1
MASTERS, OPTIMIZER, COUNTERS = "masters.safetensors", "optimizer.safetensors", "state.json"
COUNTS = ("iteration", "num_updates", "skipped_in_row", "skipped")


@dataclass(frozen=True)
class Content:
    """Of one checkpoint."""

    counters: dict[str, Any]
    masters: dict[str, torch.Tensor]
    optimizer: dict[str, torch.Tensor]

    @classmethod
    def of(cls, state: TrainState) -> "Content":
        counters = {
            "format": FORMAT,
            "iteration": state.iteration,
            "num_updates": state.optimizer.num_updates,
            "skipped_in_row": state.skipped_in_row,
            "skipped": state.skipped,
            "best": state.best,
            "prompts": state.agent.renderer.prompts(),
            "torch": torch.__version__,
        }
        if state.curriculum is not None:
            counters["curriculum"] = state.curriculum.saved()
        masters: dict[str, torch.Tensor] = {}
        optimizer: dict[str, torch.Tensor] = {}
        for name, trained in state.algorithm.trainables.items():
            masters |= {_full(name, key): x for key, x in trained.module.masters.saved().items()}
            optimizer |= {_full(name, key): x for key, x in trained.optimizer.state_tensors().items()}
        return cls(counters, masters, optimizer)

    def put(self, state: TrainState) -> None:
        """Into a state that `check` has compared it with."""
        for name, trained in state.algorithm.trainables.items():
            trained.module.masters.load(_of(name, self.masters))
            trained.optimizer.load_state_tensors(_of(name, self.optimizer))
            trained.optimizer.num_updates = self.counters["num_updates"]
        state.iteration = self.counters["iteration"]
        state.skipped_in_row, state.skipped = self.counters["skipped_in_row"], self.counters["skipped"]
        state.best = self.counters["best"]
        if state.curriculum is not None:
            state.curriculum.load(self.counters["curriculum"])

    def check(self, state: TrainState) -> None:
        """Raises ValueError naming the first part of a prompt that `state` writes differently, or the first
        tensor that it cannot have."""
        prompts = self.counters.get("prompts", {})  # none in checkpoints of the first version
        for part, now in state.agent.renderer.prompts().items():
            if part in prompts and prompts[part] != now:
                raise ValueError(
                    f"its prompts have {part} = {prompts[part]!r}, by the model's files it is {now!r}: chat "
                    "template, tokenizer or generation_config.json are others"
                )
        if state.curriculum is not None:
            state.curriculum.check(self.counters.get("curriculum"))
        trainables = state.algorithm.trainables
        masters = {_full(n, key): x for n, t in trainables.items() for key, x in t.module.masters.items()}
        if odd := sorted(self.masters.keys() ^ masters.keys()):
            where = "checkpoint" if odd[0] in self.masters else "model"
            raise ValueError(f"it is of another model: only the {where} has {odd[0]}")
        for name, master in masters.items():
            check_tensor(name, self.masters[name], master.shape, master.dtype)
            check_finite(name, self.masters[name])
        if foreign := sorted(key for key in self.optimizer if _owner(key) not in trainables):
            raise ValueError(f"the optimizer's state has {foreign[0]!r}, which is no parameter of the model")
        for name, trained in trainables.items():
            trained.optimizer.check_state_tensors(_of(name, self.optimizer), self.counters["num_updates"])

    def write(self, folder: Path) -> None:
        """Two files beside the counters."""
        save_file(self.masters, folder / MASTERS)
        save_file(self.optimizer, folder / OPTIMIZER)
        self.write_counters(folder)

    def write_rows(self, folder: Path) -> None:
        """This rank's, in one file; every rank calls it. The counters are left to rank 0."""
        shards.write(folder, self.masters | self.optimizer)

    def write_counters(self, folder: Path) -> None:
        """Last: they hold a checksum of what is there and of themselves."""
        files = sorted(path.name for path in folder.glob("*.safetensors"))
        counters = self.counters | {"sha256": {name: _digest(folder / name) for name in files}}
        counters["sha256"][COUNTERS] = _own_digest(counters)
        (folder / COUNTERS).write_text(json_text(counters, indent=1))


def _full(trainable: str, key: str) -> str:
    """The name of a tensor in a file; the policy's stand under their own."""
    return key if trainable == "policy" else f"{trainable}:{key}"


def _of(trainable: str, tensors: Mapping[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Inverse of `_full`: the tensors of one trainable."""
    return {key.rpartition(":")[2]: x for key, x in tensors.items() if _owner(key) == trainable}


def _owner(full: str) -> str:
    return full.partition(":")[0] if ":" in full else "policy"


def read(folder: Path, state: TrainState) -> Content:
    """The content of `folder`, which `state` can take: where its masters are sharded, this rank's rows.

    Raises:
        ValueError: it is damaged, a copy under another name, or of another model; names what is wrong.
    """
    try:
        counters = _read_counters(folder)
        for name, digest in counters.get("sha256", {}).items():  # none in checkpoints of the first version
            found = _own_digest(counters) if name == COUNTERS else _digest(folder / name)
            if found != digest:
                raise ValueError(f"{name} is damaged: its SHA-256 is {found[:12]}..., was {digest[:12]}...")
        content = Content(counters, *_tensors(folder, state))
        content.check(state)
    except Exception as error:
        raise ValueError(f"checkpoint {folder} cannot be used: {error}") from error
    return content


def _tensors(folder: Path, state: TrainState) -> tuple[dict[str, torch.Tensor], dict[str, torch.Tensor]]:
    """Masters and optimizer."""
    trainables = state.algorithm.trainables
    sharded = any(trained.module.masters.is_sharded for trained in trainables.values())
    if not sharded and (folder / MASTERS).is_file():
        return load_file(folder / MASTERS), load_file(folder / OPTIMIZER)
    masters = {_full(n, key): x for n, t in trainables.items() for key, x in t.module.masters.items()}
    found = shards.read(folder, masters)
    of_optimizer = {key: x for key, x in found.items() if "/" in key}  # no parameter's name has one
    return {key: x for key, x in found.items() if key not in of_optimizer}, of_optimizer


def _read_counters(folder: Path) -> dict[str, Any]:
    counters = json.loads((folder / COUNTERS).read_bytes())
    if not isinstance(counters, dict):
        raise ValueError(f"{COUNTERS} is no JSON object")
    if counters.get("format") != FORMAT:
        raise ValueError(f"it has format {counters.get('format')!r}, this version reads {FORMAT}")
    for key in COUNTS:
        value = counters.get(key)
        if type(value) is not int or value < 0:
            raise ValueError(f"{COUNTERS} has {key} = {value!r}, must be a count")
    best = counters.get("best")
    if not isinstance(best, dict) or not best.keys() >= {"iteration", "score"}:
        raise ValueError(f"{COUNTERS} has best = {best!r}, must hold iteration and score")
    if folder.name != name_of(counters["iteration"]):
        raise ValueError(
            f"it holds the state after iteration {counters['iteration']}, whose folder is "
            f"{name_of(counters['iteration'])}: a copy under another name"
        )
    return counters


def name_of(iteration: int) -> str:
    """Folder of the state after so many iterations."""
    return f"{iteration:06d}"


def _digest(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _own_digest(counters: Mapping[str, Any]) -> str:
    """Of everything in the counters but this digest itself."""
    files = {name: digest for name, digest in counters["sha256"].items() if name != COUNTERS}
    text = json_text({**counters, "sha256": files}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
