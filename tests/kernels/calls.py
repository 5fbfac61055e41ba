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
    "pass_at_k_advantages": ({"success": lambda: torch.arange(6) > 2}, {"k": 2}, (None,)),
    "pack": ({"lengths": lambda: torch.tensor([3, 1, 4, 1, 5, 2])}, {"max_tokens": 6}, BACKENDS),
    "token_weights": (
        {"loss_mask": lambda: torch.arange(6) != 4, "cu_sequences": TURNS["cu_trials"]},
        {"kind": "sequence_mean"},
        (None,),
    ),
}
CALLS = CREDIT


def each_call(calls):
    return [(op, backend) for op, (_, _, backends) in calls.items() for backend in backends]


def call(op, backend, **changes):
    """The op's results as a tuple of tensors; ``changes`` replace arguments."""
    tensors, options, _ = CALLS[op]
    arguments = {name: make() for name, make in tensors.items()} | options | changes
    if backend is not None:
        arguments["backend"] = backend
    out = getattr(lk, op)(**arguments)
    return out if isinstance(out, tuple) else (out,)
