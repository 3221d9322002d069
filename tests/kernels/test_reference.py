"""The implicit solver against a float64 solution that is exact in time and of another kind."""

import numpy as np
import pytest

from benchmarks.reference import operator, solution
from benchmarks.reference_case import against_reference
from tests.kernels.reference import (
    DECAY,
    DIFFUSION,
    VOXEL,
    ExactInTime,
    diffusion_matrix,
    random_bone,
    random_sources,
    relative,
)

SHAPE = (9, 8, 7)


def test_the_reference_agrees_with_eigenvectors():
    bone, rng = random_bone(SHAPE), np.random.default_rng(0)
    assert np.allclose(operator(bone, 0.01, VOXEL).toarray(), diffusion_matrix(bone, 0.01))
    sources = [random_sources(rng, np.arange(bone.size), SHAPE, 1, 0.05)[..., 0] for _ in range(3)]
    steps = [4.0, 0.5, 0.25]
    fields, bound = solution(bone, 0.01, VOXEL, DIFFUSION, DECAY, sources, steps)
    assert bound < 1e-9
    exact, u = ExactInTime(bone, 0.01, DIFFUSION, DECAY), np.zeros((*SHAPE, 4))
    for field, source, dt in zip(fields, sources, steps, strict=True):
        u = exact.step(u, np.repeat(source[..., None], 4, axis=-1), dt)
        assert relative(field, u).max() < 1e-8


@pytest.mark.parametrize("where", ["marrow", "everywhere"])
@pytest.mark.parametrize("grid", [24, pytest.param(56, marks=pytest.mark.full)])
def test_auto_holds_1e3_at_every_output(grid, where):
    """Contrast 100, half-hour steps, sources that switch at each, fields that still grow."""
    found = against_reference(grid, 1, where)
    assert found.more["reference_bound"] < 1e-9
    assert found.error_l2 is not None
    assert found.error_l2 < 1e-3, found
