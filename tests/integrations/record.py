"""Records what the functions of SkyRL, prime-rl and slime return: inputs and outputs, as golden/NAME.json.

    python tests/integrations/record.py skyrl|prime_rl|slime FOLDER VERSION

FOLDER holds the package (of SkyRL an installation will do, of prime-rl ``src``). Needs torch and what the
functions themselves import: SkyRL's ray, jaxtyping, loguru, omegaconf; prime-rl's beartype, jaxtyping.
"""

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import checkouts
import torch
from torch import Tensor

GOLDEN = Path(__file__).parent / "golden"
B, L = 6, 7


def numbers(x: Any) -> Any:
    if isinstance(x, Tensor):
        return numbers(x.tolist())
    if isinstance(x, float):
        return float(f"{x:.9g}")
    return [numbers(y) for y in x] if isinstance(x, list) else x


def rows() -> dict[str, Tensor]:
    """[B, L] each; row 3 has no loss token."""
    g = torch.Generator().manual_seed(0)
    mask = (torch.rand(B, L, generator=g) < 0.7).float()
    mask[3] = 0
    new = -0.05 - 2 * torch.rand(B, L, generator=g)
    old = (new + 0.4 * torch.randn(B, L, generator=g)).clamp(max=-0.01)
    return {
        "mask": mask, "new": new, "old": old, "advantages": torch.randn(B, L, generator=g),
        "rollout": (old + 0.3 * torch.randn(B, L, generator=g)).clamp(max=-0.01),
    }  # fmt: skip


def recorded(function: Any, x: Tensor) -> dict[str, Any]:
    """function(x) -> loss, metrics."""
    x = x.clone().requires_grad_()
    loss, metrics = function(x)
    (gradient,) = torch.autograd.grad(loss, x)
    kept = {name: float(value) for name, value in metrics.items()}
    return {"loss": loss.item(), "gradient": numbers(gradient), "metrics": numbers_of(kept)}


def numbers_of(metrics: dict[str, float]) -> dict[str, float]:
    return {name: numbers(value) for name, value in metrics.items()}


def skyrl(folder: Path) -> dict[str, Any]:
    theirs, x = checkouts.skyrl(folder), rows()
    results: dict[str, Any] = {}
    for name in ("regular", "dual_clip", "gspo", "cispo", "sapo", "dppo", "clip_cov", "kl_cov"):
        config = theirs.config.AlgorithmConfig(policy_loss_type=name, loss_reduction="sequence_mean")
        config.eps_clip_low, config.eps_clip_high, config.clip_ratio_c = 0.1, 0.15, 1.3
        config.dppo.delta_low, config.dppo.delta_high = 0.05, 0.08
        config.cispo.cispo_eps_clip_low, config.cispo.cispo_eps_clip_high = 0.1, 0.2
        # all candidates are drawn, so that the draw does not matter
        config.clip_cov.clip_ratio, config.clip_cov.clip_cov_lb, config.clip_cov.clip_cov_ub = 1.0, 0.05, 2.0
        config.kl_cov.kl_cov_frac, config.kl_cov.ppo_kl_coef = 0.2, 0.7
        function = theirs.ppo.PolicyLossRegistry.get(name)
        results[name] = recorded(
            lambda new, f=function, c=config: f(new, x["old"], x["advantages"], c, x["mask"]), x["new"]
        )
    scores = torch.tensor([1.0, 0, 0, 1, 1, 0.5])
    rewards, uids = torch.zeros(B, L), ["a", "a", "a", "b", "b", "alone"]
    rewards[:, 2] = scores
    for name, by_std in (("grpo", True), ("grpo", False), ("rloo", True)):
        advantages, _ = theirs.ppo.compute_advantages_and_returns(
            rewards, x["mask"], uids, name, None, grpo_norm_by_std=by_std
        )
        results[f"{name} {by_std}"] = numbers(advantages)
    return {"inputs": x | {"rewards": rewards, "uids": uids}, "results": results}


def prime_rl(folder: Path) -> dict[str, Any]:
    theirs, x = checkouts.prime_rl(folder), rows()
    flat = {name: value.flatten() for name, value in x.items()}
    weights = torch.rand(B * L, generator=torch.Generator().manual_seed(1))
    config = checkouts.DefaultLossConfig(0.05, 0.08, 0.9, 0.01)
    results: dict[str, Any] = {}
    for name, w in (("dppo", None), ("dppo weighted", weights)):

        def default(new: Tensor, w: Tensor | None = w) -> tuple[Tensor, Any]:
            inputs = theirs.loss.LossInputs(
                new, flat["old"], None, flat["advantages"], flat["mask"].bool(), w
            )
            out = theirs.loss.default_loss_fn(inputs, config)
            return out.loss, {"is_masked": out.metrics["is_masked"]}

        results[name] = recorded(default, flat["new"])
    g = torch.Generator().manual_seed(2)
    head = theirs.head.FusedOutputLinear(6, 11, 4)
    hidden, labels = torch.randn(1, 9, 6, generator=g), torch.randint(11, (1, 9), generator=g)
    temperature, upstream = 0.5 + torch.rand(1, 9, generator=g), torch.randn(1, 9, generator=g)
    head.weight.data = torch.randn(11, 6, generator=g)
    hidden.requires_grad_()
    out = head(hidden, labels, temperature)
    grads = torch.autograd.grad((out["logprobs"] * upstream).sum(), (hidden, head.weight))
    results["head"] = {
        "logprobs": numbers(out["logprobs"]), "entropy": numbers(out["entropy"]),
        "dhidden": numbers(grads[0]), "dweight": numbers(grads[1]),
    }  # fmt: skip
    inputs = flat | {"loss_weights": weights, "hidden": hidden, "labels": labels, "weight": head.weight}
    return {"inputs": inputs | {"temperature": temperature, "upstream": upstream}, "results": results}


def slime(folder: Path) -> dict[str, Any]:
    theirs, x = checkouts.slime(folder), rows()
    g = torch.Generator().manual_seed(3)
    lengths = [10, 8, 12]
    responses = [7, 5, 7]
    logits = torch.randn(1, sum(lengths), 13, generator=g)
    tokens = [torch.randint(13, (n,), generator=g) for n in lengths]
    cut = {name: [v[i, :n] for i, n in enumerate(responses)] for name, v in x.items()}
    batch = {
        "unconcat_tokens": tokens, "total_lengths": lengths, "response_lengths": responses,
        "loss_masks": cut["mask"], "advantages": cut["advantages"], "log_probs": cut["old"],
        "rollout_log_probs": cut["rollout"], "ref_log_probs": cut["new"],
        "rollout_mask_sums": [m.sum() for m in cut["mask"]],
    }  # fmt: skip
    results: dict[str, Any] = {}
    for name, changes in SLIME_CASES.items():
        args = SimpleNamespace(**SLIME_ARGS | changes)
        mean = theirs.cp.get_sum_of_sample_mean(lengths, responses, cut["mask"])
        if name == "gspo":  # one advantage per sample, as slime's own estimators give
            batch = batch | {"advantages": [a[:1].expand(len(a)) for a in cut["advantages"]]}
        start = logits.clone().requires_grad_()
        loss, log = theirs.loss.policy_loss_function(args, batch, start, mean)
        (gradient,) = torch.autograd.grad(loss, start)
        results[name] = {
            "args": SLIME_ARGS | changes, "loss": loss.item(), "gradient": numbers(gradient),
            "metrics": {k: numbers(float(log[k])) for k in ("ppo_kl", "entropy_loss", "pg_clipfrac")},
        }  # fmt: skip
    samples = [
        theirs.types.Sample(group_index=group, index=i, reward=reward)
        for i, (group, reward) in enumerate([(0, 1.0), (1, 0.0), (0, 0.0), (1, 0.5), (1, 1.0), (0, 1.0)])
    ]
    for by_std in (True, False):
        args = SimpleNamespace(reward_key=None, grpo_std_normalization=by_std)
        _, advantages = theirs.groups.grpo_normalize_by_group_index(args, samples)
        results[f"groups {by_std}"] = numbers(advantages)
    inputs = {"logits": logits, **{name: [v.tolist() for v in values] for name, values in cut.items()}}
    inputs |= {"tokens": [t.tolist() for t in tokens], "total_lengths": lengths, "responses": responses}
    inputs |= {"group": [s.group_index for s in samples], "reward": [s.reward for s in samples]}
    return {"inputs": inputs, "results": results}


SLIME_ARGS = {
    "use_rollout_logprobs": False, "use_opsm": False, "advantage_estimator": "grpo", "eps_clip": 0.1,
    "eps_clip_high": 0.15, "eps_clip_c": None, "get_mismatch_metrics": False, "use_tis": False,
    "tis_clip_low": 0.0, "tis_clip": 1.2, "custom_tis_function_path": None, "entropy_coef": 0.0,
    "use_kl_loss": False, "kl_loss_coef": 0.0, "kl_loss_type": "k3", "use_unbiased_kl": False,
    "rollout_temperature": 0.8, "rollout_top_p": 1.0, "log_probs_chunk_size": -1, "allgather_cp": False,
    "calculate_per_token_loss": False,
}  # fmt: skip
SLIME_CASES: dict[str, dict[str, Any]] = {
    "clip": {},
    "dual clip, TIS": {"eps_clip_c": 1.3, "use_tis": True},
    "rollout log-probs, entropy": {"use_rollout_logprobs": True, "entropy_coef": 0.1},
    "cispo": {"advantage_estimator": "cispo", "eps_clip": 1.0},
    "KL": {"use_kl_loss": True, "kl_loss_coef": 0.2, "kl_loss_type": "low_var_kl"},
    "gspo": {"advantage_estimator": "gspo"},
}


if __name__ == "__main__":
    name, folder, version = sys.argv[1:]
    record = {"skyrl": skyrl, "prime_rl": prime_rl, "slime": slime}[name](Path(folder).resolve())
    record["inputs"] = {key: numbers(value) for key, value in record["inputs"].items()}
    path = GOLDEN / f"{name}.json"
    path.write_text(json.dumps({"version": version} | record, separators=(",", ":")) + "\n")
    print(f"{path}: {path.stat().st_size} bytes")
