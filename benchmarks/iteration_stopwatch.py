"""Training iterations under the clock, for the arms of bench_iteration.py: a line of JSON each on stdout."""

from __future__ import annotations

import json
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import lamer_fast.run.loop as training
from lamer_fast.config import Config
from lamer_fast.device import prepare_process
from lamer_fast.run.display import Display
from lamer_fast.run.folder import RunFolder
from lamer_fast.run.state import TrainState, build_state
from lamer_fast.run.stop import StopRequest


class Stopwatch(Display):
    """CPU and wall seconds of each iteration, and how much of it was inside the model."""

    def __init__(self, state: TrainState) -> None:
        super().__init__("bench", state.config.train.iterations, live=False)
        self.state = state
        state.sampler = TimedSampler(state.sampler, self)
        training.update = partial(self.timed_update, training.update)
        self.restart()

    def restart(self) -> None:
        self.sample_s = self.update_s = 0.0
        self.packed = 0
        self.computed = self.state.sampler.computed_tokens()
        self.cpu, self.wall = time.process_time(), time.perf_counter()

    def timed_update(self, update: Callable[..., Any], algorithm: Any, minibatch: Any, *rest: Any) -> Any:
        started = time.process_time()
        outcome = update(algorithm, minibatch, *rest)
        self.update_s += time.process_time() - started
        self.packed += sum(len(batch.packed.input_ids) for batch in minibatch)
        return outcome

    def update(self, record: Any) -> None:
        cpu, wall = time.process_time() - self.cpu, time.perf_counter() - self.wall
        took = {
            "cpu": cpu, "wall": wall, "sample_cpu": self.sample_s, "update_cpu": self.update_s,
            "outside": 1 - (self.sample_s + self.update_s) / cpu,
            "computed": self.state.sampler.computed_tokens() - self.computed + self.packed,
        }  # fmt: skip
        written = record.to_json()
        kept = {key: written[key] for key in ("tokens", "seconds", "mismatch", "counters")}
        print("RECORD " + json.dumps(took | kept), flush=True)
        self.restart()


class TimedSampler:
    def __init__(self, sampler: Any, stopwatch: Stopwatch) -> None:
        self.sampler, self.stopwatch = sampler, stopwatch

    def __getattr__(self, name: str) -> Any:
        return getattr(self.sampler, name)

    def computed_tokens(self) -> int:
        names = ("num_prefill_tokens", "num_decode_tokens")
        return sum(getattr(self.sampler, name, 0) for name in names)

    def poll(self) -> Any:
        started = time.process_time()
        completions = self.sampler.poll()
        self.stopwatch.sample_s += time.process_time() - started
        return completions


def run(config: Config, prepare: Callable[[TrainState], None] = lambda state: None) -> None:
    """Trains in a folder of its own that is deleted; `prepare` may change the state before."""
    config.validate()
    with tempfile.TemporaryDirectory() as folder:
        prepare_process(config)
        state = build_state(config)
        prepare(state)
        training.transfer(state, version=0)
        with (
            RunFolder(config, Path(folder)) as run_folder,
            StopRequest() as stop,
            Stopwatch(state) as stopwatch,
        ):
            run_folder.start(0)
            training.train(state, run_folder, stopwatch, stop)
