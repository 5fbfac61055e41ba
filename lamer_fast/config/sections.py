"""Every setting of the trainer by section, with its range, its default and what it does. No torch here."""

from dataclasses import dataclass
from typing import Annotated, Literal

from lamer_fast.fields import Range
from lamer_kernels.credit.switches import Switches


@dataclass(frozen=True)
class ModelConfig:
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
    """Rank of float32 adapters that are trained in place of the weights, which stay as they are; 0 trains the
    weights. Needs peft."""
    lora_alpha: Annotated[float, Range(1e-3, 1e4)] = 32.0
    """What an adapter adds counts alpha / rank times."""
    lora_targets: str = "all-linear"
    """The projections that get adapters: all-linear, or names such as "q_proj,v_proj"."""
    base_format: Literal["plain", "int8", "nf4"] = "plain"
    """What adapters are trained over: the weights as they are; or their projections in 8 bits, or 4, by
    bitsandbytes, from which trainer and sampler compute."""
    dora: bool = False
    """Adapters that train the length of each row of a weight apart from its direction."""


@dataclass(frozen=True)
class RolloutConfig:
    sampler: Literal["torch", "vllm"] = "torch"
    """Who samples: the embedded sampler, or vLLM."""
    groups: Annotated[int, Range(1)] = 16
    """N, boards drawn per iteration."""
    trials_per_group: Annotated[int, Range(1)] = 8
    """G, trials on each board."""
    spare_groups: Annotated[int, Range(0)] = 0
    """Boards of an iteration at most in place of groups whose trials are all alike; 0 keeps such groups."""
    alike: Literal["rewards", "success"] = "rewards"
    """What such trials have in common: the sum of rewards in every episode, or the episode that was won."""
    episodes: Annotated[int, Range(1, 32_767)] = 3
    """K, episodes of a trial at most; a trial ends at its first success."""
    max_turns: Annotated[int, Range(1, 32_767)] = 7
    """PLAY turns of an episode at most."""
    reflect: bool = True
    """Ask for a reflection between a failed episode and the next."""
    context: Literal["trial", "episode", "turn"] = "trial"
    """What a sequence is: a whole append-only trial, one episode, or one turn with a fresh prompt."""
    memory: Literal["both", "reflection", "history", "none"] = "both"
    """What the model sees of earlier episodes; context `trial` shows both, or the history where there
    are no reflections."""
    play_prompt: str = "think"
    """What full prompts ask for beside an action: think, direct (nothing), react (a thought first); or a text
    of your own, or a .txt file of it, which the run keeps the text of."""
    reflect_prompt: str = "plan"
    """What asks for a reflection: plan, facts, short; a text of your own; or a .txt file of it, which the run
    keeps the text of."""
    history_turns: Annotated[int, Range(0)] = 7
    """Context `turn`: earlier turns listed in a prompt."""
    history_boards: Annotated[int, Range(0)] = 2
    """Context `turn`: of those, the latest whose board is shown in full."""
    max_reply_tokens: Annotated[int, Range(1)] = 1024
    """Limit of a PLAY reply."""
    max_reflection_tokens: Annotated[int, Range(1)] = 1024
    """Limit of a reflection."""
    max_reflection_chars: Annotated[int, Range(1)] = 2000
    """A reflection is cut to this many characters where a later prompt quotes it."""
    temperature: Annotated[float, Range(0.01, 100)] = 1.0
    """Of training's sampling, which nothing else cuts; the policy that is trained is the tempered one."""
    max_sequence_tokens: Annotated[int, Range(2)] = 4096
    """Longest sequence of the sampler; a trial that would exceed it ends as truncated."""
    cache_tokens: Annotated[int, Range(0)] = 0
    """KV cache of the sampler in tokens; 0 sizes it for one iteration."""
    kv_cache_dtype: Literal["auto", "fp8"] = "auto"
    """vLLM: type of its keys and values; fp8 halves the cache and rounds, which audit measures."""
    prefill_tokens: Annotated[int, Range(1)] = 8192
    """vLLM: prompt tokens computed in one engine step at most."""
    sleep_during_updates: bool = False
    """Free the sampler's cache, and vLLM's weights, while the policy is updated."""
    max_in_flight: Annotated[int, Range(1)] = 1024
    """Requests decoded together at most."""
    adapter: Literal["apart", "merged"] = "apart"
    """How the sampler has adapters (model.lora_rank): as layers beside the weights, which is what is trained;
    or merged into a copy of the weights, which samples faster and rounds to the compute type once more. DoRA
    vLLM takes merged alone."""


@dataclass(frozen=True)
class AlgoConfig(Switches):
    """Credit (`Switches`, whose settings come first), and the loss."""

    estimator: str = "gigpo"  # type: ignore[assignment]  # more than the switches know
    """Advantage estimator: gigpo, grpo, rloo, reinforce++, gae (PPO: with a critic), pass_at_k, opo, or
    `module:function` of your own."""
    critic: Literal["trunk", "head"] = "trunk"
    """Estimator gae: values by a trunk of the critic's own, which begins as the policy's, or by a linear head
    on the policy's hidden states, which it reads and does not change."""
    lambda_step: Annotated[float, Range(0, 1)] = 0.95
    """Estimator gae: share of what was played, rather than valued, in the return of a turn."""
    lambda_traj: Annotated[float, Range(0, 1)] = 0.95
    """Estimator gae: the same where the next turn belongs to the next episode."""
    value_clip: Annotated[float, Range(0)] = 0.0
    """Estimator gae: how far from what it was, in units of reward, the updates of one collection pull a
    value; 0 is off."""
    pass_k: Annotated[int, Range(0)] = 0
    """Estimator pass_at_k: k, of so many episodes or trials one is to succeed; 0 is all of them."""
    pass_over: Literal["episodes", "trials"] = "episodes"
    """Estimator pass_at_k: whether k counts the episodes of a trial or the trials of a group."""
    rewards: Literal["all", "last_episode"] = "all"
    """Whose rewards count: every episode's, or those of the last one that a trial played alone."""
    gamma_traj_schedule: Literal["constant", "linear", "adaptive"] = "constant"
    """linear: from gamma_traj to gamma_traj_end over the run. adaptive: of the trials of a collection whose
    first episode failed, the share that a later one won, but at most gamma_traj."""
    gamma_traj_end: Annotated[float, Range(0, 1)] = 0.6
    """Where gamma_traj ends by the linear schedule."""
    train_reflections: bool = True
    """False: reflections are sampled, and read, but no loss is taken on their tokens."""
    consolidation: Annotated[float, Range(0)] = 0.0
    """Weight of a supervised loss: a later episode that won is learned as if it had been the first attempt,
    without what the trial remembered; 0 is off."""
    old_logprobs: Literal["recompute", "sampler"] = "recompute"
    """Whose log-probabilities are the denominator of the ratio."""
    loss: str = "clip"
    """Surrogate of the policy loss: clip, gspo, gspo_token, gmpo, sapo, dppo, dppo_kl, clip_cov, kl_cov,
    cispo, reinforce, or `module:function` of your own."""
    aggregation: Literal["token_mean", "sequence_mean", "constant"] = "token_mean"
    """How token losses become one number, over a whole minibatch."""
    clip_low: Annotated[float, Range(0, 1)] = 0.2
    """Lower clip range of the ratio."""
    clip_high: Annotated[float, Range(0)] = 0.2
    """Upper clip range of the ratio."""
    dual_clip: Annotated[float, Range(0)] = 3.0
    """Bound of the ratio for negative advantages; 0 is off."""
    cov_share: Annotated[float, Range(0.000_001, 1)] = 2e-4
    """clip_cov, kl_cov: share of a micro-batch's tokens that they act on."""
    cov_low: Annotated[float, Range(-1e6, 1e6)] = 1.0
    """clip_cov: covariance of advantage and log-prob above which a token may be drawn."""
    cov_high: Annotated[float, Range(-1e6, 1e6)] = 5.0
    """clip_cov: covariance below which it may be."""
    cov_coef: Annotated[float, Range(0)] = 1.0
    """kl_cov: weight of the distance on the tokens of largest covariance."""
    kl: Literal["k1", "k2", "k3"] = "k3"
    """Estimator of the divergence from the frozen reference."""
    kl_coef: Annotated[float, Range(0)] = 0.0
    """Weight of that divergence; above 0 a frozen copy of the first policy is kept."""
    entropy_coef: Annotated[float, Range(0)] = 0.001
    """Weight of the entropy bonus."""
    importance_cap: Annotated[float, Range(0)] = 0.0
    """Truncated importance sampling between sampler and trainer: cap of the weight; 0 is off."""

    @property
    def only_advantages(self) -> bool:
        """A token whose advantage is 0 teaches nothing: no other term, no loss of a user's own."""
        others = self.entropy_coef or self.kl_coef or ":" in self.loss or self.estimator == "gae"
        return not others


@dataclass(frozen=True)
class LearnConfig:
    minibatches: Annotated[int, Range(1)] = 2
    """Updates made from one collection per epoch."""
    epochs: Annotated[int, Range(1)] = 1
    """Passes over one collection."""
    max_microbatch_tokens: Annotated[int, Range(2)] = 32_768
    """Token budget of one forward pass."""
    share_prefixes: bool = False
    """Compute once what sequences of a micro-batch have in common up to there. Pays where turns are sequences
    (context `turn`) and where the prompts of a group are long; the numbers are the same up to rounding."""
    lr: Annotated[float, Range(0, 1)] = 1e-6
    """Peak learning rate."""
    critic_lr: Annotated[float, Range(0, 1)] | None = None
    """That of the critic, which has no warm-up; None is `lr`."""
    schedule: Literal["constant", "cosine"] = "constant"
    """Learning rate after the warm-up."""
    warmup_updates: Annotated[int, Range(0)] = 0
    """Updates of linear warm-up."""
    weight_decay: Annotated[float, Range(0, 1)] = 0.01
    """AdamW."""
    beta1: Annotated[float, Range(0, 0.999_999)] = 0.9
    """AdamW."""
    beta2: Annotated[float, Range(0, 0.999_999_9)] = 0.999
    """AdamW."""
    max_grad_norm: Annotated[float, Range(1e-6)] = 1.0
    """Gradients are clipped to this global norm."""
    optimizer: Literal["adamw", "adamw_8bit"] = "adamw"
    """adamw_8bit keeps 2 bytes of state instead of 8; needs bitsandbytes."""
    offload_optimizer: Literal["none", "rollout"] = "none"
    """Keep optimizer state on the host during the rollout."""
    shard: Literal["auto", "none", "optimizer", "full"] = "auto"
    """Several processes divide nothing, float32 masters and optimizer state among them, or all of the weights
    (a layer is whole while it runs); `auto` takes the first of these with which a run fits."""
    reduce_every: Literal["update", "microbatch"] = "update"
    """Sharded in full, gradients are summed over the processes once an update, or after each micro-batch,
    which sends more and leaves each process its share of them alone."""


@dataclass(frozen=True)
class EvalConfig:
    every: Annotated[int, Range(0)] = 0
    """Iterations between evaluations on `split`, the first of them before training; 0 is never."""
    split: Literal["valid", "test"] = "valid"
    """Boards of the evaluations during training; `test` is for the end."""
    tasks: Annotated[int, Range(1, 1_000_000)] = 256
    """Distinct boards of such an evaluation."""
    episodes: Annotated[int, Range(1, 32_767)] | None = None
    """K of an evaluation; None is rollout.episodes."""
    memory: Literal["both", "reflection", "history", "none"] | None = None
    """What the model sees of earlier episodes, and so whether it reflects; None is as in training."""
    notes: Literal["own", "other", "empty", "shuffled"] = "own"
    """What a policy reads where it wrote a reflection: its own, one of another trial, nothing, or its own
    with the words in another order. Says what reflections are worth."""
    temperature: Annotated[float, Range(0, 100)] = 1.0
    """Of an evaluation's sampling; 0 takes the likeliest token."""
    top_p: Annotated[float, Range(0.001, 1)] = 1.0
    """Draw from the fewest tokens that hold this share of the probability; 1 is off."""
    top_k: Annotated[int, Range(0)] = 0
    """Draw from this many likeliest tokens; 0 is off."""
    min_tokens: Annotated[int, Range(0)] = 0
    """Tokens of a reply before which it cannot stop."""
    panels: str | None = None
    """What lamer-fast eval plays beside the policy's own boards: "more: num_mines=6; other: split=valid"."""


@dataclass(frozen=True)
class TrainConfig:
    iterations: Annotated[int, Range(1)] = 300
    """Collections of trials, each followed by its updates."""
    seed: Annotated[int, Range(0, 2**63 - 1)] = 0
    """Of boards, sampling and shuffling."""
    curriculum: str | None = None
    """Boards of the first iterations, as "easy: num_mines=3 until=20; next: num_mines=4 success=0.7"; then
    come the recipe's own."""
    num_threads: Annotated[int, Range(0, 1024)] = 0
    """CPU threads of the model; 0 leaves torch's own choice."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """`auto` is cuda when there is one."""
    processes: Annotated[int, Range(1, 1024)] = 1
    """Processes on this machine, one per GPU, that share an iteration; torchrun starts its own."""
    max_restarts: Annotated[int, Range(0, 1000)] = 0
    """How often such processes start again, from the last checkpoint, when one of them has died."""
    deterministic: bool = False
    """On a GPU: the same run gives the same bits, at some cost in speed. A CPU does that anyway."""
    save_every: Annotated[int, Range(1)] = 10
    """Iterations between checkpoints; the last iteration always saves."""
    keep_checkpoints: Annotated[int, Range(1)] = 2
    """Latest checkpoints kept, besides the best."""
    max_skipped_updates: Annotated[int, Range(1)] = 10
    """Non-finite updates in a row that stop the run."""
    watchdog_s: Annotated[float, Range(1, 1e6)] = 1800.0
    """A phase longer than this prints a stack dump and stops the run."""
    trials_logged: Annotated[int, Range(0)] = 32
    """Trials of an iteration written to trials/*.jsonl.gz."""
    profile: Annotated[int, Range(0)] | None = None
    """The iteration of which a trace for Perfetto is written, from 0; the first ones also compile."""
    wandb: bool = False
    """Log to Weights & Biases as well, if installed."""
