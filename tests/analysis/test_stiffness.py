from __future__ import annotations

import numpy as np
import pytest

from lattice.analysis import stiffness
from lattice.analysis.stiffness import compress, element, stiffness_measures
from tests.analysis.invented import random_bone


def test_a_solid_block_has_the_modulus_of_tissue():
    block = np.ones((7, 5, 4))
    assert compress(block).modulus == pytest.approx(1, rel=1e-5)
    assert compress(0.5 * block).modulus == pytest.approx(0.5, rel=1e-5)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_plates_along_the_load_share_the_strain(axis):
    """Voigt: all strain alike, and the lateral strains are alike too."""
    plates = np.ones((6, 7, 8))
    np.moveaxis(plates, axis, 0)[:, :2] = 0.3
    assert compress(plates, axis).modulus == pytest.approx(plates.mean(), rel=1e-5)


def test_plates_across_the_load_share_the_stress():
    """Reuss, exactly so where nothing bulges; with Poisson's ratio the joint makes it stiffer."""
    plates = np.ones((6, 5, 4))
    plates[:3] = 0.25
    reuss = 1 / np.mean(1 / plates)
    assert compress(plates, poisson=0.0).modulus == pytest.approx(reuss, rel=1e-5)
    assert reuss < compress(plates).modulus < 1.1 * reuss


def test_columns_carry_and_dead_ends_do_not():
    bone = np.zeros((6, 8, 8))
    bone[:, 1:3, 1:3] = bone[:, 5:7, 5:7] = 1  # two columns: 8 of 64
    alone = compress(bone).modulus
    assert alone == pytest.approx(8 / 64, rel=1e-5)
    bone[:3, 1, 6] = 1  # a stump that does not reach
    assert compress(bone).modulus == pytest.approx(alone, rel=1e-5)
    bone[3] = 0
    assert compress(bone).modulus == 0


@pytest.mark.parametrize("poisson", [0.0, 0.3])
def test_one_element_is_exact_for_every_uniform_strain(poisson):
    """Against Hooke's law written out; whole movements and turns need no force."""
    matrix = element(poisson)
    corner = np.array(np.unravel_index(range(8), (2, 2, 2))).T.astype(float)
    rng = np.random.default_rng(0)
    gradient = rng.normal(size=(3, 3))
    strain = (gradient + gradient.T) / 2
    lame, shear = poisson / ((1 + poisson) * (1 - 2 * poisson)), 1 / (2 * (1 + poisson))
    energy = lame * np.trace(strain) ** 2 + 2 * shear * (strain**2).sum()
    moved = (corner @ gradient.T).ravel()
    assert moved @ matrix @ moved == pytest.approx(energy)
    turned = (corner @ (gradient - gradient.T).T + rng.normal(size=3)).ravel()
    np.testing.assert_allclose(matrix @ turned, 0, atol=1e-12)


def test_equals_a_dense_solution():
    """Assembled and solved by least squares, independently of the elements' bookkeeping."""
    bone = random_bone((6, 5, 5), 0.6, 1.0) * np.linspace(0.4, 1, 5)
    carrying = stiffness._spanning(bone >= stiffness.LEAST_FRACTION)
    shape = np.array(bone.shape) + 1
    dense, unit = np.zeros((shape.prod() * 3,) * 2), element(0.3)
    for z, y, x in np.argwhere(carrying):
        nodes = [
            np.ravel_multi_index((z + a, y + b, x + c), shape)
            for a in (0, 1)
            for b in (0, 1)
            for c in (0, 1)
        ]
        where = np.concatenate([3 * n + np.arange(3) for n in nodes])
        dense[np.ix_(where, where)] += bone[z, y, x] * unit
    height = np.indices(shape)[0].ravel()
    held = np.zeros(len(dense), bool)
    held[0::3] = (height == 0) | (height == len(bone))
    moved = np.zeros(len(dense))
    moved[0::3] = np.where(held[0::3], -height, 0)
    free = ~held
    answer = np.linalg.lstsq(dense[np.ix_(free, free)], -dense[free] @ moved, rcond=1e-10)[0]
    moved[free] = answer
    expected = moved @ dense @ moved / bone.size
    assert expected > 0.05
    assert compress(bone, tolerance=1e-4).modulus == pytest.approx(expected, rel=1e-4)


def test_coarse_elements_are_too_stiff_where_bone_bends():
    """The same bone in voxels of half the edge: softer, by less than a third."""
    bone = random_bone((18, 18, 18), 0.35, 2.0).astype(float)
    coarse = compress(bone).modulus
    fine = compress(bone.repeat(2, 0).repeat(2, 1).repeat(2, 2)).modulus
    assert 0.67 * coarse < fine < coarse


def test_large_images_are_joined_by_their_size_alone():
    bone = np.ones((11, 10, 10))
    joined = compress(bone, most_voxels=500)
    assert (joined.coarsening, joined.elements) == (2, 6 * 5 * 5)
    assert joined.modulus == pytest.approx(1, rel=1e-5)
    bone[:, 5:] = 0
    assert compress(bone, most_voxels=500).coarsening == 2


def test_measures_are_in_percent_of_tissue(monkeypatch):
    bone = np.zeros((8, 10, 10))
    bone[:, :5] = 1
    found = stiffness_measures(bone)
    assert found["E.app/E.tissue"] == (pytest.approx(50, rel=1e-5), "%")
    assert found["E.app/E.tissue (power law)"].value == pytest.approx(88.5 * 0.5**1.89)
    monkeypatch.setattr(stiffness, "MOST_VOXELS", 99)
    assert stiffness_measures(bone) == {}
