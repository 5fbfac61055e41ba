"""Numba: one backward pass per trial, float64 inside."""

from ..._core.jit import njit


@njit
def trial_returns(rewards, phase, episode, start, end, gamma_step, gamma_traj, paper, out, at):
    """Returns of the turns start:end of one trial, written from out[at] on.

    `g` is the running return, `future` what flows in from later episodes (paper form).
    """
    g = 0.0
    future = 0.0
    following = episode[end - 1] if end > start else 0
    for t in range(end - 1, start - 1, -1):
        if phase[t] == 0:
            if episode[t] == following:
                g = rewards[t] + gamma_step * g
            elif paper:
                future = gamma_traj * (g + future)
                g = float(rewards[t])
            else:
                g = rewards[t] + gamma_traj * g
        following = episode[t]
        out[at + t - start] = g + future


@njit
def cross_episode_returns(rewards, phase, episode, cu_trials, gamma_step, gamma_traj, paper, out):
    for m in range(len(cu_trials) - 1):
        start, end = cu_trials[m], cu_trials[m + 1]
        trial_returns(rewards, phase, episode, start, end, gamma_step, gamma_traj, paper, out, start)


@njit
def gae(
    rewards, values, phase, episode, cu_trials, gamma_step, gamma_traj, lambda_step, lambda_traj,
    advantages, returns,
):  # fmt: skip
    for m in range(len(cu_trials) - 1):
        start, end = cu_trials[m], cu_trials[m + 1]
        g = 0.0
        value = 0.0
        following = episode[end - 1] if end > start else 0
        for t in range(end - 1, start - 1, -1):
            if phase[t] == 0:
                crosses = episode[t] != following
                gamma = gamma_traj if crosses else gamma_step
                lam = lambda_traj if crosses else lambda_step
                g = rewards[t] + gamma * ((1.0 - lam) * value + lam * g)
                value = float(values[t])
            following = episode[t]
            returns[t] = g
            advantages[t] = g - values[t]
