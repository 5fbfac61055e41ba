"""Triton: one program per trial, tiles from its end, one associative scan for every form.

A turn maps the state (x, y) of the turn after it to its own by a lower triangular affine map,

    x <- u + p x        y <- v + q x + s y

returns: x = g, the return inside the episode (released form: all of it), y = what flows in from later
episodes; gae: x = the value of the next PLAY turn, y = the lambda return. A reflection is the identity.
"""

import triton
import triton.language as tl

from ..._core.launch import launch


@triton.jit
def _compose(p1, q1, s1, u1, v1, p2, q2, s2, u2, v2):
    return p2 * p1, q2 * p1 + s2 * q1, s2 * s1, u2 + p2 * u1, v2 + q2 * u1 + s2 * v1


@triton.jit
def scan_trial(
    rewards_ptr, values_ptr, phase_ptr, episode_ptr, start, end, out_ptr, advantages_ptr,
    gamma_step, gamma_traj, lambda_step, lambda_traj,
    PAPER: tl.constexpr, GAE: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    """Turns start:end, of one trial."""
    lane = tl.arange(0, BLOCK_R)
    x = tl.zeros([], tl.float64)
    y = tl.zeros([], tl.float64)
    tail = end
    while tail > start:
        t = tail - 1 - lane  # lane 0 is the latest turn: the scan runs backwards in time
        m = t >= start
        play = m & (tl.load(phase_ptr + t, mask=m, other=1) == 0)
        episode = tl.load(episode_ptr + t, mask=m, other=0)
        following = tl.load(episode_ptr + t + 1, mask=m & (t + 1 < end), other=0)
        crosses = (t + 1 < end) & (episode != following)
        reward = tl.load(rewards_ptr + t, mask=play, other=0.0).to(tl.float64)

        zero = tl.zeros([BLOCK_R], tl.float64)
        gamma = tl.where(crosses, zero + gamma_traj, zero + gamma_step)
        if GAE:
            lam = tl.where(crosses, zero + lambda_traj, zero + lambda_step)
            p, q, s = zero, gamma * (1.0 - lam), gamma * lam
            u, v = tl.load(values_ptr + t, mask=play, other=0.0).to(tl.float64), reward
        elif PAPER:
            p = tl.where(crosses, 0.0, gamma)
            q = tl.where(crosses, gamma, 0.0)
            s = tl.where(crosses, gamma, 1.0)
            u, v = reward, zero
        else:
            p, q, s = gamma, zero, zero + 1.0
            u, v = reward, zero
        p, q, s = tl.where(play, p, 1.0), tl.where(play, q, 0.0), tl.where(play, s, 1.0)
        u, v = tl.where(play, u, 0.0), tl.where(play, v, 0.0)

        p, q, s, u, v = tl.associative_scan((p, q, s, u, v), 0, _compose)
        xs = u + p * x
        ys = v + q * x + s * y
        if GAE:
            value = tl.load(values_ptr + t, mask=m, other=0.0).to(tl.float64)
            tl.store(out_ptr + t, ys, mask=m)
            tl.store(advantages_ptr + t, ys - value, mask=m)
        else:
            tl.store(out_ptr + t, xs + ys, mask=m)
        # the carry is the state of the earliest turn of the tile; masked lanes are identities
        x = tl.sum(tl.where(lane == BLOCK_R - 1, xs, 0.0))
        y = tl.sum(tl.where(lane == BLOCK_R - 1, ys, 0.0))
        tail -= BLOCK_R


@triton.jit
def returns_kernel(
    rewards_ptr, values_ptr, phase_ptr, episode_ptr, cu_trials_ptr, out_ptr, advantages_ptr,
    gamma_step: tl.float64, gamma_traj: tl.float64, lambda_step: tl.float64, lambda_traj: tl.float64,
    PAPER: tl.constexpr, GAE: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    trial = tl.program_id(0).to(tl.int64)
    start = tl.load(cu_trials_ptr + trial).to(tl.int64)
    end = tl.load(cu_trials_ptr + trial + 1).to(tl.int64)
    scan_trial(
        rewards_ptr, values_ptr, phase_ptr, episode_ptr, start, end, out_ptr, advantages_ptr,
        gamma_step, gamma_traj, lambda_step, lambda_traj, PAPER, GAE, BLOCK_R,
    )  # fmt: skip


def run(inputs: list, outputs: tuple, factors: tuple, *, paper: bool, gae: bool) -> None:
    """inputs: rewards, values, phase, episode, cu_trials; outputs: returns, advantages (gae only)."""
    num_turns, num_trials = inputs[0].numel(), inputs[4].numel() - 1
    launch(
        returns_kernel, num_trials, *inputs, *outputs, *factors,
        PAPER=paper, GAE=gae, **blocks(num_turns, num_trials),
    )  # fmt: skip


def blocks(num_turns: int, num_trials: int) -> dict[str, int]:
    block = min(max(triton.next_power_of_2(num_turns // max(num_trials, 1)), 16), 1024)
    return {"BLOCK_R": block, "num_warps": 1 if block <= 128 else 4}
