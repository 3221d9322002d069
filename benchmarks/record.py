"""One benchmark result: what was measured, on what, with which code."""

from __future__ import annotations

import resource
import time
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from lattice.io import provenance

KEYS = (
    "case",
    "parameters",
    "method",
    "error_l2",
    "error_linf",
    "seconds_per_simulated_day",
    "median_s",
    "iqr_s",
    "mlups",
    "bytes_counted",
    "copy_fraction",
    "compile_s",
    "peak_bytes",
    "machine",
    "versions",
    "commit",
    "dirty",
)


def record(**measured: Any) -> dict[str, Any]:
    """A record with every key; what was not measured is None. Extra keys are kept."""
    about = provenance.collect(jax.devices()[0].device_kind, jax.device_count())
    known = {
        "machine": f"{about['machine']}, {about['device_kind']} x {about['device_count']}",
        "versions": about["versions"],
        "commit": about["commit"],
        "dirty": about["dirty"],
    }
    return {**dict.fromkeys(KEYS), **known, **measured}


def seconds(function, repeats: int = 10) -> tuple[float, float]:
    """Median and inter-quartile range of the time of `function()`, after one call to warm up."""
    jax.block_until_ready(function())
    times = []
    for _ in range(repeats):
        start = time.perf_counter()
        jax.block_until_ready(function())
        times.append(time.perf_counter() - start)
    low, median, high = np.percentile(times, (25, 50, 75))
    return float(median), float(high - low)


def copy_seconds(values: int) -> float:
    """Time to copy so many float32: read and write of 8 bytes each, in this process."""
    copied = jax.jit(lambda a: a + 1)
    source = jnp.zeros(values, jnp.float32)
    return seconds(lambda: copied(source), 20)[0]


def peak_bytes() -> int:
    """Largest resident memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
