"""Warm start: tokenizer, experts and what they write, settings, and training of a very small model."""

import json
import re
from dataclasses import dataclass, replace
from typing import Annotated

import numpy as np
import pytest
import torch
from hypothesis import given, settings, strategies

from lamer_fast.agent.agent import Agent
from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.cli.warmstart import run
from lamer_fast.config import resolve as recipe
from lamer_fast.envs import Range, with_noise
from lamer_fast.envs.registry import entry, make_env
from lamer_fast.envs.replies import action
from lamer_fast.envs.toy import NumberHunt
from lamer_fast.rollout.boards import Boards
from lamer_fast.rollout.collect import collect_trials
from lamer_fast.rollout.trial_batch import Phase
from lamer_fast.warmstart.expert_batch import pack_experts
from lamer_fast.warmstart.experts import ExpertSampler
from lamer_fast.warmstart.settings import WarmstartSettings, resolve
from lamer_fast.warmstart.supervised import single_token_actions, supervised_config, warm_start
from lamer_fast.warmstart.tokenizer import make_tokenizer
from lamer_fast.warmstart.vocabulary import read_trials, tokenizer_for

RECIPES = {"minesweeper": "minesweeper-tiny", "sokoban": "sokoban-tiny"}
ENVS = {game: recipe.resolve(name).env for game, name in RECIPES.items()}
TOKENIZERS = {game: make_tokenizer(entry(game).words(env)) for game, env in ENVS.items()}


def play_experts(game, num_trials=48, noise=0.0, memory=1.0, seed=0, **rollout):
    """(trials, transcripts) of experts in the recipe of `game`."""
    config = recipe.resolve(RECIPES[game])
    config = replace(config, rollout=replace(config.rollout, **rollout))
    tokenizer = TOKENIZERS[game]
    env = make_env(config.env, num_trials, split="train")
    agent = Agent(ChatRenderer(tokenizer), env, config)
    expert = entry(game).expert(env, [noise], memory, num_trials, np.random.default_rng(seed))
    boards = Boards(np.arange(num_trials, dtype=np.uint64), np.arange(num_trials, dtype=np.int32))
    transcripts = []
    trials = collect_trials(
        ExpertSampler(expert, agent, tokenizer, num_trials), env, agent, boards, config.rollout,
        seed=0, record=transcripts, num_recorded=num_trials,
    )  # fmt: skip
    trials.validate()
    return trials, transcripts


@pytest.mark.parametrize("game", TOKENIZERS)
@settings(max_examples=60, deadline=None)
@given(text=strategies.text() | strategies.text("Row 1:?.23*#_OXPS\n(,)<action>"))
def test_every_text_makes_the_round_trip(game, text):
    tokenizer = TOKENIZERS[game]
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    assert tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False) == text


def test_texts_of_the_demo_take_few_tokens():
    tokenizer = TOKENIZERS["minesweeper"]

    def count(text):
        return len(tokenizer(text, add_special_tokens=False)["input_ids"])

    assert count("<action>(2, 3)</action>") == 1
    assert count("Row 1: ? 1 .\nRow 2: ? 2 1\nRow 3: ? ? ?\nRow 4: ? * ?\nRow 5: 1 ? ?") == 5
    assert count("mine (2, 3)") == 2


@pytest.mark.parametrize("game", RECIPES)
def test_expert_turns_are_valid_and_trained(game):
    trials, _ = play_experts(game, noise=0.3)
    assert trials.valid.all() and not trials.errors
    sampled = np.zeros(len(trials.tokens), bool)
    for start, end in zip(trials.token_start, trials.token_end, strict=True):
        sampled[start:end] = True
    assert (sampled == trials.loss_mask).all()


def test_notes_name_the_mines_that_went_off():
    _, transcripts = play_experts("minesweeper", noise=0.3)
    notes = 0
    for trial in transcripts:
        hit = set()
        for turn in trial["turns"]:
            if turn["phase"] == Phase.PLAY or turn["phase"] == "play":
                last = turn
                continue
            hit |= set(re.findall(r"\(\d, \d\)", last["reply"]))  # the reply that ended the episode
            assert set(re.findall(r"\(\d, \d\)", turn["reply"])) == hit
            assert turn["reply"].startswith("mine ")
            notes += 1
    assert notes > 20


def test_an_expert_with_memory_opens_no_mine_twice_and_is_better_for_it():
    with_memory, transcripts = play_experts("minesweeper", 256, noise=0.15, memory=1.0)
    without, _ = play_experts("minesweeper", 256, noise=0.15, memory=0.0)
    for trial in transcripts:
        notes = [t["reply"] for t in trial["turns"] if t["reply"].startswith("mine ")]
        cells = re.findall(r"\(\d, \d\)", notes[-1]) if notes else []
        assert len(set(cells)) == len(notes)
    gain_with, gain_without = (s.success_at()[2] - s.success_at()[0] for s in (with_memory, without))
    assert gain_with > gain_without + 0.1


def test_a_sokoban_expert_with_memory_repeats_no_move_that_failed_but_the_best():
    repeats = {}
    for memory in (0.0, 1.0):
        _, transcripts = play_experts("sokoban", 192, noise=0.4, memory=memory)
        boards = make_env(ENVS["sokoban"], 1, split="train")
        repeats[memory] = sum(repeated_mistakes(boards, trial) for trial in transcripts)
    assert repeats[0.0] > 30
    assert repeats[1.0] == 0


def repeated_mistakes(env, trial):
    """How often a move is not optimal, though an earlier episode of the trial took it on the same board."""
    failed, taken, count = set(), set(), 0
    here = np.zeros(1, np.int64)
    env.reset(np.array([trial["seed"]], np.uint64))
    for turn in trial["turns"]:
        if turn["phase"] != "play":
            failed |= taken
            taken = set()
            env.restart(here)
            continue
        for word in action(turn["reply"]).split(", "):
            board, best = env.observe(here)[0], env.expert_replies(here, 0.0, np.zeros(1, np.uint64))[0]
            count += (board, word) in failed and f"<action>{word}" not in best
            taken.add((board, word))
            env.step([f"<action>{word}</action>"], here)
    return count


def test_noise_makes_an_expert_worse():
    clean, _ = play_experts("minesweeper", 256, noise=0.0)
    noisy, _ = play_experts("minesweeper", 256, noise=0.4)
    assert clean.success_at()[0] > noisy.success_at()[0] + 0.15


def test_the_same_seed_gives_the_same_trials():
    first, _ = play_experts("minesweeper", noise=0.3, seed=5)
    again, _ = play_experts("minesweeper", noise=0.3, seed=5)
    other, _ = play_experts("minesweeper", noise=0.3, seed=6)
    assert np.array_equal(first.tokens, again.tokens)
    assert not np.array_equal(first.tokens, other.tokens)


def test_tagged_reflections_stand_in_their_tags():
    config = recipe.resolve("minesweeper-tiny", ["--env.prompt", "full"])
    tokenizer = TOKENIZERS["minesweeper"]
    env = make_env(config.env, 16, split="train")
    agent = Agent(ChatRenderer(tokenizer), env, config)
    expert = entry("minesweeper").expert(env, [0.5], 1.0, 16, np.random.default_rng(0))
    env.reset(np.arange(16, dtype=np.uint64))
    for note in ExpertSampler(expert, agent, tokenizer, 16)._reflect(np.arange(16)):
        assert agent.reflection(note) == ("no mine", True)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["--nois", "0.1"], "unknown key 'nois'"),
        (["--noise", "0.1,1.5"], "noise = '0.1,1.5'"),
        (["--memory", "2"], "memory = 2.0"),
        (["--updates", "10"], "warmup_updates = 100 and decay_updates"),
        (["--trials", "0"], "trials = 0"),
    ],
)
def test_bad_settings_are_named(overrides, message):
    with pytest.raises(ValueError, match=re.escape(message)):
        resolve("minesweeper-tiny-base", overrides)


def test_unknown_warm_start_lists_those_there_are():
    with pytest.raises(ValueError, match="minesweeper-tiny-base"):
        resolve("minesweeper")


@dataclass(frozen=True)
class Options:
    highest: Annotated[int, Range(2, 9999)] = 200
    """The largest number that may hide."""


def hunt(options: Options, num_envs: int):
    return NumberHunt(num_envs, options.highest)


class TaughtHunt(NumberHunt):
    """It replies with words of its own around the action, and notes what it found."""

    def legal_actions(self, env_idx):
        over = self.solved[env_idx]
        guesses = [f"I say <action>{n}</action>" for n in (10, 100, 150)]
        return [[] if done else guesses for done in over]

    def expert_replies(self, env_idx, noise, seeds):
        replies = [f"I say <action>{self.targets[i]}</action>" for i in env_idx]
        return with_noise(replies, self.legal_actions(env_idx), noise, seeds)

    def expert_notes(self, env_idx):
        return [f"not {self.texts[i]}" for i in env_idx]


def taught(options: Options, num_envs: int):
    return TaughtHunt(num_envs, options.highest)


def foreign(factory, tmp_path, **limits):
    """(settings, configuration, boards) of a warm start for an environment of this file."""
    limits = {"max_reply_tokens": 24, "max_reflection_tokens": 24, "max_turns": 2} | limits
    lines = "\n".join(f"{name} = {value}" for name, value in limits.items())
    path = tmp_path / "hunt.toml"
    path.write_text(f'[env]\nname = "{__name__}:{factory}"\n[rollout]\nmax_sequence_tokens = 2048\n{lines}\n')
    config = WarmstartSettings(recipe=str(path), trials=8, noise="0.5", vocab_trials=16)
    env = make_env(supervised_config(config).env, 8, split="train")
    return config, supervised_config(config), env


def test_the_vocabulary_of_a_foreign_environment_is_learnt_from_what_it_shows(tmp_path):
    settings, config, env = foreign("taught", tmp_path)
    texts, replies = read_trials(settings, config, env)
    shown = "".join(texts)
    for part in (
        env.task_prompt(),
        "No guess yet.",
        " is too low.",
        "not 10 is too",
        "Attempt 1 ended",
        *replies,
    ):
        assert part in shown
    assert {f"I say <action>{n}</action>" for n in (10, 100, 150)} <= set(replies)

    tokenizer, again = (tokenizer_for(settings, config, env) for _ in range(2))
    assert tokenizer.backend_tokenizer.to_str() == again.backend_tokenizer.to_str()
    for text in (*texts[:20], "Zażółć 漢字 \x00"):
        ids = tokenizer(text, add_special_tokens=False)["input_ids"]
        assert tokenizer.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False) == text
    count = lambda text: len(tokenizer(text, add_special_tokens=False)["input_ids"])  # noqa: E731
    assert count("10 is too low.") <= 5, "a word is a token"
    assert count("<action>") == count("</remark>") == 1
    fewer = tokenizer_for(replace(settings, vocab_tokens=40), config, env)
    assert len(fewer) == 256 + 40 + 8 < len(tokenizer) <= 256 + 1024 + 8


def test_a_reply_that_the_recipe_has_no_room_for_is_refused(tmp_path):
    settings, _, _ = foreign("taught", tmp_path, max_reply_tokens=4)
    with pytest.raises(
        ValueError, match=r"max_reply_tokens = 4, but an expert's reply has \d+ tokens: 'I say <"
    ):
        warm_start(settings, tmp_path / "base")


def test_an_environment_without_an_expert_is_refused(tmp_path):
    settings, _, _ = foreign("hunt", tmp_path)
    with pytest.raises(ValueError, match="test_warmstart:hunt' has no expert to learn from: a batch has"):
        warm_start(settings, tmp_path / "base")


def test_noise_takes_legal_actions_and_an_expert_may_know_none():
    seeds = np.arange(4000, dtype=np.uint64)
    replies, choices = ["best"] * 4000, [["a", "b", "c", "best"]] * 4000
    assert with_noise(replies, choices, 0.0, seeds) == replies
    noisy = with_noise(replies, choices, 0.5, seeds)
    shares = {reply: noisy.count(reply) / 4000 for reply in choices[0]}
    assert shares == pytest.approx({"a": 0.125, "b": 0.125, "c": 0.125, "best": 0.625}, abs=0.03)
    assert set(with_noise([""] * 50, [["a"]] * 50, 0.0, seeds[:50])) == {"a"}
    assert with_noise(["x", ""], [[], []], 1.0, seeds[:2]) == ["x", ""], "nothing to choose from"


@pytest.mark.long
def test_warm_start_learns_writes_and_goes_on(tmp_path):
    small = ["--num_layers", "1", "--hidden_size", "32", "--mlp_size", "64", "--num_heads", "2"]
    small += ["--num_kv_heads", "1", "--head_size", "16", "--eval_tasks", "8", "--eval_every", "15"]
    short = ["--updates", "30", "--warmup_updates", "0", "--decay_updates", "5", "--lr", "1e-2"]
    first, second = tmp_path / "first", tmp_path / "second"
    assert run(["minesweeper-tiny-base", "--out", str(first), *small, *short]) == 0
    records = [json.loads(line) for line in (first / "warmstart.jsonl").read_text().splitlines()]
    assert [record["update"] for record in records] == [15, 30]
    assert records[1]["valid_loss"] < records[0]["valid_loss"]
    assert (first / "model.safetensors").stat().st_size > 0

    assert run(["minesweeper-tiny-base", "--out", str(second), "--start", str(first), *small, *short]) == 0
    went_on = json.loads((second / "warmstart.jsonl").read_text().splitlines()[0])
    assert went_on["valid_loss"] < records[0]["valid_loss"]

    with pytest.raises(ValueError, match="is not empty"):
        run(["minesweeper-tiny-base", "--out", str(first), *small, *short])


def test_settings_have_defaults_for_everything():
    WarmstartSettings().validate()


def test_every_board_of_a_trial_takes_a_token_a_row():
    config = recipe.resolve("minesweeper-tiny")
    tokenizer = TOKENIZERS["minesweeper"]
    _, transcripts = play_experts("minesweeper", 128, noise=0.4)
    boards = {turn["board"] for trial in transcripts for turn in trial["turns"]}
    assert len(boards) > 500
    lengths = {len(tokenizer(board, add_special_tokens=False)["input_ids"]) for board in boards}
    assert lengths == {config.env.height}


def test_loss_is_the_cross_entropy_of_the_distribution_the_expert_drew_from():
    """Against the same thing written out turn by turn, for a policy whose logits are known."""
    config = recipe.resolve("minesweeper-tiny")
    tokenizer = TOKENIZERS["minesweeper"]
    env = make_env(config.env, 8, split="train")
    agent = Agent(ChatRenderer(tokenizer), env, config)
    sampler = ExpertSampler(
        entry("minesweeper").expert(env, [0.3], 0.5, 8, np.random.default_rng(0)), agent, tokenizer, 8
    )
    boards = Boards(np.arange(8, dtype=np.uint64), np.arange(8, dtype=np.int32))
    trials = collect_trials(sampler, env, agent, boards, config.rollout, seed=0)
    action_ids = single_token_actions(sampler.expert.actions, tokenizer)

    weight = torch.randn(len(tokenizer), 4, generator=torch.Generator().manual_seed(0))
    embedding = torch.randn(len(tokenizer), 4, generator=torch.Generator().manual_seed(1))

    class Bigram:
        head_weight = weight

        def hidden(self, packed):
            return embedding[packed.input_ids[packed.token_idx]]

    batches = pack_experts(trials, sampler.chances, action_ids, len(tokenizer), max_tokens=300)
    assert len(batches) > 1
    total = sum(float(batch.loss(Bigram())) for batch in batches)

    logprobs = torch.log_softmax(embedding @ weight.T, dim=-1)  # [previous token, next token]
    expected = 0.0
    chances = [c for turns in sampler.chances for c in turns]
    assert len(chances) == trials.num_turns
    for turn in range(trials.num_turns):
        start, end = int(trials.token_start[turn]), int(trials.token_end[turn])
        for at in range(start, end):
            row = logprobs[int(trials.tokens[at - 1])]
            if at == start and trials.phase[turn] == Phase.PLAY:
                drawn = action_ids.index(int(trials.tokens[at]))
                assert chances[turn][drawn] > 0 and chances[turn].sum() == pytest.approx(1)
                expected -= float((torch.from_numpy(chances[turn]) * row[action_ids]).sum())
            else:
                expected -= float(row[int(trials.tokens[at])])
    assert total == pytest.approx(expected, rel=1e-5)
