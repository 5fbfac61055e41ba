"""What the ops share: checks, dispatch, launching, numba."""
