"""Other programs on the same voxel system, in the same process: `osteolattice bench --peers`.

Each is optional (the extra `peers`); one that cannot be imported is told in a line. Explicit
methods are bound to steps of a fraction of a second: a few minutes are simulated, the error at
their end is measured, and the seconds for a day follow from the time of a step.
"""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from importlib import import_module
from types import ModuleType

import numpy as np
from scipy.fft import dctn, idctn

from benchmarks.field_cases import VOXEL, errors
from benchmarks.measure import Timing, timed
from benchmarks.problems import Problem, exact_course, result
from benchmarks.record import Record

STABLE = 0.9
"""Part of the longest stable explicit step that is taken."""

MINUTES = 0.5
"""Simulated by explicit methods."""


def on(problem: Problem) -> Iterator[Record]:
    """Records of the peers that can be imported."""
    yield from scipy_cosines(problem)
    for package, measure in PEERS.items():
        try:
            module = import_module(package)
        except Exception as error:  # a package that breaks as it is imported is missing as well
            reason = str(error).splitlines()[0] if str(error) else type(error).__name__
            print(f"peer {package} is left out: {reason}", file=sys.stderr, flush=True)
            continue
        yield from measure(module, problem)


def scipy_cosines(problem: Problem) -> Iterator[Record]:
    """The type-II DCT by scipy on all cores: exact in time, one transform back for each species."""
    for dtype in (np.float32, np.float64):
        along = [4 * np.sin(np.pi * np.arange(n) / (2 * n)) ** 2 for n in problem.bone.shape]
        laplace = along[0][:, None, None] + along[1][:, None] + along[2]
        rates = [
            d / VOXEL**2 * laplace + k
            for d, k in zip(problem.diffusion, problem.decay, strict=True)
        ]
        modes = np.zeros((len(rates), *laplace.shape), dtype)
        seconds, found = [], []
        factors: dict[float, list] = {}
        for (hours, source), truth in zip(problem.windows, problem.truth, strict=True):
            if hours not in factors:
                decays = [np.exp(-r * hours).astype(dtype) for r in rates]
                gains = [(-np.expm1(-r * hours) / r).astype(dtype) for r in rates]
                factors[hours] = list(zip(decays, gains, strict=True))
            start = time.perf_counter()
            push = dctn(source.astype(dtype), norm="ortho", workers=-1)
            for s, (decay, gain) in enumerate(factors[hours]):
                modes[s] = modes[s] * decay + gain * push
            fields = [np.asarray(idctn(m, norm="ortho", workers=-1)) for m in modes]
            seconds.append(time.perf_counter() - start)
            found.append(errors(np.stack(fields, axis=-1), truth))
        timing, name = Timing.of(seconds[2:]), np.dtype(dtype).name
        yield result(problem, "scipy DCT", 0.25, timing, found, precision=name)


def explicit_step(problem: Problem) -> tuple[float, int]:
    """Hours of an explicit step, and how many of them are made."""
    longest = 1 / (6 * problem.diffusion.max() / VOXEL**2 + problem.decay.max())
    steps = math.ceil(MINUTES / 60 / (STABLE * longest))
    return MINUTES / 60 / steps, steps


def explicit_result(
    problem: Problem, method: str, make: Callable[[], np.ndarray], precision: str
) -> Record:
    """A record of a function that makes all explicit steps and returns the fields."""
    dt, steps = explicit_step(problem)
    truth = exact_course(problem.diffusion, problem.decay, [(dt * steps, problem.windows[0][1])])
    found = errors(make(), truth[0])
    whole = timed(make, 3)
    timing = Timing(whole.median / steps, whole.iqr / steps, whole.repeats)
    shorter = replace(problem, parameters={**problem.parameters, "hours": round(dt * steps, 6)})
    return result(shorter, method, dt, timing, [found], precision=precision)


def numba_explicit(numba: ModuleType, problem: Problem) -> Iterator[Record]:
    """Explicit Euler in loops compiled by numba, planes shared out to threads."""
    dt, steps = explicit_step(problem)
    source = problem.windows[0][1]

    @numba.njit(parallel=True, fastmath=True)
    def step(u, new, source, face, decay, dt):
        nz, ny, nx, species = u.shape
        for z in numba.prange(nz):
            for y in range(ny):
                for x in range(nx):
                    for s in range(species):
                        own = u[z, y, x, s]
                        flow = u[max(z - 1, 0), y, x, s] + u[min(z + 1, nz - 1), y, x, s]
                        flow += u[z, max(y - 1, 0), x, s] + u[z, min(y + 1, ny - 1), x, s]
                        flow += u[z, y, max(x - 1, 0), s] + u[z, y, min(x + 1, nx - 1), s]
                        flow = face[s] * (flow - 6 * own) - decay[s] * own
                        new[z, y, x, s] = own + dt * (flow + source[z, y, x])

    for dtype in (np.float32, np.float64):
        face = (problem.diffusion / VOXEL**2).astype(dtype)
        decay, marks = problem.decay.astype(dtype), source.astype(dtype)

        def make(dtype=dtype, face=face, decay=decay, marks=marks):
            u = np.zeros((*source.shape, len(decay)), dtype)
            new = np.zeros_like(u)
            for _ in range(steps):
                step(u, new, marks, face, decay, dtype(dt))
                u, new = new, u
            return u

        yield explicit_result(problem, "numba explicit", make, np.dtype(dtype).name)


def py_pde(pde: ModuleType, problem: Problem) -> Iterator[Record]:
    """Explicit Euler by py-pde, species by species, compiled by numba."""
    dt, steps = explicit_step(problem)
    size = [(0, n * VOXEL) for n in problem.bone.shape]
    grid = pde.CartesianGrid(size, problem.bone.shape)
    source = pde.ScalarField(grid, problem.windows[0][1])
    start = pde.ScalarField(grid, 0)
    bc = {"derivative": 0}
    equations = [
        pde.PDE({"u": f"{d} * laplace(u) - {k} * u + s"}, bc=bc, consts={"s": source})
        for d, k in zip(problem.diffusion, problem.decay, strict=True)
    ]

    def make():
        ends = [e.solve(start, t_range=dt * steps, dt=dt, tracker=None) for e in equations]
        return np.stack([end.data for end in ends], axis=-1)

    yield explicit_result(problem, "py-pde explicit", make, "float64")


def devito_explicit(devito: ModuleType, problem: Problem) -> Iterator[Record]:
    """Explicit Euler in C that devito writes, with OpenMP; mirrored planes beyond the ends."""
    dt, steps = explicit_step(problem)
    devito.configuration["log-level"] = "ERROR"
    devito.configuration["language"] = "openmp"
    extent = tuple(VOXEL * (n - 1) for n in problem.bone.shape)
    grid = devito.Grid(shape=problem.bone.shape, extent=extent, dtype=np.float32)
    source = devito.Function(name="source", grid=grid, space_order=2)
    source.data[:] = problem.windows[0][1]
    t = grid.stepping_dim
    fields, equations, mirrored = [], [], []
    for s, (d, k) in enumerate(zip(problem.diffusion, problem.decay, strict=True)):
        u = devito.TimeFunction(name=f"u{s}", grid=grid, space_order=2)
        fields.append(u)
        equations.append(devito.Eq(u.forward, u + dt * (d * u.laplace - k * u + source)))
        for axis, n in enumerate(problem.bone.shape):
            for ghost, end in ((-1, 0), (n, n - 1)):
                outer, inner = list(grid.dimensions), list(grid.dimensions)
                outer[axis], inner[axis] = ghost, end
                mirrored.append(devito.Eq(u[(t, *outer)], u[(t, *inner)]))
    operator = devito.Operator([*mirrored, *equations])

    def make():
        for u in fields:
            u.data_with_halo[:] = 0
        operator.apply(time_M=steps - 1)
        return np.stack([np.array(u.data[steps % 2]) for u in fields], axis=-1)

    yield explicit_result(problem, "devito explicit", make, "float32")


def exponax_periodic(exponax: ModuleType, problem: Problem) -> Iterator[Record]:
    """Exponential steps of 15 minutes by exponax: a Fourier transform each, and periodic ends, so
    that it solves another problem: no sources, no error here."""
    import jax
    import jax.numpy as jnp

    n = problem.bone.shape[0]
    steppers = [
        exponax.stepper.Diffusion(3, n * VOXEL, n, 0.25, diffusivity=float(d))
        for d in problem.diffusion
    ]
    u = jnp.zeros((1, *problem.bone.shape), jnp.float32)
    advance = jax.jit(lambda u: [step(u) for step in steppers])
    yield result(problem, "exponax, periodic", 0.25, timed(lambda: advance(u)), [])


PEERS: dict[str, Callable[[ModuleType, Problem], Iterator[Record]]] = {
    "numba": numba_explicit,
    "pde": py_pde,
    "devito": devito_explicit,
    "exponax": exponax_periodic,
}
