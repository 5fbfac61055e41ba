"""The checks that linear_policy_loss and policy_loss share."""

from dataclasses import replace

from torch import Tensor

from ..._core.checks import as_floats, check_choice, check_cu, check_tensor
from ..._core.numbers import check_number
from ..checks import ACC_DTYPES
from .covariance import COVARIANCE, Covariance
from .terms import CLIPPED, KLS, LOSSES, OF_SEGMENTS, LossConfig, TokenData


def checked_config(config: LossConfig, tokens: TokenData) -> LossConfig:
    """The switches with plain numbers; ``ValueError`` for one out of range or that could not act."""
    check_choice("loss", config.loss, (*LOSSES, *COVARIANCE))
    check_choice("kl", config.kl, KLS)
    dual_clip, log_ratio_clip, kl_clip = config.dual_clip, config.log_ratio_clip, config.kl_clip
    if dual_clip is not None:
        if config.loss not in CLIPPED:
            raise ValueError(
                f"dual_clip goes with loss {' or '.join(map(repr, CLIPPED))}, got loss {config.loss!r}"
            )
        dual_clip = check_number("dual_clip", dual_clip, "(1, inf)")
    if log_ratio_clip is not None:
        if config.loss == "reinforce":
            raise ValueError("log_ratio_clip goes with a loss of ratios, got loss 'reinforce'")
        log_ratio_clip = check_number("log_ratio_clip", log_ratio_clip, "(0, inf)")
    if kl_clip is not None:
        if tokens.ref_logprobs is None:
            raise ValueError(f"kl_clip {kl_clip} needs ref_logprobs, got None")
        if not isinstance(kl_clip, tuple | list) or len(kl_clip) != 2:
            raise TypeError(f"kl_clip must be two numbers, of the gap and of the estimate, got {kl_clip!r}")
        gap, estimate = (check_number("kl_clip", bound, "(0, inf]") for bound in kl_clip)
        kl_clip = (gap, estimate)
    config = replace(
        config,
        clip_low=check_number("clip_low", config.clip_low, "[0, 1]"),
        clip_high=check_number("clip_high", config.clip_high, "[0, inf]"),
        dual_clip=dual_clip,
        log_ratio_clip=log_ratio_clip,
        kl_coef=check_number("kl_coef", config.kl_coef, "[0, inf)"),
        kl_clip=kl_clip,
        entropy_coef=check_number("entropy_coef", config.entropy_coef, "(-inf, inf)"),
        tau_pos=check_number("tau_pos", config.tau_pos, "(0, inf)"),
        tau_neg=check_number("tau_neg", config.tau_neg, "(0, inf)"),
    )
    if config.kl_coef and tokens.ref_logprobs is None:
        raise ValueError(f"kl_coef {config.kl_coef} needs ref_logprobs, got None")
    taus = (config.tau_pos, config.tau_neg)
    if config.loss != "sapo" and taus != (LossConfig.tau_pos, LossConfig.tau_neg):
        raise ValueError(f"tau_pos and tau_neg go with loss 'sapo', got {taus} with loss {config.loss!r}")
    if (config.loss in OF_SEGMENTS) != (tokens.cu_segments is not None):
        raise ValueError(
            f"cu_segments goes with loss {', '.join(map(repr, OF_SEGMENTS))} and only there, got loss "
            f"{config.loss!r} {'with' if tokens.cu_segments is not None else 'without'} cu_segments"
        )
    return config


def check_goes_with(loss: str, covariance: Covariance | None) -> None:
    if loss not in COVARIANCE:
        named = " or ".join(map(repr, COVARIANCE))
        raise ValueError(f"covariance goes with loss {named}, got {covariance} with loss {loss!r}")
    if covariance is not None and not isinstance(covariance, Covariance):
        raise TypeError(f"covariance must be a Covariance, got {covariance!r}")


def checked_tokens(tokens: TokenData, like: Tensor, shape: tuple[int, ...], validate: bool) -> TokenData:
    """The token data as vectors; integers count as float64.

    Args:
        like: a tensor on the device of the head; advantages and token_weights may be on the host.
        shape: of the targets, or of the log-probs, as given.
    """
    found: dict[str, Tensor] = {}
    for name in ("old_logprobs", "advantages", "token_weights", "ref_logprobs", "importance_weights"):
        x = getattr(tokens, name)
        if x is None and name != "advantages":
            continue
        (x,) = as_floats(x)
        on_host = name in ("advantages", "token_weights") and isinstance(x, Tensor) and x.device.type == "cpu"
        check_tensor(name, x, shape=shape, dtypes=ACC_DTYPES, like=None if on_host else like)
        if x.requires_grad:
            raise ValueError(f"{name} gets no gradient, got a tensor that requires one: detach it")
        found[name] = x.reshape(-1)
    if tokens.cu_segments is not None:
        total = found["advantages"].shape[0]
        check_cu("cu_segments", tokens.cu_segments, total, like=like, validate=validate)
    return replace(tokens, **found)
