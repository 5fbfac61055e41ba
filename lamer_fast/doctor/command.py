"""Runs the checks one by one and prints a line each; exit status 1 when something is wrong."""

from __future__ import annotations

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Literal

from lamer_fast.cli.flags import Command, Target
from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.doctor.check import Failed, Skipped, shrink
from lamer_fast.samplers.vllm.environment import on_cpu, prepare_environment
from lamer_fast.say import starting
from lamer_fast.strict_json import json_text
from lamer_fast.text import duration, printable

MAX_FOUND = 2000  # characters; an error may quote anything


@dataclass(frozen=True)
class Result:
    check: str
    status: Literal["pass", "skip", "fail"]
    found: str
    advice: str  # empty unless the check failed
    seconds: float


@dataclass(frozen=True)
class DoctorOptions:
    json: bool = False
    """Print one JSON object instead of lines."""


COMMAND = Command(
    "doctor",
    "Check in about a minute that all parts agree here. The exit status is 1 if something is wrong.",
    DoctorOptions,
    Target("RECIPE", "the shipped recipe or TOML file whose model is tried", "minesweeper-tiny"),
    Config,
)


def run(argv: Sequence[str]) -> int:
    target, options, overrides = COMMAND.parse(argv)
    config = recipe.resolve(target, overrides)

    if find_spec("vllm"):  # one check runs it
        prepare_environment(cpu=on_cpu(config))
    starting("checking this machine")
    started = time.monotonic()
    results = []
    for result in examine(config):
        results.append(result)
        if not options.json:
            print(line(result), flush=True)
    ok = all(r.status != "fail" for r in results)
    if options.json:
        content = {"recipe": target, "ok": ok, "checks": [asdict(r) for r in results]}
        print(json_text(content, indent=1))
    else:
        print(f"{verdict(results)} in {duration(time.monotonic() - started)}")
    return 0 if ok else 1


def verdict(results: list[Result]) -> str:
    """`13 passed, 1 skipped`, failures first."""
    words = {"fail": "failed", "pass": "passed", "skip": "skipped"}
    counts = {status: sum(r.status == status for r in results) for status in words}
    return ", ".join(f"{n} {words[status]}" for status, n in counts.items() if n)


def examine(config: Config) -> Iterator[Result]:
    """Results in order, each as soon as it is there."""
    from lamer_fast.device import prepare_process
    from lamer_fast.doctor import learning, machine, model, ranks

    prepare_process(config)
    small = model.sampled(shrink(config), config)
    with tempfile.TemporaryDirectory() as folder:
        checks: list[tuple[str, Callable[[], str]]] = [
            ("packages", machine.packages),
            ("device", lambda: machine.device(config)),
            ("environments", machine.environments),
            ("credit kernels", machine.credit_kernels),
            ("loss kernel", lambda: machine.loss_kernel(config)),
            ("attention", lambda: machine.attention(config)),
            ("ranks", ranks.launch),
            ("chat template", lambda: model.chat_template(small)),
            ("packed = padded", lambda: model.packed_is_padded(small)),
            ("sampler = trainer", lambda: model.sampler_is_trainer(small)),
            ("vLLM = trainer", lambda: model.vllm_is_trainer(small, config.rollout.sampler == "vllm")),
            ("audit", lambda: model.audit(small)),
            ("lr = 0", lambda: learning.flat_at_zero_lr(small, Path(folder))),
            ("resume = no resume", lambda: learning.resume_is_no_resume(small, Path(folder))),
            ("memory", lambda: model.memory(config)),
            ("physical limit", lambda: model.physical_limit(config)),
        ]
        no_model = False
        for name, check in checks:
            if no_model:
                yield Result(name, "skip", "there is no model to check it with", "", 0.0)
                continue
            result = examine_one(name, check)
            no_model = name == "chat template" and result.status == "fail"  # all after it need the model
            yield result


def examine_one(name: str, check: Callable[[], str]) -> Result:
    started = time.monotonic()
    status: Literal["pass", "skip", "fail"] = "pass"
    advice = ""
    try:
        found = check()
    except Skipped as skipped:
        status, found = "skip", str(skipped)
    except Failed as failed:
        status, found, advice = "fail", str(failed), failed.advice
    except Exception as error:  # a check that cannot even run is a finding, and the others go on
        refused = isinstance(error, ValueError)  # as every command says it
        status, found = "fail", str(error) if refused else f"{type(error).__name__}: {error}"
        advice = "the message above names the cause"
    return Result(name, status, printable(found, MAX_FOUND), advice, round(time.monotonic() - started, 2))


def line(result: Result) -> str:
    failed = result.status == "fail"
    text = f"{'FAIL' if failed else result.status}  {result.check:<19} {result.found}"
    return f"{text}\n      {'':<19} -> {result.advice}" if failed else text


if __name__ == "__main__":
    sys.exit(run(sys.argv[1:]))
