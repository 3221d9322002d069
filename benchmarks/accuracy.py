"""field-accuracy: work against precision of every method that the engine offers.

The error is the largest over the ends of all windows of a problem, the time that of single steps,
so that both can be read for any length of a run.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
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
    yield from run(problem, "exact", [15])
    for scheme in SCHEMES:
        yield from run(problem, scheme, [15, 6, 3])
    if setting.peers:
        yield from peers.on(problem)


def accuracy_with_bone(setting: Setting) -> Iterator[Record]:
    """Bone and marrow: every scheme at several steps."""
    problem = with_bone(setting)
    for scheme in SCHEMES:
        yield from run(problem, scheme, [30, 15, 7.5])


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


def run(problem: Problem, scheme: str, steps_minutes: Sequence[float]) -> Iterator[Record]:
    """A record for each length of step, the longest first; one compilation serves all of them."""
    function, prepared = stepper(problem, scheme)
    start = jnp.asarray(problem.start)
    source = jnp.asarray(problem.windows[0][1], jnp.float32)
    step, compile_s = compiled(function, start, source, prepared, jnp.float32(0))
    outputs = 0
    for minutes in steps_minutes:
        timing, found = course(problem, step, prepared, minutes / 60)
        # The errors of all are those at the outputs that the longest step has as well.
        outputs = outputs or len(found)
        told = {"compile_s": compile_s, "skipped": len(found) - outputs}
        yield result(problem, scheme, minutes / 60, timing, found, **told)


def course(
    problem: Problem, step: Callable, prepared: Any, longest: float
) -> tuple[Timing, list[tuple[float, float]]]:
    """The windows in equal steps of at most `longest` hours: the time of a step, and the errors
    (L2, Linf) at every output. A window that is shorter than a step has none: the next one, which
    has the same sources, takes its time as well."""
    u, waiting = jnp.asarray(problem.start), 0.0
    seconds, found = [], []
    jax.block_until_ready(
        step(u, jnp.asarray(problem.windows[0][1], u.dtype), prepared, jnp.float32(longest))
    )
    for (hours, source), truth in zip(problem.windows, problem.truth, strict=True):
        waiting += hours
        if waiting < longest * (1 - 1e-9):
            continue
        steps = math.ceil(waiting / longest - 1e-9)
        told = jnp.asarray(source, u.dtype), prepared, jnp.float32(waiting / steps)
        for _ in range(steps):
            begin = time.perf_counter()
            u = jax.block_until_ready(step(u, *told))
            seconds.append(time.perf_counter() - begin)
        waiting = 0.0
        found.append(errors(np.asarray(u), truth))
    return Timing.of(seconds), found
