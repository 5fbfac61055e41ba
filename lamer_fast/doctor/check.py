"""What the checks share: how they end, and how small they make a run."""

from dataclasses import replace

from lamer_fast.config import Config


class Failed(Exception):
    """A check that did not hold: what was found, and what to do about it."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.advice = advice


class Skipped(Exception):
    """A check that has nothing to look at on this machine, and why."""


def shrink(config: Config) -> Config:
    """The same recipe with as little work as shows the same code: 8 short trials, one iteration's updates."""
    r = config.rollout
    room = min(r.max_reply_tokens, 12)
    rollout = replace(
        r,
        sampler="torch",
        groups=2,
        trials_per_group=4,
        episodes=min(r.episodes, 2),
        max_turns=min(r.max_turns, 3),
        max_reply_tokens=room,
        max_reflection_tokens=min(r.max_reflection_tokens, 12),
        cache_tokens=0,
    )
    learn = replace(config.learn, minibatches=1, epochs=1, warmup_updates=0)
    train = replace(config.train, iterations=2, save_every=1, trials_logged=0, wandb=False)
    evaluation = replace(config.eval, every=0)
    return replace(config, name="doctor", rollout=rollout, learn=learn, train=train, eval=evaluation)
