from .op import swiglu
from .reference import swiglu_ref

__all__ = ["swiglu", "swiglu_ref"]
