"""`lamer-fast train`: trains by a recipe, resumes its run, or says what it would take."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from lamer_fast.cli.flags import Command, Target
from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.fields import Range
from lamer_fast.launch import launch, started_by_torchrun
from lamer_fast.model.path import model_path
from lamer_fast.samplers.vllm.environment import prepare_for
from lamer_fast.say import starting


@dataclass(frozen=True)
class TrainOptions:
    dry_run: bool = False
    """Print settings and estimates, and train nothing."""
    gpu_memory: Annotated[float, Range(0.1, 10_000)] | None = None
    """With --dry-run: size in GiB of a GPU, here or elsewhere; suggests settings with which the run fits."""
    overwrite: bool = False
    """Discard an earlier run of this name."""
    from_checkpoint: Annotated[int, Range(1)] | None = None
    """Resume after this iteration, whose checkpoint must exist, and discard all later ones."""
    runs: Path = Path("runs")
    """Folder of the runs."""


COMMAND = Command(
    "train",
    "Train by a recipe. The same command again resumes the run from its last checkpoint. A setting that is "
    "not given has the recipe's value, or else the default shown here; --dry-run prints the result.",
    TrainOptions,
    Target("RECIPE", f"a shipped recipe's name ({', '.join(recipe.names())}) or a TOML file"),
    Config,
)


def run(argv: Sequence[str]) -> int:
    target, options, overrides = COMMAND.parse(argv)
    config = recipe.resolve(target, overrides)
    if options.gpu_memory is not None and not options.dry_run:
        raise ValueError(f"--gpu-memory {options.gpu_memory:g} is for --dry-run; a run measures its own GPU")
    model_path(config.model.path)
    prepare_for(config)
    if not started_by_torchrun():  # of which each of several processes would say it
        starting(f"{'estimating' if options.dry_run else 'training'} {config.name}")

    if config.train.processes > 1 and not options.dry_run and not started_by_torchrun():
        return launch(["train", *argv], config.train)
    from lamer_fast.run import job  # torch from here on

    if options.dry_run:
        return job.dry_run(config, runs=options.runs, overwrite=options.overwrite, gpu_gib=options.gpu_memory)
    return job.run(
        config, runs=options.runs, overwrite=options.overwrite, from_checkpoint=options.from_checkpoint
    )
