"""Does a policy use what it wrote? success@1..3 of trials whose reflections were tampered with.

    python benchmarks/study_memory.py minesweeper-tiny [--model FOLDER] [--split valid] [--repeats 2]

true      the policy's own reflections
other     each reflection replaced by one that another trial of the same collection wrote
empty     each reflection replaced by "no mine"
attempts  no memory at all: independent attempts

In context `trial` the model also sees the final board of the failed episode; `other` and `empty` leave that
as it is, so that what they lose is due to the written note alone.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from typing import Any

import numpy as np


class Tampered:
    """A sampler whose completions of reflection requests are exchanged before anybody sees them."""

    def __init__(self, sampler: Any, mode: str, empty: np.ndarray, reflection_tokens: int) -> None:
        self.sampler, self.mode, self.empty, self.limit = sampler, mode, empty, reflection_tokens
        self.reflections: set[int] = set()
        self.last = empty

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sampler, name)

    def submit(self, request: Any) -> None:
        if request.max_tokens == self.limit:
            self.reflections.add(request.id)
        self.sampler.submit(request)

    def poll(self) -> list[Any]:
        completions = self.sampler.poll()
        for i, completion in enumerate(completions):
            if completion.id not in self.reflections:
                continue
            self.reflections.discard(completion.id)
            ids = self.empty if self.mode == "empty" else self.last
            self.last = completion.token_ids
            completions[i] = replace(completion, token_ids=ids, logprobs=np.zeros(len(ids), np.float32))
        return completions


def main() -> None:
    formatter = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=formatter)
    parser.add_argument("recipe", nargs="?", default="minesweeper-tiny")
    parser.add_argument("--model", default=None)
    parser.add_argument("--split", choices=("valid", "test"), default="valid")
    parser.add_argument("--tasks", type=int, default=None)
    parser.add_argument("--repeats", type=int, default=2)
    parser.add_argument("--temperature", default="1.0")
    options = parser.parse_args()

    from lamer_fast.config import resolve as recipe
    from lamer_fast.device import prepare_process
    from lamer_fast.envs.registry import eval_seeds
    from lamer_fast.eval.success import play_boards
    from lamer_fast.run.state import build_state

    overrides = ["--eval.temperature", options.temperature]
    overrides += ["--model.path", options.model] if options.model else []
    config = recipe.resolve(options.recipe, overrides)
    prepare_process(config)
    state = build_state(config)
    seeds = eval_seeds(config.env, options.split, options.tasks)
    empty = np.concatenate(
        [state.policy.tokenizer("no mine")["input_ids"], state.agent.renderer.end_ids]
    ).astype(np.int32)
    print(f"{len(seeds)} boards of {options.split}, {options.repeats} trials on each")
    for mode in ("true", "other", "empty", "attempts"):
        rollout = config.rollout
        sampler = state.sampler
        if mode == "attempts":
            rollout = replace(rollout, episodes=1, reflect=False)
        elif mode != "true":
            sampler = Tampered(sampler, mode, empty, rollout.max_reflection_tokens)
        boards = np.repeat(seeds, config.rollout.episodes) if mode == "attempts" else seeds
        won = np.stack(
            [
                play_boards(
                    sampler, state.agent.renderer, replace(config, rollout=rollout), boards,
                    split=options.split, seed=r,
                ).won.reshape(len(seeds), -1)
                for r in range(options.repeats)
            ]
        )  # fmt: skip
        success = np.logical_or.accumulate(won, axis=-1).mean(axis=(0, 1))
        print(f"{mode:9s}", " ".join(f"{100 * x:5.1f}" for x in success), flush=True)


if __name__ == "__main__":
    main()
