"""`lamer-fast doctor`: proves on this machine, in about a minute, that the pieces agree."""

from lamer_fast.doctor.command import run

__all__ = ["run"]
