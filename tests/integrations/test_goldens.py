"""The adapters of SkyRL, prime-rl and slime against what the frameworks' own functions returned."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from lamer_kernels.integrations import prime_rl, skyrl, slime, slime_loss

GOLDEN = {
    path.stem: json.loads(path.read_text()) for path in (Path(__file__).parent / "golden").glob("*.json")
}
X = {name: golden["inputs"] for name, golden in GOLDEN.items()}


def inputs(name):
    return {k: torch.tensor(v) for k, v in X[name].items() if not isinstance(v[0], str)}


def close(x, y):
    torch.testing.assert_close(x, torch.as_tensor(y).to(x), rtol=1e-5, atol=2e-6)


def agrees(out, x, metrics, wanted):
    """Value, gradient and the metrics that both have; returns how many those are."""
    close(out.detach(), wanted["loss"])
    close(torch.autograd.grad(out, x)[0], wanted["gradient"])
    both = metrics.keys() & wanted["metrics"].keys()
    for name in both:
        assert float(metrics[name]) == pytest.approx(wanted["metrics"][name], abs=1e-5), name
    return len(both)


SKYRL = SimpleNamespace(
    eps_clip_low=0.1, eps_clip_high=0.15, clip_ratio_c=1.3, off_policy_correction=None,
    sapo=SimpleNamespace(tau_pos=1.0, tau_neg=1.05),
    cispo=SimpleNamespace(cispo_eps_clip_low=0.1, cispo_eps_clip_high=0.2),
    dppo=SimpleNamespace(dppo_type="binary_tv", delta_low=0.05, delta_high=0.08),
    clip_cov=SimpleNamespace(clip_ratio=1.0, clip_cov_lb=0.05, clip_cov_ub=2.0),
    kl_cov=SimpleNamespace(kl_cov_frac=0.2, ppo_kl_coef=0.7),
)  # fmt: skip


@pytest.mark.parametrize("name", skyrl.LOSSES)
def test_skyrl_loss(name):
    x = inputs("skyrl")
    new = x["new"].requires_grad_()
    out, metrics = skyrl.loss(name)(new, x["old"], x["advantages"], SKYRL, x["mask"])
    assert agrees(out, new, metrics, GOLDEN["skyrl"]["results"][name]) == 1


@pytest.mark.parametrize(
    ("wanted", "switches", "by_std"),
    [("grpo True", {"singleton": "score"}, True), ("grpo False", {"singleton": "score"}, False),
     ("rloo True", {"by_std": False, "baseline": "leave_one_out"}, True)],
)  # fmt: skip
def test_skyrl_estimator(wanted, switches, by_std):
    x = inputs("skyrl")
    advantages, _ = skyrl.estimator(**switches)(
        x["rewards"], x["mask"], X["skyrl"]["uids"], grpo_norm_by_std=by_std, values=None, gamma=1.0
    )
    close(advantages, GOLDEN["skyrl"]["results"][wanted])


def prime_inputs(x, new, mask=None, weights=None):
    return SimpleNamespace(
        trainer_logprobs=new, inference_logprobs=x["old"], ref_logprobs=None, advantages=x["advantages"],
        loss_mask=x["mask"].bool() if mask is None else mask, loss_weights=weights,
    )  # fmt: skip


@pytest.mark.parametrize("name", ["dppo", "dppo weighted"])
def test_prime_rl_default_loss(name):
    x = inputs("prime_rl")
    new = x["new"].requires_grad_()
    weights = x["loss_weights"] if name == "dppo weighted" else None
    switches = {"clip_low": 0.05, "clip_high": 0.08, "adv_tau": 0.9, "kl_tau": 0.01}
    out = prime_rl.loss(prime_inputs(x, new, weights=weights), **switches)
    assert agrees(out.loss, new, out.metrics, GOLDEN["prime_rl"]["results"][name]) == 1


def fused_head(weight):
    class FusedOutputLinear(torch.nn.Linear):
        def forward(self, hidden_states, labels=None, temperature=None):
            raise AssertionError

    head = FusedOutputLinear(weight.shape[1], weight.shape[0], bias=False)
    head.weight.data = weight
    return head


def test_prime_rl_head():
    x, wanted = inputs("prime_rl"), GOLDEN["prime_rl"]["results"]["head"]
    model = SimpleNamespace(lm_head=fused_head(x["weight"]))
    prime_rl.use_head(model)
    hidden = x["hidden"].requires_grad_()
    out = model.lm_head(hidden, x["labels"], temperature=x["temperature"])
    total = (out["logprobs"] * x["upstream"]).sum()
    grads = torch.autograd.grad(total, (hidden, model.lm_head.weight))
    for found, name in zip(
        (*out.values(), *grads), ("logprobs", "entropy", "dhidden", "dweight"), strict=True
    ):
        close(found, wanted[name])


def test_prime_rl_refuses_what_it_does_not_know():
    with pytest.raises(ValueError, match=r"got Linear\('self', 'input'\)"):
        prime_rl.use_head(SimpleNamespace(lm_head=torch.nn.Linear(3, 4)))
    x = inputs("prime_rl")
    with pytest.raises(ValueError, match=r"loss must be one of clip, .*, got 'gspo'"):
        prime_rl.loss(prime_inputs(x, x["new"]), loss="gspo")


def slime_case(name):
    x, wanted = X["slime"], GOLDEN["slime"]["results"][name]
    args = SimpleNamespace(**wanted["args"])
    columns = {k: [torch.tensor(v) for v in x[k]] for k in ("mask", "new", "old", "advantages", "rollout")}
    batch = {
        "loss_masks": columns["mask"], "advantages": columns["advantages"], "log_probs": columns["old"],
        "rollout_log_probs": columns["rollout"], "ref_log_probs": columns["new"],
    }  # fmt: skip
    if name == "gspo":
        batch["advantages"] = [a[:1].expand(len(a)) for a in columns["advantages"]]
    logits = torch.tensor(x["logits"]).requires_grad_()
    rows = (logits[0] / args.rollout_temperature).log_softmax(-1)
    log_probs, entropy, end = [], [], 0
    for total, reply, tokens in zip(x["total_lengths"], x["responses"], x["tokens"], strict=True):
        end += total
        row = rows[end - reply - 1 : end - 1]
        log_probs.append(row.gather(1, torch.tensor(tokens[-reply:])[:, None])[:, 0])
        entropy.append(-(row.exp() * row).sum(-1))

    def mean(values):
        parts = zip(values.split(x["responses"]), columns["mask"], strict=True)
        return sum((v * m).sum() / m.sum().clamp(min=1) for v, m in parts)

    return args, batch, logits, (log_probs, entropy), mean, wanted


SLIME = [name for name in GOLDEN["slime"]["results"] if not name.startswith("groups")]


@pytest.mark.parametrize("name", SLIME)
def test_slime_loss(name):
    args, batch, logits, found, mean, wanted = slime_case(name)
    out, log = slime_loss.loss_of_log_probs(args, batch, *found, mean)
    assert agrees(out, logits, log, wanted) == 3


def test_slime_loss_of_our_own_and_what_is_refused():
    args, batch, logits, found, mean, _ = slime_case("clip")
    args.lamer_loss = {"loss": "sapo"}
    out, _ = slime_loss.loss_of_log_probs(args, batch, *found, mean)
    assert torch.autograd.grad(out, logits)[0].abs().sum() > 0
    args.use_opsm = True
    with pytest.raises(ValueError, match="use_opsm is slime's own loss alone, got True"):
        slime_loss.loss_of_log_probs(args, batch, *found, mean)


def sample(group, reward, rollout=None, **metadata):
    return SimpleNamespace(
        group_index=group, index=None, rollout_id=rollout, metadata=metadata,
        get_reward_value=lambda args: reward,
    )  # fmt: skip


@pytest.mark.parametrize("by_std", [True, False])
def test_slime_groups(by_std):
    x = X["slime"]
    samples = [sample(*pair) for pair in zip(x["group"], x["reward"], strict=True)]
    rewards, advantages = slime.group_rewards(SimpleNamespace(grpo_std_normalization=by_std), samples)
    assert rewards == x["reward"]
    close(torch.tensor(advantages), GOLDEN["slime"]["results"][f"groups {by_std}"])


def test_slime_uneven_groups_and_rollouts_of_several_samples():
    """slime#2230: groups of 4, 3 and 4; slime#2300: a rollout that became three samples counts once."""
    args = SimpleNamespace(grpo_std_normalization=False)
    uneven = [
        sample(g, r) for g, rewards in enumerate(([1, 0, 0, 1], [5, 5, 5], [2, 2, 0, 0])) for r in rewards
    ]
    _, advantages = slime.group_rewards(args, uneven)
    assert advantages == [0.5, -0.5, -0.5, 0.5, 0, 0, 0, 1, 1, -1, -1]
    several = [sample(0, r, rollout=k) for r, k in ((1, 0), (1, 0), (1, 0), (0, 1))]
    assert slime.group_rewards(args, several)[1] == [0.5, 0.5, 0.5, -0.5]
    alone = slime.group_rewards(SimpleNamespace(grpo_std_normalization=True), [sample(0, 1.0)])
    assert alone == ([1.0], [0.0])  # slime's own divides 0 by the deviation of one number: NaN


def test_slime_credit_of_turns_in_any_order():
    turns = [
        sample(0, float(won and turn == 2), trial=won, turn=turn, episode=episode, phase=phase, anchor=anchor)
        for won in (0, 1)
        for turn, (episode, phase, anchor) in enumerate([(0, 0, "a"), (1, 1, "note"), (1, 0, "a")])
    ]
    args = SimpleNamespace(lamer_credit={"gamma_traj": 0.5})
    _, advantages = slime.turn_rewards(args, turns)
    assert advantages[3] > 0 > advantages[0]  # the lost first episode of the trial that wins later
    order = [4, 1, 5, 0, 3, 2]
    assert slime.turn_rewards(args, [turns[i] for i in order])[1] == [advantages[i] for i in order]


@pytest.mark.parametrize("name", skyrl.LOSSES)
def test_a_micro_batch_without_loss_tokens_is_a_differentiable_zero(name):
    x = inputs("skyrl")
    new = x["new"].requires_grad_()
    nothing = torch.zeros_like(x["mask"])
    out, _ = skyrl.loss(name)(new, x["old"], x["advantages"], SKYRL, nothing)
    assert out.item() == 0 and not torch.autograd.grad(out, new)[0].any()
    y = inputs("prime_rl")
    flat = y["new"].requires_grad_()
    out = prime_rl.loss(prime_inputs(y, flat, mask=torch.zeros_like(y["mask"]).bool())).loss
    assert out.item() == 0 and not torch.autograd.grad(out, flat)[0].any()
