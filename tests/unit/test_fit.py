"""What a run would take of a GPU that is not here, and the settings that make it fit."""

import json
import struct

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM

from lamer_fast import cli
from lamer_fast.config import resolve as recipe
from lamer_fast.cost.fit import propose
from lamer_fast.cost.memory import memory_of, saved_by_adapters
from lamer_fast.cost.tokens import TokenBounds
from lamer_fast.device import GIB
from lamer_fast.learn.batch import Packed
from lamer_fast.learn.policy import load_policy, read_model
from tests.tiny import tiny_tokenizer

SIZES = {  # of Qwen3: hidden, inner, layers, heads
    "0.6b": (1024, 3072, 28, 16),
    "1.7b": (2048, 6144, 28, 16),
    "4b": (2560, 9728, 36, 32),
    "8b": (4096, 12_288, 36, 32),
}
RECIPES = ("minesweeper-qwen3-4b", "minesweeper-qwen3-4b-gigpo", "sokoban-qwen3-4b-released")
VLLM = ["--rollout.sampler=vllm", "--rollout.cache-tokens=20480"]
# proposed beside another, or not at all
TOGETHER = {"rollout.adapter", "rollout.max_in_flight", "rollout.prefill_tokens"}


def save_shape(folder, size):
    """A folder of Qwen3's shape whose weights are a hole in a file: its head alone can be read."""
    hidden, inner, layers, heads = SIZES[size]
    config = AutoConfig.for_model(
        "qwen3", vocab_size=151_936, hidden_size=hidden, intermediate_size=inner, num_hidden_layers=layers,
        num_attention_heads=heads, num_key_value_heads=8, head_dim=128, max_position_embeddings=40_960,
        tie_word_embeddings=size != "8b",
    )  # fmt: skip
    config.architectures = ["Qwen3ForCausalLM"]
    config.save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    with torch.device("meta"):
        weights = dict(AutoModelForCausalLM.from_config(config).named_parameters())
    head, offset = {}, 0
    for name, weight in weights.items():
        ends = [offset, offset + 2 * weight.numel()]
        head[name] = {"dtype": "BF16", "shape": list(weight.shape), "data_offsets": ends}
        offset = ends[1]
    text = json.dumps(head).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        file.truncate(8 + len(text) + offset)
    return str(folder)


@pytest.fixture(scope="module")
def shapes(tmp_path_factory):
    return {size: save_shape(tmp_path_factory.mktemp(size.replace(".", "_")), size) for size in SIZES}


@pytest.fixture(scope="module")
def memory_of_shape(shapes):
    """(size, GiB) -> what a configuration takes of such a GPU."""
    files = {size: read_model(recipe.resolve("minesweeper-qwen3-4b", ["--model.path", shapes[size]]))
             for size in shapes}  # fmt: skip
    bounds, gpu = TokenBounds(400, 9000, 3, 20_000, 2000), torch.device("cuda")

    def at(size, gib):
        return lambda c: memory_of(
            c, files[size], bounds, torch.bfloat16, gpu, training=True, available=round(gib * GIB)
        )

    return at


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("name", RECIPES)
@pytest.mark.parametrize("sampler", ["torch", "vllm"])
def test_what_is_proposed_fits_and_nothing_of_it_is_needless(name, size, sampler, memory_of_shape):
    given = [f"--rollout.sampler={sampler}"]
    config, found = recipe.resolve(name, given), 0
    for gib in (6, 10, 16, 24, 48, 80):
        memory_at = memory_of_shape(size, gib)
        proposal = propose(config, memory_at)
        if proposal is None:
            continue
        found += 1
        assert not memory_at(config).fits
        again = recipe.resolve(name, [*given, *proposal.flags])
        assert memory_at(again).fits and memory_at(again).parts == proposal.memory.parts
        assert propose(again, memory_at) is None
        for key in proposal.values.keys() - TOGETHER:
            fewer = {k: v for k, v in proposal.values.items() if k != key}
            assert not memory_at(recipe.apply(config, fewer)).fits, (gib, key)
    assert found


def test_a_4b_model_fits_24_gib_only_by_what_is_proposed(memory_of_shape):
    config = recipe.resolve("minesweeper-qwen3-4b")
    proposal = propose(config, memory_of_shape("4b", 24))
    assert proposal.values["model.lora_rank"] == 32
    assert "model.base_format" not in proposal.values
    assert propose(config, memory_of_shape("4b", 16)).values["model.base_format"] == "nf4"

    assert propose(config, memory_of_shape("4b", 6)) is None
    assert propose(config, memory_of_shape("4b", 400)) is None and memory_of_shape("4b", 400)(config).fits


def test_the_recipe_for_one_card_of_24_gib_fits_it(memory_of_shape):
    config = recipe.resolve("minesweeper-qwen3-4b-lora")
    for sampler in ([], VLLM):
        config = recipe.resolve("minesweeper-qwen3-4b-lora", sampler)
        assert memory_of_shape("4b", 24)(config).fits
    assert not memory_of_shape("4b", 24)(recipe.apply(config, {"model.lora_rank": 0})).fits


def test_the_command_line_says_it(shapes, tmp_path, capsys):
    argv = ["train", "minesweeper-qwen3-4b", "--model.path", shapes["4b"], "--runs", str(tmp_path)]
    argv += ["--dry-run", "--gpu-memory", "24"]
    assert cli.main(argv) == 2
    said = capsys.readouterr()
    assert "on cuda" in said.out and "fits         no" in said.out
    assert "cuda has 24.0 GiB; most of it: " in said.err
    (line,) = (line for line in said.out.splitlines() if line.startswith("with all"))
    flags = line.partition(": ")[2].split()
    assert cli.main([*argv, *flags]) == 0
    said = capsys.readouterr().out
    assert "fits         yes" in said and "proposal" not in said and not list(tmp_path.iterdir())


def test_a_gpu_is_planned_for_by_a_dry_run_alone(tmp_path, capsys):
    train = ["train", "minesweeper-tiny", "--runs", str(tmp_path), "--gpu-memory", "24"]
    assert cli.main(train) == 2
    assert "--gpu-memory 24 is for --dry-run" in capsys.readouterr().err
    assert cli.main([*train, "--dry-run", "--train.device", "cpu"]) == 2
    assert "train.device = 'cpu' contradicts a GPU of 24 GiB" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def one_sequence(length):
    ids = torch.arange(length)
    cu_seqlens = torch.tensor([0, length], dtype=torch.int32)
    return Packed(ids, ids, cu_seqlens, length, token_idx=ids, targets=ids)


@pytest.mark.parametrize("dora", [False, True])
def test_what_adapters_keep_of_a_token_is_counted(dora):
    """Bytes that autograd saves beside parameters, with adapters and without."""
    pytest.importorskip("peft", reason="peft is not installed")
    tokens = 64

    def saved(*changes):
        config = recipe.resolve("minesweeper-tiny", ["--model.dtype=bfloat16", *changes])
        policy = load_policy(config.model, torch.device("cpu"))
        own = {p.untyped_storage().data_ptr() for p in policy.model.parameters()}
        kept = {}

        def pack(x):
            if x.untyped_storage().data_ptr() not in own and tokens in x.shape:
                kept[x.untyped_storage().data_ptr()] = x
            return x

        with torch.autograd.graph.saved_tensors_hooks(pack, lambda x: x):
            out = policy.hidden(one_sequence(tokens))
        assert out.requires_grad
        return sum(x.untyped_storage().nbytes() for x in kept.values()) / tokens, config

    without, _ = saved()
    beside, config = saved("--model.lora-rank=8", f"--model.dora={str(dora).lower()}")
    counted = saved_by_adapters(config, read_model(config), torch.bfloat16)
    added = beside - without  # less than adapters keep: frozen projections have no input of their own to keep
    assert added <= counted <= 2 * added
