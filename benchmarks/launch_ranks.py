"""Do two ranks of FSDP2 over gloo start, train and end, every time?

    PYTHONPATH=.:kernels python benchmarks/launch_ranks.py 50
    PYTHONPATH=.:kernels python benchmarks/launch_ranks.py 50 --tear-down
    PYTHONPATH=.:kernels python benchmarks/launch_ranks.py 50 --train

Each launch is a torchrun of two processes: a small Qwen3 in float32 shards, two updates of four micro-batches
with one reduction each, every parameter compared with one process that trains alone, then the end by
`lamer_fast.leave`, or by the interpreter's own tear-down. With `--train` it is a whole run of the tests' tiny
model: `lamer-fast train` with all weights divided over two processes, one iteration, and every launch has to
leave the same bits.
"""

import hashlib
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TEAR_DOWN, TRAIN = "--tear-down", "--train"
KEPT = []  # alive until the interpreter is torn down, as a trainer's model is


def rank() -> None:
    import torch
    import torch.distributed as dist
    from torch.distributed.fsdp import fully_shard
    from transformers import Qwen3Config, Qwen3ForCausalLM

    from lamer_fast.leave import leave

    dist.init_process_group("gloo")
    torch.manual_seed(0)
    config = Qwen3Config(
        vocab_size=64, hidden_size=64, intermediate_size=128, num_hidden_layers=3, num_attention_heads=4,
        num_key_value_heads=2, head_dim=16, tie_word_embeddings=True,
    )  # fmt: skip
    model, alone = Qwen3ForCausalLM(config).float(), Qwen3ForCausalLM(config).float()
    KEPT.append(model)
    alone.load_state_dict(model.state_dict())
    for module in (*model.model.layers, model):
        fully_shard(module)
    optimizers = [torch.optim.AdamW(m.parameters(), lr=1e-3) for m in (model, alone)]
    ids = torch.randint(0, 64, (4, 2, 2, 24), generator=torch.Generator().manual_seed(1))  # [micro, rank, ..]
    for _ in range(2):
        for i, of_ranks in enumerate(ids):
            model.set_requires_gradient_sync(i == len(ids) - 1)
            own = of_ranks[dist.get_rank()]
            (model(input_ids=own, labels=own).loss / 4).backward()
            for both in of_ranks:
                (alone(input_ids=both, labels=both).loss / 8).backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()
    for (name, ours), theirs in zip(model.named_parameters(), alone.parameters(), strict=True):
        gap = float((ours.full_tensor() - theirs).abs().max().detach())
        if gap > 2e-5:
            raise SystemExit(f"{name} differs by {gap:.1e} from one process, at most 2e-5 is rounding")
    if TEAR_DOWN in sys.argv:
        dist.destroy_process_group()
    else:
        leave(0)


def launch(arguments: list[str]) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "torch.distributed.run",
        "--standalone",
        "--nproc-per-node",
        "2",
        __file__,
    ]
    environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
    return subprocess.run([*command, *arguments], env=environment, capture_output=True, text=True)


def train() -> tuple[subprocess.CompletedProcess[str], str]:
    """How it ended, and a digest of the model that it left."""
    from tests.integration.tiny_run import recipe_file
    from tests.tiny import tiny_model, tiny_tokenizer

    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tiny_model().save_pretrained(folder / "tiny")
        tiny_tokenizer().save_pretrained(folder / "tiny")
        one = {"model__dtype": "float32", "train__iterations": 1, "learn__shard": "full"}
        recipe = recipe_file(folder, folder / "tiny", **one)
        command = [sys.executable, "-m", "lamer_fast", "train", str(recipe), "--name", "run"]
        flags = ["--runs", name, "--train.processes", "2"]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONFAULTHANDLER": "1"}
        ended = subprocess.run([*command, *flags], env=environment, capture_output=True, text=True)
        model = folder / "run" / "model" / "model.safetensors"
        return ended, hashlib.sha256(model.read_bytes()).hexdigest()[:12] if model.is_file() else "no model"


def main() -> int:
    count, *arguments = sys.argv[1:]
    failed, left = 0, set()
    for i in range(int(count)):
        ended, model = train() if TRAIN in arguments else (launch(arguments), "")
        left.add(model)
        failed += ended.returncode != 0
        if ended.returncode:
            print(f"launch {i} ended with {ended.returncode}:\n{ended.stderr[-3000:]}", file=sys.stderr)
    models = ", ".join(sorted(left))
    print(f"{int(count) - failed} of {count} launches passed{models and f', and left {models}'}")
    return int(failed > 0 or len(left) > 1)


if __name__ == "__main__":
    sys.exit(rank() if "RANK" in os.environ else main())
