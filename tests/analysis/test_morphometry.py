from __future__ import annotations

import bone_microarchitecture
import localthickness
import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import euler_number, marching_cubes, mesh_surface_area

from lattice.analysis.morphometry import morphometry, purified
from lattice.analysis.surface import surface_area
from lattice.model.errors import InputError
from tests.analysis.invented import random_bone
from tests.analysis.phantoms import plates, rod, sphere, torus


def test_plates():
    found = morphometry(plates(6, 20, 3, across=30), 10.0)
    expected = {
        "TV": (60 * 30 * 30 * 1e-6, "mm^3"),
        "BV/TV": (30.0, "%"),
        "BS": (6 * 0.3 * 0.3, "mm^2"),
        "BS/TV": (6 * 900 / 54000 * 100, "1/mm"),
        "Tb.Th": (60.0, "um"),
        "Tb.Th.SD": (0.0, "um"),
        "Tb.Sp": (140.0, "um"),
        "Tb.N": (5.0, "1/mm"),
        "Tb.Th (plate model)": (60.0, "um"),
        "Tb.N (plate model)": (5.0, "1/mm"),
        "Tb.Sp (plate model)": (140.0, "um"),
    }
    for name, (value, unit) in expected.items():
        tolerance = 2e-3 if name == "Tb.N" else 1e-5
        assert found[name].value == pytest.approx(value, rel=tolerance, abs=1e-6), name
        assert found[name].unit == unit


@pytest.mark.parametrize(("diameter", "tolerance"), [(10, 0.07), (20, 0.05), (40, 0.05)])
def test_surface_of_spheres_and_rods(diameter, tolerance):
    """Half the error of marching cubes on the bare mask, which is 8-9 % on a sphere."""
    ball = np.pi * diameter**2 * 1e-4
    assert surface_area(sphere(diameter), 10.0) == pytest.approx(ball, rel=tolerance)
    mantle = np.pi * diameter * 20 * 1e-4
    assert surface_area(rod(diameter), 10.0) == pytest.approx(mantle, rel=tolerance)


def test_unsmoothed_surface_is_that_of_scikit_image():
    mask = random_bone((40, 40, 40), 0.3, 3.0)
    mask[[0, -1]] = mask[:, [0, -1]] = mask[:, :, [0, -1]] = 0
    corners, faces, _, _ = marching_cubes(mask.astype(np.float32), 0.5)
    assert surface_area(mask, 10.0, smoothing=0.0) == pytest.approx(
        mesh_surface_area(corners, faces) * 1e-4, rel=1e-5
    )


def test_fractions_of_voxels_are_summed():
    bone = np.zeros((10, 10, 10), np.float32)
    bone[:3], bone[3] = 1.0, 0.25
    assert morphometry(bone, 10.0)["BV/TV"].value == pytest.approx(32.5)


@pytest.mark.parametrize(
    ("mask", "handles"), [(sphere(12), 0), (torus(10, 3), 1), (np.ones((5, 5, 5), bool), 0)]
)
def test_connectivity_counts_handles(mask, handles):
    volume = mask.size * 1e-6
    assert morphometry(mask, 10.0)["Conn.D"].value * volume == pytest.approx(handles)


def test_bone_that_touches_at_a_corner_is_connected():
    mask = np.zeros((8, 8, 8), bool)
    mask[1:4, 1:4, 1:4] = mask[4:7, 4:7, 4:7] = True
    assert purified(mask).sum() == mask.sum()
    assert morphometry(mask, 10.0)["Conn.D"].value == 0


def test_purification_drops_specks_and_fills_cavities():
    mask = sphere(12)
    speckled = mask.copy()
    speckled[0, 0, 0] = True
    speckled[tuple(n // 2 for n in mask.shape)] = False
    np.testing.assert_array_equal(purified(speckled), mask)
    assert morphometry(speckled, 10.0)["Conn.D"].value == 0


def test_voxel_size_scales_as_it_must():
    mask = random_bone((24, 24, 24), 0.3, 2.5)
    small, large = morphometry(mask, 10.0), morphometry(mask, 20.0)
    powers = {"mm^3": 3, "mm^2": 2, "um": 1, "1/mm": -1, "1/mm^3": -3, "%": 0}
    for name, (value, unit) in small.items():
        assert large[name].value == pytest.approx(value * 2.0 ** powers[unit], rel=1e-5), name


def test_agrees_with_bone_microarchitecture():
    """A second opinion, which takes what lies outside the image for background."""
    bone = ndimage.binary_opening(random_bone((32, 32, 32), 0.3, 4.0))
    ours = morphometry(bone, 10.0, bone_border="mirror")
    for name, mask in (("Tb.Th", bone), ("Tb.Sp", ~bone)):
        padded = np.pad(mask, 16, mode="symmetric")
        theirs = bone_microarchitecture.hildebrand_thickness_map(padded, (10.0,) * 3)
        inner = theirs[16:-16, 16:-16, 16:-16][mask]
        assert ours[name].value == pytest.approx(inner.mean(), abs=10.0), name  # one voxel


@pytest.mark.parametrize(
    ("shape", "width"), [(plates(6, 20, 2), 6), (rod(12, 24), 12), (sphere(16), 16)]
)
def test_widths_of_simple_shapes_against_two_packages(shape, width):
    """Within a voxel (10 um) of the truth, and within two of packages that read round shapes lower
    (a sphere of 16 voxels as 13.6 and 13.5), because their spheres have voxels as centres."""
    found = morphometry(shape, 10.0, bone_border="mirror")["Tb.Th"].value
    assert found == pytest.approx(10.0 * width, abs=10.0)
    padded = np.pad(shape, 8, mode="symmetric")
    inner = (slice(8, -8),) * 3
    second = bone_microarchitecture.hildebrand_thickness_map(padded, (10.0,) * 3)[inner][shape]
    third = 10 * (2 * localthickness.local_thickness(padded)[inner][shape] - 1)
    for other in (second.mean(), third.mean()):
        assert -0.5 <= found - other <= 20


@pytest.mark.parametrize("shape", [plates(6, 20, 2), rod(12, 24), sphere(16)])
def test_connectivity_and_surface_are_those_of_scikit_image(shape):
    padded = np.pad(shape, 1)
    corners, faces, _, _ = marching_cubes(padded.astype(np.float32), 0.5)
    found = morphometry(padded, 10.0, smoothing=0.0)
    assert found["BS"].value == pytest.approx(mesh_surface_area(corners, faces) * 1e-4, rel=1e-5)
    volume = padded.size * 1e-6
    pieces = purified(padded)
    assert found["Conn.D"].value * volume == pytest.approx(1 - euler_number(pieces, 3))


@pytest.mark.parametrize(
    ("bone", "voxel", "word"),
    [
        (np.zeros((4, 4)), 10.0, "three-dimensional"),
        (np.full((4, 4, 4), 7.0), 10.0, "threshold"),
        (np.zeros((4, 4, 4)), 0.0, "voxel size"),
    ],
)
def test_refuses_what_is_not_bone(bone, voxel, word):
    with pytest.raises(InputError, match=word):
        morphometry(bone, voxel)


def test_an_image_without_bone_has_no_thickness():
    found = morphometry(np.zeros((6, 6, 6), np.uint8), 10.0)
    assert found["BV/TV"].value == 0
    assert np.isnan(found["Tb.Th"].value)
    assert np.isnan(found["Conn.D"].value)
