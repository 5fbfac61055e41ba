"""numba.njit with its compilations kept on disk where a folder can hold them; it runs where none can.

A container's unknown user has no home, and installed packages are read-only: numba then refuses to decorate.
A folder that all users can write to is no way out, since numba unpickles what it finds there.
"""

import warnings
from collections.abc import Callable
from typing import Any

import numba


def _cached(**options: Any) -> Callable[[Callable[..., Any]], Any]:
    def decorate(function: Callable[..., Any]) -> Any:
        try:
            return numba.njit(cache=True, **options)(function)
        except RuntimeError as error:
            if "no locator available" not in str(error):
                raise
            warnings.warn(
                "numba finds no folder to cache in, so each process compiles anew (seconds): "
                "set NUMBA_CACHE_DIR to a folder that this user alone can write to",
                RuntimeWarning,
                stacklevel=1,  # this very line: shown once, not once per function
            )
            return numba.njit(**options)(function)

    return decorate


njit = _cached(nogil=True)
# python's error model tests each divisor, which keeps a loop from being vectorised
jit = _cached(nogil=True, error_model="numpy")
