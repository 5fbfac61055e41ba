"""The audit: planted defects are found and named, clean pairs raise no alarm."""

import numpy as np
import pytest
import torch

from lamer_fast.audit import audit
from lamer_fast.audit.distances import distances, rows_at_a_time
from lamer_fast.audit.of_policy import audit_policy
from lamer_fast.audit.replay import CACHED, FIRST, NEXT, TRANSFER, Replay
from lamer_fast.audit.sides import walk_places
from lamer_fast.config import ModelConfig
from lamer_fast.learn.policy import Policy
from lamer_fast.model.adapters import add_adapters, merged_copy
from lamer_fast.samplers.local.sampler import TorchSampler
from tests import planted
from tests.planted import CopyingSampler, architecture, attending, logits, turning
from tests.tiny import tiny_model

NUM_IDS = 120  # of the 128 rows of the head
LLAMA3 = {"rope_type": "llama3", "rope_theta": 1e4, "factor": 8.0, "low_freq_factor": 1.0,
          "high_freq_factor": 4.0, "original_max_position_embeddings": 64}  # fmt: skip
FAMILIES = {
    "llama": {},
    "qwen2": {},
    "qwen3": {},
    "smollm3": {"no_rope_layers": [1, 0]},
    "mistral": {"sliding_window": None, "head_dim": 24},
    "phi3": {},
}


def policy_of(kind="qwen3", seed=0, dtype=torch.float32, **options):
    return Policy(tiny_model(kind, seed=seed, **FAMILIES[kind] | options), None, dtype, num_ids=NUM_IDS)


def replays(seed=0, count=3, num_ids=NUM_IDS):
    """Trials of three turns; of each reply the first tokens are asked for."""
    g = np.random.default_rng(seed)
    found = []
    for _ in range(count):
        first, second, third = np.cumsum(11 + g.integers(0, 6, 3))
        places = [first, first + 1, first + 2, second, second + 1, third, third + 1]
        kinds = (FIRST, NEXT, NEXT, CACHED, NEXT, CACHED, NEXT)
        found.append(Replay(g.integers(0, num_ids, third + 2), np.array(places), kinds))
    return found


def run(sampler, policy, temperature=0.8):
    return audit_policy(sampler, policy, replays(), temperature)


def one(kind, plant, **options):
    """(policy, sampler) where `plant` makes the sampler of the policy."""
    return lambda: (lambda policy: (policy, plant(policy)))(policy_of(kind, **options))


def copied(kind, spoil=lambda sampler: sampler, alter=lambda named: named, **options):
    return one(kind, lambda policy: spoil(CopyingSampler(policy, alter)), **options)


def adapted(name):
    """The trainer has merged an adapter into a weight, which the sampler never got."""

    def made():
        policy = policy_of("llama")
        weight = dict(policy.model.named_parameters())[name]
        delta = planted.low_rank(weight.shape)
        sampler = CopyingSampler(policy, planted.changed(name, lambda w: w - delta))
        with torch.no_grad():
            weight += delta
        sampler.load_weights(policy.named_weights(), 0)
        return policy, sampler

    return made


def spoilt_trainer():
    policy = policy_of("qwen2")
    sampler = TorchSampler(policy.model, max_sequence_tokens=128, num_ids=NUM_IDS)
    architecture(policy, eps=1e-4)
    return policy, sampler


DEFECTS = {
    "stale layer weight": (copied("qwen3", alter=planted.without("layers.1.mlp.down_proj.weight")),
                           "layer 1, down projection", "stale weight"),
    "stale norm": (copied("llama", alter=planted.without("layers.1.input_layernorm.weight")),
                   "layer 1, values", "stale weight"),
    "stale final norm": (copied("llama", alter=planted.without("model.norm.weight")),
                         "final norm and head", "stale weight"),
    "stale embedding": (copied("llama", alter=planted.without("embed_tokens.weight")),
                        "embedding", "stale weight"),
    "transfers one late": (copied("qwen2", alter=planted.one_late()), "embedding", "stale weight"),
    "stale fused copies": (one("qwen3", lambda p: planted.NeverRefreshes(
        p.model, max_sequence_tokens=128, num_ids=NUM_IDS)), "layer 0, values", "stale weight"),
    "head that stayed behind": (one("qwen3", lambda p: planted.UntiedHead(p)),
                                "final norm and head", "tied head"),
    "head tied by mistake": (one("llama", lambda p: planted.tied(CopyingSampler(p))),
                             "final norm and head", "tied head"),
    "missing adapter, values": (adapted("model.layers.1.self_attn.v_proj.weight"),
                                "layer 1, values", "missing adapter"),
    "missing adapter, queries": (adapted("model.layers.0.self_attn.q_proj.weight"),
                                 "layer 0, queries", "missing adapter"),
    "missing adapter, output": (adapted("model.layers.0.self_attn.o_proj.weight"),
                                "layer 0, output projection", "missing adapter"),
    "rope theta": (copied("llama", lambda s: turning(s, planted.theta(1e5))), "layer 0, keys", "rope"),
    "rope scaling dropped": (copied(
        "llama", lambda s: turning(s, planted.theta(1e4)), rope_parameters=LLAMA3), "layer 0, keys", "rope"),
    "layer without positions turned": (copied("smollm3", lambda s: architecture(s, has_rope=(True, True))),
                                       "layer 1, keys", "rope"),
    "norm epsilon": (copied("qwen3", lambda s: architecture(s, eps=1e-5)), "layer 0, values", "norm epsilon"),
    "temperature twice": (copied("qwen3", lambda s: logits(s, lambda x: x / 0.8)),
                          "final norm and head", "temperature"),
    "logits capped": (copied("qwen2", lambda s: logits(s, planted.capped(30.0))),
                      "final norm and head", "soft-cap"),
    "scores capped": (copied("qwen2", lambda s: attending(s, softcap=50.0)),
                      "layer 0, attention", "soft-cap"),
    "positions after a cached prefix": (copied("qwen3", lambda s: attending(s, shift=1)),
                                        "layer 0, keys", "position offset"),
    "a slot overwritten": (copied("qwen3", lambda s: planted.overwriting(s, 1, 5)),
                           "layer 1, attention", "cache"),
    "a cache kept over a transfer": (one("qwen3", planted.KeepsItsCache), "state between requests", "cache"),
    "bfloat16": (one("qwen3", lambda p: CopyingSampler(p, dtype=torch.bfloat16)), "embedding", "dtype"),
    "keys and values in FP8": (copied("qwen3", lambda s: attending(s, dtype=torch.float8_e4m3fn)),
                               "layer 0, attention", "dtype"),
    "transposed": (copied("llama", alter=planted.changed("layers.1.self_attn.o_proj.weight", lambda w: w.mT)),
                   "layer 1, output projection", "transposed weight"),
    "scores scaled": (copied("llama", lambda s: attending(s, scale=2.0)),
                      "layer 0, attention", "attention scale"),
    "head norms left out": (copied("qwen3", lambda s: architecture(s, has_head_norms=False)),
                            "layer 0, keys", "head norms"),
    "a sliding window": (copied("mistral", lambda s: attending(s, window=9)),
                         "layer 0, attention", "sliding window"),
    "gate and up": (copied("llama", alter=planted.swapped_gate_and_up),
                    "layer 0, gate and up", "gate and up"),
    "key-value heads": (copied("qwen2", lambda s: attending(s, kv_in_turn=True)),
                        "layer 0, attention", "key-value heads"),
    "bias dropped": (copied("qwen2", alter=planted.changed("proj.bias", torch.zeros_like)),
                     "layer 0, values", "bias"),
    "padded vocabulary": (one("qwen3", lambda p: CopyingSampler(p, num_ids=None)),
                          "final norm and head", "padded vocabulary"),
    "ids cut": (one("qwen2", planted.Cuts), "final norm and head", "cut distribution"),
    "embedding scaled": (copied("llama", alter=planted.changed("embed_tokens.weight", lambda w: w * 32**0.5)),
                         "embedding", "embedding scale"),
    "the trainer's epsilon": (spoilt_trainer, "layer 0, values", "norm epsilon"),
}  # fmt: skip


@pytest.mark.parametrize("defect", DEFECTS)
def test_planted_defects_are_found_and_named(defect):
    made, where, kind = DEFECTS[defect]
    policy, sampler = made()
    found = run(sampler, policy).finding
    assert found is not None, "no alarm"
    assert (found.where, found.kind) == (where, kind), str(found)
    assert found.side == ("trainer" if "trainer" in defect else "sampler")


def test_twenty_kinds_are_planted():
    assert len(DEFECTS) >= 20


CLEAN = [(kind, seed, dtype) for seed in range(17) for kind in FAMILIES for dtype in ("float32", "bfloat16")]


def is_clean(kind, seed, dtype, own_copy):
    policy = policy_of(kind, seed, getattr(torch, dtype))
    if own_copy:
        sampler = CopyingSampler(policy)
    else:
        sampler = TorchSampler(policy.model, max_sequence_tokens=128, num_ids=NUM_IDS)
    before = {name: tensor.clone() for name, tensor in policy.named_weights()}
    found = audit_policy(sampler, policy, replays(seed), 1.0 if seed % 2 else 0.7)
    assert found.ok, f"{kind}, seed {seed}, {dtype}:\n{found}"
    assert found.kinds.keys() == {FIRST, NEXT, CACHED, TRANSFER}
    assert all(tensor.equal(before[name]) for name, tensor in policy.named_weights())


@pytest.mark.parametrize(("kind", "seed", "dtype"), CLEAN[:12])
def test_no_alarm_on_clean_pairs(kind, seed, dtype):
    is_clean(kind, seed, dtype, own_copy=bool(seed % 2))


@pytest.mark.slow
def test_no_alarm_on_two_hundred_clean_pairs():
    assert len(CLEAN) >= 200
    for i, (kind, seed, dtype) in enumerate(CLEAN):
        is_clean(kind, seed, dtype, own_copy=bool(i // 2 % 2))


def test_no_alarm_far_into_a_sequence():
    """Rotary angles of far tokens feel that positions are turned in float32."""
    policy = policy_of("llama")
    sampler = TorchSampler(policy.model, max_sequence_tokens=1024, num_ids=NUM_IDS)
    ids = np.random.default_rng(0).integers(0, NUM_IDS, 502)
    far = Replay(ids, np.array([30, 31, 500, 501]), (FIRST, NEXT, CACHED, NEXT))
    found = audit_policy(sampler, policy, [far], 1.0)
    assert found.ok, found


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("dora", [False, True])
def test_new_adapters_arrive(dtype, dora):
    """An adapter starts as no change at all: sampled from the base alone, it would be missed."""
    pytest.importorskip("peft", reason="peft is not installed")
    model = tiny_model("qwen3")
    add_adapters(model, ModelConfig(lora_rank=4, dora=dora), dtype, seed=0)
    policy = Policy(model, None, dtype, num_ids=NUM_IDS)
    before = {name: tensor.clone() for name, tensor in model.named_parameters()}
    apart = TorchSampler(model, max_sequence_tokens=128, num_ids=NUM_IDS)
    merged, never = (
        sampling(merged_copy(model), max_sequence_tokens=128, num_ids=NUM_IDS, shares_weights=False)
        for sampling in (TorchSampler, planted.WithoutAdapters)
    )
    for sampler in (apart, merged):
        found = run(sampler, policy)
        assert found.ok, found
    found = run(never, policy).finding
    assert found is not None, "no alarm"
    assert (found.where, found.kind) == ("layer 0, values", "missing adapter")
    assert all(tensor.equal(before[name]) for name, tensor in model.named_parameters())


def module(kind="llama", spoil=lambda model: None, **options):
    model = tiny_model(kind, **options)
    spoil(model)
    return model


def norms(eps):
    def spoil(model):
        for part in model.modules():
            if hasattr(part, "variance_epsilon"):
                part.variance_epsilon = eps

    return spoil


def rope_of(theta):
    def spoil(model):
        model.model.rotary_emb.inv_freq.copy_(planted.theta(theta)(model.model.rotary_emb.inv_freq))

    return spoil


def without_head_norms(model):
    for layer in model.model.layers:
        layer.self_attn.q_norm = layer.self_attn.k_norm = torch.nn.Identity()


def zero_biases(model):
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if name.endswith("proj.bias"):
                parameter.zero_()


def scaled(model):
    for layer in model.model.layers:
        layer.self_attn.scaling *= 2


SEQUENCES = [np.random.default_rng(i).integers(0, 128, 30) for i in range(2)]
MODULES = {
    "clean": ("qwen3", lambda model: None, "", ""),
    "clean, another attention": ("llama", lambda model: model.set_attn_implementation("eager"), "", ""),
    "norm epsilon": ("llama", norms(1e-4), "layer 0, values", "norm epsilon"),
    "rope": ("llama", rope_of(5e5), "layer 0, keys", "rope"),
    "head norms": ("qwen3", without_head_norms, "layer 0, keys", "head norms"),
    "biases": ("qwen2", zero_biases, "layer 0, values", "bias"),
    "scores": ("llama", scaled, "layer 0, attention", "attention scale"),
    "dtype": ("llama", lambda model: model.bfloat16(), "embedding", "dtype"),
}


@pytest.mark.parametrize("name", MODULES)
def test_any_two_modules(name):
    kind, spoil, where, word = MODULES[name]
    found = audit(module(kind, spoil), module(kind), SEQUENCES, temperature=0.9)
    if not word:
        assert found.ok, found
    else:
        assert (found.finding.where, found.finding.kind) == (where, word), found


def test_callables_without_layers():
    model = module("qwen2")

    def logits_of(ids, factor=1.0):
        with torch.no_grad():
            return model(ids[None]).logits[0] * factor

    assert audit(logits_of, logits_of, SEQUENCES, model=model).ok
    found = audit(lambda ids: logits_of(ids, 1.01), model, SEQUENCES)
    assert found.finding.kind == "unknown" and "nothing but its distributions" in str(found)
    with pytest.raises(ValueError, match="pass model=, the Hugging Face model"):
        audit(logits_of, logits_of, SEQUENCES)
    with pytest.raises(ValueError, match=r"must be \[n\] token ids"):
        audit(model, model, [[]])


def test_a_family_without_a_reference_is_refused():
    model = tiny_model("gemma")
    with pytest.raises(ValueError, match="no reference for this model: model type 'gemma'"):
        audit(model, model, SEQUENCES)


def test_distances_by_hand():
    p, q = (torch.tensor([row]).double().log() for row in ([0.5, 0.5, 0.0], [0.25, 0.5, 0.25]))
    kl, tv, gap = distances(p, q)
    assert kl.item() == pytest.approx(0.5 * np.log(2)) and tv.item() == pytest.approx(0.25)
    assert gap.item() == np.inf
    kl, tv, gap = distances(p[:, :2], q[:, :2])
    assert gap.item() == pytest.approx(np.log(2))


def test_a_large_vocabulary_comes_a_few_rows_at_a_time():
    assert rows_at_a_time(151_936) * 151_936 <= 1 << 23 and rows_at_a_time(1 << 30) == 1
    made = list(walk_places(replays(), 2))
    assert max(map(len, made)) == 2 and sum(map(len, made)) == sum(len(r.places) for r in replays())
