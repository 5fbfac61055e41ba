from .op import rotary
from .reference import rotary_ref

__all__ = ["rotary", "rotary_ref"]
