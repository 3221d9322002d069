"""The field solver against a solution that is exact in time and does not use it."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import reference
from benchmarks.field_cases import DECAY, DIFFUSION, VOXEL, errors, random_bone
from benchmarks.measure import Setting, cube, measured
from benchmarks.record import Record
from lattice.kernels.diffusion_implicit import step_implicit
from lattice.kernels.multigrid_levels import build_hierarchy

SCHEMES = {"marrow": "two_poles", "everywhere": "three_poles"}
"""What `solver.scheme = "auto"` takes, by where sources are (`lattice.engine.plan.plan_of`)."""


def switching_sources(bone: np.ndarray, where: str, count: int, seed: int) -> list[np.ndarray]:
    """Unit sources in 1 % of the voxels [z, y, x]; from one to the next, 3 % of them move."""
    rng = np.random.default_rng(seed)
    places = np.flatnonzero(bone == 0) if where == "marrow" else np.arange(bone.size)
    found = [np.zeros(bone.size)]
    found[0][rng.choice(places, round(0.01 * bone.size), replace=False)] = 1
    for _ in range(count - 1):
        source = found[-1].copy()
        on = np.flatnonzero(source)
        moves = max(1, round(0.03 * len(on)))
        free = places[source[places] == 0]
        source[rng.choice(on, moves, replace=False)] = 0
        source[rng.choice(free, moves, replace=False)] = 1
        found.append(source)
    return [source.reshape(bone.shape) for source in found]


SMALL = 48
"""The reference takes a minute there; its time grows with the fifth power of the edge."""


def references(setting: Setting) -> Iterator[Record]:
    """For both places of sources, on a lattice that is large enough to tell."""
    yield from references_at(min(setting.grid, SMALL), setting.drawn_from)


def large_references(setting: Setting) -> Iterator[Record]:
    """As `references`, on the lattice that is asked for: minutes from 64 voxels an edge on."""
    if setting.grid > SMALL:
        yield from references_at(setting.grid, setting.drawn_from)
    else:
        print(f"field-reference serves up to {SMALL} voxels an edge", file=sys.stderr)


def references_at(grid: int, seed: int) -> Iterator[Record]:
    """For both places of sources."""
    for where in SCHEMES:
        yield against_reference(grid, seed, where)


def against_reference(
    grid: int,
    seed: int = 0,
    where: str = "marrow",
    contrast: float = 100.0,
    species: int = 6,
    outputs: int = 3,
    spin_up_hours: float = 4.0,
    step_minutes: float = 30.0,
) -> Record:
    """Steps with sources that switch at each of them, from the field that constant sources have
    made in an empty domain. The errors are those of the worst species at the worst output."""
    diffusion, decay, dt = DIFFUSION[:species], DECAY[:species], step_minutes / 60
    bone = random_bone(grid, seed)
    sources = switching_sources(bone, where, outputs + 1, seed)
    begin = time.perf_counter()
    truth, bound = reference.solution(
        bone, 1 / contrast, VOXEL, diffusion, decay, sources, [spin_up_hours] + [dt] * outputs
    )
    reference_s = time.perf_counter() - begin
    scheme = SCHEMES[where]
    hierarchy = jax.jit(build_hierarchy)(
        jnp.asarray(bone), jnp.full(species, 1 / contrast, jnp.float32)
    )

    @jax.jit
    def step(u, source, hierarchy, diffusion, decay):
        rows = jnp.broadcast_to(source[..., None], u.shape)
        return step_implicit(
            u, rows, None, hierarchy, diffusion, decay, dt, voxel=VOXEL, scheme=scheme
        )[0]

    u = jnp.asarray(truth[0], jnp.float32)
    numbers = jnp.asarray(diffusion, jnp.float32), jnp.asarray(decay, jnp.float32)
    found = []
    for source, exact in zip(sources[1:], truth[1:], strict=True):
        u = step(u, jnp.asarray(source, jnp.float32), hierarchy, *numbers)
        found.append(errors(np.asarray(u), exact))
    return measured(
        "field-reference",
        scheme,
        cube(grid),
        error_l2=max(l2 for l2, _ in found),
        error_linf=max(linf for _, linf in found),
        parameters={
            "species": species,
            "seed": seed,
            "contrast": contrast,
            "sources": where,
            "spin_up_hours": spin_up_hours,
            "step_minutes": step_minutes,
            "outputs": outputs,
        },
        more={
            "error_l2_by_output": [l2 for l2, _ in found],
            "error_linf_by_output": [linf for _, linf in found],
            "reference_bound": bound,
            "reference_s": reference_s,
        },
    )
