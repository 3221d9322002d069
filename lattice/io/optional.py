"""Packages that only some installations have."""

from __future__ import annotations

from importlib import import_module
from types import ModuleType

from lattice.model.errors import InputError


def require(package: str, purpose: str, extra: str) -> ModuleType:
    """Imports a package of an extra. Raises InputError that tells how to install it."""
    try:
        return import_module(package)
    except ImportError as error:
        raise InputError(
            f"{purpose} needs the package {package}: install it with "
            f"`pip install 'osteolattice[{extra}]'`"
        ) from error
