"""Our loop on the workload of bench_iteration.py; prints one JSON line per iteration.

python iteration_ours.py torch|vllm float32|bfloat16 ITERATIONS
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "kernels")]
from lamer_fast.samplers.vllm.environment import prepare_environment

if sys.argv[1] == "vllm":
    prepare_environment(cpu=True)

import numpy as np
import torch
from iteration_stopwatch import run
from iteration_workload import (
    LR,
    NUM_TRIALS,
    PROMPTS,
    REPLY,
    TRIALS_PER_PROMPT,
    TURNS,
    answer,
    make_model,
    prompt_text,
)

from lamer_fast.agent.agent import Agent
from lamer_fast.config import (
    AlgoConfig,
    Config,
    LearnConfig,
    ModelConfig,
    RolloutConfig,
    TrainConfig,
)
from lamer_fast.envs.native.minesweeper import MinesweeperOptions
from lamer_fast.envs.protocol import TurnOut


class Chatter:
    """`TextBatchEnv` of the workload: every reply gets an answer, nobody wins."""

    def __init__(self) -> None:
        self.num_envs = NUM_TRIALS
        self.texts = [""] * NUM_TRIALS
        self.task = prompt_text(0)  # what the probe of a weight transfer scores

    def task_prompt(self) -> str:
        return self.task

    def reset(self, seeds: Any, env_idx: Any = None) -> None:
        for i, seed in enumerate(seeds.tolist()):
            self.texts[i] = prompt_text(seed)

    def restart(self, env_idx: Any) -> None:
        raise NotImplementedError("trials of one episode")

    def observe(self, env_idx: Any) -> list[str]:
        return [self.texts[i] for i in env_idx.tolist()]

    def step(self, replies: Any, env_idx: Any) -> TurnOut:
        n = len(replies)
        rewards = np.zeros(n, np.float32)
        for b, (i, reply) in enumerate(zip(env_idx.tolist(), replies, strict=True)):
            self.texts[i], rewards[b] = answer(reply)
        no = np.zeros(n, bool)
        return TurnOut(rewards, no, no.copy(), no.copy(), np.ones(n, bool), [None] * n)


class ForcedLength:
    """A sampler whose replies end at their limit only."""

    def __init__(self, sampler: Any) -> None:
        self.sampler = sampler

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sampler, name)

    def submit(self, request: Any) -> None:
        self.sampler.submit(replace(request, stop_ids=()))


@contextmanager
def workload_config(sampler: str, dtype: str, iterations: int, size: str = "tiny") -> Iterator[Config]:
    """The workload's configuration; its model's folder is deleted at the end."""
    with tempfile.TemporaryDirectory() as folder:
        model, tokenizer = make_model(size=size)
        model.save_pretrained(folder)
        tokenizer.save_pretrained(folder)
        yield Config(
            env=MinesweeperOptions(prompt="compact", style="compact"),
            model=ModelConfig(path=folder, dtype=dtype),
            rollout=RolloutConfig(
                sampler=sampler, groups=PROMPTS, trials_per_group=TRIALS_PER_PROMPT, episodes=1,
                max_turns=TURNS, reflect=False, max_reply_tokens=REPLY, max_reflection_tokens=REPLY,
                max_sequence_tokens=512,
            ),
            algo=AlgoConfig(estimator="grpo", entropy_coef=0.0),
            learn=LearnConfig(minibatches=1, lr=LR),
            train=TrainConfig(iterations=iterations, save_every=10_000, trials_logged=0),
        )  # fmt: skip


def main(sampler: str, dtype: str, iterations: int) -> None:
    torch.set_num_threads(1)
    with workload_config(sampler, dtype, iterations) as config:

        def prepare(state: Any) -> None:
            state.env = Chatter()
            state.agent = Agent(state.agent.renderer, state.env, config)
            state.agent.task = ""  # a prompt is its board alone
            state.sampler = ForcedLength(state.sampler)

        run(config, prepare)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
