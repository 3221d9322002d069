"""A 3-D lattice simulator of cytokines and cells in bone.

>>> import lattice
>>> model = lattice.load("configs/quickstart.toml")
>>> run = lattice.simulate(model, seed=0, until="1 day")
>>> run.series["BV/TV"].plot()
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__all__ = ["Model", "Run", "gradient", "load", "loads", "simulate"]

if TYPE_CHECKING:
    from lattice.inference.gradient import gradient
    from lattice.model import Model, load, loads
    from lattice.run import Run, simulate

_HOMES = {
    "Model": "lattice.model",
    "load": "lattice.model",
    "loads": "lattice.model",
    "gradient": "lattice.inference.gradient",
    "Run": "lattice.run",
    "simulate": "lattice.run",
}


def __getattr__(name: str) -> Any:
    # Importing the package must stay instant and must not import JAX.
    if name in _HOMES:
        import importlib

        return getattr(importlib.import_module(_HOMES[name]), name)
    raise AttributeError(f"module 'lattice' has no attribute {name!r}")
