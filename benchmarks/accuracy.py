"""field-accuracy: work against precision of every method that the engine offers.

The error is the largest over the ends of all windows of a problem, the time that of single steps,
so that both can be read for any length of a run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from benchmarks import peers
from benchmarks.field_cases import VOXEL, errors
from benchmarks.measure import Setting, Timing, compiled
from benchmarks.problems import Problem, result, with_bone, without_bone
from benchmarks.record import Record
from lattice.kernels.diffusion_exact import build_basis, step_exact
from lattice.kernels.diffusion_implicit import step_implicit
from lattice.kernels.multigrid_levels import build_hierarchy
from lattice.kernels.time_scheme import SCHEMES


def accuracy(setting: Setting) -> Iterator[Record]:
    """The same diffusion everywhere: the exact path, every scheme at several steps, and peers."""
    problem = without_bone(setting)
    yield run(problem, "exact", 15)
    for scheme in SCHEMES:
        for minutes in (15, 6, 3):
            yield run(problem, scheme, minutes)
    if setting.peers:
        yield from peers.on(problem)


def accuracy_with_bone(setting: Setting) -> Iterator[Record]:
    """Bone and marrow: every scheme at several steps."""
    problem = with_bone(setting)
    for scheme in SCHEMES:
        for minutes in (30, 15, 7.5):
            yield run(problem, scheme, minutes)


def stepper(problem: Problem, scheme: str) -> tuple[Callable, Any]:
    """A step as a function of u, source [z, y, x], what is prepared, and hours."""
    diffusion = jnp.asarray(problem.diffusion, jnp.float32)
    decay = jnp.asarray(problem.decay, jnp.float32)
    species = len(problem.decay)

    def rows(source):
        return jnp.broadcast_to(source[..., None], (*source.shape, species))

    if scheme == "exact":

        def exact(u, source, basis, dt):
            return step_exact(u, rows(source), basis, diffusion, decay, dt, voxel=VOXEL)[0]

        return exact, build_basis(problem.bone.shape)

    def implicit(u, source, hierarchy, dt):
        return step_implicit(
            u, rows(source), None, hierarchy, diffusion, decay, dt, voxel=VOXEL, scheme=scheme
        )[0]

    in_bone = jnp.full(species, problem.in_bone, jnp.float32)
    return implicit, jax.jit(build_hierarchy)(jnp.asarray(problem.bone), in_bone)


def run(problem: Problem, scheme: str, minutes: float) -> Record:
    """The windows in steps of at most so many minutes: errors at the end of each, time of a step."""
    function, prepared = stepper(problem, scheme)
    u = jnp.asarray(problem.start)
    first = jnp.asarray(problem.windows[0][1], jnp.float32)
    step, compile_s = compiled(function, u, first, prepared, jnp.float32(0))
    jax.block_until_ready(step(u, first, prepared, jnp.float32(minutes / 60)))
    seconds, found = [], []
    for (hours, source), truth in zip(problem.windows, problem.truth, strict=True):
        steps = math.ceil(hours * 60 / minutes - 1e-9)
        told = jnp.asarray(source, jnp.float32), prepared, jnp.float32(hours / steps)
        for _ in range(steps):
            start = time.perf_counter()
            u = jax.block_until_ready(step(u, *told))
            seconds.append(time.perf_counter() - start)
        found.append(errors(np.asarray(u), truth))
    timing = Timing.of(seconds)
    return result(problem, scheme, minutes / 60, timing, found, compile_s=compile_s)
