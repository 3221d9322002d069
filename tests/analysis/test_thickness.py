from __future__ import annotations

from itertools import product

import localthickness
import numpy as np
import pytest
from scipy import spatial

from lattice.analysis import thickness as module
from lattice.analysis.thickness import mean_and_sd, thickness
from tests.analysis.invented import random_bone
from tests.analysis.phantoms import plates, rod, sphere


@pytest.mark.parametrize("width", [1, 2, 5, 6])
def test_plates_of_odd_and_even_width_are_exact(width):
    mask = plates(width, 16, 2)
    assert mean_and_sd(thickness(mask).local, mask) == (width, 0.0)


@pytest.mark.parametrize("width", [3, 4])
def test_a_plate_on_a_face_is_not_doubled(width):
    mask = np.zeros((20, 14, 14), bool)
    mask[:width] = True
    assert mean_and_sd(thickness(mask).local, mask) == (width, 0.0)
    assert mean_and_sd(thickness(mask, "mirror").local, mask) == (2 * width, 0.0)


@pytest.mark.parametrize("gap", [9, 10])
def test_separation_of_plates_is_the_gap_also_where_a_face_cuts_it(gap):
    marrow = ~plates(16 - gap, 16, 3)
    mean, sd = mean_and_sd(thickness(marrow, "mirror").local, marrow)
    # an odd gap is cut into halves that differ by a voxel: mirrored, one more and one less
    assert mean == pytest.approx(gap, abs=0.5)
    assert sd < 1.0


@pytest.mark.parametrize("diameter", [8, 13, 20])
@pytest.mark.parametrize("shape", [rod, sphere])
def test_round_shapes_are_within_a_voxel(shape, diameter):
    mask = shape(diameter)
    mean, sd = mean_and_sd(thickness(mask).local, mask)
    assert abs(mean - diameter) <= 1.0
    assert sd < 0.5


@pytest.mark.parametrize("grid_limit", [10**9, 0])
def test_equals_trying_every_sphere(monkeypatch, grid_limit):
    monkeypatch.setattr(module, "HALF_GRID_LIMIT", grid_limit)
    factor = 2 if grid_limit else 1
    mask = random_bone((13, 12, 11), 0.5, 1.5).astype(bool)
    expected = _every_sphere(mask, factor)
    np.testing.assert_allclose(thickness(mask, "mirror").local, expected, atol=1e-5)


def _every_sphere(mask, factor, margin=6):
    """Hildebrand and Ruegsegger's definition by brute force; the image is reflected."""
    wide = np.pad(mask, margin, mode="symmetric")
    points = np.array(list(product(*[range(factor * (n - 1) + 1) for n in wide.shape])))
    inside, outside = (np.array([_touches(wide, p, factor, v) for p in points]) for v in (1, 0))
    nearest = spatial.cKDTree(points[outside]).query(points[inside])[0]
    low = factor * margin - factor // 2
    high = factor * (margin + np.array(mask.shape) - 1) + factor // 2
    voxels = np.argwhere(mask)
    best = np.zeros(mask.shape)
    for c, r in zip(points[inside], nearest, strict=True):
        if (c >= low).all() and (c <= high).all():
            hit = voxels[((factor * (voxels + margin) - c) ** 2).sum(1) < r * r - 1e-6]
            best[tuple(hit.T)] = np.maximum(best[tuple(hit.T)], 2 * r / factor - 1)
    return best


def _touches(mask, point, factor, value):
    """Whether all voxels that a grid point touches have this value."""
    return all(mask[v] == value for v in product(*[{c // factor, -(-c // factor)} for c in point]))


def test_turning_the_image_turns_the_result():
    mask = random_bone((18, 20, 22), 0.3, 2.0).astype(bool)
    turned = thickness(np.ascontiguousarray(mask.transpose(2, 0, 1))).local
    np.testing.assert_allclose(turned, thickness(mask).local.transpose(2, 0, 1), atol=1e-5)


def test_agrees_with_localthickness():
    mask = random_bone((64, 64, 64), 0.25, 4.0).astype(bool)
    ours = mean_and_sd(thickness(mask, "mirror").local, mask)
    theirs = mean_and_sd(2 * localthickness.local_thickness(mask) - 1, mask)
    # that package approximates balls by dilations, and cannot see even widths: a voxel at most
    assert ours[0] == pytest.approx(theirs[0], abs=1.0)
    assert ours[1] == pytest.approx(theirs[1], abs=0.5)


def test_all_or_nothing():
    full, empty = np.ones((4, 5, 6), bool), np.zeros((4, 5, 6), bool)
    assert mean_and_sd(thickness(full).local, full) == (4.0, 0.0)
    assert np.isnan(thickness(full, "mirror").local).all()
    assert thickness(empty).local.max() == 0
    assert np.isnan(mean_and_sd(thickness(empty).local, empty)[0])
