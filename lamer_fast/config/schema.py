"""Config: the sections together, and what must hold between their values. No torch here."""

import re
from dataclasses import dataclass, field, fields, replace
from typing import Any, ClassVar, get_args

from lamer_fast.config.curriculum import stages_of
from lamer_fast.config.panels import panels_of
from lamer_fast.config.sections import (
    AlgoConfig,
    EvalConfig,
    LearnConfig,
    ModelConfig,
    RolloutConfig,
    TrainConfig,
)
from lamer_fast.envs.options import EnvOptions
from lamer_fast.envs.registry import default_options, option_classes
from lamer_fast.fields import check_ranges
from lamer_fast.plugins import registered
from lamer_kernels.credit.switches import Estimator, Switches, resolve

ESTIMATORS = {  # beside the switches': why they take none of them
    "pass_at_k": "it looks at successes alone",
    "opo": "it looks at the rewards of whole trials alone",
}
KNOWN_ESTIMATORS = (*get_args(Estimator), "gae", *ESTIMATORS)
OF_CRITIC = ("algo.critic", "algo.lambda_step", "algo.lambda_traj", "algo.value_clip", "learn.critic_lr")
NOT_OF_GAE = ("reflection_score", "stats_unit", "baseline", "anchor_key", "step_weight")  # switches
REFLECT_PROMPTS = ("plan", "facts", "short")
PLAY_PROMPTS = ("think", "direct", "react")
LOSSES = ("clip", "gspo", "cispo", "reinforce", "gspo_token", "gmpo", "sapo", "dppo", "dppo_kl",
          "clip_cov", "kl_cov")  # fmt: skip


@dataclass(frozen=True)
class Config:
    """All settings of a run: a recipe gives some of them, and each one is a flag, `--section.name`."""

    name: str = "run"
    """Run name: the folder runs/NAME."""
    env: EnvOptions = field(default_factory=lambda: default_options("minesweeper"))
    """Options of the environment that `env.name` names."""
    model: ModelConfig = field(default_factory=ModelConfig)
    """The model that is trained."""
    rollout: RolloutConfig = field(default_factory=RolloutConfig)
    """How trials are played."""
    algo: AlgoConfig = field(default_factory=AlgoConfig)
    """Credit and loss."""
    learn: LearnConfig = field(default_factory=LearnConfig)
    """Updates."""
    eval: EvalConfig = field(default_factory=EvalConfig)
    """Evaluations."""
    train: TrainConfig = field(default_factory=TrainConfig)
    """The run as a whole."""

    VARIANTS: ClassVar = {"env": option_classes}
    """Section -> the dataclasses by name that may stand in it beside the one above."""

    def evaluation(self) -> "Config":
        """What an evaluation plays: its own episodes and memory, where `eval` gives them, in the rollout."""
        own: dict[str, Any] = {"episodes": self.eval.episodes or self.rollout.episodes}
        if self.eval.memory is not None:
            own |= {"memory": self.eval.memory, "reflect": self.eval.memory in ("both", "reflection")}
        return replace(self, rollout=replace(self.rollout, **own))

    def validate(self) -> None:
        """Raises ValueError naming the value out of range, or the two values that contradict each other."""
        self.validate_evaluation()
        self._validate_rollout()
        self._validate_algo()
        self._validate_learn()
        stages_of(self.train.curriculum, self.env)

    def validate_evaluation(self) -> None:
        """As `validate`, of what an evaluation uses alone."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9._-]*", self.name):
            raise ValueError(
                f"name = {self.name!r}, must be letters, digits, '.', '_', '-' (a folder name, no path)"
            )
        check_ranges(self)
        self.env.validate()
        panels_of(self.eval.panels, self.env)
        try:
            self.evaluation()._validate_rollout()
        except ValueError as error:
            own = {key: getattr(self.eval, key) for key in ("episodes", "memory")}
            given = " and ".join(f"eval.{key} = {value!r}" for key, value in own.items() if value is not None)
            raise ValueError(f"{given}: {error}" if given else str(error)) from None
        if self.eval.notes != "own" and not self.evaluation().rollout.reflect:
            _contradict(self, "eval.notes", "eval.memory", "no reflections are written")
        if 0 < self.eval.temperature < 0.01:
            raise ValueError(f"eval.temperature = {self.eval.temperature}, must be 0 or at least 0.01")
        for key in ("rollout.max_reply_tokens", "rollout.max_reflection_tokens"):
            if self.eval.min_tokens > _get(self, key):  # type: ignore[operator]
                _contradict(self, "eval.min_tokens", key, "no reply could be so long")

    def _validate_rollout(self) -> None:
        r = self.rollout
        for key, known in (("reflect_prompt", REFLECT_PROMPTS), ("play_prompt", PLAY_PROMPTS)):
            asked = getattr(r, key)
            if asked not in known and len(asked.split()) < 2:
                raise ValueError(
                    f"rollout.{key} = {asked!r}, must be one of: {', '.join(known)}; "
                    "a .txt file, or a text of several words"
                )
        if r.play_prompt != "think" and self.env.prompt == "compact":
            _contradict(self, "rollout.play_prompt", "env.prompt", "such prompts ask for an action alone")
        own_text = r.reflect_prompt not in REFLECT_PROMPTS
        if own_text and self.env.prompt == "full" and "<remark>" not in r.reflect_prompt:
            why = "such a prompt has to ask for a note between <remark> and </remark>"
            _contradict(self, "rollout.reflect_prompt", "env.prompt", why)
        if r.episodes > 1:
            if r.context == "trial" and r.memory not in (("both", "history") if not r.reflect else ("both",)):
                shown = "a whole trial in one sequence shows 'both', or without reflections 'history'"
                _contradict(self, "rollout.context", "rollout.memory", shown)
            if r.context != "trial" and r.reflect != (r.memory in ("reflection", "both")):
                _contradict(
                    self, "rollout.reflect", "rollout.memory", "reflections are written iff they are shown"
                )
        for key in ("rollout.max_reply_tokens", "rollout.max_reflection_tokens"):
            if _get(self, key) >= r.max_sequence_tokens:  # type: ignore[operator]
                _contradict(self, key, "rollout.max_sequence_tokens", "no room is left for the prompt")
        if 0 < r.cache_tokens < r.max_sequence_tokens:
            _contradict(
                self, "rollout.cache_tokens", "rollout.max_sequence_tokens", "one sequence must fit the cache"
            )

        if self.model.dora and r.sampler == "vllm" and r.adapter == "apart":
            _contradict(self, "rollout.adapter", "model.dora", "vLLM computes no DoRA; it takes it merged")
        if r.kv_cache_dtype != "auto" and r.sampler != "vllm":
            _contradict(self, "rollout.kv_cache_dtype", "rollout.sampler", "only vLLM has such a cache")
        if r.sleep_during_updates and r.sampler == "vllm" and self.train.device == "cpu":
            _contradict(self, "rollout.sleep_during_updates", "train.device", "vLLM sleeps on a GPU only")

    def _validate_algo(self) -> None:
        for key, ours in (("algo.estimator", KNOWN_ESTIMATORS), ("algo.loss", LOSSES)):
            name = str(_get(self, key))
            if ":" not in name and name not in ours:
                known, own = (*ours, *registered(key)), "or module:function of your own"
                raise ValueError(f"{key} = {name!r}, must be one of: {', '.join(known)}; {own}")
        self._validate_estimator()
        self._validate_groups()
        self._validate_reflector()
        self._validate_consolidation()
        self._validate_loss()

    def _validate_estimator(self) -> None:
        a, r = self.algo, self.rollout
        if r.trials_per_group < 2 and a.estimator not in ("reinforce++", "gae") and ":" not in a.estimator:
            _contradict(
                self, "rollout.trials_per_group", "algo.estimator", "a group needs two trials for a baseline"
            )
        if a.estimator == "pass_at_k":
            limit = {"episodes": "rollout.episodes", "trials": "rollout.trials_per_group"}[a.pass_over]
            if a.pass_k > _get(self, limit):  # type: ignore[operator]
                _contradict(self, "algo.pass_k", limit, "there are no more of them")
        elif a.pass_k or a.pass_over != "episodes":
            key = "algo.pass_k" if a.pass_k else "algo.pass_over"
            _contradict(self, key, "algo.estimator", "only pass_at_k uses it")
        if a.gamma_traj_schedule != "linear" and a.gamma_traj_end != AlgoConfig.gamma_traj_end:
            _contradict(self, "algo.gamma_traj_end", "algo.gamma_traj_schedule", "only linear uses it")
        if a.estimator in ESTIMATORS and a.gamma_traj_schedule != "constant":
            _contradict(self, "algo.gamma_traj_schedule", "algo.estimator", ESTIMATORS[a.estimator])
        if a.estimator == "pass_at_k" and a.rewards != "all":
            _contradict(self, "algo.rewards", "algo.estimator", ESTIMATORS[a.estimator])
        if a.estimator in ESTIMATORS:
            for switch in fields(Switches):
                if switch.name != "estimator" and getattr(a, switch.name) != switch.default:
                    _contradict(self, f"algo.{switch.name}", "algo.estimator", ESTIMATORS[a.estimator])
        elif a.estimator == "gae":
            self._validate_gae()
        elif ":" not in a.estimator:
            resolve(a)
        for key in OF_CRITIC if a.estimator != "gae" else ():
            if _get(self, key) != _get(Config(), key):
                _contradict(self, key, "algo.estimator", "only gae has a critic")

    def _validate_gae(self) -> None:
        a = self.algo
        idle = dict.fromkeys(NOT_OF_GAE, "a critic's values are the baseline of each turn")
        if a.episode_credit == "own":
            idle |= dict.fromkeys(("return_form", "gamma_traj"), "nothing crosses episodes")
        if a.scale == "none":
            idle["eps"] = "nothing is divided"
        for name, why in idle.items():
            if getattr(a, name) != getattr(AlgoConfig, name):
                other = {"eps": "algo.scale"}.get(name, "algo.estimator")
                _contradict(self, f"algo.{name}", other, why)

    def _validate_groups(self) -> None:
        r = self.rollout
        if r.alike != "rewards" and not r.spare_groups:
            _contradict(self, "rollout.alike", "rollout.spare_groups", "no group is replaced")
        if r.spare_groups and self.algo.estimator == "gae":
            _contradict(self, "rollout.spare_groups", "algo.estimator", "a critic learns from every group")
        if r.spare_groups and r.trials_per_group < 2:
            _contradict(
                self, "rollout.spare_groups", "rollout.trials_per_group", "one trial is alike with itself"
            )

    def _validate_reflector(self) -> None:
        if self.rollout.reflector != "first":
            return
        for key, wrong, why in (
            ("algo.train_reflections", True, "the policy has not written them; take false"),
            ("rollout.reflect", False, "no reflection is written"),
            ("rollout.sampler", "vllm", "only the embedded sampler holds a second policy"),
            ("rollout.sleep_during_updates", True, "the first policy's cache stays"),
            ("learn.shard", "full", "the first policy is whole on every rank"),
        ):
            if _get(self, key) == wrong:
                _contradict(self, "rollout.reflector", key, why)

    def _validate_consolidation(self) -> None:
        if not self.algo.consolidation:
            return
        if self.rollout.context == "turn":
            why = "its prompts hold what the trial remembers; take 'trial' or 'episode'"
            _contradict(self, "algo.consolidation", "rollout.context", why)
        if self.rollout.episodes == 1:
            _contradict(self, "algo.consolidation", "rollout.episodes", "no episode is a later one")

    def _validate_loss(self) -> None:
        a = self.algo
        of_covariance = [f.name for f in fields(AlgoConfig) if f.name.startswith("cov_")]
        for cov in of_covariance if a.loss not in ("clip_cov", "kl_cov") else ():
            if getattr(a, cov) != getattr(AlgoConfig, cov):
                _contradict(self, f"algo.{cov}", "algo.loss", "only clip_cov and kl_cov use it")
        if a.cov_low >= a.cov_high:
            _contradict(self, "algo.cov_low", "algo.cov_high", "no token lies between them")
        if 0.0 < a.dual_clip <= 1.0:
            raise ValueError(f"algo.dual_clip = {a.dual_clip}, must be 0 (off) or above 1")
        if a.importance_cap > 0 and a.old_logprobs == "sampler":
            why = "the weights would all be 1; take 'recompute'"
            _contradict(self, "algo.importance_cap", "algo.old_logprobs", why)

    def _validate_learn(self) -> None:
        le, r = self.learn, self.rollout
        trials = r.groups * r.trials_per_group
        if le.minibatches > trials:
            raise ValueError(
                f"learn.minibatches = {le.minibatches} is more than the {trials} trials of an iteration"
            )
        if le.max_microbatch_tokens < r.max_sequence_tokens:
            _contradict(
                self,
                "learn.max_microbatch_tokens",
                "rollout.max_sequence_tokens",
                "sequences are never split",
            )
        if self.model.dora and not self.model.lora_rank:
            _contradict(
                self, "model.dora", "model.lora_rank", "it is a kind of adapter, whose rank is above 0"
            )
        if self.model.base_format != "plain" and not self.model.lora_rank:
            _contradict(self, "model.base_format", "model.lora_rank", "such weights are not trained")
        updates = self.train.iterations * le.epochs * le.minibatches
        if le.warmup_updates > updates:
            raise ValueError(
                f"learn.warmup_updates = {le.warmup_updates} is more than the {updates} updates of the run"
            )
        if self.train.device == "cpu" and le.offload_optimizer == "rollout":
            _contradict(self, "learn.offload_optimizer", "train.device", "it saves memory of a GPU")
        if le.shard in ("optimizer", "full"):
            for key in ("learn.optimizer", "learn.offload_optimizer"):
                if _get(self, key) in ("adamw_8bit", "rollout"):
                    _contradict(self, "learn.shard", key, "it works on whole tensors")
        if le.shard == "full" and self.model.base_format != "plain":
            why = "its bits are whole on every rank; take 'optimizer'"
            _contradict(self, "learn.shard", "model.base_format", why)
        if le.shard == "full" and self.algo.estimator == "gae":
            _contradict(
                self, "learn.shard", "algo.estimator", "a critic's weights are whole; take 'optimizer'"
            )
        if le.reduce_every == "microbatch" and le.shard not in ("auto", "full"):
            _contradict(self, "learn.reduce_every", "learn.shard", "only 'full' has shares of gradients")


def _get(config: Config, key: str) -> object:
    section, name = key.split(".")
    return getattr(getattr(config, section), name)


def _contradict(config: Config, key: str, other: str, why: str) -> None:
    raise ValueError(f"{key} = {_get(config, key)!r} contradicts {other} = {_get(config, other)!r}: {why}")
