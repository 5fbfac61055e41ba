"""Configuration: contradictions are refused by name; recipes and overrides resolve to typed values."""

import json
import math
import re

import pytest

import lamer_fast
from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.envs.registry import default_options, option_classes
from lamer_fast.fields import Range, docs_of, settings_of
from lamer_fast.warmstart.settings import WarmstartSettings


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
        (["--eval.temperature", "0.005"], ["eval.temperature = 0.005"]),
        (["--eval.min-tokens", "2000"], ["eval.min_tokens = 2000", "rollout.max_reply_tokens = 1024"]),
        (["--eval.memory", "reflection"], ["eval.memory = 'reflection'", "rollout.context = 'trial'"]),
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
        (["--algo.critic", "head"], ["algo.critic = 'head'", "algo.estimator = 'gigpo'"]),
        (["--learn.critic-lr", "0.1"], ["learn.critic_lr = 0.1", "algo.estimator = 'gigpo'"]),
        (["--algo.estimator=gae", "--algo.stats-unit=turn"], ["algo.stats_unit = 'turn'", "'gae'"]),
        (
            ["--algo.estimator=gae", "--algo.episode-credit=own", "--algo.gamma-traj=0.3"],
            ["algo.gamma_traj = 0.3", "algo.estimator = 'gae': nothing crosses"],
        ),
        (
            ["--algo.estimator=gae", "--algo.scale=none", "--algo.eps=0.1"],
            ["algo.eps", "algo.scale = 'none'"],
        ),
        (
            ["--algo.estimator=gae", "--rollout.spare-groups=2"],
            ["rollout.spare_groups = 2", "algo.estimator = 'gae'"],
        ),
        (
            ["--algo.estimator=reinforce++", "--rollout.spare-groups=2", "--rollout.trials-per-group=1"],
            ["rollout.spare_groups = 2", "rollout.trials_per_group = 1"],
        ),
        (["--rollout.alike=success"], ["rollout.alike = 'success'", "rollout.spare_groups = 0"]),
        (
            ["--algo.consolidation=0.1", "--rollout.context=turn"],
            ["algo.consolidation = 0.1", "rollout.context = 'turn'"],
        ),
        (
            ["--algo.consolidation=0.1", "--rollout.episodes=1"],
            ["algo.consolidation = 0.1", "rollout.episodes = 1"],
        ),
        (["--rollout.kv-cache-dtype=fp8"], ["rollout.kv_cache_dtype = 'fp8'", "rollout.sampler = 'torch'"]),
        (
            ["--learn.offload-optimizer=rollout", "--train.device=cpu"],
            ["learn.offload_optimizer", "train.device"],
        ),
        (
            ["--rollout.sleep-during-updates=true", "--rollout.sampler=vllm", "--train.device=cpu"],
            ["rollout.sleep_during_updates", "train.device"],
        ),
        (["--model.base-format=nf4"], ["model.base_format = 'nf4'", "model.lora_rank = 0"]),
        (
            ["--model.base-format=nf4", "--model.lora-rank=8", "--learn.shard=full"],
            ["learn.shard = 'full'", "model.base_format = 'nf4'", "take 'optimizer'"],
        ),
        (
            ["--model.lora-rank=8", "--model.dora=true", "--rollout.sampler=vllm"],
            ["rollout.adapter = 'apart'", "model.dora = True"],
        ),
        (
            ["--env.name", "sokoban", "--env.min-moves", "30"],
            ["env.min_moves = 30", "env.max_moves = 21"],
        ),
        (["--env.name=sokoban", "--env.end-on-dead=true"], ["env.end_on_dead", "env.track_dead = False"]),
        (["--env.name=sokoban", "--env.levels=x", "--env.num-boxes=3"], ["env.num_boxes = 3", "env.levels"]),
        (["--env.no-guess=true", "--env.first-click=agent"], ["env.no_guess", "env.first_click = 'agent'"]),
        (["--env.height=2", "--env.width=2"], ["env.num_mines = 3", "room for 2"]),
        (["--env.name", "chess"], ["env.name = 'chess'", "minesweeper, sokoban"]),
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
    assert len(settings_of(Config)) <= 120


@pytest.mark.parametrize("name", recipe.names())
def test_shipped_recipes_resolve_and_hold_only_differences(name):
    config = recipe.resolve(name)
    assert config.name == name
    defaults = recipe.to_flat(Config(env=default_options(config.env.name)))
    same = {k: v for k, v in recipe.read_toml(recipe.recipe_file(name)).items() if defaults[k] == v}
    said_for_the_reader = {"env.name", "rollout.groups", "rollout.trials_per_group", "rollout.episodes"}
    said_for_the_reader |= {
        "env.style",
        "env.height",
        "env.width",
        "rollout.max_turns",
        "rollout.context",
        "rollout.memory",
        "env.id",
        "env.game",
        "env.dataset",
        "env.games",
        "env.num_mines",
    }
    said_for_the_reader |= {"env.num_boxes", "model.path", "learn.lr", "learn.minibatches", "algo.gamma_traj"}
    assert same.keys() <= said_for_the_reader


@pytest.mark.parametrize("name", [n for n in recipe.names() if f"{n}-gigpo" in recipe.names()])
def test_twins_play_equally_many_episodes(name):
    ours, twin = recipe.resolve(name).rollout, recipe.resolve(f"{name}-gigpo").rollout
    assert twin.episodes == 1 and not twin.reflect
    assert twin.groups * twin.trials_per_group == ours.groups * ours.trials_per_group * ours.episodes


@pytest.mark.parametrize("name", [n for n in recipe.names() if f"{n}-gigpo" in recipe.names()])
def test_twins_are_evaluated_alike(name):
    ours, twin = recipe.resolve(name), recipe.resolve(f"{name}-gigpo")
    assert ours.evaluation().rollout.episodes == twin.evaluation().rollout.episodes == 3
    for key in ("memory", "reflect", "max_turns", "context"):
        assert getattr(ours.evaluation().rollout, key) == getattr(twin.evaluation().rollout, key)
    for key in ("every", "tasks", "temperature", "top_p", "top_k", "min_tokens"):
        assert getattr(ours.eval, key) == getattr(twin.eval, key)


@pytest.mark.parametrize("name", [n for n in recipe.names() if "qwen3" in n])
def test_the_papers_recipes_are_evaluated_as_the_paper_does(name):
    e = recipe.resolve(name).eval
    assert (e.temperature, e.top_p, e.top_k, e.min_tokens) == (0.7, 0.8, 20, 5)


@pytest.mark.parametrize("name", [n for n in recipe.names() if f"{n}-released" in recipe.names()])
def test_the_released_recipes_differ_where_the_official_code_does(name):
    ours, released = (recipe.to_flat(recipe.resolve(n)) for n in (name, f"{name}-released"))
    switches = {"algo.return_form", "algo.episode_credit", "algo.reflection_score", "algo.stats_unit"}
    switches |= {"algo.gamma_traj", "rollout.context", "rollout.max_sequence_tokens", "learn.minibatches"}
    switches |= {"name", "env.style"}
    switches |= {key for key in released if key.startswith("env.reward_")}
    if "sokoban" in name:
        switches |= {f"env.{s}" for s in ("turn_reward", "stop_at_done", "track_dead", "end_on_dead")}
    assert {key for key in ours if ours[key] != released[key]} == switches


def test_an_evaluation_needs_less_than_training():
    config = resolve("--rollout.groups=1", "--rollout.trials-per-group=1", "--learn.minibatches=100")
    config.validate_evaluation()
    with pytest.raises(ValueError, match="trials_per_group"):
        config.validate()
    with pytest.raises(ValueError, match=r"rollout\.context = 'trial' contradicts rollout\.memory = 'none'"):
        resolve("--rollout.episodes=1", "--rollout.memory=none", "--eval.episodes=3").validate_evaluation()


def test_an_old_name_says_the_new_one(tmp_path):
    path = tmp_path / "old.toml"
    path.write_text("[rollout]\ntop_p = 0.9\n")
    with pytest.raises(
        ValueError, match=r"old\.toml: rollout\.top_p is now eval\.top_p: training samples by"
    ):
        recipe.resolve(str(path))
    with pytest.raises(ValueError, match=r"rollout\.top_k is now eval\.top_k"):
        recipe.resolve("minesweeper-tiny", ["--rollout.top-k", "20"])
    older = tmp_path / "config.json"  # of a run: where nothing was cut, nothing has changed
    values = json.loads(recipe.to_json(recipe.resolve("minesweeper-tiny")))
    older.write_text(json.dumps(values | {"rollout.top_p": 1.0, "rollout.top_k": 0}))
    assert recipe.read_config(older) == recipe.resolve("minesweeper-tiny")


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
        (["--algo.kl", "k4"], "must be one of: k1, k2, k3"),
        (["--algo.loss"], "--algo.loss has no value"),
        (["algo.loss", "clip"], "expected --key value, found 'algo.loss'"),
    ],
)
def test_bad_overrides(overrides, message):
    with pytest.raises(ValueError) as error:
        resolve(*overrides)
    assert message in str(error.value)


CONFIGS = {
    "minesweeper": Config(),
    "sokoban": Config(env=default_options("sokoban")),
    "warm start": WarmstartSettings(),
}
ALL = [(name, key) for name, config in CONFIGS.items() for key in settings_of(config)]
NUMBERS = [(name, key) for name, key in ALL if settings_of(CONFIGS[name])[key].kind in (int, float)]


def refusal(name, key, value):
    """The message with which a value is refused, whichever check it is that finds it."""
    with pytest.raises(ValueError) as error:
        recipe.apply(CONFIGS[name], {key: value}).validate()
    return str(error.value)


@pytest.mark.parametrize(("name", "key"), NUMBERS)
def test_every_number_is_finite_and_in_a_range(name, key):
    setting = settings_of(CONFIGS[name])[key]
    assert setting.range is not None, "a number without a range"
    low, high = setting.range.low, setting.range.high
    outside = [low - 1] + ([] if high is None else [high + 1])
    if setting.kind is float:
        outside += [math.nan, math.inf, -math.inf, "nan", "inf", "1e999"]
    else:
        outside += [2**63, -(2**63) - 1, 10**400]
    for value in outside:
        assert refusal(name, key, value).startswith(f"{key} = ")


@pytest.mark.parametrize(("name", "key"), ALL)
def test_every_setting_refuses_other_types_and_says_what_it_is(name, key):
    kind = settings_of(CONFIGS[name])[key].kind
    wrong = [[], {}, [1], "", b"x"] if kind is not str else [[], {}, [1], 3, True, 2.5, b"x", "a\0b", "a\nb"]
    wrong += {int: [True, 2.0, 2.5, "2.5"], float: [True], bool: [2, "yes"]}.get(kind, [])
    for value in wrong:
        assert refusal(name, key, value).startswith(f"{key} = ")


@pytest.mark.parametrize("cls", [Config, WarmstartSettings, *option_classes().values()])
def test_every_setting_is_documented(cls):
    docs = docs_of(cls)
    assert docs.keys() == settings_of(cls).keys() and all(docs.values())


def test_a_missing_recipe_is_told_by_name_or_by_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for source, message in (
        ("minesweper-tiny", "no recipe 'minesweper-tiny', did you mean 'minesweeper-tiny'?"),
        ("my.toml", "recipe 'my.toml': no such file"),
        ("../recipes/minesweeper-tiny", "recipe '../recipes/minesweeper-tiny': no such file"),
        (str(tmp_path), "is a folder, expected a TOML file"),
        ("", "no recipe ''"),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            recipe.resolve(source)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[algo\n", "not valid TOML"),
        (b"[]\n", "not valid TOML"),
        (b"\x93NUMPY\x01", "expected a TOML file, found bytes that are no text"),
        (b"[rollout]\ngroups = true\n", "rollout.groups = True, must be int"),
        (b"[rollout]\ngroups = [1, 2]\n", "rollout.groups = [1, 2], must be int"),
        (b"[[rollout]]\ngroups = 1\n", "unknown key 'rollout'"),
        (b"rollout = 3\n", "unknown key 'rollout'"),
        (b"[rollout.groups]\nx = 1\n", "unknown key 'rollout.groups.x'"),
        (b"name = 2026-01-01\n", "must be str"),
        (b"[rollout]\ngruops = 1\n", "unknown key 'rollout.gruops', did you mean 'rollout.groups'?"),
    ],
)
def test_a_bad_recipe_is_told_with_its_file(tmp_path, content, message):
    path = tmp_path / "broken.toml"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        recipe.resolve(str(path))
    assert str(error.value).startswith(f"{path}: ") and message in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"[]", "is not of a run"),
        (b"3", "is not of a run"),
        (b'{"architectures": ["Qwen3ForCausalLM"]}', "is not of a run"),
        (b'{"name": "r", "rollout.groups', "is damaged, expected the settings of a run as JSON"),
        (b"\xff\xfe", "is damaged"),
        (b'{"name": "r", "rollout.groups": "many"}', "rollout.groups = 'many', must be int"),
        (b'{"name": "r", "rollout.grps": 3}', "unknown key 'rollout.grps'"),
    ],
)
def test_a_bad_run_configuration_is_told_with_its_file(tmp_path, content, message):
    path = tmp_path / "config.json"
    path.write_bytes(content)
    with pytest.raises(ValueError) as error:
        recipe.read_config(path)
    assert str(path) in str(error.value) and message in str(error.value)


def test_a_run_records_its_settings_and_the_version(tmp_path):
    config = recipe.resolve("minesweeper-qwen3-4b")
    path = tmp_path / "config.json"
    path.write_text(recipe.to_json(config))
    assert json.loads(path.read_text())["version"] == lamer_fast.__version__
    assert recipe.read_config(path) == config
    older = {key: value for key, value in json.loads(path.read_text()).items() if key != "eval.tasks"}
    path.write_text(json.dumps(older))
    assert recipe.read_config(path).eval.tasks == Config().eval.tasks, "a setting it does not know yet"


@pytest.mark.parametrize("name", recipe.names())
def test_flat_form_round_trips(name):
    config = recipe.resolve(name)
    assert recipe.apply(Config(), recipe.to_flat(config)) == config


def test_the_options_are_those_of_the_named_environment():
    for key, message in (
        ("--env.num-boxes", "unknown key 'env.num_boxes'"),
        (
            "--env.num-mine",
            "unknown key 'env.num_mine', did you mean 'env.num_mines'?; minesweeper has: name, pro",
        ),
        (
            "--env.max-moves",
            "show_actions, height, width, num_mines, first_click, no_guess, max_tries, neighbours",
        ),
    ):
        with pytest.raises(ValueError, match=re.escape(message)):
            recipe.resolve("minesweeper-tiny", [key, "3"])
    assert recipe.resolve("sokoban-tiny", ["--env.end-on-dead=true", "--env.track-dead=true"]).env.end_on_dead


def test_another_environment_keeps_what_both_have_a_name_for():
    config = recipe.resolve("minesweeper-tiny", ["--env.height=5", "--env.width=5", "--env.name=sokoban"])
    assert type(config.env).__name__ == "SokobanOptions" and config.env.name == "sokoban"
    assert (config.env.height, config.env.prompt, config.env.num_boxes) == (5, "compact", 2)
    assert recipe.apply(Config(), {"env.name": "lamer_fast.envs.toy:make"}).env.highest == 50
    assert recipe.apply(Config(), {"env.name": "sokoban"}) == Config(env=default_options("sokoban"))


def test_runs_with_the_options_of_both_games_still_load(tmp_path):
    """As every run wrote them before environments had options of their own."""
    path = tmp_path / "config.json"
    for name in ("minesweeper-tiny", "sokoban-tiny"):
        config = recipe.resolve(name)
        both = {"env.num_mines": 3, "env.num_boxes": 2, "env.min_moves": 5, "env.max_moves": 21}
        older = both | {"env.moves_per_turn": 3} | recipe.to_flat(config)
        path.write_text(json.dumps({key: older[key] for key in older if key != "env.show_actions"}))
        assert recipe.read_config(path) == config


def test_equal_ranges_read_alike():
    """`typing` may keep the first of two equal ones, and a message must not depend on imports."""
    assert str(Range(-1e6, 1e6)) == str(Range(-1_000_000, 1_000_000)) == "in [-1000000, 1000000]"
    assert str(Range(0.1, 1e5)) == "in [0.1, 100000]" and str(Range(0.0)) == "at least 0"
