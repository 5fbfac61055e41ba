"""Runs the checks one by one and prints a line each; exit status 1 when something is wrong."""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from pathlib import Path

from lamer_fast import recipe
from lamer_fast.config import Config
from lamer_fast.display import duration, printable


class Failed(Exception):
    """A check that did not hold: what was found, and what to do about it."""

    def __init__(self, found: str, advice: str) -> None:
        super().__init__(found)
        self.advice = advice


@dataclass(frozen=True)
class Result:
    check: str
    ok: bool
    found: str
    advice: str  # empty when ok
    seconds: float


def run(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("lamer-fast doctor", description=__doc__, allow_abbrev=False)
    parser.add_argument("recipe", nargs="?", default="minesweeper-tiny")
    parser.add_argument("--json", action="store_true", help="one JSON object instead of lines")
    options, overrides = parser.parse_known_args(argv)
    config = recipe.resolve(options.recipe, overrides)

    from lamer_fast.rollout.samplers.vllm_env import on_cpu, prepare_environment

    prepare_environment(cpu=on_cpu(config))  # one check runs vLLM, if it is installed
    started = time.monotonic()
    results = []
    for result in examine(config):
        results.append(result)
        if not options.json:
            print(line(result), flush=True)
    wrong = [r for r in results if not r.ok]
    if options.json:
        content = {"recipe": options.recipe, "ok": not wrong, "checks": [asdict(r) for r in results]}
        print(json.dumps(content, indent=1))
    else:
        verdict = (
            f"{len(wrong)} of {len(results)} checks failed" if wrong else f"all {len(results)} checks passed"
        )
        print(f"{verdict} in {duration(time.monotonic() - started)}")
    return 1 if wrong else 0


def examine(config: Config) -> Iterator[Result]:
    """Results in order, each as soon as it is there."""
    from lamer_fast.doctor import learning, machine, model

    small = shrink(config)
    with tempfile.TemporaryDirectory() as folder:
        checks: list[tuple[str, Callable[[], str]]] = [
            ("packages", machine.packages),
            ("device", lambda: machine.device(config)),
            ("environments", machine.environments),
            ("credit kernels", machine.credit_kernels),
            ("loss kernel", lambda: machine.loss_kernel(config)),
            ("attention", lambda: machine.attention(config)),
            ("chat template", lambda: model.chat_template(small)),
            ("packed = padded", lambda: model.packed_is_padded(small)),
            ("sampler = trainer", lambda: model.sampler_is_trainer(small)),
            ("vLLM = trainer", lambda: model.vllm_is_trainer(small)),
            ("lr = 0", lambda: learning.flat_at_zero_lr(small, Path(folder))),
            ("resume = no resume", lambda: learning.resume_is_no_resume(small, Path(folder))),
            ("memory", lambda: model.memory(config)),
            ("physical limit", lambda: model.physical_limit(config)),
        ]
        for name, check in checks:
            yield examine_one(name, check)


def examine_one(name: str, check: Callable[[], str]) -> Result:
    started = time.monotonic()
    try:
        found, advice, ok = check(), "", True
    except Failed as failed:
        found, advice, ok = str(failed), failed.advice, False
    except Exception as error:  # a check that cannot even run is a finding, and the others go on
        found, advice, ok = f"{type(error).__name__}: {error}", "the message above names the cause", False
    return Result(name, ok, printable(found), advice, round(time.monotonic() - started, 2))


def line(result: Result) -> str:
    text = f"{'pass' if result.ok else 'FAIL'}  {result.check:<19} {result.found}"
    return text if result.ok else f"{text}\n      {'':<19} -> {result.advice}"


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


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
