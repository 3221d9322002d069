"""`osteolattice check` and `osteolattice schema`: no JAX needed, but for a plan."""

from __future__ import annotations

import argparse
import json
import re

from lattice.cli.durations import until_override
from lattice.engine.declare import bytes_per_voxel
from lattice.engine.estimate import estimate
from lattice.model import load
from lattice.model.errors import InputError


def command_check(options: argparse.Namespace) -> int:
    """Print the resolved model and what it will need."""
    from lattice.model.advice import duration
    from lattice.model.describe import describe

    changes = [*options.set, *until_override(options.until), *shape_override(options.shape)]
    model = load(options.config, overrides=changes)
    print(describe(model, bytes_per_voxel))
    needs = estimate(model)
    print(
        f"This run needs about {(needs.state_bytes + needs.work_bytes) / 2**20:.0f} MiB of memory "
        f"and, on two CPU cores, {duration(needs.seconds / 3600)} plus compilation."
    )
    if options.devices is not None or options.device_memory is not None:
        devices = 1 if options.devices is None else options.devices
        from lattice.cli.planning import plan, prepare

        prepare(model, devices)

        print("\n".join(plan(model, devices, options.device_memory)))
    return 0


def shape_override(shape: str | None) -> list[str]:
    """What `--shape` changes in a model. Raises InputError."""
    if shape is None:
        return []
    if not re.fullmatch(r"[1-9]\d{0,6}(x[1-9]\d{0,6}){2}", shape):
        raise InputError(f'--shape "{shape}": write voxels along x, y and z, as 256x256x128')
    return [f"lattice.shape=[{shape.replace('x', ', ')}]"]


def command_schema(options: argparse.Namespace) -> int:
    """Print the JSON Schema of model files."""
    from lattice.model.schema import json_schema

    del options
    print(json.dumps(json_schema(), indent=2))
    return 0
