"""Does the policy learn as much when the next collection is sampled beside the updates, one iteration behind?

    PYTHONPATH=.:kernels python benchmarks/sampling_beside.py behind 0 24

an arm, `now` or `behind`, a seed, iterations of minesweeper-tiny. Trials of `behind` have the weights before
the updates of the iteration before; their log-probabilities are the denominators of the ratios in both arms.
Prints success@1..3 over the last third and CPU seconds of an iteration, one thread.
"""

import sys
import time
from typing import Any

import numpy as np

from lamer_fast.algo.packing import epochs, pack
from lamer_fast.config.resolve import resolve
from lamer_fast.device import prepare_process
from lamer_fast.learn.update import LearnStats, update
from lamer_fast.rollout.trial_batch import TrialBatch
from lamer_fast.run.clock import Clock
from lamer_fast.run.collection import collect
from lamer_fast.run.loop import score_before_updates, transfer
from lamer_fast.run.state import TrainState, build_state


def learn(state: TrainState, trials: TrialBatch) -> LearnStats:
    config, stats = state.config, LearnStats()
    progress = state.iteration / max(1, config.train.iterations - 1)
    advantages = state.algorithm.credit(trials, progress).advantages
    batches = pack(trials, advantages, config, iteration=state.iteration, device=state.policy.device)
    score_before_updates(state, batches)
    for batch in epochs(batches, config.learn.epochs):
        state.note(update(state.algorithm, batch, stats), batch)
    state.iteration += 1
    transfer(state, version=state.iteration)
    return stats


def main(arm: str, seed: str, iterations: str) -> None:
    flags = {"seed": seed, "iterations": iterations, "num-threads": "1"}
    words = [word for name, value in flags.items() for word in (f"--train.{name}", value)]
    config = resolve("minesweeper-tiny", words)
    prepare_process(config)
    state = build_state(config)
    transfer(state, version=0)
    seconds = {"sample": 0.0, "learn": 0.0}

    def timed(phase: str, function: Any, *arguments: Any) -> Any:
        before = time.process_time()
        found = function(*arguments)
        seconds[phase] += time.process_time() - before
        return found

    def sampled(iteration: int) -> TrialBatch:
        trials: TrialBatch
        trials, _ = timed("sample", collect, state, iteration, [], Clock(config.train.watchdog_s))
        return trials

    count = config.train.iterations
    success, clipped = [], []
    following = sampled(0)
    for iteration in range(count):
        trials = following
        last = iteration + 1 == count
        if arm == "behind" and not last:
            following = sampled(iteration + 1)
        clipped.append(timed("learn", learn, state, trials).mean("clipped"))
        if arm == "now" and not last:
            following = sampled(iteration + 1)
        success.append(trials.success_at())
    shares = ", ".join(f"{s:.3f}" for s in np.mean(success[-(count // 3) :], axis=0))
    each = ", ".join(f"{phase} {s / count:.2f} s" for phase, s in seconds.items())
    print(f"{arm} seed {seed}: success@k {shares}; clipped {np.mean(clipped):.4f}; CPU {each}")


if __name__ == "__main__":
    main(*sys.argv[1:])
