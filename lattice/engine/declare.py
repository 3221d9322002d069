"""Every array of a run, declared once.

Allocation, sharding over devices, checkpoints, the digest, exports and `info` all read these
declarations; nothing else in the project lists the arrays of the state.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lattice.model.structure import Cytokine, Model

MATRIX_ONE = 1 << 22
"""One voxel full of matrix, in the fixed-point units of `osteoid` and `mineral`.

Fixed point makes laying down and resorbing exact: sums do not depend on their order, and
matrix formed minus matrix removed equals the change of bone volume to the last unit."""


@dataclass(frozen=True)
class FieldSpec:
    """One array: `dims` names its axes ("z", "y", "x" are sharded with the lattice); `restart`
    tells that the next step reads it, so that it belongs to the digest."""

    name: str
    dims: tuple[str, ...]
    dtype: str
    unit: str
    description: str
    restart: bool = True


def local_cytokines(model: Model) -> tuple[Cytokine, ...]:
    """The cytokines that are fields over the lattice."""
    return tuple(c for c in model.cytokines if not c.systemic)


def systemic_cytokines(model: Model) -> tuple[Cytokine, ...]:
    """The cytokines that are one well-mixed compartment."""
    return tuple(c for c in model.cytokines if c.systemic)


def has_bone(model: Model) -> bool:
    """Whether bone is there from the start or can be laid down."""
    return model.geometry.kind != "empty" or model.matrix is not None


def declare(model: Model) -> tuple[FieldSpec, ...]:
    """The arrays of the state and of the ledger for a model, in a fixed order."""
    lattice = ("z", "y", "x")
    specs = [
        FieldSpec("step", (), "int32", "1", "steps done"),
        FieldSpec("seed", ("word",), "uint32", "1", "seed of all random streams"),
        FieldSpec("cells", lattice, "uint8", "1", "state of the cell in each voxel"),
        FieldSpec("since", lattice, "int32", "step", "step at which the cell's age was 0"),
    ]
    if has_bone(model):
        specs.append(FieldSpec("bone", lattice, "uint8", "1", "1 where the voxel is bone"))
    if local_cytokines(model):
        specs.append(
            FieldSpec(
                "cytokines",
                (*lattice, "cytokine"),
                "float32",
                "ng/mL or uM",
                "concentration of each cytokine",
            )
        )
    if systemic_cytokines(model):
        specs.append(
            FieldSpec("systemic", ("systemic",), "float32", "ng/mL or uM", "well-mixed cytokines")
        )
    if model.matrix is not None:
        unit = f"voxel/{MATRIX_ONE}"
        specs += [
            FieldSpec("osteoid", ("z", "stage", "y", "x"), "int32", unit, "osteoid in each stage"),
            FieldSpec("mineral", lattice, "int32", unit, "mineralised matrix"),
        ]
    return (*specs, *_ledger(model))


def _ledger(model: Model) -> list[FieldSpec]:
    """Running totals: what a run reports and no step reads."""
    specs = []
    if model.cytokines:
        specs.append(
            FieldSpec(
                "molecules",
                ("all_cytokines", "budget", "limb"),
                "float32",
                "concentration*voxel",
                "produced, decayed, consumed by cells, made by reactions (value and its rounding)",
                restart=False,
            )
        )
    if model.matrix is not None:
        specs.append(
            FieldSpec(
                "matrix_flux",
                ("z", "flux", "limb"),
                "uint32",
                f"voxel/{MATRIX_ONE}, voxel",
                "matrix formed, mineralised, resorbed in each plane",
                restart=False,
            )
        )
    if model.rules:
        specs.append(
            FieldSpec(
                "events",
                ("rule", "limb"),
                "uint32",
                "2**20 events",
                "how often each rule fired",
                restart=False,
            )
        )
    return specs


def extents(model: Model) -> dict[str, int]:
    """Length of every named axis of the declared arrays."""
    nx, ny, nz = model.lattice.shape
    return {
        "z": nz,
        "y": ny,
        "x": nx,
        "word": 2,
        "cytokine": len(local_cytokines(model)),
        "systemic": len(systemic_cytokines(model)),
        "all_cytokines": len(model.cytokines),
        "stage": model.matrix.stages if model.matrix is not None else 0,
        "rule": len(model.rules),
        "budget": 4,
        "flux": 3,
        "limb": 2,
    }


def shape_of(spec: FieldSpec, model: Model) -> tuple[int, ...]:
    """The global shape of a declared array."""
    sizes = extents(model)
    return tuple(sizes[d] for d in spec.dims)


def bytes_per_voxel(model: Model) -> float:
    """Memory of the state itself, without the work space of the solver."""
    nx, ny, nz = model.lattice.shape
    total = sum(
        int(np.prod(shape_of(s, model), dtype=np.int64)) * np.dtype(s.dtype).itemsize
        for s in declare(model)
    )
    return total / (nx * ny * nz)
