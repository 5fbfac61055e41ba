"""vLLM on a CPU: our rollout against the bare engine on the same requests, and the time of a weight transfer.

python iteration_vllm.py tiny|25m ROUNDS
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

sys.path[:0] = [str(Path(__file__).parents[1]), str(Path(__file__).parents[1] / "kernels")]
from lamer_fast.samplers.vllm.environment import prepare_environment

prepare_environment(cpu=True)

import torch
from iteration_ours import Chatter, ForcedLength, workload_config

from lamer_fast.agent.agent import Agent
from lamer_fast.rollout.boards import draw_boards
from lamer_fast.rollout.collect import collect_trials
from lamer_fast.run.state import build_state
from lamer_fast.samplers.vllm.sampler import VllmSampler


class Recorder(ForcedLength):
    """Keeps what was asked for; turns of a trial follow one another."""

    def __init__(self, sampler: Any) -> None:
        super().__init__(sampler)
        self.turns: dict[int, list[Any]] = {}

    def submit(self, request: Any) -> None:
        self.turns.setdefault(request.trial, []).append(request)
        super().submit(request)


def bare(sampler: VllmSampler, turns: dict[int, list[Any]]) -> None:
    """The engine alone on recorded requests, each as soon as the trial's one before it is finished."""
    waiting = {trial: iter(requests) for trial, requests in turns.items()}
    trial_of = {}

    def submit(trial: int) -> None:
        if request := next(waiting[trial], None):
            trial_of[str(request.id)] = trial
            ForcedLength(sampler).submit(request)

    for trial in waiting:
        submit(trial)
    while sampler.engine.has_unfinished_requests():
        for output in sampler.engine.step():
            if output.finished:
                submit(trial_of[output.request_id])
    sampler.in_flight.clear()


def main(size: str, rounds: int) -> None:
    torch.set_num_threads(1)
    with workload_config("vllm", "bfloat16", 1, size) as config:
        state = build_state(config)
    env = Chatter()
    agent = Agent(state.agent.renderer, env, config)
    for i in range(rounds):
        prompt, cached = state.sampler.prompt_tokens, state.sampler.cached_tokens
        recorder = Recorder(state.sampler)
        started = time.process_time()
        trials = collect_trials(recorder, env, agent, draw_boards(config, i), config.rollout, seed=i)
        ours = time.process_time() - started
        computed = state.sampler.prompt_tokens - prompt - (state.sampler.cached_tokens - cached)
        state.sampler.llm.reset_prefix_cache()
        started = time.process_time()
        bare(state.sampler, recorder.turns)
        engine = time.process_time() - started
        wall = time.perf_counter()
        state.sampler.load_weights(state.policy.named_weights(), version=i + 1)
        transfer = time.perf_counter() - wall
        record = {"ours": ours, "engine": engine, "transfer": transfer}
        record["computed"] = computed / len(trials.tokens)
        record["parameters"] = sum(p.numel() for p in state.policy.model.parameters())
        print("RECORD " + json.dumps(record), flush=True)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
