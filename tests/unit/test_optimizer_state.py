"""What AdamW remembers goes to a file and comes back as it was, on its parameter's device."""

from collections import defaultdict

import pytest
import torch
from safetensors.torch import load_file, save_file

from lamer_fast.learn.optimizer_state import check_state_tensors, load_state_tensors, state_tensors


def masters(device: str = "cpu") -> dict[str, torch.Tensor]:
    return {"a/w": torch.ones(3, 2, device=device, requires_grad=True), "b": torch.ones(4, device=device)}


def stepped(num_updates: int = 2):
    """(masters, state) of a real AdamW after updates of both parameters."""
    named = masters()
    adamw = torch.optim.AdamW(named.values(), lr=0.1, fused=True)
    for _ in range(num_updates):
        for i, parameter in enumerate(named.values()):
            parameter.grad = torch.full_like(parameter, 0.5 + i)
        adamw.step()
    return named, adamw.state


def test_round_trip_through_a_file(tmp_path):
    named, state = stepped()
    save_file(state_tensors(state, named), tmp_path / "x.safetensors")
    tensors = load_file(tmp_path / "x.safetensors")
    check_state_tensors(tensors, named, "adamw", 2)
    again: defaultdict = defaultdict(dict)
    load_state_tensors(again, named, tensors)
    for parameter, values in state.items():
        assert values.keys() == again[parameter].keys()
        for key, value in values.items():
            assert value.equal(again[parameter][key]) and value.dtype == again[parameter][key].dtype


def test_step_comes_back_on_the_parameter_s_device():
    """A fused AdamW on a GPU refuses a `step` on the CPU (pytorch#104767)."""
    named, state = masters("meta"), defaultdict(dict)
    tensors = {"a/w/step": torch.tensor(3.0), "a/w/exp_avg": torch.zeros(3, 2)}
    load_state_tensors(state, named, tensors)
    for value in state[named["a/w"]].values():
        assert value.device == named["a/w"].device and value.dtype is torch.float32


def test_an_int_stays_an_int(tmp_path):
    """bitsandbytes counts in plain ints, and shares its tables between parameters."""
    named, table = masters(), torch.arange(4.0)
    state = {p: {"step": 7, "state1": torch.zeros_like(p), "state2": torch.zeros_like(p), "qmap1": table,
                 "share": 0.5} for p in named.values()}  # fmt: skip
    save_file(state_tensors(state, named), tmp_path / "x.safetensors")
    tensors = load_file(tmp_path / "x.safetensors")
    check_state_tensors(tensors, named, "adamw_8bit", 7)
    again: defaultdict = defaultdict(dict)
    load_state_tensors(again, named, tensors)
    for values in again.values():
        assert type(values["step"]) is int and values["step"] == 7 and values["share"] == 0.5
        assert values["qmap1"].equal(table)
    first_version = {"a/w/step": torch.tensor(7, dtype=torch.float64)}
    load_state_tensors(again, named, first_version)
    assert type(again[named["a/w"]]["step"]) is int


def broken(change):
    named, state = stepped()
    tensors = {key: value.clone() for key, value in state_tensors(state, named).items()}
    change(tensors)
    return tensors, named


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda t: t.update({"b/exp_avg": torch.zeros(5)}), r"b/exp_avg is \(5,\) float32, expected \(4,\)"),
        (lambda t: t.update({"b/exp_avg_sq": torch.zeros(4).double()}), "float64, expected .* float32"),
        (lambda t: t["a/w/exp_avg"].view(-1)[1:3].fill_(torch.nan), "a/w/exp_avg has 2 of 6 values that are"),
        (lambda t: t["b/exp_avg_sq"].fill_(torch.inf), "b/exp_avg_sq has 4 of 4"),
        (lambda t: t["b/exp_avg_sq"][0].neg_(), "b/exp_avg_sq has -.*cannot be negative"),
        (lambda t: t.pop("b/exp_avg"), "lacks b/exp_avg"),
        (lambda t: t.pop("b/step"), "lacks b/step"),
        (lambda t: t.update({"c/exp_avg": torch.zeros(1)}), "has 'c', which is no parameter"),
        (lambda t: t.update({"b/max_exp_avg_sq": torch.zeros(4)}), "b/max_exp_avg_sq, which adamw does not"),
        (lambda t: t["b/step"].fill_(9.0), "counts 2 to 9 updates, the run has made 2"),
        (lambda t: t["b/step"].fill_(torch.nan), "b/step has 1 of 1 values"),
        (lambda t: t.update({"b/step": torch.ones(2)}), r"b/step has shape \(2,\), expected one number"),
        (lambda t: t.clear(), "counts none updates"),
    ],
)
def test_a_state_that_cannot_be_is_named(change, message):
    tensors, named = broken(change)
    with pytest.raises(ValueError, match=message):
        check_state_tensors(tensors, named, "adamw", 2)


@pytest.mark.gpu
def test_a_run_on_a_gpu_goes_on():
    """The update after a resume equals the one that was not interrupted."""
    named = masters("cuda")
    named["b"].requires_grad_()
    adamw = torch.optim.AdamW(named.values(), lr=0.1, fused=True)

    def update() -> None:
        for parameter in named.values():
            parameter.grad = torch.ones_like(parameter)
        adamw.step()

    update()
    saved = {key: value.cpu() for key, value in state_tensors(adamw.state, named).items()}
    before = {name: parameter.detach().clone() for name, parameter in named.items()}
    update()
    expected = {name: parameter.detach().clone() for name, parameter in named.items()}
    for name, parameter in named.items():
        parameter.detach().copy_(before[name])
    adamw.state.clear()
    load_state_tensors(adamw.state, named, saved)
    update()
    assert all(parameter.equal(expected[name]) for name, parameter in named.items())


def test_a_parameter_that_was_never_updated_has_no_state():
    """One that no loss reaches (prime-rl#3399)."""
    named, state = stepped()
    tensors = {k: v for k, v in state_tensors(state, named).items() if not k.startswith("b/")}
    check_state_tensors(tensors, named, "adamw", 2)
    again: defaultdict = defaultdict(dict)
    load_state_tensors(again, named, tensors)
    assert named["b"] not in again and len(again[named["a/w"]]) == 3


def test_no_updates_no_state():
    check_state_tensors({}, masters(), "adamw", 0)
