"""Credit across episodes on toy data: what a lost first episode earns from the win that it prepared.

    python examples/kernels/cross_episode_returns.py [OUT.png]

Two trials of three episodes on one task, four turns each. The first trial explores, loses, and wins its third
episode; the second never wins. Within an episode rewards count back with `gamma_step`, across its border with
`gamma_traj` once. With matplotlib the curves are drawn, else bars of text.
"""

import sys

import torch

from lamer_kernels import cross_episode_returns, meta_advantages

EPISODES, TURNS = 3, 4


def table() -> dict[str, torch.Tensor]:
    """A row per turn, trial by trial."""
    rewards = torch.zeros(2, EPISODES, TURNS)
    rewards[0, 2, -1] = 1.0
    return {
        "rewards": rewards.flatten(), "phase": torch.zeros(2 * EPISODES * TURNS, dtype=torch.long),
        "episode": torch.arange(EPISODES).repeat_interleave(TURNS).repeat(2),
        "group": torch.zeros(2 * EPISODES * TURNS, dtype=torch.long),
        "cu_trials": torch.tensor([0, EPISODES * TURNS, 2 * EPISODES * TURNS]),
    }  # fmt: skip


def returns(x: dict[str, torch.Tensor], gamma_traj: float) -> torch.Tensor:
    columns = (x["rewards"], x["phase"], x["episode"], x["cu_trials"])
    return cross_episode_returns(*columns, gamma_step=0.9, gamma_traj=gamma_traj)


def draw(curves: dict[str, torch.Tensor], path: str) -> bool:
    """A line per curve over the turns of the first trial; False without matplotlib."""
    try:
        import matplotlib
    except ImportError:
        return False
    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(figsize=(6, 3))
    for name, values in curves.items():
        axes.plot(range(1, len(values) + 1), values.tolist(), marker="o", label=name)
    for border in range(TURNS, EPISODES * TURNS, TURNS):
        axes.axvline(border + 0.5, color="grey", linewidth=0.5)
    axes.set(xlabel="turn of the trial (lines: borders of episodes)", ylabel="return")
    axes.legend()
    figure.tight_layout()
    figure.savefig(path, dpi=150)
    return True


def main(path: str) -> None:
    x = table()
    first = slice(0, EPISODES * TURNS)
    curves = {f"gamma_traj = {g}": returns(x, g)[first] for g in (0.0, 0.6, 1.0)}
    for name, values in curves.items():
        print(name)
        for n, episode in enumerate(values.view(EPISODES, TURNS).tolist(), start=1):
            bars = "  ".join(f"{v:4.2f} {'#' * round(10 * v):10}" for v in episode)
            print(f"  episode {n}  {bars}")
    advantages = meta_advantages(
        x["rewards"], x["phase"], x["episode"], x["group"], x["cu_trials"], estimator="grpo",
        gamma_step=0.9, gamma_traj=0.6,
    )  # fmt: skip
    means = advantages.view(2, EPISODES, TURNS).mean(-1).tolist()
    for name, trial in zip(("the trial that wins", "the one that does not"), means, strict=True):
        print(f"mean advantage of the episodes of {name}: " + ", ".join(f"{v:+.2f}" for v in trial))
    print(f"drawn: {path}" if draw(curves, path) else "no picture: matplotlib is not installed")


if __name__ == "__main__":
    main(sys.argv[1] if len(sys.argv) > 1 else "cross_episode_returns.png")
