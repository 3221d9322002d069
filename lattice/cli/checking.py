"""`osteolattice check` and `osteolattice schema`: no JAX needed."""

from __future__ import annotations

import argparse
import json

from lattice.cli.durations import until_override
from lattice.engine.declare import bytes_per_voxel
from lattice.engine.estimate import estimate
from lattice.model import load


def command_check(options: argparse.Namespace) -> int:
    """Print the resolved model and what it will need."""
    from lattice.model.advice import duration
    from lattice.model.describe import describe

    model = load(options.config, overrides=[*options.set, *until_override(options.until)])
    print(describe(model, bytes_per_voxel))
    needs = estimate(model)
    print(
        f"This run needs about {(needs.state_bytes + needs.work_bytes) / 2**20:.0f} MiB of memory "
        f"and, on two CPU cores, {duration(needs.seconds / 3600)} plus compilation."
    )
    return 0


def command_schema(options: argparse.Namespace) -> int:
    """Print the JSON Schema of model files."""
    from lattice.model.schema import json_schema

    del options
    print(json.dumps(json_schema(), indent=2))
    return 0
