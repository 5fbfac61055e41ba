"""Every setting of the trainer by section, with its range, its default and what it does. No torch here."""

from dataclasses import dataclass
from typing import Annotated, Literal

from lamer_fast.fields import Range
from lamer_kernels.credit.switches import Switches


@dataclass(frozen=True)
class ModelConfig:
    """The model that is trained, its number format, and adapters."""

    path: str = "minesweeper-tiny-base"
    """Hugging Face folder, hub id, GGUF file, or the name of a shipped base model."""
    dtype: Literal["auto", "float32", "bfloat16"] = "auto"
    """Compute type of forward and backward; `auto` is bfloat16 where the hardware multiplies it natively."""
    thinking: bool = False
    """Replies begin with thoughts, by the switch that the chat template has for that (as Qwen3's); they count
    as tokens of the reply, and an action within them is none."""
    activation_checkpointing: bool = False
    """Recompute each layer in the backward pass."""
    lora_rank: Annotated[int, Range(0, 512)] = 0
    """Rank of the float32 adapters that are trained while the weights stay as they are; 0 trains the weights.
    Needs peft."""
    lora_alpha: Annotated[float, Range(1e-3, 1e4)] = 32.0
    """The output of an adapter is multiplied by alpha / rank."""
    lora_targets: str = "all-linear"
    """The projections that get adapters: all-linear, or names such as "q_proj,v_proj"."""
    base_format: Literal["plain", "int8", "nf4"] = "plain"
    """Format of the base below adapters: the weights as they are, or their projections in 8 or 4 bits by
    bitsandbytes. Trainer and sampler compute from the same values."""
    dora: bool = False
    """Use DoRA adapters, which train the length of each row of a weight separately from its direction."""


@dataclass(frozen=True)
class RolloutConfig:
    """How trials are played and replies are drawn."""

    sampler: Literal["torch", "vllm"] = "torch"
    """The sampler: the embedded one (torch), or vLLM."""
    groups: Annotated[int, Range(1)] = 16
    """N: number of boards drawn per iteration."""
    trials_per_group: Annotated[int, Range(1)] = 8
    """G: number of trials on each board."""
    spare_groups: Annotated[int, Range(0)] = 0
    """Maximum number of boards per iteration that replace groups of equal trials; 0 keeps such groups."""
    alike: Literal["rewards", "success"] = "rewards"
    """Equal trials have the same sum of rewards in every episode, or won the same episode."""
    episodes: Annotated[int, Range(1, 32_767)] = 3
    """K: maximum number of episodes in a trial, which ends at its first success."""
    max_turns: Annotated[int, Range(1, 32_767)] = 7
    """Maximum number of action turns in an episode."""
    reflect: bool = True
    """Ask for a reflection between a failed episode and the next."""
    reflector: Literal["own", "first"] = "own"
    """Writer of the reflections of training: the policy itself, or the first policy, which stays as it is
    (`first`, with algo.train_reflections = false)."""
    context: Literal["trial", "episode", "turn"] = "trial"
    """Content of a sequence: a whole append-only trial, one episode, or one turn with a fresh prompt."""
    memory: Literal["both", "reflection", "history", "none"] = "both"
    """Part of earlier episodes that the model sees; context `trial` shows both, or the history alone if there
    are no reflections."""
    play_prompt: str = "think"
    """Request of full prompts beside an action: think, direct (none), react (a thought first), a text of your
    own, or a .txt file, whose text the run keeps."""
    reflect_prompt: str = "plan"
    """Request for a reflection: plan, facts, short, a text of your own, or a .txt file, whose text the run
    keeps."""
    history_turns: Annotated[int, Range(0)] = 7
    """Context `turn`: number of earlier turns that a prompt lists."""
    history_boards: Annotated[int, Range(0)] = 2
    """Context `turn`: number of these, the latest ones, whose board is shown in full."""
    max_reply_tokens: Annotated[int, Range(1)] = 1024
    """Maximum length of an action reply."""
    max_reflection_tokens: Annotated[int, Range(1)] = 1024
    """Maximum length of a reflection."""
    max_reflection_chars: Annotated[int, Range(1)] = 2000
    """A later prompt quotes this many characters of a reflection."""
    temperature: Annotated[float, Range(0.01, 100)] = 1.0
    """Sampling temperature of training; nothing else cuts the distribution. The tempered policy is
    trained."""
    max_sequence_tokens: Annotated[int, Range(2)] = 4096
    """Longest sequence of the sampler; a trial that would exceed it ends as truncated."""
    cache_tokens: Annotated[int, Range(0)] = 0
    """Size of the sampler's KV cache in tokens; 0 fits one iteration."""
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    """vLLM: type of the KV cache; fp8 halves it and adds a rounding that `lamer-fast audit` measures."""
    prefill_tokens: Annotated[int, Range(1)] = 8192
    """vLLM: maximum number of prompt tokens in one engine step."""
    sleep_during_updates: bool = False
    """Free the sampler's cache, and vLLM's weights, while the policy is updated."""
    max_in_flight: Annotated[int, Range(1)] = 1024
    """Maximum number of requests decoded together."""
    adapter: Literal["apart", "merged"] = "apart"
    """Adapters in the sampler (model.lora_rank). apart: layers beside the weights, exactly as trained.
    merged: in a copy of the weights, which samples faster and rounds to the compute type once more. vLLM
    takes DoRA only merged."""


@dataclass(frozen=True)
class AlgoConfig(Switches):
    """Credit (`Switches`, whose settings come first), and the loss."""

    estimator: str = "gigpo"  # type: ignore[assignment]  # more than the switches know
    """Advantage estimator: gigpo, grpo, rloo, reinforce++, gae (PPO: with a critic), pass_at_k, opo, or
    `module:function` of your own."""
    critic: Literal["trunk", "head"] = "trunk"
    """Estimator gae: the critic has its own trunk, which begins as the policy's, or only a linear head on the
    policy's hidden states, which it does not change."""
    lambda_step: Annotated[float, Range(0, 1)] = 0.95
    """Estimator gae: lambda between turns; 1 takes the played rewards alone, 0 the next turn's value."""
    lambda_traj: Annotated[float, Range(0, 1)] = 0.95
    """Estimator gae: lambda from the last turn of an episode to the next episode."""
    value_clip: Annotated[float, Range(0)] = 0.0
    """Estimator gae: how far the updates of one collection may move a value, in units of reward; 0 is off."""
    pass_k: Annotated[int, Range(0)] = 0
    """Estimator pass_at_k: one of k episodes or trials should succeed; 0 takes all of them."""
    pass_over: Literal["episodes", "trials"] = "episodes"
    """Estimator pass_at_k: whether k counts the episodes of a trial or the trials of a group."""
    rewards: Literal["all", "last_episode"] = "all"
    """Rewards that count: those of all episodes, or only those of the last episode that a trial played."""
    gamma_traj_schedule: Literal["constant", "linear", "adaptive"] = "constant"
    """linear: gamma_traj moves to gamma_traj_end over the run. adaptive: the share of failed first episodes
    in a collection that a later episode made good, limited by gamma_traj."""
    gamma_traj_end: Annotated[float, Range(0, 1)] = 0.6
    """Last value of gamma_traj in the linear schedule."""
    train_reflections: bool = True
    """False: reflections are sampled and read, but their tokens carry no loss."""
    consolidation: Annotated[float, Range(0)] = 0.0
    """Weight of a supervised loss that learns a later won episode as if it had been the first attempt,
    without the memory of the trial; 0 is off."""
    old_logprobs: Literal["recompute", "sampler"] = "recompute"
    """Denominator of the ratio: log-probabilities recomputed by the trainer, or those of the sampler."""
    loss: str = "clip"
    """Surrogate of the policy loss: clip, gspo, gspo_token, gmpo, sapo, dppo, dppo_kl, clip_cov, kl_cov,
    cispo, reinforce, or `module:function` of your own."""
    aggregation: Literal["token_mean", "sequence_mean", "constant"] = "token_mean"
    """How the losses of the tokens become one number, over a whole minibatch."""
    clip_low: Annotated[float, Range(0, 1)] = 0.2
    """Lower clip range of the ratio."""
    clip_high: Annotated[float, Range(0)] = 0.2
    """Upper clip range of the ratio."""
    dual_clip: Annotated[float, Range(0)] = 3.0
    """Bound of the ratio for negative advantages; 0 is off."""
    cov_share: Annotated[float, Range(0.000_001, 1)] = 2e-4
    """clip_cov, kl_cov: share of a micro-batch's tokens on which they act."""
    cov_low: Annotated[float, Range(-1e6, 1e6)] = 1.0
    """clip_cov: covariance of advantage and log-prob above which a token may be drawn."""
    cov_high: Annotated[float, Range(-1e6, 1e6)] = 5.0
    """clip_cov: covariance of advantage and log-prob below which a token may be drawn."""
    cov_coef: Annotated[float, Range(0)] = 1.0
    """kl_cov: weight of the distance on the tokens of largest covariance."""
    kl: Literal["k1", "k2", "k3"] = "k3"
    """Estimator of the divergence from the frozen reference."""
    kl_coef: Annotated[float, Range(0)] = 0.0
    """Weight of the divergence; above 0 the run keeps a frozen copy of the first policy."""
    entropy_coef: Annotated[float, Range(0)] = 0.001
    """Weight of the entropy bonus."""
    importance_cap: Annotated[float, Range(0)] = 0.0
    """Truncated importance sampling between sampler and trainer: largest weight; 0 is off."""

    @property
    def only_advantages(self) -> bool:
        """A token whose advantage is 0 teaches nothing: no other term, no loss of a user's own."""
        others = self.entropy_coef or self.kl_coef or ":" in self.loss or self.estimator == "gae"
        return not others


@dataclass(frozen=True)
class LearnConfig:
    """How the collected trials become updates."""

    minibatches: Annotated[int, Range(1)] = 2
    """Number of updates from one collection in each epoch."""
    epochs: Annotated[int, Range(1)] = 1
    """Number of passes over one collection."""
    max_microbatch_tokens: Annotated[int, Range(2)] = 32_768
    """Token budget of one forward pass."""
    share_prefixes: bool = False
    """Compute common beginnings of the sequences of a micro-batch once. Pays off if turns are sequences
    (context `turn`) or if a group has long prompts; results are the same up to rounding."""
    lr: Annotated[float, Range(0, 1)] = 1e-6
    """Peak learning rate."""
    critic_lr: Annotated[float, Range(0, 1)] | None = None
    """Peak learning rate of the critic, which has no warm-up; None takes `lr`."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up."""
    warmup_updates: Annotated[int, Range(0)] = 0
    """Number of updates in the linear warm-up."""
    weight_decay: Annotated[float, Range(0, 1)] = 0.01
    """AdamW: weight decay."""
    beta1: Annotated[float, Range(0, 0.999_999)] = 0.9
    """AdamW: decay of the mean of the gradients."""
    beta2: Annotated[float, Range(0, 0.999_999_9)] = 0.999
    """AdamW: decay of the mean of the squared gradients."""
    max_grad_norm: Annotated[float, Range(1e-6)] = 1.0
    """Gradients are clipped to this global norm."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """adamw_8bit keeps 2 bytes of state instead of 8; needs bitsandbytes."""
    offload_optimizer: Literal["none", "rollout"] = "none"
    """rollout: move the optimizer state to the host while trials are sampled."""
    shard: Literal["auto", "none", "optimizer", "full"] = "auto"
    """Several processes divide nothing (none), float32 masters and optimizer state (optimizer), or all
    weights (full; a layer is whole while it runs). `auto` takes the first with which a run fits."""
    reduce_every: Literal["update", "microbatch"] = "update"
    """With shard = full: sum gradients over the processes once per update, or after each micro-batch, which
    sends more but leaves each process only its own share."""


@dataclass(frozen=True)
class EvalConfig:
    """Evaluations on held-out boards."""

    every: Annotated[int, Range(0)] = 0
    """Iterations between evaluations on `split`, the first one before training; 0 means never."""
    split: Literal["valid", "test"] = "valid"
    """Boards of the evaluations during training; `test` is for the end."""
    tasks: Annotated[int, Range(1, 1_000_000)] = 256
    """Number of distinct boards in each of these evaluations."""
    episodes: Annotated[int, Range(1, 32_767)] | None = None
    """K of an evaluation; None takes rollout.episodes."""
    memory: Literal["both", "reflection", "history", "none"] | None = None
    """Part of earlier episodes that the model sees, and thus whether it reflects; None is as in training."""
    notes: Literal["own", "other", "empty", "shuffled"] = "own"
    """Note that a policy reads in place of its reflection: its own, one of another trial, nothing, or its own
    with the words in another order. Shows how much reflections are worth."""
    temperature: Annotated[float, Range(0, 100)] = 1.0
    """Sampling temperature of an evaluation; 0 takes the likeliest token."""
    top_p: Annotated[float, Range(0.001, 1)] = 1.0
    """Draw from the fewest tokens that hold this share of the probability; 1 is off."""
    top_k: Annotated[int, Range(0)] = 0
    """Draw from this many likeliest tokens; 0 is off."""
    min_tokens: Annotated[int, Range(0)] = 0
    """Minimum length of a reply."""
    panels: str | None = None
    """Further panels of lamer-fast eval, beside the policy's own: "more: num_mines=6; other: split=valid"."""


@dataclass(frozen=True)
class TrainConfig:
    """The run as a whole: its length, seed, device, files and processes."""

    iterations: Annotated[int, Range(1)] = 300
    """Collections of trials, each followed by its updates."""
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """Seed of boards, sampling and shuffling."""
    curriculum: str | None = None
    """Boards of the first iterations, as "easy: num_mines=3 until=20; next: num_mines=4 success=0.7"; the
    recipe's own boards follow."""
    num_threads: Annotated[int, Range(0, 1024)] = 0
    """CPU threads of the model; 0 leaves torch's own choice."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` is cuda when there is one."""
    processes: Annotated[int, Range(1, 1024)] = 1
    """Number of processes on this machine, one per GPU, that share an iteration; torchrun starts its own."""
    max_restarts: Annotated[int, Range(0, 1000)] = 0
    """How often these processes restart from the last checkpoint after one of them has died."""
    deterministic: bool = False
    """On a GPU: the same run gives the same bits, at some cost in speed. A CPU does that anyway."""
    save_every: Annotated[int, Range(1)] = 10
    """Iterations between checkpoints; the last iteration always saves."""
    keep_checkpoints: Annotated[int, Range(1)] = 2
    """Number of latest checkpoints to keep, besides the best one."""
    max_skipped_updates: Annotated[int, Range(1)] = 10
    """Stop the run after this many non-finite updates in a row."""
    watchdog_s: Annotated[float, Range(1, 1e6)] = 1800.0
    """Stop the run, with a dump of all stacks, if a phase takes longer than this."""
    trials_logged: Annotated[int, Range(0)] = 32
    """Number of trials per iteration that are written to trials/*.jsonl.gz."""
    profile: Annotated[int, Range(0)] | None = None
    """Write a trace of this iteration for Perfetto, counted from 0; the first ones also compile."""
    wandb: bool = False
    """Log to Weights & Biases as well, if installed."""
