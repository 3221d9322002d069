"""Kernels one by one: copy, random numbers, stencil, sweep, and one linear solve."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import reference
from benchmarks.field_cases import DECAY, DIFFUSION, VOXEL, errors, random_bone, random_sources
from benchmarks.measure import Setting, compiled, copy_bandwidth, measured, timed
from benchmarks.record import Record
from lattice.kernels import multigrid
from lattice.kernels.diffusion_implicit import step_implicit
from lattice.kernels.fusion import always
from lattice.kernels.multigrid_levels import build_hierarchy
from lattice.kernels.random_bits import stream_key, voxel_uniform
from lattice.kernels.stencil import SIDES, Grid, difference
from lattice.kernels.time_scheme import mean_decay

SWEEP_BYTES = 16.7
"""What a sweep with coefficients that differ by voxel moves per voxel and species where every face
is stored: u, r and the result, and three faces and a diagonal that six species share."""

STEP_HOURS = 0.5
CONTRASTS = (1.0, 10.0, 100.0, 1000.0)


def copy(setting: Setting) -> Iterator[Record]:
    """The yardstick of all others: read and write of a float32 for each voxel and species."""
    values = setting.grid**3 * setting.species
    source = jnp.zeros(values, jnp.float32)
    copied = jax.jit(lambda a: a + 1)
    timing = timed(lambda: copied(source), 20)
    moved = 8 * values
    told = {"species": setting.species}
    yield measured("copy", "XLA", setting.shape, timing, moved=moved, parameters=told)


def random_numbers(setting: Setting) -> Iterator[Record]:
    """One uniform number for each voxel, beside the generator of JAX."""
    voxels, seed = setting.grid**3, setting.drawn_from
    index = jnp.arange(voxels, dtype=jnp.uint32)
    key = jax.random.key(seed)
    own = jax.jit(lambda i: voxel_uniform(stream_key(seed, "bench"), i, 1, 0))
    jax_own = jax.jit(lambda k: jax.random.uniform(k, (voxels,)))
    methods = {
        "threefry2x32-13": (lambda: own(index), 8),
        "jax.random.uniform": (lambda: jax_own(key), 4),
    }
    for method, (draw, moved) in methods.items():
        timing = timed(draw, 20)
        told = {"parameters": {"seed": seed}, "updates": voxels, "moved": moved * voxels}
        yield measured("random", method, setting.shape, timing, **told)


def rows_of(setting: Setting) -> jax.Array:
    """Random numbers as the stencil sees them, [z, y, x * S]."""
    n, species = setting.grid, setting.species
    drawn = np.random.default_rng(setting.drawn_from).random((n, n, n * species))
    return jnp.asarray(drawn, jnp.float32)


def stencil(setting: Setting) -> Iterator[Record]:
    """One explicit step with the same diffusion everywhere: eight bytes per voxel and species."""
    grid = Grid((False, False, False), setting.species)
    face = jnp.tile(jnp.asarray(_diffusion(setting), jnp.float32), setting.grid)

    def step(rows, face):
        new = rows
        for axis, down in SIDES:
            new = new - face * difference(rows, axis, down, grid)
        return new

    rows = rows_of(setting)
    program, compile_s = compiled(step, rows, face)
    yield measured(
        "stencil",
        "homogeneous",
        setting.shape,
        timed(lambda: program(rows, face), 20),
        moved=8 * rows.size,
        updates=setting.grid**3,
        compile_s=compile_s,
        parameters={"species": setting.species},
    )


def _diffusion(setting: Setting) -> np.ndarray:
    """Stable explicit steps: below 1/6 of a voxel squared."""
    return np.resize(DIFFUSION / DIFFUSION.max() / 7, setting.species)


def sweep(setting: Setting) -> Iterator[Record]:
    """A Jacobi sweep of the finest level in bone of contrast 100.

    The bytes counted are those of the common form; the solver keeps a byte in the place of the
    faces, so that it has to move 13 only."""
    species, seed = setting.species, setting.drawn_from
    bone = jnp.asarray(random_bone(setting.grid, seed))
    in_bone = jnp.full(species, 0.01, jnp.float32)
    hierarchy = jax.jit(build_hierarchy)(bone, in_bone)
    diffusion = jnp.asarray(np.resize(DIFFUSION, species) * STEP_HOURS / VOXEL**2, jnp.float32)
    grid = Grid((False, False, False), species)

    def swept(u, r, hierarchy, diffusion):
        fine = multigrid.operators(hierarchy, diffusion, None, always(u), grid)[0]
        return fine.sweep(u, r, fine.weights[0])

    u, r = rows_of(setting), rows_of(setting) + 1
    program, compile_s = compiled(swept, u, r, hierarchy, diffusion)
    timing = timed(lambda: program(u, r, hierarchy, diffusion), 20)
    needed = 13 * u.size
    yield measured(
        "sweep",
        "Jacobi, contrast 100",
        setting.shape,
        timing,
        moved=round(SWEEP_BYTES * u.size),
        updates=setting.grid**3,
        compile_s=compile_s,
        parameters={"species": species, "seed": seed},
        more={"copy_share_of_bytes_needed": needed / timing.median / copy_bandwidth(needed)},
    )


def solve(setting: Setting) -> Iterator[Record]:
    """One implicit step of half an hour from an empty domain: time and error of the linear solve
    by the number of iterations, at several contrasts of bone and marrow."""
    species, seed = setting.species, setting.drawn_from
    marks = random_sources(setting.grid, seed)
    bone = random_bone(setting.grid, seed)
    source = jnp.asarray(np.repeat(marks[..., None], species, axis=-1))
    truths = {c: converged(bone, marks, c, species) for c in CONTRASTS}
    levels = {c: _hierarchy(bone, c, species, jnp.float32) for c in CONTRASTS}
    for iterations in (1, 2, 3, 4):
        step = one_pole_step(iterations, jnp.float32)
        program, compile_s = compiled(step, source, levels[CONTRASTS[0]])
        for contrast, (truth, residual) in truths.items():
            run = partial(program, source, levels[contrast])
            l2, linf = errors(np.asarray(run()), truth)
            yield measured(
                "solve",
                f"{iterations} iteration{'s' * (iterations > 1)}",
                setting.shape,
                timed(run, 10),
                updates=setting.grid**3,
                error_l2=l2,
                error_linf=linf,
                compile_s=compile_s,
                parameters={"species": species, "seed": seed, "contrast": contrast},
                more={"reference_residual": residual},
            )


def _hierarchy(bone: np.ndarray, contrast: float, species: int, dtype):
    return jax.jit(build_hierarchy)(jnp.asarray(bone), jnp.full(species, 1 / contrast, dtype))


def one_pole_step(iterations: int, dtype):
    """A step from an empty domain, of which the linear solve is all but everything."""

    def step(source, hierarchy):
        species = source.shape[-1]
        diffusion = jnp.asarray(np.resize(DIFFUSION, species), dtype)
        decay = jnp.asarray(np.resize(DECAY, species), dtype)
        return step_implicit(
            jnp.zeros_like(source), source, None, hierarchy, diffusion, decay, STEP_HOURS,
            voxel=VOXEL, scheme="one_pole", iterations=iterations,
        )[0]  # fmt: skip

    return step


def converged(
    bone: np.ndarray, marks: np.ndarray, contrast: float, species: int
) -> tuple[np.ndarray, float]:
    """The step in float64 with many iterations [z, y, x, S], and its largest relative residual by
    a matrix that the solver does not use. No eigenvalue of the matrix is below 1, so the error is
    not larger than the residual times the ratio of the norms of both sides."""
    source = np.repeat(marks[..., None].astype(np.float64), species, axis=-1)
    with jax.enable_x64(True):
        hierarchy = _hierarchy(bone, contrast, species, jnp.float64)
        step = jax.jit(one_pole_step(40, jnp.float64))
        found = np.asarray(step(jnp.asarray(source), hierarchy))
        weights = np.asarray(STEP_HOURS * mean_decay(jnp.asarray(DECAY * STEP_HOURS)))
    matrix = reference.operator(bone, 1 / contrast, VOXEL)
    worst = 0.0
    for s, (d, weight) in enumerate(
        zip(np.resize(DIFFUSION, species), np.resize(weights, species), strict=True)
    ):
        u, r = found[..., s].ravel(), weight * source[..., s].ravel()
        rest = r - u - weight * d * (matrix @ u)
        worst = max(worst, float(np.linalg.norm(rest) / np.linalg.norm(r)))
    return found, worst
