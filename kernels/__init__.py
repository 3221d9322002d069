"""Arithmetic on arrays: no biology, no units, no files.

This folder is imported as ``lattice.kernels``. The guard keeps it from taking the
import name ``kernels``, which another distribution on PyPI owns.
"""

if __name__ != "lattice.kernels":
    raise ImportError("import lattice.kernels, not kernels: that name is another package's")
