"""What `train --dry-run` says of an update's memory against what a process takes for it, on a CPU.

A row is the peak of a process of its own over two updates of two micro-batches each, every token trained,
less what it held when all code was loaded: resident memory, with what malloc keeps given back. `plan` is the
sum of the parts of `lamer_fast.cost` that are there while updating; it should be off by at most 15 %.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import subprocess
import sys
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

from harness import ROOT, Case, Row, main

SHAPES = {  # hidden, inner, layers, heads, kv heads, head size, vocabulary
    "0.85M": (128, 384, 4, 4, 2, 32, 512),
    "25M": (384, 1024, 12, 6, 2, 64, 8192),
    "135M": (576, 1536, 30, 9, 3, 64, 49_152),
}
TOKENS = {"0.85M": 8192, "25M": 2048, "135M": 256}  # of a micro-batch; a process stays below 3 GB
SETTINGS = {
    "full": [],
    "checkpointed": ["--model.activation-checkpointing=true"],
    "adapters": ["--model.lora-rank=8"],
}
LENGTH, MAX_ERROR = 256, 0.15


def resident(key: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) << 10 for line in lines if line.startswith(key))


def save_model(folder: str, shape: tuple[int, ...]) -> None:
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from lamer_fast.model.path import SHIPPED

    hidden, inner, layers, heads, kv_heads, head_size, vocab = shape
    config = Qwen3Config(
        vocab_size=vocab, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=kv_heads, head_dim=head_size,
        tie_word_embeddings=True, max_position_embeddings=8192,
    )  # fmt: skip
    torch.manual_seed(0)
    Qwen3ForCausalLM(config).bfloat16().save_pretrained(folder)
    base = SHIPPED["sokoban-tiny-base"]
    for file in (*base.glob("token*"), *base.glob("chat_template*")):
        (Path(folder) / file.name).write_bytes(file.read_bytes())


def measure(size: str, setting: str) -> dict[str, float]:
    """{"measured", "plan"} in bytes; of this process, once."""
    import torch

    from lamer_fast.config.resolve import resolve
    from lamer_fast.cost.memory import memory_of
    from lamer_fast.cost.tokens import TokenBounds
    from lamer_fast.learn.batch import Packed, PolicyBatch
    from lamer_fast.learn.policy import load_policy, read_model
    from lamer_fast.learn.update import LearnStats, update
    from lamer_fast.run.state import make_algorithm

    torch.set_num_threads(1)
    tokens, cpu, trim = TOKENS[size], torch.device("cpu"), ctypes.CDLL("libc.so.6").malloc_trim

    def make(config: Any, count: int) -> Any:
        policy = load_policy(config.model, cpu)
        policy.num_ids = len(policy.model.get_output_embeddings().weight)
        algorithm = make_algorithm(config, policy, 10)
        ids, rows = torch.randint(0, 90, (count,)), count // LENGTH
        cu_seqlens = torch.arange(rows + 1, dtype=torch.int32) * LENGTH
        at = torch.arange(count).view(rows, LENGTH)[:, :-1].flatten()
        packed = Packed(ids, torch.arange(LENGTH).repeat(rows), cu_seqlens, LENGTH, at, ids[at + 1])
        n, ends = len(at), torch.tensor([0, len(at)])
        old = torch.full((n,), -4.0)
        batch = PolicyBatch(packed, old, torch.randn(n), torch.full((n,), 0.5 / n), 1.0, ends, old)
        return lambda: update(algorithm, [batch, batch], LearnStats())

    with tempfile.TemporaryDirectory() as folder, tempfile.TemporaryDirectory() as small:
        if (child := os.fork()) == 0:  # what making a model leaves in memory goes with it
            save_model(folder, SHAPES[size])
            save_model(small, (64, 64, 2, 2, 2, 32, 512))
            os._exit(0)
        assert os.waitpid(child, 0)[1] == 0
        given = [f"--model.path={folder}", "--model.dtype=bfloat16", "--rollout.max-sequence-tokens=256"]
        given += ["--rollout.max-reply-tokens=64", "--rollout.max-reflection-tokens=64"]
        given += [f"--learn.max-microbatch-tokens={tokens}", *SETTINGS[setting]]
        config = resolve("minesweeper-tiny", given)
        make(replace(config, model=replace(config.model, path=small)), 2 * LENGTH)()
        files, bounds = read_model(config), TokenBounds(100, LENGTH, 1, 10**6, LENGTH)
        gc.collect()
        trim(0)
        base = resident("VmRSS")
        step = make(config, tokens)
        trim(0)
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        step(), step()
        peak = resident("VmHWM") - base
        plan = memory_of(config, files, bounds, torch.bfloat16, cpu, training=True)
    parts = [part for part in plan.parts if part.when != "sampling" and not part.on_host]
    return {
        "measured": peak,
        "plan": sum(part.bytes for part in parts if "key-value cache" not in part.name),
    }


def bench(case: Case) -> list[Row]:
    path = os.pathsep.join([str(ROOT), str(ROOT / "kernels")])
    # of a large block nothing stays behind in an arena
    environment = os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "PYTHONPATH": path, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, __file__, "--measure", case.size, case.setting]
    out = subprocess.run(command, env=environment, capture_output=True, text=True, check=True).stdout
    found = json.loads(out.splitlines()[-1])
    error = found["plan"] / found["measured"] - 1
    rows = []
    for provider, value in found.items():
        good = provider == "measured" or abs(error) <= MAX_ERROR
        note = "" if provider == "measured" else f"{error:+.1%}"
        mib = value / 2**20
        rows.append(Row(provider, "memory", "MiB", mib, mib, mib, 1, check="passed" if good else "failed",
                        note=note))  # fmt: skip
    return rows


CASES = [
    Case(name=f"{size}, {setting}, {TOKENS[size]:,} tokens", size=size, setting=setting)
    for size in SHAPES
    for setting in SETTINGS
]

if __name__ == "__main__":
    if sys.argv[1:2] == ["--measure"]:
        print(json.dumps(measure(*sys.argv[2:])))
    else:
        main(bench, CASES)
