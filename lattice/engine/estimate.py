"""What a run will need, estimated without JAX from figures that `osteolattice bench` measures."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from lattice.engine.declare import bytes_per_voxel, local_cytokines
from lattice.model.structure import Model

SOLVER_BYTES = 21.0
"""Work space of the field solver, per voxel and cytokine (case whole-step, `bytes_per_voxel`)."""

FIELD_SECONDS = 30e-9
"""Per voxel, cytokine and solve, on two CPU cores (case field-bone)."""

MATCHING_SECONDS = 3e-9
"""Per voxel and matching; there are six in each contact sub-step (case whole-step)."""

REST_SECONDS = 40e-9
"""Per voxel and step: sites, matrix, sources (case whole-step)."""

REFERENCE_BANDWIDTH = 27.6e9
"""Bytes per second of a copy on the machine of these figures (case copy of the same record): a
step is bound by memory, so on other devices its time follows theirs."""

COMPILATION_BYTES = 1.2e9
"""Memory of a process with JAX and the compilation of a step of the bone model, without arrays."""


@dataclass(frozen=True)
class Estimate:
    """Memory of the state and of the step's work space, in bytes; seconds for the whole run on two
    CPU cores, compilation apart."""

    state_bytes: float
    work_bytes: float
    seconds: float


def estimate(model: Model) -> Estimate:
    """The memory and the time that a model will take."""
    nx, ny, nz = model.lattice.shape
    voxels = nx * ny * nz
    cytokines = len(local_cytokines(model))
    steps = model.time.until / model.time.step
    solves = model.time.until / model.time.field_step
    matchings = 6 * model.time.until / model.time.contact_step if model.rules else 0
    seconds = voxels * (
        solves * cytokines * FIELD_SECONDS + matchings * MATCHING_SECONDS + steps * REST_SECONDS
    )
    return Estimate(voxels * bytes_per_voxel(model), voxels * SOLVER_BYTES * cytokines, seconds)


def runs_that_fit(models: Iterable[Model]) -> int:
    """How many runs of any of these models may go on at a time on the CPU: one for each core that
    this process may use and that memory has room for."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    needs = max(e.state_bytes + e.work_bytes for e in map(estimate, models))
    return max(1, min(cores or 1, int(0.7 * memory / (needs + COMPILATION_BYTES))))
