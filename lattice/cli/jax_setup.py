"""What has to be settled before JAX is first used by a command."""

from __future__ import annotations

import os
from collections.abc import Sequence
from contextlib import suppress
from importlib.metadata import version

from lattice.engine.estimate import runs_that_fit
from lattice.engine.layout import Devices, number_of
from lattice.model.errors import InputError
from lattice.model.structure import Model


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


def prepare_jax_for_runs(jobs: int | None, models: Sequence[Model]) -> None:
    """As `prepare_jax`, for runs that go on at a time: where the CPU is the device, so many of its
    cores (None: those that memory has room for) become devices. Raises InputError."""
    if jobs is not None and jobs < 1:
        raise InputError(f"--jobs {jobs}: write a whole number from 1 upwards")
    prepare_jax(runs_that_fit(models) if jobs is None else jobs)
