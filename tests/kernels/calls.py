"""One good call of every op, for the tests that hand an op something strange in place of one argument."""

import torch

import lamer_kernels as lk

ROWS = 6


def rewards():
    return torch.tensor([1.0, 0.0, 2.0, -1.0, 0.0, 3.0])


TURNS = {
    "phase": lambda: torch.tensor([0, 1, 0, 0, 0, 0]),
    "episode": lambda: torch.tensor([0, 1, 1, 0, 0, 1]),
    "cu_trials": lambda: torch.tensor([0, 3, 6]),
}
GROUP = {
    "group": lambda: torch.tensor([3, 3, 3, 3, 3, 3]),
    "anchors": lambda: torch.tensor([7, 8, 7, 7, 8, 9]),
}
UNITS = {"trial": lambda: torch.tensor([0, 0, 0, 1, 1, 1]), "episode": TURNS["episode"]}
PREFIXES = {"ids": lambda: torch.tensor([1, 0, 1, 1, 0, 0]), "cu_seqlens": TURNS["cu_trials"]}
BACKENDS = ("reference", "cpu")

# op: (tensor arguments, each made anew; other arguments; back ends)
CREDIT = {
    "cross_episode_returns": (
        {"rewards": rewards, **TURNS},
        {"gamma_step": 0.5, "gamma_traj": 0.5},
        BACKENDS,
    ),
    "discounted_returns": (
        {"rewards": rewards, "cu_seqlens": TURNS["cu_trials"]},
        {"gamma": 0.5},
        BACKENDS,
    ),
    "gae": (
        {"rewards": rewards, "values": lambda: rewards().flip(0), **TURNS},
        {"gamma_step": 0.5, "gamma_traj": 0.5, "lambda_step": 0.5, "lambda_traj": 0.5},
        BACKENDS,
    ),
    "group_advantages": (
        {"scores": rewards, "group": GROUP["group"], **UNITS, "include": lambda: torch.arange(6) != 4},
        {"scale": "std", "stats_unit": "episode", "eps": 0.5},
        BACKENDS,
    ),
    "anchor_groups": (GROUP, {}, BACKENDS),
    "gigpo_advantages": (
        {"scores": rewards, "returns": lambda: rewards().flip(0), **GROUP, **UNITS},
        {"stats_unit": "episode", "w": 0.5, "scale": "std", "eps": 0.5},
        BACKENDS,
    ),
    "meta_advantages": (
        {"rewards": rewards, **TURNS, **GROUP, "valid": lambda: torch.arange(6) != 2},
        {"gamma_step": 0.5, "gamma_traj": 0.25, "w": 0.5, "invalid_penalty": 0.5, "scale": "std", "eps": 0.5},
        BACKENDS,
    ),
    "pass_at_k_advantages": ({"success": lambda: torch.arange(6) > 2}, {"k": 2}, BACKENDS),
    "pack": ({"lengths": lambda: torch.tensor([3, 1, 4, 1, 5, 2])}, {"max_tokens": 6}, BACKENDS),
    "prefix_tree": (PREFIXES, {}, (None,)),
    "plan_prefixes": (PREFIXES, {"max_tokens": 4}, (None,)),
    "token_weights": (
        {"loss_mask": lambda: torch.arange(6) != 4, "cu_sequences": TURNS["cu_trials"]},
        {"kind": "sequence_mean"},
        (None,),
    ),
}

HIDDEN, VOCAB = 4, 5


def eighths(*shape, low=-8, high=9, seed=0):
    """Random multiples of 1/8: bfloat16 holds them."""
    return torch.randint(low, high, shape, generator=torch.Generator().manual_seed(seed)) / 8


HEAD = {
    "hidden": lambda: eighths(9, HIDDEN),
    "weight": lambda: eighths(VOCAB, HIDDEN, seed=1),
    "targets": lambda: torch.tensor([4, 0, 2, 1, 1, 3]),
    "token_idx": lambda: torch.tensor([0, 3, 2, 7, 8, 5]),
    "temperature": lambda: eighths(ROWS, low=4, high=16),
    "bias": lambda: eighths(VOCAB, seed=2),
    "weight_cast": lambda: eighths(VOCAB, HIDDEN, seed=1),
}
TOKENS = {
    "old_logprobs": lambda: eighths(ROWS, low=-24, high=-4),
    "advantages": lambda: eighths(ROWS, seed=3),
    "token_weights": lambda: eighths(ROWS, low=0, high=4),
    "ref_logprobs": lambda: eighths(ROWS, low=-24, high=-4, seed=4),
    "importance_weights": lambda: eighths(ROWS, low=0, high=16),
    "cu_segments": TURNS["cu_trials"],
}
LOSS = {
    "loss": "gspo", "clip_low": 0.25, "clip_high": 0.5, "dual_clip": 2.0, "log_ratio_clip": 4.0, "kl": "k3",
    "kl_coef": 0.5, "entropy_coef": 0.25,
}  # fmt: skip
HEAD_CALLS = {
    "linear_logprob": (HEAD, {"softcap": 4.0, "workspace_bytes": 64, "ignore_index": -100}, BACKENDS),
    "linear_policy_loss": (
        HEAD | TOKENS | {"dweight_out": lambda: torch.zeros(VOCAB, HIDDEN)},
        LOSS | {"softcap": 4.0, "workspace_bytes": 64, "ignore_index": -100, "compact": "host"},
        BACKENDS,
    ),
    "policy_loss": (
        {
            "logprobs": lambda: eighths(ROWS, low=-24, high=-4, seed=5),
            "entropy": lambda: eighths(ROWS, low=0),
            **TOKENS,
        },
        LOSS,
        BACKENDS,
    ),
}  # fmt: skip
LEAVES = ("hidden", "weight", "bias", "logprobs", "entropy")
CALLS = CREDIT | HEAD_CALLS


def each_call(calls):
    return [(op, backend) for op, (_, _, backends) in calls.items() for backend in backends]


def call(op, backend, **changes):
    """The op's results, and the gradients of the first of them; ``changes`` replace arguments."""
    tensors, options, _ = CALLS[op]
    arguments = {name: make() for name, make in tensors.items()} | options | changes
    if backend is not None:
        arguments["backend"] = backend
    leaves = [arguments[name] for name in LEAVES if op in HEAD_CALLS and name in arguments]
    leaves = [x for x in leaves if isinstance(x, torch.Tensor) and x.is_floating_point()]
    for x in leaves:
        x.requires_grad_()
    out = getattr(lk, op)(**arguments)
    results = [x for x in (out if isinstance(out, tuple) else (out,)) if x is not None]
    if leaves:
        grads = torch.autograd.grad(results[0].sum(), leaves, allow_unused=True)
        results += [x for x in (*grads, arguments.get("dweight_out")) if x is not None]
    return tuple(x.detach() if isinstance(x, torch.Tensor) else x for x in results)
