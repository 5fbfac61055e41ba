"""What lies between the matrix products of a decoder's layer, one fused pass each."""

from .cached_attention import cached_attention, new_slots
from .cached_block import BlockWeights, block_weights, cached_blocks
from .embedding import embedding
from .rms_norm import add_rms_norm, rms_norm
from .rotary import rotary
from .swiglu import swiglu

__all__ = [
    "BlockWeights",
    "add_rms_norm",
    "block_weights",
    "cached_attention",
    "cached_blocks",
    "embedding",
    "new_slots",
    "rms_norm",
    "rotary",
    "swiglu",
]
