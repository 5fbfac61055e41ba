"""What lies between the matrix products of a decoder's layer, one fused pass each."""

from .rms_norm import add_rms_norm, rms_norm
from .rotary import rotary
from .swiglu import swiglu

__all__ = ["add_rms_norm", "rms_norm", "rotary", "swiglu"]
