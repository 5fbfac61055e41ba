"""What the decoder must know of a model, read from its configuration; what it does not compute, by name."""

from dataclasses import dataclass
from typing import Any

# attributes of a layer: projections of the attention's input, projections of the MLP's input
SEPARATE = ("q_proj", "k_proj", "v_proj"), ("gate_proj", "up_proj")
FUSED = ("qkv_proj",), ("gate_up_proj",)
LAYOUTS = {
    "llama": SEPARATE,  # SmolLM2 too
    "mistral": SEPARATE,
    "qwen2": SEPARATE,  # Qwen2.5 too
    "qwen3": SEPARATE,
    "smollm3": SEPARATE,
    "phi3": FUSED,  # Phi-4 too
}
# the trainer runs the model's own module, with packed attention; nothing here samples from them
HUGGING_FACE = ("arcee", "ernie4_5", "gemma", "glm", "glm4", "olmo", "olmo2")
ROPE_TYPES = ("default", "linear", "llama3", "yarn")  # one table of angles for every length
DROPOUTS = ("attention_dropout", "residual_dropout", "embedding_dropout", "resid_pdrop", "embd_pdrop")


@dataclass(frozen=True)
class Architecture:
    """A pre-norm decoder: RMS norms, rotary positions, grouped full attention, SwiGLU."""

    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_size: int
    eps: float
    """Of every norm."""
    has_rope: tuple[bool, ...]
    """Per layer; the others see no positions."""
    has_head_norms: bool
    """Queries and keys are normed per head before they turn."""
    qkv: tuple[str, ...]
    """Linear layers of `self_attn` that make queries, keys and values, side by side."""
    gate_up: tuple[str, ...]
    """Linear layers of `mlp` that make gate and value, side by side."""

    @property
    def scale(self) -> float:
        """Of the attention's scores."""
        return float(self.head_size**-0.5)

    @classmethod
    def of(cls, config: Any) -> "Architecture":
        """Of a Hugging Face configuration.

        Raises:
            ValueError: naming what of the architecture the decoder does not compute.
        """
        kind = config.model_type
        if kind not in LAYOUTS:
            raise ValueError(f"model type {kind!r} is not one of {', '.join(LAYOUTS)}")
        check_full_attention(config)
        rope_type = config.rope_parameters.get("rope_type", "default")
        if rope_type not in ROPE_TYPES:
            raise ValueError(
                f"{kind}: rotary positions of type {rope_type!r} depend on the length of a sequence; "
                f"supported are {', '.join(ROPE_TYPES)}"
            )
        if config.hidden_act != "silu":
            raise ValueError(f"{kind}: activation {config.hidden_act!r}, only 'silu' is supported")
        layers, heads = config.num_hidden_layers, config.num_attention_heads
        no_rope = getattr(config, "no_rope_layers", None)  # 1 where there IS rope
        qkv, gate_up = LAYOUTS[kind]
        return cls(
            num_layers=layers,
            num_heads=heads,
            num_kv_heads=config.num_key_value_heads,
            head_size=getattr(config, "head_dim", None) or config.hidden_size // heads,
            eps=config.rms_norm_eps,
            has_rope=(True,) * layers if no_rope is None else tuple(map(bool, no_rope)),
            has_head_norms=kind == "qwen3",
            qkv=qkv,
            gate_up=gate_up,
        )


def check_full_attention(config: Any) -> None:
    """Every token must see all tokens before it in its sequence, by a plain softmax, without dropout.

    Raises:
        ValueError: other kinds of layers, sliding windows that a sequence could outgrow, soft-caps, dropout.
    """
    kind, window, length = config.model_type, getattr(config, "sliding_window", None), _context(config)
    slides = window is not None and window < length
    layer_types = getattr(config, "layer_types", None)
    for i, layer_type in enumerate(layer_types or ()):
        if layer_type != "full_attention" and (layer_type != "sliding_attention" or slides):
            raise ValueError(
                f"{kind}: layer {i} is of type {layer_type!r}, only 'full_attention' is supported"
            )
    if slides and not layer_types:
        raise ValueError(
            f"{kind}: sliding_window = {window} of {length:.0f} positions (max_position_embeddings), only "
            "full attention is supported"
        )
    cap = getattr(config, "attn_logit_softcapping", None)
    if cap is not None:
        raise ValueError(f"{kind}: attn_logit_softcapping = {cap} is not supported, only none")
    for name in DROPOUTS:
        if getattr(config, name, 0.0):
            raise ValueError(
                f"{kind}: {name} = {getattr(config, name)}, but the policy that is trained must be the one "
                "that sampled; set it to 0 in config.json"
            )


def _context(config: Any) -> float:
    """The most tokens that a sequence of the model can have."""
    rope = getattr(config, "rope_parameters", None) or {}
    stretch = rope.get("factor", 1.0) if rope.get("rope_type") in ("linear", "yarn") else 1.0
    return float(stretch * (getattr(config, "max_position_embeddings", None) or 0))


def decoder_computes(config: Any) -> bool:
    """False: the trainer takes the Hugging Face module, which is right with packed attention.

    Raises:
        ValueError: neither is right, and why.
    """
    if config.model_type in HUGGING_FACE:
        check_full_attention(config)
        return False
    try:
        Architecture.of(config)
    except ValueError as error:
        raise ValueError(f"the model cannot be trained: {error}") from None
    return True
