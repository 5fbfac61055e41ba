"""Records the loss traces of a checkout, and compares two records: the body of benchmarks/trace.sh.

    python trace.py record CHECKOUT OUT    # metrics.jsonl of every traced recipe, by the code of CHECKOUT
    python trace.py compare OLD NEW        # exit 1 unless every float but the seconds is equal, bit for bit

The tiny recipes run whole. Those of billions of parameters run two iterations on a tiny random model of their
family with short replies: the code is the same, the numbers mean nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

WHOLE = ("minesweeper-tiny", "minesweeper-tiny-gigpo")
SHORT = ("minesweeper-qwen3-4b", "minesweeper-qwen3-4b-gigpo", "sokoban-qwen3-4b", "sokoban-qwen3-4b-gigpo")
ON_A_TINY_MODEL = {
    "model.dtype": "float32", "rollout.groups": "4", "rollout.trials-per-group": "4",
    "rollout.max-turns": "3", "rollout.max-reply-tokens": "8", "rollout.max-reflection-tokens": "8",
    "rollout.cache-tokens": "0", "learn.minibatches": "2", "learn.lr": "1e-3", "learn.optimizer": "adamw",
    "learn.offload-optimizer": "none", "eval.every": "0", "train.iterations": "2",
}  # fmt: skip
EVERYWHERE = {"train.device": "cpu", "train.num-threads": "1"}


def record(checkout: Path, out: Path) -> None:
    """Runs every traced recipe; one that stands finished under `out` is not run again."""
    env = os.environ | {
        "PYTHONPATH": os.pathsep.join(str(checkout / p) for p in (".", "kernels")),
        "OMP_NUM_THREADS": "1",
    }
    model = out / "tiny-model"
    if not (model / "config.json").is_file():
        subprocess.run([sys.executable, __file__, "model", str(model)], env=env, check=True)
    for recipe in (*SHORT, *WHOLE):
        done = out / f"{recipe}.jsonl"
        if done.is_file():
            continue
        settings = EVERYWHERE | (ON_A_TINY_MODEL | {"model.path": str(model)} if recipe in SHORT else {})
        flags = [word for key, value in settings.items() for word in (f"--{key}", value)]
        program = "import sys; from lamer_fast.cli import main; sys.exit(main())"
        command = [sys.executable, "-c", program, "train", recipe, "--runs", str(out / "runs"), *flags]
        print(f"{checkout.name}: {recipe}", flush=True)
        with (out / f"{recipe}.log").open("w") as log:
            subprocess.run(command, cwd=out, env=env, check=True, stdout=log, stderr=subprocess.STDOUT)
        (out / "runs" / recipe / "metrics.jsonl").rename(done)


def save_tiny_model(target: Path) -> None:
    """A random Qwen3 of two layers under the tokenizer of the shipped base model."""
    import torch
    from transformers import AutoTokenizer, Qwen3Config, Qwen3ForCausalLM

    import lamer_fast

    shipped = next(Path(lamer_fast.__file__).parent.rglob("minesweeper-tiny-base"))
    tokenizer = AutoTokenizer.from_pretrained(shipped)
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=json.loads((shipped / "config.json").read_text())["vocab_size"], hidden_size=64,
        intermediate_size=128, num_hidden_layers=2, num_attention_heads=4, num_key_value_heads=2, head_dim=16,
        max_position_embeddings=16_384, tie_word_embeddings=True, eos_token_id=tokenizer.eos_token_id,
        initializer_range=0.2,
    )  # fmt: skip
    Qwen3ForCausalLM(config).float().save_pretrained(target)
    tokenizer.save_pretrained(target)


def differences(old: Path, new: Path) -> Iterator[tuple[str, str, float]]:
    """(recipe, place, difference) of every number that is not equal; infinite where it is missing."""
    for recipe in (*SHORT, *WHOLE):
        a, b = (read(folder / f"{recipe}.jsonl") for folder in (old, new))
        if len(a) != len(b):
            yield recipe, f"{len(a)} iterations, now {len(b)}", math.inf
        for i, (x, y) in enumerate(zip(a, b, strict=False)):
            for key in sorted(x.keys() | y.keys()):
                if key not in x or key not in y:
                    yield recipe, f"iteration {i}: {key} only in the {'old' if key in x else 'new'}", math.inf
                elif x[key] != y[key]:
                    yield recipe, f"iteration {i}: {key} {x[key]!r} -> {y[key]!r}", abs(x[key] - y[key])


def read(path: Path) -> list[dict[str, float]]:
    lines = path.read_text().splitlines()
    return [dict(numbers({k: v for k, v in json.loads(line).items() if k != "seconds"})) for line in lines]


def numbers(value: Any, place: str = "") -> Iterator[tuple[str, float]]:
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from numbers(inner, f"{place}.{key}" if place else key)
    elif isinstance(value, list):
        for i, inner in enumerate(value):
            yield from numbers(inner, f"{place}[{i}]")
    elif isinstance(value, int | float):
        yield place, float(value)


def compare(old: Path, new: Path) -> int:
    found = list(differences(old, new))
    for recipe in (*SHORT, *WHOLE):
        mine = [(place, gap) for name, place, gap in found if name == recipe]
        if not mine:
            print(f"{recipe}: equal in {len(read(old / f'{recipe}.jsonl'))} iterations")
            continue
        keys = [(place, gap) for place, gap in mine if math.isfinite(gap)]
        missing = [place for place, gap in mine if math.isinf(gap)]
        print(f"{recipe}: {len(mine)} numbers differ; first: {mine[0][0]}")
        if keys:
            print(f"  largest difference: {max(keys, key=lambda p: p[1])[0]}")
        for place in missing[:8]:
            print(f"  {place}")
    return 1 if found else 0


def main() -> int:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, arguments in {
        "record": ("checkout", "out"),
        "compare": ("old", "new"),
        "model": ("out",),
    }.items():
        command = commands.add_parser(name)
        for argument in arguments:
            command.add_argument(argument, type=lambda text: Path(text).resolve())
    args = parser.parse_args()
    if args.command == "record":
        args.out.mkdir(parents=True, exist_ok=True)
        record(args.checkout, args.out)
    elif args.command == "model":
        save_tiny_model(args.out)
    else:
        return compare(args.old, args.new)
    return 0


if __name__ == "__main__":
    sys.exit(main())
