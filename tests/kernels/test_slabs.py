"""The same bits on one device and on several."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lattice.kernels.halo import Slabs
from lattice.kernels.ordered_sum import sum_lattice

ROOT = Path(__file__).parents[2]


def digest(devices: int) -> str:
    flags = f"--xla_force_host_platform_device_count={devices}"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    result = subprocess.run(
        [sys.executable, "-m", "tests.kernels.slabs_digest", str(devices)],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def test_one_two_and_four_devices_give_the_same_bits():
    alone = digest(1)
    assert alone.count("\n") == 4
    assert digest(2) == alone
    assert digest(4) == alone


def test_sums_are_accurate_and_blind_to_other_species():
    rng = np.random.default_rng(0)
    field = rng.random((13, 17, 19, 3)).astype(np.float32)
    sums = np.asarray(jax.jit(sum_lattice)(jnp.asarray(field)))
    np.testing.assert_allclose(sums, field.astype(float).sum((0, 1, 2)), rtol=2e-7)
    alone = np.asarray(jax.jit(sum_lattice)(jnp.asarray(field[..., 1:2])))
    assert alone[0] == sums[1]


def test_several_slabs_need_an_axis():
    with pytest.raises(ValueError, match="mesh axis"):
        Slabs(None, 2)
