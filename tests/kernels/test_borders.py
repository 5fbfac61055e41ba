"""What a stranger may hand to an op: the right result, or an error of ours that names the argument."""

import traceback
from contextlib import contextmanager, nullcontext

import numpy as np
import pytest
import torch

import lamer_kernels
from tests.kernels.calls import CALLS, CREDIT, HEAD_CALLS, call, each_call

CALL_IDS = [f"{op}-{backend}" for op, backend in each_call(CALLS)]
each = pytest.mark.parametrize(("op", "backend"), each_call(CALLS), ids=CALL_IDS)


def test_every_op_is_called():
    elsewhere = {
        "varlen_attention",
        "register_attention",
        "LamerHead",
        "tree_attention",
        "PrefixTree",
        "Covariance",
        "importance_weights",
        "Divergence",
        "linear_divergence",
    }  # files of their own
    assert set(CALLS) == set(lamer_kernels.__all__) - elsewhere


def refused(error, names):
    """An error that this package raised on purpose and that names one of the arguments."""
    assert isinstance(error, ValueError | TypeError), repr(error)
    last = traceback.extract_tb(error.__traceback__)[-1]
    assert "lamer_kernels" in last.filename and last.line.startswith("raise"), f"{last}: {error!r}"
    assert any(name in str(error) for name in names), f"{names} not named: {error!r}"


def right_or_refused(op, backend, name, stranger, truth):
    """truth: the results that the stranger must give if it is taken; None: it may not be."""
    try:
        got = call(op, backend, **{name: stranger})
    except Exception as error:
        refused(error, [name, *CALLS[op][0]])
        return
    assert truth is not None, f"{op} took {name} = {stranger!r}"
    for a, b in zip(got, truth, strict=True):
        tol = (
            8e-3 if getattr(stranger, "itemsize", 0) == 2 else 1e-6
        )  # gradients round to a 16-bit weight's dtype
        torch.testing.assert_close(a, b, check_dtype=False, rtol=tol, atol=tol)


KINDS = [
    torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8, torch.uint16, torch.uint32, torch.uint64,
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.bool,
]  # fmt: skip


@each
def test_every_dtype_of_every_tensor(op, backend):
    truth = call(op, backend)
    for name, make in CALLS[op][0].items():
        for dtype in KINDS:
            stranger = make().to(dtype)
            if bool((stranger.to(make().dtype) == make()).all()):  # else it is another input
                right_or_refused(op, backend, name, stranger, truth)


MEANT = {  # the same values in another dress
    "every other": lambda x: torch.stack([x, x], -1)[..., 0],
    "read-only view": lambda x: x.detach(),
    "requires_grad": lambda x: x.requires_grad_() if x.is_floating_point() else x,
    "subclass": lambda x: x.as_subclass(type("Mine", (torch.Tensor,), {})),
}
MEANINGLESS = {
    "list": lambda x: x.tolist(),
    "None": lambda x: None,
    "str": lambda x: "abc",
    "number": lambda x: 3,
    "0-d": lambda x: x.flatten()[0],
    "one row more": lambda x: torch.cat([x, x[-1:]]),
    "one row less": lambda x: x[:-1],
    "one dimension more": lambda x: x[None],
    "meta": lambda x: x.to("meta"),
    "sparse": lambda x: x.to_sparse(),
    "complex": lambda x: x.to(torch.complex64),
}


@each
def test_values_in_another_dress(op, backend):
    truth = call(op, backend)
    for name, make in CALLS[op][0].items():
        for dress in MEANT.values():
            right_or_refused(op, backend, name, dress(make()), truth)


# what does mean something: optional arguments, empty segments at the end, batches; pack counts on the host
ONES = ("one row more", "one row less", "one dimension more", "meta")
OPTIONAL = ("valid", "include", "weight_cast", "bias", "token_weights", "importance_weights", "old_logprobs")
MEANS = {name: ["None"] for name in (*OPTIONAL, "dweight_out")}
MEANS |= {name: ONES[:1] for name in ("cu_trials", "cu_seqlens", "cu_sequences", "cu_segments")}
MEANS |= {"success": ONES, "lengths": ("meta", *ONES[:2]), "loss_mask": ONES[2], "hidden": ONES[::2]}
MEANS["temperature"] = ("number", "0-d")


@each
def test_what_means_nothing_is_refused(op, backend):
    for name, make in CALLS[op][0].items():
        for what, change in MEANINGLESS.items():
            if what not in MEANS.get(name, ()):
                right_or_refused(op, backend, name, change(make()), None)


@contextmanager
def default(of_process):
    before = torch.get_default_dtype()
    try:
        if isinstance(of_process, str):
            torch.set_default_device(of_process)
        else:
            torch.set_default_dtype(of_process)
        yield
    finally:
        torch.set_default_dtype(before)
        torch.set_default_device(None)


DEFAULTS = pytest.mark.parametrize("of_process", [torch.float64, torch.bfloat16, "meta"], ids=str)


@each
@DEFAULTS
def test_defaults_of_the_process_change_nothing(op, backend, of_process):
    arguments = {name: make() for name, make in CALLS[op][0].items()}
    truth = call(op, backend, **arguments)
    arguments |= {name: make() for name, make in CALLS[op][0].items() if name == "dweight_out"}
    with default(of_process):
        got = call(op, backend, **arguments)
    for x, y in zip(got, truth, strict=True):
        assert x.dtype == y.dtype and x.device == y.device and torch.equal(x, y)


@pytest.mark.parametrize("op", ["linear_logprob", "linear_policy_loss"])
@pytest.mark.parametrize("backend", ["reference", "cpu"])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float64], ids=str)
@DEFAULTS
def test_defaults_of_the_process_change_no_plain_head(op, backend, dtype, of_process):
    """What is None or a plain number here must be made in some dtype."""
    leaves = [CALLS[op][0][name]().to(dtype).requires_grad_() for name in ("hidden", "weight")]
    arguments = {name: CALLS[op][0][name]() for name in ("targets", "token_idx")} | {"temperature": 0.7}
    if op == "linear_policy_loss":
        arguments |= {"old_logprobs": None, "advantages": torch.ones(6)}
    runs = []
    for context in (nullcontext(), default(of_process)):
        with context:
            out = [
                x for x in getattr(lamer_kernels, op)(*leaves, **arguments, backend=backend) if x is not None
            ]
            runs.append([*out, *torch.autograd.grad(out[0].sum(), leaves)])
    for x, y in zip(*runs, strict=True):
        assert x.dtype == y.dtype and x.device == y.device and torch.equal(x, y)


NUMBERS = [
    float("nan"),
    float("inf"),
    -float("inf"),
    -1,
    -0.5,
    0,
    1,
    2,
    0.5,
    1e30,
    "x",
    None,
    True,
    torch.tensor(0.5),
]


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize(("op", "backend"), each_call(HEAD_CALLS), ids=str)
def test_autocast_has_no_say(op, backend, dtype):
    def run(enabled):
        arguments = {name: make() for name, make in CALLS[op][0].items()}
        for name in arguments.keys() & {"hidden", "weight_cast"}:
            arguments[name] = arguments[name].to(dtype)
        leaves = [
            arguments[name].requires_grad_() for name in ("hidden", "bias", "logprobs") if name in arguments
        ]
        with torch.autocast("cpu", torch.bfloat16, enabled=enabled):
            out = getattr(lamer_kernels, op)(**arguments, **CALLS[op][1], backend=backend)
        return [*out, *torch.autograd.grad(out[0].sum(), leaves)]

    for x, y in zip(run(True), run(False), strict=True):
        assert (x is None and y is None) or (x.dtype == y.dtype and torch.equal(x, y))


NONE_MEANS = ("softcap", "workspace_bytes", "ignore_index", "dual_clip", "log_ratio_clip")  # none of it


@each
def test_numbers_and_names(op, backend):
    """Whatever is not refused is the number it says it is: the same in numpy's types."""
    for name, good in CALLS[op][1].items():
        if isinstance(good, str):
            for stranger in ("", "Mean", 1, torch.zeros(2)):
                right_or_refused(op, backend, name, stranger, None)
            continue
        kind, same = (np.float32, np.float32(good)) if isinstance(good, float) else (np.int32, np.int32(good))
        assert kind(good) == good
        right_or_refused(op, backend, name, same, call(op, backend))
        for stranger in NUMBERS:
            means = type(stranger) in (float, int) and np.isfinite(stranger)
            means |= (stranger is None and name in NONE_MEANS) or (stranger == np.inf and name == "clip_high")
            try:
                got = call(op, backend, **{name: stranger})
            except Exception as error:
                refused(error, [name])
                continue
            assert means, f"{op} took {name} = {stranger!r}"
            assert all(bool(x.isfinite().all()) for x in got), f"{op} with {name} = {stranger!r}: {got}"


STRANGE_ARRAYS = {
    "masked": (lambda x: np.ma.masked_array(x, np.arange(len(x)) == 1), "masked array"),
    "strings": (lambda x: np.array([f"uid-{v}" for v in x]), "np.unique"),
    "objects": (lambda x: x.astype(object), "np.unique"),
    "dates": (lambda x: x.astype("datetime64[s]"), "datetime64"),
    "long double": (lambda x: x.astype(np.longdouble), "float128"),
    "records": (lambda x: x.astype([("a", np.float64)]), "integers, bool or float"),
}


def arrays(op):
    return {name: make().numpy() for name, make in CALLS[op][0].items()}


@pytest.mark.parametrize("op", CREDIT)
def test_numpy_arrays(op):
    truth = [x.numpy() for x in call(op, None)]
    good = arrays(op)
    same = {
        "numpy": lambda x: x,
        "big-endian": lambda x: x.astype(x.dtype.newbyteorder(">")),
        "backwards": lambda x: x[::-1].copy()[::-1],
        "read-only": lambda x: np.frombuffer(x.tobytes(), x.dtype),
    }
    for dress in same.values():
        for x, y in zip(call(op, None, **{name: dress(x) for name, x in good.items()}), truth, strict=True):
            np.testing.assert_array_equal(x, y)
    for name, x in good.items():
        for change, said in STRANGE_ARRAYS.values():
            with pytest.raises(TypeError, match=f"{name} .*{said}"):
                call(op, None, **good | {name: change(x)})
    with pytest.raises(TypeError, match=r"trial .*np\.unique\(trial"):  # a column of uids beside tensors
        lamer_kernels.group_advantages(
            torch.zeros(2), torch.zeros(2).long(), trial=np.array(["a", "b"], object)
        )
