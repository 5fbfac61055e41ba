"""Benchmarks of the kernels: `python -m lamer_kernels.bench [credit|head|layers|attention|pack]`."""
