"""`lamer-fast audit`: is the sampler the trainer, distribution by distribution and layer by layer."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Annotated, Literal

from lamer_fast.cli.eval import UNUSED, resolve_target
from lamer_fast.cli.flags import Command, Target
from lamer_fast.config import Config
from lamer_fast.fields import Range
from lamer_fast.samplers.vllm.environment import prepare_for
from lamer_fast.say import starting
from lamer_fast.strict_json import finite, json_text


@dataclass(frozen=True)
class AuditOptions:
    sampler: Literal["torch", "vllm"] | None = None
    """Sampler to audit; by default the recipe's."""
    sequences: Annotated[int, Range(1, 64)] = 4
    """Number of trials, episodes or turns (by rollout.context) to replay."""
    tokens: Annotated[int, Range(1, 512)] = 4
    """Number of tokens of each reply, from its first one on."""
    json: bool = False
    """Print one JSON object instead of the table."""


COMMAND = Command(
    "audit",
    "Replay trials through the sampler and the trainer, compare whole next-token distributions, also after a "
    "weight transfer, and name the first layer that differs. The exit status is 1 if one does.",
    AuditOptions,
    Target("RUN|RECIPE", "a run folder, or a recipe (then its base model plays new trials)"),
    Config,
    {key: why for key, why in UNUSED.items() if not key.startswith("rollout.")},
)


def run(argv: Sequence[str]) -> int:
    target, options, overrides = COMMAND.parse(argv)
    if options.sampler is not None:
        overrides = [*overrides, f"--rollout.sampler={options.sampler}"]
    config, folder = resolve_target(target, overrides)
    prepare_for(config)
    starting(f"auditing {target}")

    from lamer_fast.audit.of_run import Extent, audit_run
    from lamer_fast.device import prepare_process

    prepare_process(config)
    found, what = audit_run(config, folder, Extent(options.sequences, options.tokens))
    if options.json:
        facts = {"target": target, "replayed": what, "ok": found.ok} | asdict(found)
        print(json_text(finite(facts), indent=1))
    else:
        print(f"{what}, sampler {config.rollout.sampler}, at temperature {config.rollout.temperature:g}")
        print(found)
    return 0 if found.ok else 1
