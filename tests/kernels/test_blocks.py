"""The same bits on one device and on several."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from lattice.kernels.halo import WHOLE, Blocks
from lattice.kernels.multigrid_levels import coarsenings
from lattice.kernels.ordered_sum import sum_lattice

ROOT = Path(__file__).parents[2]


def digests(shape: str, wraps: str, *layouts: str) -> list[str]:
    """What the kernels give in each layout (z, y, x) of a lattice of this shape (z, y, x)."""
    flags = "--xla_force_host_platform_device_count=8"
    environment = {**os.environ, "JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    result = subprocess.run(
        [sys.executable, "-m", "tests.kernels.blocks_digest", shape, wraps, *layouts],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    found = result.stdout.splitlines()
    assert len(found) == len(layouts)
    assert len(found[0].split()) == 4
    return found


@pytest.mark.parametrize(
    ("shape", "wraps", "layouts"),
    [
        # Five lines a block are odd; so long a lattice shows how matrices are multiplied.
        ("6x40x6", "zx", ("1x1x1", "1x8x1", "3x1x2")),
        pytest.param("10x18x12", "", ("1x1x1", "2x2x2", "1x2x1", "5x1x1"), marks=pytest.mark.full),
        pytest.param("12x9x10", "y", ("1x1x1", "4x1x1", "6x1x1"), marks=pytest.mark.full),
        pytest.param(
            "16x8x24", "zyx", ("1x1x1", "2x2x2", "1x4x2", "1x1x8", "8x1x1"), marks=pytest.mark.full
        ),
        pytest.param("12x9x10", "y", ("1x1x1", "1x3x1", "2x1x2"), marks=pytest.mark.full),
    ],
)
def test_every_layout_gives_the_same_bits(shape, wraps, layouts):
    alone, *others = digests(shape, wraps, *layouts)
    assert others == [alone] * len(others)


def test_sums_are_accurate_and_blind_to_other_species():
    rng = np.random.default_rng(0)
    field = rng.random((13, 17, 19, 3)).astype(np.float32)
    sums = np.asarray(jax.jit(sum_lattice)(jnp.asarray(field)))
    np.testing.assert_allclose(sums, field.astype(float).sum((0, 1, 2)), rtol=2e-7)
    alone = np.asarray(jax.jit(sum_lattice)(jnp.asarray(field[..., 1:2])))
    assert alone[0] == sums[1]


def test_several_blocks_need_an_axis():
    with pytest.raises(ValueError, match="mesh axis"):
        Blocks(("z", None, None), (1, 2, 1))


def test_levels_gather_the_axes_whose_blocks_become_odd():
    names = ("z", "y", "x")
    assert coarsenings((16, 16, 16), WHOLE) == [()] * 4
    assert coarsenings((4, 6, 3), Blocks(names, (2, 2, 2)))[:3] == [(2,), (1,), (0,)]
    assert coarsenings((5, 10, 3), Blocks(names, (2, 1, 4)))[:2] == [(0, 2), ()]
