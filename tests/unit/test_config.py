"""Configuration: contradictions are refused by name; recipes and overrides resolve to typed values."""

import pytest

from lamer_fast import recipe
from lamer_fast.config import Config


def resolve(*overrides: str) -> Config:
    return recipe.apply(Config(), recipe.parse_overrides(overrides))


@pytest.mark.parametrize(
    ("overrides", "names"),
    [
        (
            ["--rollout.context", "trial", "--rollout.memory", "reflection"],
            ["rollout.context", "rollout.memory"],
        ),
        (["--rollout.context", "turn", "--rollout.memory", "history"], ["rollout.reflect", "rollout.memory"]),
        (
            ["--rollout.context=episode", "--rollout.memory=both", "--rollout.reflect=false"],
            ["rollout.reflect", "rollout.memory"],
        ),
        (["--rollout.top-p", "0.9"], ["rollout.top_p = 0.9", "rollout.top_k = 0"]),
        (["--rollout.top-k", "20"], ["rollout.top_p = 1.0", "rollout.top_k = 20"]),
        (["--rollout.max-reply-tokens", "4096"], ["rollout.max_reply_tokens", "rollout.max_sequence_tokens"]),
        (
            ["--rollout.cache-tokens", "100"],
            ["rollout.cache_tokens = 100", "rollout.max_sequence_tokens = 4096"],
        ),
        (
            ["--learn.max-microbatch-tokens", "512"],
            ["learn.max_microbatch_tokens", "rollout.max_sequence_tokens"],
        ),
        (["--rollout.trials-per-group", "1"], ["rollout.trials_per_group = 1", "algo.estimator = 'gigpo'"]),
        (["--learn.minibatches", "129"], ["learn.minibatches = 129", "128 trials"]),
        (["--learn.warmup-updates", "601"], ["learn.warmup_updates = 601", "600 updates"]),
        (
            ["--algo.importance-cap", "2", "--algo.old-logprobs", "sampler"],
            ["importance_cap", "old_logprobs"],
        ),
        (["--algo.dual-clip", "0.5"], ["algo.dual_clip = 0.5"]),
        (["--algo.estimator", "grpo", "--algo.step-weight", "0.5"], ["grpo", "0.5"]),
        (["--algo.estimator", "rloo", "--algo.baseline", "mean"], ["rloo", "mean"]),
        (["--learn.optimizer=adamw_8bit", "--train.device=cpu"], ["learn.optimizer", "train.device"]),
        (
            ["--learn.offload-optimizer=rollout", "--train.device=cpu"],
            ["learn.offload_optimizer", "train.device"],
        ),
        (["--rollout.sleep-during-updates=true"], ["rollout.sleep_during_updates", "rollout.sampler"]),
        (["--env.min-moves", "30"], ["env.min_moves = 30", "env.max_moves = 21"]),
        (["--algo.gamma-traj", "1.5"], ["algo.gamma_traj = 1.5"]),
        (["--learn.lr", "nan"], ["learn.lr = nan"]),
        (["--name", "../elsewhere"], ["'../elsewhere'"]),
        (["--name", ".hidden"], ["'.hidden'"]),
    ],
)
def test_contradictions_name_both_values(overrides, names):
    with pytest.raises(ValueError) as error:
        resolve(*overrides).validate()
    for name in names:
        assert name in str(error.value)


def test_defaults_are_valid_and_few():
    Config().validate()
    assert Config().num_keys() == len(recipe.key_types()) <= 120


@pytest.mark.parametrize("name", recipe.names())
def test_shipped_recipes_resolve_and_hold_only_differences(name):
    config = recipe.resolve(name)
    assert config.name == name
    defaults = recipe.to_flat(Config())
    same = {k: v for k, v in recipe.load_recipe(name).items() if defaults[k] == v}
    said_for_the_reader = {"env.name", "rollout.groups", "rollout.trials_per_group", "rollout.episodes"}
    said_for_the_reader |= {
        "env.style",
        "env.height",
        "env.width",
        "rollout.max_turns",
        "rollout.context",
        "rollout.memory",
        "env.num_mines",
    }
    said_for_the_reader |= {"env.num_boxes", "model.path", "learn.lr", "learn.minibatches", "algo.gamma_traj"}
    assert same.keys() <= said_for_the_reader


@pytest.mark.parametrize("name", [n for n in recipe.names() if f"{n}-gigpo" in recipe.names()])
def test_twins_play_equally_many_episodes(name):
    ours, twin = recipe.resolve(name).rollout, recipe.resolve(f"{name}-gigpo").rollout
    assert twin.episodes == 1 and not twin.reflect
    assert twin.groups * twin.trials_per_group == ours.groups * ours.trials_per_group * ours.episodes


def test_overrides_are_typed():
    config = resolve(
        "--algo.gamma-step", "0.9", "--rollout.groups=1_024", "--rollout.reflect", "False",
        "--algo.scale=none",
    )  # fmt: skip
    assert config.algo.gamma_step == 0.9
    assert config.rollout.groups == 1024
    assert config.rollout.reflect is False
    assert config.algo.scale == "none"
    assert config.algo.baseline is None


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--algo.gama-step", "1"], "unknown key 'algo.gama_step', did you mean 'algo.gamma_step'?"),
        (["--gamma-step", "1"], "did you mean 'algo.gamma_step'?"),
        (["--learn.groups", "1"], "did you mean 'rollout.groups'?"),
        (["--rollout.groups", "2.5"], "rollout.groups = '2.5', must be int"),
        (["--rollout.groups", "many"], "rollout.groups = 'many', must be int"),
        (["--rollout.reflect", "maybe"], "rollout.reflect = 'maybe', must be bool"),
        (["--algo.loss", "ppo"], "must be one of: clip, gspo, cispo, reinforce"),
        (["--algo.loss"], "--algo.loss has no value"),
        (["algo.loss", "clip"], "expected --key value, found 'algo.loss'"),
    ],
)
def test_bad_overrides(overrides, message):
    with pytest.raises(ValueError) as error:
        resolve(*overrides)
    assert message in str(error.value)


def test_bad_recipes(tmp_path):
    with pytest.raises(ValueError, match="did you mean 'minesweeper-tiny'"):
        recipe.resolve("minesweper-tiny")
    path = tmp_path / "broken.toml"
    path.write_text("[algo\n")
    with pytest.raises(ValueError, match=r"broken\.toml is not valid TOML"):
        recipe.resolve(str(path))
    path.write_text("[rollout]\ngroups = true\n")
    with pytest.raises(ValueError, match=r"rollout\.groups = True, must be int"):
        recipe.resolve(str(path))


def test_flat_form_round_trips():
    config = recipe.resolve("minesweeper-qwen3-4b")
    assert recipe.apply(Config(), recipe.to_flat(config)) == config
