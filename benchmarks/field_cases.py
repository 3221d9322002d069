"""The yardstick of the field solver: error and time for one simulated day of six cytokines."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from scipy.fft import dctn, idctn
from scipy.ndimage import gaussian_filter

from benchmarks.measure import Setting, Timing, compiled, cube, measured, timed
from benchmarks.record import Record
from lattice.kernels.diffusion_exact import build_basis, step_exact
from lattice.kernels.diffusion_implicit import step_implicit
from lattice.kernels.multigrid_levels import build_hierarchy

VOXEL = 10.0  # um
DIFFUSION = np.array([100.0, 63.0, 40.0, 25.0, 16.0, 10.0]) * 3600  # um^2/hour
SPECIES = len(DIFFUSION)
DECAY = np.log(2) * 60 / np.array([10.0, 360.0, 20.0, 180.0, 40.0, 90.0])  # 1/hour


def random_sources(grid: int, seed: int, fraction: float = 0.01) -> np.ndarray:
    """Unit sources (concentration/hour) in a random part of the voxels, [z, y, x]."""
    chosen = np.random.default_rng(seed).random((grid,) * 3) < fraction
    return chosen.astype(np.float32)


def random_bone(grid: int, seed: int, fraction: float = 0.2) -> np.ndarray:
    """A smooth random field above a quantile, uint8 [z, y, x]."""
    field = gaussian_filter(np.random.default_rng(seed + 1).standard_normal((grid,) * 3), 3)
    return (field > np.quantile(field, 1 - fraction)).astype(np.uint8)


def exact_modes(source: np.ndarray, hours: float, species: int) -> np.ndarray:
    """The voxel system from an empty domain, mode by mode in float64; f = 1 everywhere."""
    along = [4 * np.sin(np.pi * np.arange(n) / (2 * n)) ** 2 for n in source.shape]
    laplace = along[0][:, None, None] + along[1][:, None] + along[2]
    modes = dctn(source.astype(np.float64), norm="ortho")
    fields = []
    for d, k in zip(DIFFUSION[:species], DECAY[:species], strict=True):
        rate = d / VOXEL**2 * laplace + k
        fields.append(idctn(modes * -np.expm1(-rate * hours) / rate, norm="ortho"))
    return np.stack(fields, axis=-1)


def errors(u: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """Relative L2 and Linf error of the worst species."""
    u = np.asarray(u, np.float64)
    difference = (u - truth).reshape(-1, u.shape[-1])
    truth = truth.reshape(-1, u.shape[-1])
    l2 = np.linalg.norm(difference, axis=0) / np.linalg.norm(truth, axis=0)
    return float(l2.max()), float((np.abs(difference).max(0) / np.abs(truth).max(0)).max())


def advance(step, steps: int):
    """A function of u, source and what is prepared that makes `steps` steps."""

    def run(u, source, prepared):
        return jax.lax.fori_loop(0, steps, lambda _, u: step(u, source, prepared), u)

    return run


def prepare(
    grid: int,
    species: int,
    seed: int,
    contrast: float | None,
    scheme: str,
    dt: float,
    iterations: int | None = None,
):
    """A step function and what it reads besides u and source."""
    diffusion = jnp.asarray(DIFFUSION[:species], jnp.float32)
    decay = jnp.asarray(DECAY[:species], jnp.float32)
    if scheme == "exact":
        if contrast is not None:
            raise ValueError("the exact path needs diffusion that is the same everywhere")

        def exact(u, source, basis):
            return step_exact(u, source, basis, diffusion, decay, dt, voxel=VOXEL)[0]

        return exact, build_basis((grid, grid, grid))
    bone = random_bone(grid, seed) if contrast else np.zeros(cube(grid), np.uint8)
    in_bone = jnp.full(species, 1.0 if contrast is None else 1.0 / contrast, jnp.float32)

    def implicit(u, source, built):
        return step_implicit(
            u, source, None, built, diffusion, decay, dt, voxel=VOXEL, scheme=scheme,
            iterations=iterations,
        )[0]  # fmt: skip

    return implicit, jax.jit(build_hierarchy)(jnp.asarray(bone), in_bone)


def constant(setting: Setting) -> Iterator[Record]:
    """Coefficients that are the same everywhere; the reference is exact, mode by mode."""
    for scheme in ("exact", "auto"):
        yield yardstick("field", setting.grid, setting.drawn_from, scheme)


def in_bone(setting: Setting) -> Iterator[Record]:
    """Diffusion a hundred times slower in bone; the reference is the same model at a sixteenth of
    the step (two poles, six iterations)."""
    yield yardstick("field-bone", setting.grid, setting.drawn_from, "auto", contrast=100.0)


def yardstick(
    case: str,
    grid: int,
    seed: int,
    scheme: str,
    *,
    contrast: float | None = None,
    hours: float = 24.0,
    step_minutes: float = 30.0,
) -> Record:
    """Constant sources in 1 % of the voxels, switched on in an empty no-flux domain: the relative
    errors of the worst of six species at the end, and the seconds for a simulated day."""
    steps, dt = round(hours * 60 / step_minutes), step_minutes / 60
    step, prepared = prepare(grid, SPECIES, seed, contrast, scheme, dt)
    marks = random_sources(grid, seed)
    source = jnp.asarray(np.repeat(marks[..., None], SPECIES, axis=-1))
    zero = jnp.zeros_like(source)
    program, compile_s = compiled(advance(step, steps), zero, source, prepared)
    memory = program.memory_analysis()
    assert memory is not None
    day = timed(lambda: program(zero, source, prepared), 3)
    a_step = Timing(day.median / steps, day.iqr / steps, day.repeats)
    if contrast is None:
        truth = exact_modes(marks, hours, SPECIES)
    else:
        fine, _ = prepare(grid, SPECIES, seed, contrast, "two_poles", dt / 16, iterations=6)
        truth = np.asarray(jax.jit(advance(fine, steps * 16))(zero, source, prepared), np.float64)
    l2, linf = errors(np.asarray(program(zero, source, prepared)), truth)
    return measured(
        case,
        scheme,
        cube(grid),
        a_step,
        updates=grid**3,
        error_l2=l2,
        error_linf=linf,
        seconds_per_simulated_day=a_step.median * 24 / dt,
        compile_s=compile_s,
        bytes_per_voxel=(memory.temp_size_in_bytes + memory.output_size_in_bytes) / grid**3,
        parameters={
            "species": SPECIES,
            "seed": seed,
            "contrast": contrast,
            "hours": hours,
            "step_minutes": step_minutes,
        },
    )
