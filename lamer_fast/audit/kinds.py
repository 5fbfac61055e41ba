"""The likely kind of a difference: which single change of an operation gives what the side got."""

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from lamer_fast.audit.operations import Operation
from lamer_fast.audit.reference import Change
from lamer_fast.model.project import is_plain, side_by_side

EPSILONS = (0.0, 1e-12, 1e-8, 1e-7, 1e-6, 1e-5, 1e-4, 1e-3)
THETAS = (1e4, 1e5, 2.5e5, 5e5, 1e6, 1.5e6, 2e6, 5e6, 1e7)
CAPS = (15.0, 20.0, 30.0, 50.0, 100.0)
MAX_WIDTH = 4096  # of a norm whose weight is solved for
SHIFTS = (-1, 1, -2, 2, -3, 3, -4, 4)


@dataclass(frozen=True)
class Kind:
    name: str
    words: str


def kind_of(op: Operation, exact: Tensor, tolerance: float) -> Kind:
    """Of an operation whose errors exceed `tolerance`."""
    if op.family != "head" and is_narrower(op.got, op.reference.dtype):
        return Kind("dtype", f"computed in bfloat16, the model is {str(op.reference.dtype)[6:]}")
    for name, words, change in candidates(op):
        if float(op.errors(op.exact(change)).max()) <= tolerance:
            return Kind(name, words)
    return fitted(op, exact, tolerance) or unexplained(op, exact, tolerance)


def is_narrower(got: Tensor, dtype: torch.dtype) -> bool:
    """Values that all fit into bfloat16 where more digits are expected."""
    return dtype is not torch.bfloat16 and bool((got.bfloat16().to(got.dtype) == got).all())


def candidates(op: Operation) -> Iterator[tuple[str, str, Change]]:
    """(name, words, change), the more specific first."""
    of_family: dict[str, tuple[Callable[[Operation], Iterator[tuple[str, str, Change]]], ...]] = {
        "embedding": (_embedding, _stale),
        "projection": (_norm, _bias_and_shape, _stale),
        "turned": (_turned, _norm, _bias_and_shape, _stale),
        "attention": (_attention,),
        "linear": (_bias_and_shape, _stale),
        "inner": (_inner, _norm, _bias_and_shape, _stale),
        "head": (_head, _norm, _stale),
    }
    for source in of_family.get(op.family, ()):
        yield from source(op)


def _norm(op: Operation) -> Iterator[tuple[str, str, Change]]:
    model = op.reference.architecture.eps
    for eps in EPSILONS:
        if eps != model:
            yield "norm epsilon", f"as with epsilon {eps:g}, the model has {model:g}", Change(eps=eps)
    yield "norm", "as without the norm before it", Change(skip_norm=True)


def _bias_and_shape(op: Operation) -> Iterator[tuple[str, str, Change]]:
    yield "missing adapter", "as the base weight without its adapter", Change(base=True)
    yield "bias", "as without the bias", Change(bias=False)
    yield "transposed weight", "as with the weight transposed", Change(transposed=True)


def _stale(op: Operation) -> Iterator[tuple[str, str, Change]]:
    if op.reference.previous is None:
        return
    for which, words in (("linear", "weight"), ("norm", "norm's weight"), ("all", "weights")):
        yield "stale weight", f"as with the {words} before the last transfer", Change(stale=which)


def _embedding(op: Operation) -> Iterator[tuple[str, str, Change]]:
    scale = float(op.got.shape[-1] ** 0.5)
    yield "embedding scale", "as scaled by the root of its width", Change(embedding_scale=scale)


def _turned(op: Operation) -> Iterator[tuple[str, str, Change]]:
    r, a = op.reference, op.reference.architecture
    has = a.has_rope[op.layer]
    words = "as without turning by position" if has else "turned by position, which this layer does not"
    yield "rope", words, Change(rope=not has)
    width = 2 * len(r.inv_freq)
    steps = torch.arange(0, width, 2, dtype=torch.float64, device=r.inv_freq.device) / width
    model = (getattr(r.model.config, "rope_parameters", None) or {}).get("rope_theta")
    for theta in dict.fromkeys((model, *THETAS)):
        if theta is not None:
            words = f"as with theta {theta:g} and no scaling, the model has theta {model:g}"
            yield "rope", words, Change(inv_freq=1 / theta**steps)
    yield "rope", "as with neighbours turned together, the model turns halves", Change(interleaved=True)
    for shift in SHIFTS:
        yield "position offset", f"as with all positions {shift:+d}", Change(shift=shift)
    if a.has_head_norms:
        yield "head norms", "as without the norms of queries and keys", Change(head_norms=False)


def _attention(op: Operation) -> Iterator[tuple[str, str, Change]]:
    a = op.reference.architecture
    if 1 < a.num_kv_heads < a.num_heads:
        words = "as if query heads took the key-value heads in turn, not in blocks"
        yield "key-value heads", words, Change(kv_heads_in_turn=True)
    yield "mask", "as if tokens saw those after them", Change(causal=False)
    for cap in CAPS:
        yield "soft-cap", f"as with scores capped at {cap:g}", Change(softcap=cap)
    size = a.head_size
    scales = {
        size**0.5: "1",
        size**-0.5: "1 / head size",
        a.num_heads**-0.5: "that of the whole width",
        2.0: "twice the model's",
        0.5: "half the model's",
        math.log2(math.e): "log2(e) times the model's",
        math.log(2): "ln(2) times the model's",
    }
    for scale, words in scales.items():
        yield "attention scale", f"as with scores scaled by {words}", Change(scale=scale)
    for dtype in (torch.bfloat16, torch.float8_e4m3fn, torch.float8_e5m2):
        yield "dtype", f"as with keys and values kept in {str(dtype)[6:]}", Change(kv_dtype=dtype)
    configured = getattr(op.reference.model.config, "sliding_window", None)
    for window in dict.fromkeys((configured, *range(int(op.tokens.max()), 0, -1))):
        if window is not None:
            yield "sliding window", f"as with a window of {window} tokens", Change(window=window)


def _inner(op: Operation) -> Iterator[tuple[str, str, Change]]:
    yield "gate and up", "as with gate and up swapped", Change(swapped=True)
    for name in ("gelu", "relu"):
        yield "activation", f"as with {name}, the model has silu", Change(activation=name)


def _head(op: Operation) -> Iterator[tuple[str, str, Change]]:
    t = op.reference.temperature
    if t != 1:
        yield "temperature", f"as with temperature {t:g} applied twice", Change(logit_scale=1 / t)
        yield "temperature", f"as without the temperature {t:g}", Change(logit_scale=t)
    head = op.reference.model.get_output_embeddings()
    if op.reference.num_ids is not None and op.reference.num_ids < len(head.weight):
        words = f"ids from {op.reference.num_ids} on, which are padding, have a share"
        yield "padded vocabulary", words, Change(all_rows=True)
    if head.weight is op.reference.model.get_input_embeddings().weight:
        words = "the head stayed behind at the last transfer, the embedding that it is tied to did not"
        yield "tied head", words, Change(stale="linear")
    else:
        words = "as with the embedding for a head, which the model has apart"
        yield "tied head", words, Change(from_embedding=True)
    for cap in CAPS:
        yield "soft-cap", f"as with logits capped at {cap:g}", Change(softcap=cap)


def fitted(op: Operation, exact: Tensor, tolerance: float) -> Kind | None:
    """What no list could hold: shifts of some tokens, factors, differences of low rank, norms."""
    if op.family == "turned":
        if found := _partly_shifted(op, tolerance):
            return found
        if not op.reference.architecture.has_head_norms:
            return _of_linear(*_turned_back(op, exact))
    if op.family == "head":
        return _of_head(op, exact, tolerance)
    if op.family == "projection" and _another_input_norm(op, exact, tolerance):
        return Kind("stale weight", "as with another weight of the norm before it")
    if op.family in ("projection", "linear"):
        return _of_linear(op.got.double().flatten(1), exact.flatten(1), tolerance)
    return None


def _another_input_norm(op: Operation, exact: Tensor, tolerance: float) -> bool:
    """Of values, which neither turn nor are normed by head."""
    a, attn = op.reference.architecture, op.reference.trunk.layers[op.layer].self_attn
    modules = [getattr(attn, name) for name in a.qkv]
    if not all(map(is_plain, modules)) or op.stream is None:
        return False
    weight, bias = side_by_side([m.weight for m in modules], [m.bias for m in modules])
    count = a.num_kv_heads * a.head_size
    got = op.got.double().flatten(1)
    if bias is not None:
        got = got - bias[-count:].detach().double()
    allowed = tolerance * float(exact.flatten(1).norm(dim=-1).max())
    return is_another_norm(op.stream, a.eps, weight[-count:], got, allowed)


def _partly_shifted(op: Operation, tolerance: float) -> Kind | None:
    """Every token is explained by some shift of its position, the first ones by none."""
    ends = [int(t) for t in op.tokens]
    shifts = [0, *SHIFTS, *sorted({-t for t in ends if t})]
    errors = torch.stack([op.errors(op.exact(Change(shift=s))) for s in shifts])
    best, which = errors.min(0)
    if not bool((best <= tolerance).all()):
        return None
    first = int((errors[0] > tolerance).nonzero()[0])
    words = f"as with positions {shifts[int(which[first])]:+d} from token {int(op.tokens[first])} on"
    return Kind("position offset", words)


def _turned_back(op: Operation, exact: Tensor) -> tuple[Tensor, Tensor, float]:
    r = op.reference
    got, wanted = op.got.double(), exact
    if r.architecture.has_rope[op.layer]:
        at = op.tokens.to(got.device)
        got, wanted = (r.turn(x, at, back=True) for x in (got, wanted))
    return got.flatten(1), wanted.flatten(1), op.tolerance(exact)


def _of_linear(got: Tensor, wanted: Tensor, tolerance: float) -> Kind | None:
    difference = got - wanted
    factor = float((got * wanted).sum() / (wanted * wanted).sum().clamp(min=1e-30))
    noise = tolerance * float(wanted.norm())
    if float((got - factor * wanted).norm()) <= noise:
        return Kind("scaled weight", f"as with the weight times {factor:.4g}")
    columns = difference.norm(dim=0)
    changed = int((columns > noise / columns.numel() ** 0.5).sum())
    if changed <= columns.numel() // 4:
        return Kind("stale weight", f"{changed} of {columns.numel()} rows of the weight are others")
    rank = int((torch.linalg.svdvals(difference) > noise).sum())
    if 0 < rank <= min(difference.shape) // 3:
        return Kind("missing adapter", f"the weights differ by a matrix of rank {rank}")
    return None


def _of_head(op: Operation, exact: Tensor, tolerance: float) -> Kind | None:
    got = op.got.double()[:, : exact.shape[1]]
    if bool(got.isneginf().any()):
        return Kind("cut distribution", "some ids have no probability: top-k, top-p or a mask")
    a, b = (x - x.mean(-1, keepdim=True) for x in (got, exact))
    factor = float((a * b).sum() / (b * b).sum().clamp(min=1e-30))
    if float((a - factor * b).abs().max()) <= tolerance * max(1.0, factor):
        return Kind("temperature", f"as with logits times {factor:.4g}")
    r = op.reference
    weight = r.model.get_output_embeddings().weight[: a.shape[1]].detach().double() / r.temperature
    assert op.stream is not None
    if is_another_norm(op.stream, r.architecture.eps, weight - weight.mean(0), a, tolerance):
        return Kind("stale weight", "as with another weight of the final norm")
    return None


def is_another_norm(stream: Tensor, eps: float, weight: Tensor, got: Tensor, tolerance: float) -> bool:
    """Is `got` [R, O] what `weight` [O, H] makes of the stream [R, H], normed with some other norm's weight?

    A least-squares problem of H unknowns; `tolerance` is of the largest error.
    """
    x = stream.double()
    plain = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)
    width, outputs = plain.shape[1], len(weight)
    ids = torch.unique(torch.linspace(0, outputs - 1, min(outputs, 8 * width)).long())
    use = min(len(plain), -(-3 * width // len(ids)))
    if width > MAX_WIDTH or use * len(ids) < 2 * width:
        return False
    design = (weight.detach().double()[ids] * plain[:use, None]).flatten(0, 1)
    wanted = got[:use, ids].flatten()[:, None]
    found = torch.linalg.lstsq(design, wanted).solution
    return float((design @ found - wanted).abs().max()) <= tolerance


def unexplained(op: Operation, exact: Tensor, tolerance: float) -> Kind:
    if op.family == "attention":
        first = int(op.tokens[int((op.errors(exact) > tolerance).nonzero()[0])])
        return Kind("cache", f"from token {first} on it attends to other keys or values than were computed")
    if op.family == "head":
        model = op.reference.model
        if model.get_output_embeddings().weight is model.get_input_embeddings().weight:
            return Kind("tied head", "the head is another matrix than the embedding, the model ties them")
        return Kind("stale weight", "the head or the final norm is another")
    if op.family == "residual":
        return Kind("residual", "the stream is not the sum of its parts")
    if op.family == "embedding":
        errors = op.errors(exact) > tolerance
        return Kind("stale weight", f"{int(errors.sum())} of {len(errors)} rows of the embedding are others")
    return Kind("stale weight", "the weight is another")
