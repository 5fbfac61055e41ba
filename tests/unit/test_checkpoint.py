"""A checkpoint is taken whole or not at all."""

import json
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from lamer_fast.agent.agent import Agent
from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.algo.algorithm import Algorithm
from lamer_fast.config import Config, TrainConfig
from lamer_fast.learn.policy import Policy
from lamer_fast.run import checkpoint
from lamer_fast.run.state import TrainState, make_algorithm
from tests.scripted import PlannedEnv
from tests.tiny import CHATML, tiny_model, tiny_tokenizer


def make_state(template: str = CHATML, eos_ids: tuple[int, ...] = (), **model) -> TrainState:
    config = Config(train=TrainConfig(keep_checkpoints=3))
    policy = Policy(tiny_model(**model), None, torch.float32)
    env = PlannedEnv([["3L"]])
    agent = Agent(ChatRenderer(tiny_tokenizer(template), eos_ids), env, config)
    return TrainState(config, make_algorithm(config, policy, 10), None, env, agent)


def update(state: TrainState) -> None:
    generator = torch.Generator().manual_seed(state.iteration)
    for master in state.policy.masters.values():
        master.grad = torch.randn(master.shape, generator=generator)
    state.optimizer.step()
    state.iteration += 1


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """checkpoints/ of a state after 0, 1 and 2 updates."""
    folder, state = tmp_path_factory.mktemp("run") / "checkpoints", make_state()
    checkpoint.save(state, folder, score=0.0)
    for _ in range(2):
        update(state)
        checkpoint.save(state, folder, score=0.0)
    return folder


@pytest.fixture
def folder(written, tmp_path):
    shutil.copytree(written, tmp_path / "checkpoints")
    return tmp_path / "checkpoints"


def bits(state: TrainState) -> dict[str, bytes]:
    tensors = {**state.policy.masters, **state.optimizer.state_tensors()}
    return {name: tensor.detach().numpy().tobytes() for name, tensor in tensors.items()}


def test_the_latest_or_the_one_that_is_asked_for(folder):
    states = [make_state() for _ in range(3)]
    assert checkpoint.load(states[0], folder) and states[0].iteration == 2
    assert checkpoint.load(states[1], folder, 1) and states[1].iteration == 1
    update(states[1])
    assert bits(states[1]) == bits(states[0])
    assert checkpoint.load(states[2], folder, 0) and states[2].optimizer.state_tensors() == {}
    assert not checkpoint.load(states[2], folder / "none")
    with pytest.raises(ValueError, match=r"has no checkpoint 3; there are: \[0, 1, 2\]"):
        checkpoint.load(states[2], folder, 3)
    checkpoint.discard_after(folder, 1)
    assert checkpoint.finished(folder) == [0, 1]


def two_trainables() -> TrainState:
    state = make_state()
    critic = make_algorithm(state.config, Policy(tiny_model(seed=1), None, torch.float32), 10)
    both = {**state.algorithm.trainables, "critic": critic.trainables["policy"]}
    state.algorithm = Algorithm(state.config.algo, both)
    return state


def test_every_trainable_is_saved_and_comes_back(tmp_path, folder):
    state, fresh = two_trainables(), two_trainables()
    for seed, trained in enumerate(state.algorithm.trainables.values()):
        generator = torch.Generator().manual_seed(seed)
        for master in trained.module.masters.values():
            master.grad = torch.randn(master.shape, generator=generator)
        trained.optimizer.step()
    checkpoint.save(state, tmp_path / "two", score=0.0)
    assert checkpoint.load(fresh, tmp_path / "two")
    for name, trained in state.algorithm.trainables.items():
        again = fresh.algorithm.trainables[name]
        saved, loaded = trained.optimizer.state_tensors(), again.optimizer.state_tensors()
        assert saved.keys() == loaded.keys() and all(torch.equal(saved[key], loaded[key]) for key in saved)
        for key, master in trained.module.masters.items():
            assert torch.equal(master, again.module.masters[key])
        assert again.optimizer.num_updates == 1
    with pytest.raises(ValueError, match="only the checkpoint has critic:"):
        checkpoint.load(make_state(), tmp_path / "two")
    with pytest.raises(ValueError, match="only the model has critic:"):
        checkpoint.load(two_trainables(), folder)


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"template": "{{ 'Hi' }}" + CHATML}, r"prompts have start = \['<\|im_start.*it is \['Hi<\|im_start"),
        ({"template": CHATML.replace("end|>\n'", "end|>'")}, r"prompts have start = .*end\|>\\n.*end\|><"),
        ({"eos_ids": (7,)}, r"prompts have stop_ids = \[100\], by the model's files it is \[100, 7\]"),
    ],
)
def test_a_run_goes_on_with_its_own_prompts_only(folder, state, message):
    with pytest.raises(ValueError, match=message):
        checkpoint.load(make_state(**state), folder)


def rewrite(path, change):
    """The tensors of a file after `change`; with a checksum that fits, as of another program."""
    tensors = load_file(path)
    change(tensors)
    save_file(tensors, path)
    forget_checksums(path.parent)


def forget_checksums(folder):
    counters = json.loads((folder / "state.json").read_text())
    del counters["sha256"]
    (folder / "state.json").write_text(json.dumps(counters))


def flip(path, at: int):
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    data[at + 1] ^= 1
    path.write_bytes(data)


def reshape_first(tensors):
    name = next(name for name in tensors if name.endswith("exp_avg"))
    tensors[name] = torch.zeros(7)


def nan_in_first(tensors):
    next(iter(tensors.values())).view(-1)[0] = torch.nan


def of_state(latest, **values):
    path = latest / "state.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | values))


def halve(tensors):
    tensors.update({name: tensor.half() for name, tensor in tensors.items()})


WEIGHTS, ADAMW = "masters.safetensors", "optimizer.safetensors"
DAMAGES = {
    "two flipped bytes of the weights": (
        lambda at: flip(at / WEIGHTS, -4000),
        f"{WEIGHTS} is damaged: its SHA-256",
    ),
    "two flipped bytes of the optimizer": (lambda at: flip(at / ADAMW, -2000), f"{ADAMW} is damaged"),
    "another shape": (lambda at: rewrite(at / ADAMW, reshape_first), r"is \(7,\) float32, expected"),
    "another type": (lambda at: rewrite(at / WEIGHTS, halve), "float16, expected .* float32"),
    "a NaN": (lambda at: rewrite(at / WEIGHTS, nan_in_first), "values that are not finite"),
    "a missing tensor": (
        lambda at: rewrite(at / WEIGHTS, lambda tensors: tensors.pop("model.norm.weight")),
        "another model: only the model has model.norm.weight",
    ),
    "half a file": (lambda at: (at / WEIGHTS).write_bytes(b"\0" * 100), f"{WEIGHTS} is damaged"),
    "a lost file": (lambda at: (at / ADAMW).unlink(), "No such file"),
    "a state of fewer updates": (
        lambda at: shutil.copy(at.parent / "000001" / ADAMW, at),
        f"{ADAMW} is damaged",
    ),
    "another count": (lambda at: of_state(at, num_updates=1), "state.json is damaged: its SHA-256"),
    "no count": (lambda at: of_state(at, num_updates=None), "num_updates = None, must be a count"),
    "no best": (lambda at: of_state(at, best={}), "has best = {}"),
    "no JSON": (lambda at: (at / "state.json").write_text("{"), "cannot be used: Expecting"),
    "a list": (lambda at: (at / "state.json").write_text("[]"), "no JSON object"),
    "another format": (lambda at: of_state(at, format=9), "has format 9, this version reads 1"),
}


@pytest.mark.parametrize("name", DAMAGES)
def test_a_damaged_one_is_refused_and_the_whole_one_named(folder, name):
    damage, message = DAMAGES[name]
    damage(folder / "000002")
    state = make_state()
    before = bits(state)
    with pytest.raises(ValueError, match=message) as error:
        checkpoint.load(state, folder)
    assert str(folder / "000002") in str(error.value)
    assert "checkpoint 000001 is whole: --from-checkpoint 1" in str(error.value)
    assert bits(state) == before and state.iteration == 0


def test_a_copy_under_another_name_is_no_later_state(folder):
    shutil.copytree(folder / "000001", folder / "000009")
    with pytest.raises(ValueError, match="after iteration 1, whose folder is 000001: a copy") as error:
        checkpoint.load(make_state(), folder)
    assert "checkpoint 000002 is whole: --from-checkpoint 2" in str(error.value)


def test_odd_names_are_no_checkpoints(folder):
    for name in ("7", "000008.bak", ".new-000009", "٣"):
        (folder / name).mkdir()
    (folder / "000010").write_text("a file")
    assert checkpoint.finished(folder) == [0, 1, 2]


def test_none_is_left(folder):
    with pytest.raises(ValueError, match=r"of another model.*no other that can; --overwrite starts anew"):
        checkpoint.load(make_state(vocab_size=120, kind="llama"), folder)


def test_one_without_checksums_still_loads(folder):
    forget_checksums(folder / "000002")
    state, same = make_state(), make_state()
    assert checkpoint.load(state, folder)
    checkpoint.load(same, folder.parent / "checkpoints", 2)
    assert bits(state) == bits(same) and state.optimizer.num_updates == 2


def test_what_could_not_be_loaded_is_not_saved(folder):
    state = make_state()
    checkpoint.load(state, folder)
    update(state)
    with torch.no_grad():
        next(iter(state.policy.masters.values())).view(-1)[0] = torch.inf
    with pytest.raises(RuntimeError, match=r"after iteration 3 is not saved: .* not finite"):
        checkpoint.save(state, folder, score=0.0)
    assert checkpoint.finished(folder) == [0, 1, 2]


def test_only_the_latest_and_the_best_are_kept(tmp_path):
    state = make_state()
    state.config = Config(train=TrainConfig(keep_checkpoints=1))
    for score in (0.5, 0.9, 0.1, 0.2):
        update(state)
        checkpoint.save(state, tmp_path, score)
    assert checkpoint.finished(tmp_path) == [2, 4]


def test_bytes_are_foreseen(folder):
    actual = sum(p.stat().st_size for p in (folder / "000002").iterdir())
    size = sum(p.numel() for p in tiny_model().parameters())
    assert checkpoint.num_bytes(Config(), size) == pytest.approx(actual, rel=0.1)  # the rest is small


@pytest.mark.parametrize(
    ("iterations", "save_every", "keep", "saved", "more"),
    [
        (1, 10, 2, [], 1),  # the last iteration always saves
        (30, 10, 1, [], 2),  # the new one is there before the old one goes
        (20, 10, 5, [], 2),
        (300, 10, 2, [10, 20], 1),
        (300, 10, 2, [10, 20, 30], 1),
        (20, 10, 2, [10, 20], 0),
        (20, 10, 2, [30], 0),
    ],
)
def test_the_most_that_checkpoints_take(iterations, save_every, keep, saved, more):
    train = TrainConfig(iterations=iterations, save_every=save_every, keep_checkpoints=keep)
    needs, what = checkpoint.disk_needs(Config(train=train), 1000, 2000, saved)
    assert needs == more * 12_000 + 2000 and what == f"{more} checkpoints of 11.7 KiB and the model"
