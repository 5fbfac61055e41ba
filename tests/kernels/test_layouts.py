"""Memory layout is no part of a value: every op, every back end, each tensor argument strided or expanded."""

import pytest
import torch
from torch._library.custom_ops import CustomOpDef
from torch.utils._pytree import tree_map_only

from lamer_kernels import (
    anchor_groups,
    cross_episode_returns,
    discounted_returns,
    gae,
    gigpo_advantages,
    group_advantages,
    linear_logprob,
    linear_policy_loss,
    meta_advantages,
    pack,
    pass_at_k_advantages,
    policy_loss,
    token_weights,
)
from tests.kernels.credit import make_trials, tensors
from tests.kernels.head import make_inputs

CUDA = torch.cuda.is_available()
DEVICE = "cuda" if CUDA else "cpu"
BACKENDS = ["reference", "triton"] if CUDA else ["reference", "cpu", "triton"]
NO_BACKENDS = ("pack", "token_weights")
HEAD = ("hidden", "weight", "targets", "token_idx", "temperature", "bias")
TOKENS = ("old_logprobs", "advantages", "token_weights", "ref_logprobs", "importance_weights")


def trial_columns(*names):
    columns = tensors(make_trials(0, groups=2, trials=2, max_turns=3))
    rows = len(columns["rewards"])
    g = torch.Generator().manual_seed(0)
    columns["values"] = columns["returns"] = torch.randn(rows, generator=g).double()
    columns["scores"] = columns["rewards"]
    columns["trial"] = torch.repeat_interleave(torch.arange(4), columns["cu_trials"].diff())
    columns["include"] = columns["valid"]
    columns["cu_seqlens"] = columns["cu_trials"]
    return {name: columns[name] for name in names}


def head_columns(*names):
    inputs = make_inputs(T=5, H=4, V=11, L=3, bias=True, temperature="tokens").to(torch.float32)
    g = torch.Generator().manual_seed(1)
    columns = vars(inputs) | inputs.options
    columns |= {name: torch.rand(3, generator=g) + 0.5 for name in TOKENS if name not in columns}
    columns["ref_logprobs"] = -columns["ref_logprobs"]
    columns["cu_segments"] = columns["cu_sequences"] = torch.tensor([0, 1, 3])
    columns["logprobs"], columns["entropy"] = -torch.rand(2, 3, generator=g)
    columns |= {f"upstream_{i}": torch.randn(3, generator=g) for i in range(3)}
    columns["loss_mask"] = torch.tensor([True, False, True])
    return {name: columns[name].detach() for name in names}


def with_gradients(function, leaves, upstream=()):
    """Calls with fresh leaves; the values and the gradients of their sum, weighted by ``upstream``."""

    def call(*, backend, **columns):
        columns |= {name: columns[name].requires_grad_() for name in leaves}
        weights = [columns.pop(name) for name in upstream]
        out = function(**columns, backend=backend)
        total = [out.loss] if not upstream else list(out)
        grads = torch.autograd.grad(total, [columns[name] for name in leaves], weights or None)
        return [*(x.detach() for x in out if x is not None), *grads]

    return call


def switched(function, **switches):
    return lambda **columns: function(**columns, **switches)


def linear_policy(loss, **switches):
    switches |= {"loss": loss, "kl_coef": 0.1, "entropy_coef": 0.1, "workspace_bytes": 2 * 11 * 4}
    return with_gradients(switched(linear_policy_loss, **switches), ("hidden", "weight", "bias"))


def host_only(function):
    def call(*, backend, **columns):
        return function(**{name: x.cpu() for name, x in columns.items()}, backend="cpu")

    return call


def any_backend(function):
    return lambda *, backend, **columns: function(**columns)


TURNS = ("rewards", "phase", "episode", "cu_trials")
UPSTREAM = ("upstream_0", "upstream_1", "upstream_2")
gammas = {"gamma_step": 0.9, "gamma_traj": 0.7}
OPS = {
    "cross_episode_returns": (switched(cross_episode_returns, **gammas), trial_columns(*TURNS)),
    "discounted_returns": (switched(discounted_returns, gamma=0.9), trial_columns("rewards", "cu_seqlens")),
    "gae": (switched(gae, **gammas), trial_columns("values", *TURNS)),
    "group_advantages": (
        switched(group_advantages, stats_unit="episode", scale="std"),
        trial_columns("scores", "group", "trial", "episode", "include"),
    ),
    "anchor_groups": (anchor_groups, trial_columns("group", "anchors")),
    "gigpo_advantages": (gigpo_advantages, trial_columns("scores", "returns", "group", "anchors")),
    "meta_advantages": (meta_advantages, trial_columns(*TURNS, "group", "anchors", "valid")),
    "pass_at_k_advantages": (
        switched(pass_at_k_advantages, k=2),
        {"success": torch.rand(3, 4, generator=torch.Generator().manual_seed(0)) > 0.5},
    ),
    "pack": (host_only(switched(pack, max_tokens=9)), {"lengths": torch.tensor([3, 5, 1, 9, 4, 4])}),
    "token_weights": (
        any_backend(switched(token_weights, kind="sequence_mean")),
        head_columns("loss_mask", "cu_sequences"),
    ),
    "policy_loss": (
        with_gradients(switched(policy_loss, kl_coef=0.1, entropy_coef=0.1), ("logprobs", "entropy")),
        head_columns("logprobs", "entropy", *TOKENS),
    ),
    "policy_loss gspo": (
        with_gradients(switched(policy_loss, loss="gspo"), ("logprobs",)),
        head_columns("logprobs", "cu_segments", *TOKENS),
    ),
    "linear_logprob": (
        with_gradients(
            switched(linear_logprob, entropy=True, sum_sq=True), ("hidden", "weight", "bias"), UPSTREAM
        ),
        head_columns(*(name for name in HEAD if name != "token_idx"), *UPSTREAM)
        | {"hidden": head_columns("hidden")["hidden"][:3]},
    ),
    "linear_policy_loss": (linear_policy("clip"), head_columns(*HEAD, *TOKENS)),
    "linear_policy_loss gspo": (linear_policy("gspo"), head_columns(*HEAD, *TOKENS, "cu_segments")),
}


def strided(x):
    """The same values, every other element of a buffer whose gaps hold those in another order."""
    return torch.stack([x, x.flip(-1)], -1).flatten(-2)[..., ::2]


def transposed(x):
    return x.T.contiguous().T


def one_row(x):
    return x[:1].expand_as(x)


def cases():
    for op, (_, columns) in OPS.items():
        for name, x in columns.items():
            layouts = [strided]
            if not name.startswith("cu_"):  # offsets rise
                layouts.append(one_row)
            if x.dim() == 2:
                layouts.append(transposed)
            for layout in layouts:
                for backend in BACKENDS[:1] if op in NO_BACKENDS else BACKENDS:
                    marks = (
                        [pytest.mark.gpu if CUDA else pytest.mark.interpret] if backend == "triton" else []
                    )
                    yield pytest.param(op, name, layout, backend, marks=marks)


@pytest.mark.parametrize(
    ("op", "name", "layout", "backend"), list(cases()), ids=lambda x: getattr(x, "__name__", str(x))
)
def test_layout(op, name, layout, backend):
    call, columns = OPS[op]
    columns = {key: x.clone().to(DEVICE) for key, x in columns.items()}
    given = layout(columns[name])
    assert not given.is_contiguous()
    columns[name] = given.clone(memory_format=torch.contiguous_format)
    expected, got = (call(**columns | {name: x}, backend=backend) for x in (columns[name].clone(), given))
    torch.testing.assert_close(got, expected)


@pytest.mark.parametrize("op", OPS)
@pytest.mark.parametrize("two_dims", [strided, transposed], ids=lambda x: x.__name__)
@pytest.mark.parametrize("backend", BACKENDS if CUDA else BACKENDS[:-1])
def test_fakes_say_what_the_ops_return(op, two_dims, backend, monkeypatch):
    """Shapes, dtypes and strides, which compiled code relies on, with all arguments in another layout."""
    calls, run = [], CustomOpDef.__call__

    def same(x):
        return x.detach().requires_grad_(x.requires_grad)

    def recorded(self, *args, **kwargs):
        calls.append((self, tree_map_only(torch.Tensor, same, args), kwargs))
        return run(self, *args, **kwargs)

    function, columns = OPS[op]
    columns = {
        name: (two_dims if x.dim() == 2 else strided)(x.clone().to(DEVICE)) for name, x in columns.items()
    }
    with monkeypatch.context() as patch:
        patch.setattr(CustomOpDef, "__call__", recorded)
        function(**columns, backend=backend)
    for custom_op, args, kwargs in calls:
        torch.library.opcheck(custom_op, args, kwargs, test_utils=("test_schema", "test_faketensor"))
    assert calls or op == "token_weights" or backend == "reference"  # those run without a custom op
