"""What is simulated: model files, units, and the resolved model that all other rooms read."""

from .errors import DamagedFileError, InputError, NumericalError, OsteolatticeError
from .resolve import load, loads
from .structure import Model

__all__ = [
    "DamagedFileError",
    "InputError",
    "Model",
    "NumericalError",
    "OsteolatticeError",
    "load",
    "loads",
]
