"""What of a model's folder is refused before its weights are read, by every command in the same line."""

import json
import re
import shutil
from dataclasses import replace

import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from lamer_fast import cli
from lamer_fast.config import resolve as recipe
from lamer_fast.cost.estimate import estimate
from lamer_fast.doctor import command as doctor
from lamer_fast.learn.policy import compute_dtype, load_policy, read_model
from lamer_fast.run.saved_model import save_model
from lamer_fast.run.state import build_state
from tests.chat_families import ACCEPTED, FAMILIES
from tests.tiny import tiny_model, tiny_tokenizer

SMALL = [
    "--rollout.groups", "1", "--rollout.trials-per-group", "2", "--rollout.episodes", "2",
    "--rollout.max-turns", "2", "--rollout.max-reply-tokens", "4", "--rollout.max-reflection-tokens", "4",
    "--train.num-threads", "1",
]  # fmt: skip


def save(folder, tokenizer=None, **sizes):
    tiny_model(**sizes).save_pretrained(folder)
    (tokenizer or tiny_tokenizer()).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    return save(tmp_path_factory.mktemp("whole") / "model")


def config_of(folder, *overrides):
    return recipe.resolve("minesweeper-tiny", ["--model.path", str(folder), *SMALL, *overrides])


def edit(folder, name, **values):
    path = folder / name
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def cut(folder, name, size=300):
    path = folder / name
    path.write_bytes(path.read_bytes()[:size])


def gpt2(folder):
    shape = GPT2Config(vocab_size=128, n_embd=32, n_layer=1, n_head=2, n_positions=2048)
    GPT2LMHeadModel(shape).save_pretrained(folder)


def no_tokenizer(folder):
    for path in folder.glob("tokenizer*"):
        path.unlink()


BROKEN = {  # what is done to a whole folder, and what every command says
    "fewer rows": (lambda f: save(f, vocab_size=104), "the tokenizer has 105 ids, the model 104 rows"),
    "few positions": (
        lambda f: edit(f, "config.json", max_position_embeddings=1023),
        "rollout.max_sequence_tokens = 1024, but .* has 1023 positions",
    ),
    "no template": (lambda f: (f / "chat_template.jinja").unlink(), "has no chat template"),
    "bad template": (lambda f: (f / "chat_template.jinja").write_text("{{"), "it fails on 1 messages"),
    "no tokenizer": (no_tokenizer, "the tokenizer knows no letters, 'Quark' is"),
    "cut tokenizer": (lambda f: cut(f, "tokenizer.json"), "tokenizer.json is damaged, expected a JSON"),
    "cut config": (lambda f: cut(f, "config.json"), "config.json is damaged, expected a JSON object: "),
    "bytes for a config": (
        lambda f: (f / "config.json").write_bytes(b"\xff\xfe\0"),
        "config.json is damaged, expected a JSON object: ",
    ),
    "a list for a config": (
        lambda f: (f / "config.json").write_text("[]"),
        r"config.json holds \[\], expected a JSON object",
    ),
    "a number for a tokenizer": (
        lambda f: (f / "tokenizer_config.json").write_text("3"),
        "tokenizer_config.json holds 3, expected a JSON object",
    ),
    "no weights": (
        lambda f: (f / "model.safetensors").unlink(),
        r"there is neither model\.safetensors nor model\.safetensors\.index\.json",
    ),
    "a pickle": (
        lambda f: (f / "model.safetensors").rename(f / "pytorch_model.bin"),
        r"neither model\.safetensors nor .*; pytorch_model\.bin is not read, convert it",
    ),
    "garbled weights": (
        lambda f: (f / "model.safetensors").write_bytes(b"\xff" * 999),
        "its weights: model.safetensors: ",
    ),
    "another architecture": (gpt2, "'torch' cannot sample this model: model type 'gpt2' is not one of llama"),
    "quantised": (
        lambda f: edit(f, "config.json", quantization_config={"quant_method": "gptq", "bits": 4}),
        r"is quantised \(gptq\); training needs weights in float32, bfloat16 or float16",
    ),
    "eos that is no id": (
        lambda f: edit(f, "generation_config.json", eos_token_id="<|im_end|>"),
        "generation_config.json: eos_token_id = '<|im_end|>', must be an id or a list of ids",
    ),
    "cut weights": (lambda f: cut(f, "model.safetensors"), "its weights: model.safetensors: "),
    "a layer too few": (
        lambda f: edit(f, "config.json", num_hidden_layers=3, layer_types=["full_attention"] * 3),
        "its weights: 11 of the 35 that config.json asks for are missing, model.layers.2",
    ),
    "another shape": (
        lambda f: edit(f, "config.json", intermediate_size=96),
        r"gate_proj.weight has shape \(64, 32\), by config.json it is \(96, 32\)",
    ),
}  # fmt: skip


@pytest.fixture(params=BROKEN)
def broken(request, whole, tmp_path):
    folder = tmp_path / "model"
    shutil.copytree(whole, folder)
    BROKEN[request.param][0](folder)
    return folder, BROKEN[request.param][1]


def test_every_command_refuses_it_in_the_same_line(broken, tmp_path, capsys):
    folder, message = broken
    options = ["minesweeper-tiny", "--model.path", str(folder)]
    commands = [
        ["train", *options, "--runs", str(tmp_path / "runs")],
        ["train", *options, "--dry-run"],
        ["eval", *options, "--split", "valid", "--tasks", "2"],
        ["play", *options],
    ]
    said = []
    for command in commands:
        capsys.readouterr()
        assert cli.main(command) == 2
        error = capsys.readouterr().err
        assert error.count("\n") == 1, error
        said.append(error.partition(": ")[2].strip())
    checks = {r.check: r for r in doctor.examine(recipe.resolve(options[0], options[1:]))}
    assert checks["chat template"].status == "fail"
    assert {checks[name].status for name in ("packed = padded", "resume = no resume", "memory")} == {"skip"}
    said.append(checks["chat template"].found)
    assert set(said) == {said[0]}
    assert re.search(message, said[0]), said[0]


def test_weights_that_are_not_finite(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "model")
    model = tiny_model()
    model.model.norm.weight.data[3] = float("nan")
    model.save_pretrained(tmp_path / "model")
    with pytest.raises(ValueError, match=r"1 weights are missing or not finite, model\.norm\.weight"):
        build_state(config_of(tmp_path / "model"))


def test_a_whole_folder_is_taken_in_any_float(whole, tmp_path):
    wanted = {name: weight.half() for name, weight in tiny_model().named_parameters()}
    shutil.copytree(whole, tmp_path / "half")
    tiny_model().half().save_pretrained(tmp_path / "half")
    for dtype in ("float32", "bfloat16"):
        config = config_of(tmp_path / "half", "--model.dtype", dtype)
        policy = load_policy(config.model, torch.device("cpu"))
        assert policy.dtype is compute_dtype(config.model, policy.device) is getattr(torch, dtype)
        for name, master in policy.masters.items():
            assert master.dtype is torch.float32 and master.equal(wanted[name].float())


def test_an_architecture_that_only_vllm_might_know(tmp_path):
    gpt2(save(tmp_path))
    config = config_of(tmp_path, "--rollout.sampler", "vllm")
    for read in (estimate, build_state):
        with pytest.raises(
            ValueError, match="'gpt2' is not supported: its configuration has no intermediate"
        ):
            read(config)


@pytest.mark.parametrize("name", ACCEPTED)
def test_stop_ids_and_notes_are_the_same_for_a_plan_and_a_run(name, tmp_path):
    """A folder as it is saved and read again, its eos ids in generation_config.json."""
    tokenizer, eos_ids = FAMILIES[name].make()
    save(tmp_path, tokenizer, vocab_size=len(tokenizer) + 3)
    edit(tmp_path, "generation_config.json", eos_token_id=eos_ids)
    config = config_of(
        tmp_path, "--rollout.max-sequence-tokens", "4000", "--learn.max-microbatch-tokens", "4096"
    )
    renderer, state = read_model(config).renderer(), build_state(config)
    assert renderer.prompts() == state.agent.renderer.prompts()
    assert sorted(tokenizer.convert_ids_to_tokens(list(renderer.stop_ids))) == sorted(FAMILIES[name].stops)
    for note, part in zip(estimate(config).notes, FAMILIES[name].notes, strict=True):
        assert part in note

    save_model(state, tmp_path / "trained")  # what a run leaves has the prompts that it was trained with
    trained = replace(config, model=replace(config.model, path=str(tmp_path / "trained" / "model")))
    assert read_model(trained).renderer().prompts() == renderer.prompts()


def test_what_could_be_read_can_be_saved(whole, tmp_path):
    """A generation_config.json that transformers reads but refuses to write."""
    shutil.copytree(whole, tmp_path / "model")
    edit(
        tmp_path / "model", "generation_config.json", temperature=0.6, do_sample=False, eos_token_id=[100, 7]
    )
    config = config_of(tmp_path / "model")
    save_model(build_state(config), tmp_path / "trained")
    trained = replace(config, model=replace(config.model, path=str(tmp_path / "trained" / "model")))
    assert read_model(trained).eos_ids == read_model(config).eos_ids == (100, 7)


def test_without_generation_config_the_configuration_says_what_ends_a_text(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "model")
    (tmp_path / "model" / "generation_config.json").unlink()
    edit(tmp_path / "model", "config.json", eos_token_id=[7, 9, 100_000])
    assert read_model(config_of(tmp_path / "model")).eos_ids == (7, 9)


def test_positions_may_be_as_many_as_needed_and_scaled_ones_are_left_to_the_sampler(whole, tmp_path):
    shutil.copytree(whole, tmp_path / "model")
    edit(tmp_path / "model", "config.json", max_position_embeddings=1024)
    config = config_of(tmp_path / "model")
    assert read_model(config).eos_ids == ()
    scaled = {"rope_type": "yarn", "factor": 4.0, "rope_theta": 1e4, "original_max_position_embeddings": 256}
    edit(tmp_path / "model", "config.json", max_position_embeddings=256, rope_parameters=scaled)
    for sampler in ("vllm", "torch"):
        read_model(replace(config, rollout=replace(config.rollout, sampler=sampler)))
    edit(tmp_path / "model", "config.json", rope_parameters=scaled | {"rope_type": "dynamic"})
    with pytest.raises(ValueError, match="rotary positions of type 'dynamic'"):
        read_model(config)


def test_a_model_that_the_hub_does_not_give_may_come_from_a_folder(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(ValueError, match=r"'nobody/none' cannot be loaded.*: --model\.path FOLDER$"):
        read_model(config_of("nobody/none"))
