"""pass_at_k_advantages: contract, checks and registration."""

from typing import Literal

import torch
from torch import Tensor

from ..._core.arrays import accepts_numpy
from ..._core.checks import as_mask, check_choice, check_tensor
from ..._core.dispatch import Backend, resolve_backend
from ..._core.namespace import qualified
from ..._core.numbers import check_integer
from .reference import pass_at_k_episodes_ref, pass_at_k_trials_ref


@accepts_numpy
def pass_at_k_advantages(
    success: Tensor,
    k: int,
    *,
    over: Literal["trials", "episodes"] = "trials",
    baseline: Literal["leave_one_out", "none"] = "leave_one_out",
    backend: Backend = "auto",
) -> Tensor:
    """Weights w with E[sum_i w_i grad log p(x_i)] = grad pass@k, for a sum (not a mean) over the samples.

    trials: n independent trials of a task; pass@k = P(one of k independent trials is solved) (Walder and
    Karkhanis, arXiv 2505.15201). With ``rho = C(failures among the others, k-1) / C(n-1, k-1)``, the chance
    that k - 1 of the other trials all fail:

        none           w_i = k/n if solved, else k/n * (1 - rho)         every k-subset scores its maximum
        leave_one_out  w_i = k/n * rho if solved, else 0                 minus that of the subset without i

    episodes: the trials are runs of up to K episodes that end at the first success; pass@k = P(solved within
    the first k episodes), and F_g = 1 if trial g was. Every episode that was played among the first k weighs

        none           F_g / G
        leave_one_out  (F_g - mean of F over the other trials) / G

    and the others 0. All are unbiased; over trials with k = 1 both baselines are plain REINFORCE.

    Args:
        success: [..., n] over trials; [..., G, K] over episodes, the G trials of one task together; bool, or
            integers 0 and 1.
        k: 1 <= k <= n, or K.
        backend: as in the other ops; one table and a look-up in it, the reference, serves them all.

    Returns:
        float64, the shape of ``success``. Runs on any device; not differentiable.
    """
    check_choice("over", over, ("trials", "episodes"))
    check_choice("baseline", baseline, ("leave_one_out", "none"))
    success = as_mask("success", success)
    check_tensor("success", success, shape=None, dtypes=(torch.bool,))
    if success.dim() < (1 if over == "trials" else 2):
        wanted = "[..., n]" if over == "trials" else "[..., G, K]"
        raise ValueError(f"success must have shape {wanted} over {over}, got {tuple(success.shape)}")
    k = check_integer("k", k, 1, success.shape[-1])
    if over == "episodes" and baseline == "leave_one_out" and success.shape[-2] < 2:
        raise ValueError(f"leave_one_out needs at least 2 trials of a task, got {success.shape[-2]}")
    resolve_backend(backend, success.device)  # refuses what could not run here
    out: Tensor = pass_at_k_op(success, k, over, baseline)
    return out


@torch.library.custom_op(qualified("pass_at_k_advantages"), mutates_args=())
def pass_at_k_op(success: Tensor, k: int, over: str, baseline: str) -> Tensor:
    define = pass_at_k_trials_ref if over == "trials" else pass_at_k_episodes_ref
    return define(success.contiguous(), k, baseline)


@pass_at_k_op.register_fake
def _(success: Tensor, k: int, over: str, baseline: str) -> Tensor:
    return success.new_empty(success.shape, dtype=torch.float64)
