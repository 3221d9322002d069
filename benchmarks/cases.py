"""The cases that `osteolattice bench` knows, by name."""

from __future__ import annotations

from collections.abc import Callable

import jax
import jax.numpy as jnp

from benchmarks.field_cases import yardstick
from benchmarks.record import record, seconds
from benchmarks.reference_case import against_reference
from benchmarks.whole_step import output_share, whole_step
from lattice.kernels.random_bits import stream_key, voxel_uniform


def copy(grid: int, seed: int) -> list[dict]:
    """The yardstick of all others: read and write of six float32 for each voxel."""
    del seed
    values = grid**3 * 6
    source = jnp.zeros(values, jnp.float32)
    copied = jax.jit(lambda a: a + 1)
    median, spread = seconds(lambda: copied(source), 20)
    return [
        record(
            case="copy",
            parameters={"grid": grid, "species": 6},
            method="XLA",
            median_s=median,
            iqr_s=spread,
            bytes_counted=8 * values,
            copy_fraction=1.0,
            gigabytes_per_s=8e-9 * values / median,
        )
    ]


def random_numbers(grid: int, seed: int) -> list[dict]:
    """One uniform number for each voxel."""
    index = jnp.arange(grid**3, dtype=jnp.uint32)
    draw = jax.jit(lambda i: voxel_uniform(stream_key(seed, "bench"), i, 1, 0))
    median, spread = seconds(lambda: draw(index), 20)
    return [
        record(
            case="random",
            parameters={"grid": grid, "seed": seed},
            method="threefry2x32-13",
            median_s=median,
            iqr_s=spread,
            mlups=grid**3 / median / 1e6,
        )
    ]


def fields(contrast: float | None) -> Callable[[int, int], list[dict]]:
    """The field solver's yardstick, in constant coefficients or with bone."""
    methods = ("exact", "auto") if contrast is None else ("auto",)

    def case(grid: int, seed: int) -> list[dict]:
        return [
            record(**yardstick(grid=grid, seed=seed, contrast=contrast, scheme=method))
            for method in methods
        ]

    return case


def references(grid: int, seed: int) -> list[dict]:
    """The field solver with bone against a reference of its own, for both places of sources."""
    return [record(**against_reference(grid, seed, where)) for where in ("marrow", "everywhere")]


CASES: dict[str, Callable[[int, int], list[dict]]] = {
    "copy": copy,
    "random": random_numbers,
    "field": fields(None),
    "field-bone": fields(100.0),
    "field-reference": lambda grid, seed: references(min(grid, 48), seed),
    "field-reference-large": lambda grid, seed: references(grid, seed),
    "whole-step": lambda grid, seed: [whole_step(grid, seed)],
    "output": lambda grid, seed: [output_share(grid // 2, seed)],
}


def summary(result: dict) -> str:
    """One line about a record."""
    shown = {
        "median_s": "{:.4g} s",
        "iqr_s": "+- {:.2g}",
        "error_l2": "L2 {:.2e}",
        "error_linf": "Linf {:.2e}",
        "seconds_per_simulated_day": "{:.3g} s/simulated day",
        "mlups": "{:.4g} MLUPS",
        "copy_fraction": "{:.2f} of copy",
        "compile_s": "compile {:.1f} s",
        "bytes_per_voxel": "{:.0f} B/voxel",
        "overhead": "overhead {:+.1%}",
    }
    parts = [text.format(result[key]) for key, text in shown.items() if result.get(key) is not None]
    return f"{result['case']:<12}{result['method'] or '':<18}" + ", ".join(parts)
