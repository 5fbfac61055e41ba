"""Supervised training on trials of experts, collected and rendered by the code that those of a policy are."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from lamer_fast.agent.agent import Agent
from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.device import pick_device
from lamer_fast.envs.expert import Expert
from lamer_fast.envs.options import PoolOptions
from lamer_fast.envs.registry import check_at_start, entry, eval_seeds, make_env
from lamer_fast.eval.success import play_boards, success_within
from lamer_fast.files import replace_files, writing
from lamer_fast.learn.policy import Policy, compute_dtype, load_policy, read_model
from lamer_fast.rng import generator
from lamer_fast.rollout.boards import Boards, draw_boards
from lamer_fast.rollout.collect import collect_trials
from lamer_fast.run.state import TrainState, make_algorithm, make_sampler
from lamer_fast.strict_json import finite, json_text
from lamer_fast.warmstart.base_model import make_base_model
from lamer_fast.warmstart.expert_batch import ExpertBatch, pack_experts
from lamer_fast.warmstart.experts import ExpertSampler
from lamer_fast.warmstart.settings import WarmstartSettings
from lamer_fast.warmstart.vocabulary import tokenizer_for
from lamer_kernels import register_attention

EASY = 1  # the draw of easier boards, apart from those of boards and experts


def warm_start(settings: WarmstartSettings, out: Path, *, num_threads: int = 0) -> None:
    """Trains, logs to OUT/warmstart.jsonl, and writes the model (float32) and its tokenizer to OUT."""
    if num_threads:
        torch.set_num_threads(num_threads)
    config = supervised_config(settings)
    state = build_state(settings, config)
    easier = easier_state(settings, state)
    out.mkdir(parents=True, exist_ok=True)
    cpu_seconds, losses = 0.0, []
    with (out / "warmstart.jsonl").open("w") as log:
        for update in range(settings.updates):
            set_decay(settings, state, update, cpu_seconds)
            started = time.process_time()
            shown = easier if is_easy(settings, update) else state
            losses.append(fit(state, expert_batches(settings, shown, update)))
            cpu_seconds += time.process_time() - started
            out_of_time = 0 < settings.cpu_seconds <= cpu_seconds
            last = update + 1 == settings.updates or out_of_time
            if last or (update + 1) % settings.eval_every == 0:
                record = {
                    "update": update + 1,
                    "loss": float(np.mean(losses[-settings.eval_every :])),
                    "cpu_seconds": round(cpu_seconds, 1),
                    **evaluate_valid(settings, state),
                }
                with writing(out / "warmstart.jsonl"):
                    log.write(json_text(finite(record)) + "\n")
                    log.flush()
                print(_line(record), flush=True)
                replace_files(out, lambda folder: save_model(state, folder))
            if last:
                break


def save_model(state: TrainState, folder: Path) -> None:
    state.policy.model.save_pretrained(folder)
    state.policy.tokenizer.save_pretrained(folder)


def set_decay(settings: WarmstartSettings, state: TrainState, update: int, cpu_seconds: float) -> None:
    """Starts the cosine when it is due; with a budget, moves its end to where the budget is likely to end."""
    begin = settings.warmup_updates if settings.cpu_seconds else settings.updates - settings.decay_updates
    if update == begin:
        state.optimizer.config = replace(state.config.learn, schedule="cosine", warmup_updates=update)
    if settings.cpu_seconds and update:
        state.optimizer.total_updates = round(update * settings.cpu_seconds / cpu_seconds)


def fit(state: TrainState, batches: list[ExpertBatch]) -> float:
    """One update; returns the mean cross-entropy of the trained tokens before it, nats."""
    num_tokens = sum(len(batch.targets) for batch in batches)
    total = 0.0
    for batch in batches:
        loss = batch.loss(state.policy) / num_tokens
        loss.backward()  # type: ignore[no-untyped-call]
        total += float(loss.detach())
    state.optimizer.step()
    return total


def is_easy(settings: WarmstartSettings, update: int) -> bool:
    left = 1 - update / settings.easy_updates if settings.easy_updates else 0.0
    return bool(generator(settings.seed, update, EASY).random() < left)


def supervised_config(settings: WarmstartSettings, *, easy: bool = False) -> Config:
    """The recipe's configuration with the warm start's own optimisation."""
    config = recipe.resolve(settings.recipe, settings.easy_overrides if easy else ())
    env = config.env
    return replace(
        config,
        # boards that answer as they come would make the experts' draws depend on their speed
        env=replace(env, wait_for_all=True) if isinstance(env, PoolOptions) else env,
        rollout=replace(config.rollout, groups=settings.trials, trials_per_group=1),
        learn=replace(
            config.learn,
            lr=settings.lr,
            schedule="constant",
            warmup_updates=settings.warmup_updates,
            weight_decay=settings.weight_decay,
            beta2=0.98,
        ),
        train=replace(config.train, seed=settings.seed, iterations=settings.updates),
    )


def build_state(settings: WarmstartSettings, config: Config) -> TrainState:
    device = pick_device(config.train.device)
    check_at_start(config.env)
    env = make_env(config.env, settings.trials, split="train")
    if settings.start:
        config = replace(config, model=replace(config.model, path=settings.start))
        files = read_model(config)
        policy, renderer = load_policy(config.model, device, files), files.renderer()
    else:
        tokenizer = tokenizer_for(settings, config, env)
        model = make_base_model(settings, tokenizer, config.rollout.max_sequence_tokens)
        model.set_attn_implementation(register_attention())
        policy = Policy(model.to(device).train(), tokenizer, compute_dtype(config.model, device))
        renderer = ChatRenderer(tokenizer)
    return TrainState(
        config=config,
        algorithm=make_algorithm(config, policy, settings.updates),
        sampler=make_sampler(config, policy),
        env=env,
        agent=Agent(renderer, env, config),
    )


def easier_state(settings: WarmstartSettings, state: TrainState) -> TrainState:
    """The same policy on the easier boards, in their words and limits; itself where there are none."""
    if not settings.easy:
        return state
    config = supervised_config(settings, easy=True)
    env = make_env(config.env, settings.trials, split="train")
    return replace(state, config=config, env=env, agent=Agent(state.agent.renderer, env, config))


def expert_batches(settings: WarmstartSettings, state: TrainState, update: int) -> list[ExpertBatch]:
    """What one update sees: `settings.trials` trials, each of an expert of its own, on boards of `train`."""
    rng = generator(settings.seed, update)
    return _play_experts(settings, state, state.env, draw_boards(state.config, update), rng)


def _play_experts(
    settings: WarmstartSettings, state: TrainState, env: Any, boards: Boards, rng: np.random.Generator
) -> list[ExpertBatch]:
    config, tokenizer = state.config, state.policy.tokenizer
    expert = teacher(settings, config, env, len(boards), rng)
    sampler = ExpertSampler(expert, state.agent, tokenizer, len(boards))
    trials = collect_trials(sampler, env, state.agent, boards, config.rollout, seed=0)
    max_tokens = config.learn.max_microbatch_tokens
    action_ids = single_token_actions(expert.actions, tokenizer)
    chances = [[] if m in trials.errors else turns for m, turns in enumerate(sampler.chances)]
    return pack_experts(trials, chances, action_ids, len(state.policy.head_weight), max_tokens)


def teacher(
    settings: WarmstartSettings, config: Config, env: Any, num_trials: int, rng: np.random.Generator
) -> Expert:
    game, rollout = entry(config.env.name), config.rollout
    given = env, settings.noise_levels, settings.memory, num_trials, rng
    if settings.teacher == "expert":
        expert: Expert = game.expert(*given)
        return expert
    best: Expert = game.explorer(*given, max_turns=rollout.max_turns, episodes=rollout.episodes)
    return best


def single_token_actions(replies: Sequence[str], tokenizer: Any) -> list[int] | None:
    """The token of each reply, or None if there are none or some reply takes several tokens."""
    if not replies:
        return None
    encoded = tokenizer(list(replies), add_special_tokens=False)["input_ids"]
    return [ids[0] for ids in encoded] if all(len(ids) == 1 for ids in encoded) else None


def evaluate_valid(settings: WarmstartSettings, state: TrainState) -> dict[str, Any]:
    """On distinct boards of `valid`: the loss on expert trials, and success@1..K of the model's own."""
    config = state.config
    seeds = eval_seeds(config.env, "valid", settings.eval_tasks)
    boards = Boards(seeds, np.arange(len(seeds), dtype=np.int32))
    env = make_env(config.env, len(seeds), split="valid")
    rng = generator(settings.seed)
    batches = _play_experts(settings, state, env, boards, rng)
    with torch.no_grad():
        total = sum(float(batch.loss(state.policy)) for batch in batches)
    valid_loss = total / sum(len(batch.targets) for batch in batches)

    state.sampler.load_weights(state.policy.weights_for(state.sampler), version=0)
    played = play_boards(
        state.sampler, state.agent.renderer, config, seeds, split="valid", seed=settings.seed
    )
    success_at = success_within(played.won).mean(axis=0).round(4).tolist()
    return {"tasks": len(seeds), "valid_loss": round(valid_loss, 5), "success_at": success_at}


def _line(record: dict[str, Any]) -> str:
    success = " ".join(f"{x:.3f}" for x in record["success_at"])
    return (
        f"update {record['update']:6d}  loss {record['loss']:.4f}  on valid {record['valid_loss']:.4f}  "
        f"success@k {success}  cpu {record['cpu_seconds']:.0f} s"
    )
