"""`lamer-fast eval --endpoint URL`: a model behind a server on our panels. No torch, no tokenizer."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lamer_fast.config import Config
from lamer_fast.config import resolve as recipe
from lamer_fast.run.whose import check_is_run
from lamer_fast.samplers.endpoint.options import EndpointOptions

if TYPE_CHECKING:
    from lamer_fast.eval.record import EvalRecord
    from lamer_fast.samplers.endpoint.sampler import EndpointSampler

UNUSED = ("model", "train", "rollout.sampler", "rollout.max_sequence_tokens", "rollout.cache_tokens",
          "rollout.kv_cache_dtype", "rollout.prefill_tokens", "rollout.max_in_flight")  # fmt: skip


def endpoint_config(target: str, overrides: Sequence[str]) -> Config:
    """Environment, rollout and sampling of a recipe, a run, or the defaults; validated."""
    values = recipe.parse_overrides(overrides)
    for key in values:
        if key.partition(".")[0] in UNUSED or key in UNUSED:
            advice = "; take --endpoint.model" if key == "model.path" else ""
            raise ValueError(f"--{key.replace('_', '-')} has no effect with --endpoint{advice}")
    if Path(target).is_dir() and target:
        check_is_run(Path(target))
        config = recipe.apply(recipe.read_config(Path(target) / "config.json"), values)
    elif target:
        config = recipe.load(target, overrides)
    else:
        config = recipe.apply(Config(name="endpoint"), values)
    from lamer_fast.samplers.endpoint.sampler import EndpointSampler

    unbounded: dict[str, Any] = {
        "max_sequence_tokens": EndpointSampler.max_sequence_tokens,
        "cache_tokens": 0,
    }
    config = replace(config, rollout=replace(config.rollout, **unbounded))
    config.validate_evaluation()
    return config


def endpoint_sampler(config: Config, options: EndpointOptions) -> tuple[EndpointSampler, str]:
    """(sampler, name of the model). Says what is wrong with environment or server where it can be known."""
    from lamer_fast.envs.registry import check_at_start
    from lamer_fast.samplers.endpoint.ask import OpenAIAsk
    from lamer_fast.samplers.endpoint.sampler import EndpointSampler

    check_at_start(config.env)
    ask = OpenAIAsk(options)
    return EndpointSampler(ask, options), ask.model


def with_endpoint(record: EvalRecord, options: EndpointOptions, model: str) -> EvalRecord:
    """Of the settings those stay that an endpoint has."""
    kept = {k: v for k, v in record.settings.items() if k.partition(".")[0] != "model" and k not in UNUSED}
    prices = {k: getattr(options, k) for k in ("price_prompt", "price_cached", "price_completion")}
    facts = {"url": options.shown, "model": model, "extra": options.extra_fields()}
    facts |= {key: value for key, value in prices.items() if value is not None}
    return replace(record, settings=kept, endpoint=facts)


def check_not_lost(record: EvalRecord, options: EndpointOptions) -> None:
    """Raises ValueError when too many trials were lost for the rest to say anything."""
    for name, found in record.panels.items():
        played = found.num_tasks * (1 + len(found.independent))
        if found.lost > options.max_lost * played:
            of = f" of panel {name!r}" if name else ""
            raise ValueError(
                f"{found.lost} of {played} trials and attempts{of} got no answer, --endpoint.max-lost allows "
                f"a share of {options.max_lost:g}: no result. Try a smaller --endpoint.concurrency"
            )


def price(used: Mapping[str, float], options: EndpointOptions) -> float | None:
    from lamer_fast.samplers.endpoint.usage import Usage

    counts: dict[str, Any] = dict(used)
    return Usage(**counts).price(options.price_prompt, options.price_cached, options.price_completion)
