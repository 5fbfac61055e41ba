"""TrainState: what a run consists of while it runs."""

from __future__ import annotations

import copy
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file

from lamer_fast.agent.agent import Agent
from lamer_fast.agent.chat import ChatRenderer
from lamer_fast.algo.algorithm import Algorithm, check_own_functions
from lamer_fast.config import Config
from lamer_fast.config.curriculum import KEY, Stage, stages_of
from lamer_fast.cost.limits import Limits
from lamer_fast.cost.memory import Memory, choices, memory_of, of_one_process
from lamer_fast.cost.tokens import NUM_PROBES, check_prompts, say_notes, token_bounds
from lamer_fast.device import pick_device
from lamer_fast.envs.protocol import TextBatchEnv
from lamer_fast.envs.registry import check_at_start, make_env
from lamer_fast.files import writing
from lamer_fast.learn.batch import Minibatch
from lamer_fast.learn.critic import Critic, make_critic
from lamer_fast.learn.fsdp import whole_copy
from lamer_fast.learn.gradients import Shard
from lamer_fast.learn.optimizer import Optimizer
from lamer_fast.learn.policy import BaseOf, Policy, Scorer, compute_dtype, load_policy, read_model
from lamer_fast.learn.ranks import ALONE, Ranks
from lamer_fast.learn.trainable import Trainable
from lamer_fast.learn.update import Outcome
from lamer_fast.model.adapters import merged_copy
from lamer_fast.model.files import ModelFiles
from lamer_fast.run.curriculum import Curriculum
from lamer_fast.samplers.protocol import Sampler
from lamer_fast.samplers.roles import FirstWrites
from lamer_fast.say import log


@dataclass
class TrainState:
    config: Config
    algorithm: Algorithm
    sampler: Sampler
    env: Any  # TextBatchEnv
    agent: Agent
    reference: Scorer | None = None  # frozen first policy, only when kl_coef > 0
    iteration: int = 0  # iterations finished
    skipped_in_row: int = 0  # non-finite updates since the last good one
    skipped: int = 0  # of the whole run
    best: dict[str, float] = field(default_factory=dict)  # {"iteration", "score"} of the best checkpoint
    dump_dir: Path | None = None  # where batches of skipped updates go
    limits: Limits | None = None  # of the device, for the record of an iteration
    ranks: Ranks = ALONE
    curriculum: Curriculum | None = None

    @property
    def policy(self) -> Policy:
        return self.algorithm.policy

    @property
    def is_sharded(self) -> bool:
        """Each rank has some rows of the masters alone."""
        return any(trained.module.masters.is_sharded for trained in self.algorithm.trainables.values())

    @property
    def is_sharded_fully(self) -> bool:
        """The policy's weights too: whoever wants them whole gathers them with all ranks."""
        return self.policy.masters.division == "full"

    @property
    def optimizer(self) -> Optimizer:
        """The policy's."""
        return self.algorithm.trainables["policy"].optimizer

    def enter_stage(self) -> None:
        """Boards of the curriculum's stage in place of those that there are, where it is another one."""
        stages = self.curriculum
        if stages is None or stages.played == stages.stage:
            return
        options = self.config.env if stages.now is None else stages.now.env
        if stages.played is not None or stages.stage < len(stages.stages):
            self.env = make_env(options, self.env.num_envs, split="train")
            self.agent = Agent(self.agent.renderer, self.env, replace(self.config, env=options))
        stages.played = stages.stage
        log.info(f"iteration {self.iteration}: {stages}")

    def note(self, outcome: Outcome, minibatch: Minibatch) -> None:
        """Counts updates that were not finite and keeps their batches for inspection."""
        if outcome == "applied":
            self.skipped_in_row = 0
        if outcome != "skipped":
            return
        self.skipped_in_row += 1
        self.skipped += 1
        if self.dump_dir is None:
            return
        tensors = {
            f"{i}/{name}": value.detach().cpu().clone()
            for i, batch in enumerate(minibatch)
            for name, value in batch.tensors().items()
        }
        rank = f"-{self.ranks.rank}" if self.ranks.world > 1 else ""
        path = self.dump_dir / f"{self.iteration:06d}-{self.skipped:04d}{rank}.safetensors"
        with writing(path):
            self.dump_dir.mkdir(exist_ok=True)
            save_file(tensors, path)


def build_state(config: Config, policy: Policy | None = None, ranks: Ranks = ALONE) -> TrainState:
    """Everything a run needs, at iteration 0.

    Args:
        policy: instead of the one that model.path names.

    Raises:
        ValueError: the model cannot be loaded or bridged, the device is not there or too small, the board is
            impossible, the environment breaks the protocol, the user's own estimator or loss cannot be used.
            No weight has been read before all is known but what the weights are.
    """
    check_at_start(config.env)
    check_own_functions(config.algo)
    stages = stages_of(config.train.curriculum, config.env)
    if policy is None:
        device, files = pick_device(config.train.device), read_model(config)
        renderer = files.renderer()
        _, memory = check_memory(config, files, renderer, device, training=True, processes=ranks.world)
        shard = memory.shard
        policy = load_policy(config.model, device, files, seed=config.train.seed, whole=shard != "full")
    else:
        renderer, shard = ChatRenderer(policy.tokenizer, thinking=config.model.thinking), choices(config)[0]
    first, reference = first_policies(config, policy)
    for stage in stages:
        check_stage(stage, config, renderer)
    critic = make_critic(config.algo, policy)
    played = divide(config, shard, ranks, policy, reference, critic) if ranks.world > 1 else None
    own = of_one_process(config, ranks.world)
    env = make_env(config.env, own.rollout.groups * own.rollout.trials_per_group, split="train")
    agent = Agent(renderer, env, config)
    updates = config.train.iterations * config.learn.epochs * config.learn.minibatches
    sampler = make_sampler(own, policy, played, ranks)
    if config.rollout.reflector == "first" and first is not None:
        sampler = FirstWrites(sampler, make_sampler(own, first))
    return TrainState(
        config=config,
        algorithm=make_algorithm(config, policy, updates, critic),
        sampler=sampler,
        env=env,
        agent=agent,
        reference=reference,
        ranks=ranks,
        curriculum=Curriculum(stages) if stages else None,
    )


def first_policies(config: Config, policy: Policy) -> tuple[Policy | None, Scorer | None]:
    """A frozen copy of the policy as it is now, where one is needed; and the reference of the KL penalty."""
    penalised = config.algo.kl_coef > 0
    first: Policy | None = None
    if config.rollout.reflector == "first" or (penalised and not policy.has_adapters):
        first = Policy(
            copy.deepcopy(policy.model), policy.tokenizer, policy.dtype, num_ids=policy.num_ids, frozen=True
        )
    if not penalised:
        return first, None
    return first, BaseOf(policy) if policy.has_adapters else first


def divide(
    config: Config,
    shard: Shard,
    ranks: Ranks,
    policy: Policy,
    reference: Scorer | None,
    critic: Critic | None,
) -> Any:
    """Divides weights or optimizer over the ranks; returns the local sampler's own model if it needs one."""
    if shard == "optimizer":
        policy.masters.shard(ranks)
        if critic is not None:
            critic.masters.shard(ranks)
    if shard != "full":
        return None
    if config.rollout.reflector == "first":
        raise ValueError(
            "rollout.reflector = 'first' keeps the first policy whole on each rank, while learn.shard = "
            "'full' divides the policy; set rollout.reflector = 'own', or learn.shard = 'optimizer'"
        )
    local = config.rollout.sampler == "torch"
    played = whole_copy(played_model(config, policy), policy.dtype, ranks.device) if local else None
    for module in (policy, reference):
        if isinstance(module, Policy):
            module.shard_fully(ranks, reduce_every=config.learn.reduce_every)
    return played


def check_stage(stage: Stage, config: Config, renderer: ChatRenderer) -> None:
    """Raises ValueError where its boards break the protocol, or no reply to them has room."""
    try:
        check_at_start(stage.env)
        env = make_env(stage.env, NUM_PROBES, split="train")
        staged = replace(config, env=stage.env)
        check_prompts(staged, Agent(renderer, env, staged), env)
    except ValueError as error:
        raise ValueError(f"{KEY}, {stage.name!r}: {error}") from None


def make_algorithm(config: Config, policy: Policy, updates: int, critic: Critic | None = None) -> Algorithm:
    """`policy`, and `critic`, under optimizers whose schedules end after so many updates."""
    learn = config.learn
    trainables = {"policy": Trainable(policy, Optimizer(policy.masters, learn, updates))}
    if critic is not None:
        lr = learn.lr if learn.critic_lr is None else learn.critic_lr
        own = replace(learn, lr=lr, warmup_updates=0)
        trainables["critic"] = Trainable(critic, Optimizer(critic.masters, own, updates))
    return Algorithm(config.algo, trainables)


@dataclass(frozen=True)
class Player:
    """What an evaluation needs: the weights alone, in the compute type, behind a sampler."""

    sampler: Sampler
    renderer: ChatRenderer


def build_player(config: Config) -> Player:
    """Says what the user should know of it. Raises as `build_state` does."""
    config = config.evaluation()
    check_at_start(config.env)
    device, files = pick_device(config.train.device), read_model(config, training=False)
    renderer = files.renderer()
    env, _ = check_memory(config, files, renderer, device, training=False)
    say_notes(config, Agent(renderer, env, config), env)
    policy = load_policy(config.model, device, files, frozen=True)
    return Player(make_sampler(config, policy), renderer)


def check_memory(
    config: Config,
    files: ModelFiles,
    renderer: ChatRenderer,
    device: torch.device,
    *,
    training: bool,
    processes: int = 1,
) -> tuple[TextBatchEnv, Memory]:
    """ValueError before anything is built that cannot fit; returns the few boards that it looked at."""
    env = make_env(config.env, NUM_PROBES, split="train")
    bounds = token_bounds(config, Agent(renderer, env, config), env)
    dtype = compute_dtype(config.model, device)
    found = memory_of(config, files, bounds, dtype, device, training=training, processes=processes)
    found.check(config)
    return env, found


def make_sampler(config: Config, policy: Policy, played: Any = None, ranks: Ranks = ALONE) -> Sampler:
    """
    Args:
        played: the local sampler's own model, where the policy's weights are divided.
    """
    if config.rollout.sampler == "vllm":
        from lamer_fast.samplers.vllm.sampler import VllmSampler

        return VllmSampler(config, policy, ranks.world)
    from lamer_fast.samplers.local.sampler import TorchSampler

    model = played_model(config, policy) if played is None else played
    return TorchSampler(
        model,
        shares_weights=model is policy.model,
        max_sequence_tokens=config.rollout.max_sequence_tokens,
        cache_tokens=config.rollout.cache_tokens,
        max_in_flight=config.rollout.max_in_flight,
        num_ids=policy.num_ids,
    )


def played_model(config: Config, policy: Policy) -> Any:
    """What the local sampler runs where weights are whole: the policy's own model, or its adapters merged."""
    merged = policy.has_adapters and config.rollout.adapter == "merged"
    return merged_copy(policy.model) if merged else policy.model
