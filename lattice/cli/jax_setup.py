"""What has to be settled before JAX is first used by a command."""

from __future__ import annotations

import os
from contextlib import suppress
from importlib.metadata import version

from lattice.engine.layout import Devices, number_of
from lattice.model.errors import InputError


def prepare_jax(devices: Devices = 1) -> None:
    """Refuse a JAX that is known to compute wrongly; provide CPU devices for `--devices`.

    Raises InputError naming the bad version and a good one, or for devices that nobody can mean."""
    from lattice.cli.doctor import known_bad_jax

    reason = known_bad_jax(version("jax"))
    if reason is not None:
        raise InputError(reason)
    count = number_of(devices)
    import jax

    if count > 1 and "host_platform_device_count" not in os.environ.get("XLA_FLAGS", ""):
        # Has an effect where the CPU is the device; a GPU node keeps its own devices, and so does
        # a program that has used JAX before.
        with suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", count)
