"""Triton: the same definition in two launches, three under batch_std; trials of a group are neighbours.

1  a program per trial: returns, then the score of each turn, its share of its unit, whether it leads one
2  a program per trial: both brackets of its turns, over all turns of its group, in tiles of BLOCK x BLOCK
3  (batch_std) division by the deviation of the batch, from one partial sum per trial

float64 inside. Sums run in one order, the same in all programs of a group: two runs give equal bits.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from ..._core.launch import launch
from ..returns.gpu import blocks, scan_trial
from ..switches import Switches

BLOCK, BLOCK_PARTS = 32, 1024


@triton.jit
def deviation_of(squares, others, eps):
    """std + eps; infinite where that is 0 (what is divided becomes 0), NaN where the squares overflow."""
    deviation = tl.sqrt(squares / others) + eps
    deviation = tl.where(deviation - deviation == 0.0, deviation, float("nan"))
    return tl.where(deviation == 0.0, float("inf"), deviation)


@triton.jit
def finite_or_nan(x):
    return tl.where(x - x == 0.0, x, float("nan"))


@triton.jit
def score_kernel(
    rewards_ptr, phase_ptr, episode_ptr, cu_trials_ptr, valid_ptr,
    returns_ptr, scores_ptr, shares_ptr, leads_ptr,
    gamma_step: tl.float64, gamma_traj: tl.float64, penalty: tl.float64,
    OWN: tl.constexpr, PAPER: tl.constexpr, REFLECTION: tl.constexpr, UNIT: tl.constexpr,
    HAS_VALID: tl.constexpr, BLOCK_R: tl.constexpr,
):  # fmt: skip
    trial = tl.program_id(0).to(tl.int64)
    start = tl.load(cu_trials_ptr + trial).to(tl.int64)
    end = tl.load(cu_trials_ptr + trial + 1).to(tl.int64)
    scan_trial(
        rewards_ptr, rewards_ptr, phase_ptr, episode_ptr, start, end, returns_ptr, returns_ptr,
        gamma_step, gamma_traj, gamma_step, gamma_traj, PAPER, False, BLOCK_R,
    )  # fmt: skip
    tl.debug_barrier()  # the returns are read by other threads than wrote them
    tile = start
    while tile < end:
        t = tile + tl.arange(0, BLOCK_R)
        m = t < end
        episode = tl.load(episode_ptr + t, mask=m, other=0)
        reflects = tl.load(phase_ptr + t, mask=m, other=0) != 0
        first = tl.zeros([BLOCK_R], tl.int64) + end  # row of the episode
        lead = tl.zeros([BLOCK_R], tl.int64) + end  # row of the unit that counts
        rows = tl.zeros([BLOCK_R], tl.float64)
        own = tl.zeros([BLOCK_R], tl.float64)
        u = start
        while u < end:
            reflection = tl.load(phase_ptr + u) != 0
            same = m & (episode == tl.load(episode_ptr + u))
            first = tl.minimum(first, tl.where(same, u, end))
            mates = m
            if UNIT == "turn":
                mates = t == u
            if UNIT == "episode":
                mates = same
            counted, here = 1.0, u
            if REFLECTION == "exclude":
                counted, here = tl.where(reflection, 0.0, 1.0), tl.where(reflection, end, u)
            rows += tl.where(mates, counted, 0.0)
            lead = tl.minimum(lead, tl.where(mates, here, end))
            if OWN:  # in the order of the turns, wherever the episode stands: equal episodes score equally
                reward = tl.load(rewards_ptr + u).to(tl.float64)
                own += tl.where(same, tl.where(reflection, 0.0, reward), 0.0)
            u += 1
        score = own
        if not OWN:
            score = tl.load(returns_ptr + first, mask=m, other=0.0)
        if REFLECTION == "zero":
            score = tl.where(reflects, 0.0, score)
        if HAS_VALID:
            bad = tl.load(valid_ptr + t, mask=m, other=1) == 0
            score = tl.where(bad, score - penalty, score)
        counts = m
        if REFLECTION == "exclude":
            counts = m & (reflects == 0)
        tl.store(scores_ptr + t, score, mask=m)
        tl.store(shares_ptr + t, tl.where(counts, 1.0 / tl.where(rows > 0, rows, 1.0), 0.0), mask=m)
        tl.store(leads_ptr + t, (counts & (lead == t)).to(tl.int8), mask=m)
        tile += BLOCK_R


@triton.jit
def group_rows(group_ptr, cu_trials_ptr, trial, start, end, num_trials, num_rows):
    """First row of the trial's group, row after its last. An empty trial starts where the next does."""
    mine = tl.load(group_ptr + start, mask=start < num_rows, other=0)
    low, first = start, trial
    going = first > 0
    while going:
        row = tl.load(cu_trials_ptr + first - 1).to(tl.int64)
        same = (row < num_rows) & (tl.load(group_ptr + row, mask=row < num_rows, other=0) == mine)
        low = tl.where(same, row, low)
        first -= 1
        going = same & (first > 0)
    high, last = end, trial + 1
    going = last < num_trials
    while going:
        row = tl.load(cu_trials_ptr + last).to(tl.int64)
        same = (row < num_rows) & (tl.load(group_ptr + row, mask=row < num_rows, other=0) == mine)
        high = tl.where(same, tl.load(cu_trials_ptr + last + 1).to(tl.int64), high)
        last += 1
        going = same & (last < num_trials)
    return low, high


@triton.jit
def load_step_key(phase_ptr, episode_ptr, anchors_ptr, rows, m, BY_EPISODE: tl.constexpr):
    """(anchor, state): reflections have no board, those of a group compare with one another."""
    reflects = tl.load(phase_ptr + rows, mask=m, other=0) != 0
    state = reflects.to(tl.int64)
    if BY_EPISODE:
        state += 2 * tl.load(episode_ptr + rows, mask=m, other=0).to(tl.int64)
    return tl.where(reflects, 0, tl.load(anchors_ptr + rows, mask=m, other=0)), state


@triton.jit
def step_bracket(
    phase_ptr, episode_ptr, anchors_ptr, returns_ptr, i, m, low, high, eps,
    LOO: tl.constexpr, STD: tl.constexpr, BY_EPISODE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    key, state = load_step_key(phase_ptr, episode_ptr, anchors_ptr, i, m, BY_EPISODE)
    first = tl.zeros([BLOCK], tl.int64) + high
    count = tl.zeros([BLOCK], tl.float64)
    base = tl.zeros([BLOCK], tl.float64)
    total = tl.zeros([BLOCK], tl.float64)
    squares = tl.zeros([BLOCK], tl.float64)
    mean = tl.zeros([BLOCK], tl.float64)
    for sweep in tl.static_range(3 if STD else 2):
        j = low
        while j < high:
            u = j + tl.arange(0, BLOCK)
            live = u < high
            other_key, other_state = load_step_key(phase_ptr, episode_ptr, anchors_ptr, u, live, BY_EPISODE)
            mates = (key[:, None] == other_key[None, :]) & (state[:, None] == other_state[None, :])
            mates = mates & live[None, :] & m[:, None]
            if sweep == 0:
                first = tl.minimum(first, tl.min(tl.where(mates, u[None, :], high), 1))
                count += tl.sum(tl.where(mates, 1.0, 0.0).to(tl.float64), 1)
            else:
                d = tl.load(returns_ptr + u, mask=live, other=0.0)[None, :] - base[:, None]
                if sweep == 1:
                    total += tl.sum(tl.where(mates, d, 0.0), 1)
                else:
                    d = d - mean[:, None]
                    squares += tl.sum(tl.where(mates, d * d, 0.0), 1)
            j += BLOCK
        if sweep == 0:  # distances from the first of them: equal returns give exact zeros
            base = tl.load(returns_ptr + first, mask=m, other=0.0)
        if sweep == 1:
            total = finite_or_nan(total)
            mean = total / tl.where(count > 0, count, 1.0)
    others = tl.where(count > 1, count - 1, 1.0)
    above = tl.load(returns_ptr + i, mask=m, other=0.0) - base
    above -= (total - above) / others if LOO else mean
    if STD:
        above = tl.where(above == 0.0, 0.0, above / deviation_of(squares, others, eps))
    return tl.where(count > 1, above, 0.0)


@triton.jit(do_not_specialize=["num_trials", "num_rows"])
def bracket_kernel(
    phase_ptr, episode_ptr, group_ptr, cu_trials_ptr, anchors_ptr,
    returns_ptr, scores_ptr, shares_ptr, leads_ptr, out_ptr, squares_ptr, units_ptr,
    num_trials, num_rows, w: tl.float64, eps: tl.float64,
    UNIT: tl.constexpr, LOO: tl.constexpr, SCALE: tl.constexpr, HAS_ANCHORS: tl.constexpr,
    BY_EPISODE: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    trial = tl.program_id(0).to(tl.int64)
    start = tl.load(cu_trials_ptr + trial).to(tl.int64)
    end = tl.load(cu_trials_ptr + trial + 1).to(tl.int64)
    low, high = group_rows(group_ptr, cu_trials_ptr, trial, start, end, num_trials, num_rows)
    lane = tl.arange(0, BLOCK)

    first = high
    units = tl.zeros([], tl.float64)
    j = low
    while j < high:
        u = j + lane
        counts = tl.load(shares_ptr + u, mask=u < high, other=0.0) > 0
        first = tl.minimum(first, tl.min(tl.where(counts, u, high), 0))
        units += tl.sum(tl.load(leads_ptr + u, mask=u < high, other=0).to(tl.float64), 0)
        j += BLOCK
    base = tl.load(scores_ptr + first, mask=first < high, other=0.0)
    total = tl.zeros([], tl.float64)
    j = low
    while j < high:
        u = j + lane
        share = tl.load(shares_ptr + u, mask=u < high, other=0.0)
        d = tl.load(scores_ptr + u, mask=u < high, other=0.0) - base
        total += tl.sum(tl.where(share > 0, share * d, 0.0), 0)
        j += BLOCK
    total = finite_or_nan(total)
    mean = total / tl.where(units > 0, units, 1.0)
    others = tl.where(units > 1, units - 1, 1.0)
    deviation = tl.zeros([], tl.float64) + 1.0
    if SCALE == "std":
        squares = tl.zeros([], tl.float64)
        j = low
        while j < high:
            u = j + lane
            share = tl.load(shares_ptr + u, mask=u < high, other=0.0)
            d = tl.load(scores_ptr + u, mask=u < high, other=0.0) - base - mean
            squares += tl.sum(tl.where(share > 0, share * d * d, 0.0), 0)
            j += BLOCK
        deviation = deviation_of(squares, others, eps)

    compared = tl.where(units > 1, 1.0, 0.0)  # a lone unit has nothing to compare with
    of_trial = tl.zeros([], tl.float64)
    units_of_trial = tl.zeros([], tl.float64)
    tile = start
    while tile < end:
        i = tile + lane
        m = i < end
        share = tl.load(shares_ptr + i, mask=m, other=0.0)
        above = tl.load(scores_ptr + i, mask=m, other=0.0) - base
        if LOO:
            own = above  # the mean of the row's unit
            if UNIT != "turn":
                own = tl.zeros([BLOCK], tl.float64)
                episode = tl.load(episode_ptr + i, mask=m, other=0)
                j = start
                while j < end:
                    u = j + lane
                    other_share = tl.load(shares_ptr + u, mask=u < end, other=0.0)
                    d = tl.load(scores_ptr + u, mask=u < end, other=0.0) - base
                    mates = (other_share > 0)[None, :] & m[:, None]
                    if UNIT == "episode":
                        other_episode = tl.load(episode_ptr + u, mask=u < end, other=0)
                        mates = mates & (episode[:, None] == other_episode[None, :])
                    own += tl.sum(tl.where(mates, (other_share * d)[None, :], 0.0), 1)
                    j += BLOCK
            above = above - (total - own) / others
        else:
            above = above - mean
        if SCALE == "std":
            above = tl.where(above == 0.0, 0.0, above / deviation)
        out = tl.where(share * compared > 0, above, 0.0)
        if SCALE == "batch_std":
            of_trial += tl.sum(tl.where(share > 0, share * out * out, 0.0), 0)
            units_of_trial += tl.sum(tl.load(leads_ptr + i, mask=m, other=0).to(tl.float64), 0)
        if HAS_ANCHORS:
            out += w * step_bracket(
                phase_ptr, episode_ptr, anchors_ptr, returns_ptr, i, m, low, high, eps,
                LOO, SCALE == "std", BY_EPISODE, BLOCK,
            )  # fmt: skip
        tl.store(out_ptr + i, out.to(out_ptr.dtype.element_ty), mask=m)
        tile += BLOCK
    if SCALE == "batch_std":
        tl.store(squares_ptr + trial, of_trial)
        tl.store(units_ptr + trial, units_of_trial)


@triton.jit(do_not_specialize=["num_trials", "num_rows"])
def divide_kernel(
    x_ptr, squares_ptr, units_ptr, out_ptr, num_trials, num_rows, eps: tl.float64, BLOCK: tl.constexpr
):
    lane = tl.arange(0, BLOCK)
    squares = tl.zeros([], tl.float64)
    units = tl.zeros([], tl.float64)
    trial = num_trials * 0
    while trial < num_trials:
        part = trial + lane
        m = part < num_trials
        squares += tl.sum(tl.load(squares_ptr + part, mask=m, other=0.0), 0)
        units += tl.sum(tl.load(units_ptr + part, mask=m, other=0.0), 0)
        trial += BLOCK
    deviation = deviation_of(squares, tl.where(units > 1, units - 1, 1.0), eps)
    i = tl.program_id(0).to(tl.int64) * BLOCK + lane
    x = tl.load(x_ptr + i, mask=i < num_rows, other=0.0)
    out = tl.where(x == 0.0, 0.0, x / deviation)
    tl.store(out_ptr + i, out.to(out_ptr.dtype.element_ty), mask=i < num_rows)


def meta_advantages(columns: tuple[Tensor | None, ...], switches: Switches) -> Tensor:
    """columns: rewards, phase, episode, group, cu_trials, anchors or None, valid or None."""
    rewards, phase, episode, group, cu_trials, anchors, valid = columns
    num_rows, num_trials = len(rewards), len(cu_trials) - 1
    out = rewards.new_empty(num_rows)
    if num_rows == 0:
        return out
    s, batch = switches, switches.scale == "batch_std"
    returns, scores, shares = (rewards.new_empty(num_rows, dtype=torch.float64) for _ in range(3))
    leads = rewards.new_empty(num_rows, dtype=torch.int8)
    parts = [rewards.new_empty(num_trials, dtype=torch.float64) for _ in range(2)] if batch else [None, None]
    launch(
        score_kernel, num_trials, rewards, phase, episode, cu_trials, valid, returns, scores, shares, leads,
        s.gamma_step, s.gamma_traj, s.invalid_penalty, OWN=s.episode_credit == "own",
        PAPER=s.return_form == "paper", REFLECTION=s.reflection_score, UNIT=s.stats_unit,
        HAS_VALID=valid is not None, **blocks(num_rows, num_trials),
    )  # fmt: skip
    undivided = rewards.new_empty(num_rows, dtype=torch.float64) if batch else out
    launch(
        bracket_kernel, num_trials, phase, episode, group, cu_trials, anchors, returns, scores, shares, leads,
        undivided, *parts, num_trials, num_rows, s.step_weight, s.eps,
        UNIT=s.stats_unit, LOO=s.baseline == "leave_one_out", SCALE=s.scale, HAS_ANCHORS=anchors is not None,
        BY_EPISODE=s.anchor_key == "board+episode", BLOCK=BLOCK,
    )  # fmt: skip
    if batch:
        launch(
            divide_kernel, triton.cdiv(num_rows, BLOCK_PARTS), undivided, *parts, out, num_trials, num_rows,
            s.eps, BLOCK=BLOCK_PARTS,
        )  # fmt: skip
    return out
