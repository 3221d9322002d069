"""Synthetic bone: what it measures, and what it refuses."""

import numpy as np
import pytest
from scipy import ndimage

from lattice.analysis.thickness import thickness
from lattice.model.errors import InputError
from lattice.model.geometry import synthetic_bone
from lattice.model.pieces import find_pieces
from lattice.model.setting import Geometry, Lattice

TOUCHING = np.ones((3, 3, 3))


def trabecular(shape, fraction=0.2, microns=50.0, seed=0, periodic=(False,) * 3, **options):
    geometry = Geometry("trabecular", bone_fraction=fraction, thickness=microns, **options)
    return synthetic_bone(geometry, Lattice(shape, 10.0, periodic), seed)


@pytest.mark.parametrize("fraction", [0.08, 0.2, 0.35, 0.6])
@pytest.mark.parametrize("shape", [(61, 97, 53), (64, 64, 64)])
def test_trabeculae_fill_the_wanted_fraction_exactly_as_one_piece(shape, fraction):
    bone = trabecular(shape, fraction)
    assert bone.shape == shape[::-1]
    assert bone.dtype == np.uint8
    assert bone.sum() == round(fraction * bone.size)
    assert ndimage.label(bone, TOUCHING)[1] == 1


@pytest.mark.parametrize(("fraction", "microns"), [(0.1, 40.0), (0.2, 50.0), (0.3, 80.0)])
def test_trabeculae_have_the_wanted_mean_thickness(fraction, microns):
    measured = []
    for seed in range(2):
        bone = trabecular((96, 80, 88), fraction, microns, seed).astype(bool)
        measured.append(thickness(bone).local[bone].mean() * 10)
    assert np.mean(measured) == pytest.approx(microns, rel=0.1)


def test_the_seed_decides():
    first = trabecular((48, 48, 48))
    np.testing.assert_array_equal(first, trabecular((48, 48, 48)))
    overlap = np.mean(first[trabecular((48, 48, 48), seed=1) == 1])
    assert overlap == pytest.approx(0.2, abs=0.1)


def changes_across_the_seam(bone, axis):
    """Voxels that differ from their neighbour, at the seam relative to the mean of all planes."""
    changes = (bone != np.roll(bone, 1, axis)).mean(axis=tuple(i for i in range(3) if i != axis))
    return changes[0] / changes[1:].mean()


def test_trabeculae_wrap_exactly_where_the_lattice_is_periodic():
    ratios = [
        [
            changes_across_the_seam(
                trabecular((64, 60, 72), seed=s, periodic=(True, False, True)), i
            )
            for i in (2, 1, 0)
        ]
        for s in range(3)
    ]
    x, y, z = np.mean(ratios, axis=0)
    assert x < 1.4
    assert z < 1.4
    assert y > 1.8


@pytest.mark.parametrize(("wraps", "size"), [(True, 9), (False, 7)])
def test_a_piece_that_is_connected_only_around_the_seam_is_one_piece(wraps, size):
    mask = np.zeros((8, 8, 20), bool)
    mask[4, 4, :4] = mask[4, 4, -5:] = True
    mask[1, 1, 7:14] = True
    for axis in range(3):
        turned = np.moveaxis(mask, 2, axis)
        periodic = tuple(wraps and i == axis for i in range(3))
        pieces = find_pieces(lambda i, j, m=turned: m[i:j], ((0, len(turned)),), periodic)
        assert pieces.sizes.max() == size


def test_without_the_clean_up_pieces_stay():
    bone = trabecular((64, 64, 64), 0.05, 25.0, largest_component=False)
    assert bone.sum() == round(0.05 * bone.size)
    assert ndimage.label(bone, TOUCHING)[1] > 1


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 3])
def test_plates_have_their_full_thickness_and_are_evenly_spaced(axis, count):
    geometry = Geometry("plate", thickness=50.0, axis=axis, count=count)
    bone = np.moveaxis(synthetic_bone(geometry, Lattice((33, 36, 39), 10.0), 0), 2 - axis, 0)
    profile = bone[:, 0, 0].astype(int)
    assert (bone == profile[:, None, None]).all()
    starts = np.flatnonzero(np.diff(profile, prepend=0) == 1)
    ends = np.flatnonzero(np.diff(profile, append=0) == -1) + 1
    assert (ends - starts == 5).all()
    centres = (np.arange(count) + 0.5) * len(profile) / count
    np.testing.assert_allclose((starts + ends) / 2, centres, atol=0.5)


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("count", [1, 4, 5])
def test_rods_have_their_diameter_and_number(axis, count):
    geometry = Geometry("rod", thickness=80.0, axis=axis, count=count)
    bone = np.moveaxis(synthetic_bone(geometry, Lattice((40, 44, 50), 10.0), 0), 2 - axis, 0)
    assert (bone == bone[0]).all()
    assert ndimage.label(bone[0])[1] == count
    assert bone[0].sum() / count == pytest.approx(np.pi * 16, rel=0.1)
    if count < 5:  # rows of two and three have no common centre
        centre = np.argwhere(bone[0]).mean(axis=0) + 0.5
        np.testing.assert_allclose(centre, np.array(bone[0].shape) / 2, atol=1.0)


def test_a_sphere_lies_in_the_centre():
    bone = synthetic_bone(Geometry("sphere", radius=120.0), Lattice((40, 31, 36), 10.0), 0)
    assert bone.sum() == pytest.approx(4 / 3 * np.pi * 12**3, rel=0.02)
    np.testing.assert_allclose(np.argwhere(bone).mean(axis=0) + 0.5, [18, 15.5, 20])


def test_empty_is_empty():
    assert not synthetic_bone(Geometry("empty"), Lattice((5, 6, 7), 10.0), 0).any()


@pytest.mark.parametrize(
    ("geometry", "message"),
    [
        (Geometry("plate", thickness=500.0), "geometry.thickness: 1 plate.* 400 um along z"),
        (Geometry("plate", thickness=150.0, count=3), "geometry.thickness: 3 plate"),
        (Geometry("plate", thickness=15.0), "geometry.thickness: 15 um is less than 2 voxel"),
        (Geometry("rod", thickness=410.0), "geometry.thickness: 1 rod"),
        (Geometry("rod", thickness=210.0, count=4), "geometry.thickness: 4 rod"),
        (Geometry("rod", thickness=10.0), "less than 2 voxel"),
        (Geometry("sphere", radius=201.0), "geometry.radius: a sphere of 201 um"),
        (Geometry("sphere", radius=9.0), "geometry.radius: 9 um is less than 1 voxel"),
        (Geometry("sphere"), "geometry.radius: this geometry needs a radius"),
        (Geometry("trabecular", thickness=50.0, bone_fraction=1.2), "geometry.bone_fraction"),
        (Geometry("trabecular", thickness=10.0, bone_fraction=0.2), "less than 2 voxel"),
        (Geometry("trabecular", thickness=90.0, bone_fraction=0.2), "only 400 um wide"),
    ],
)
def test_bone_that_cannot_be_is_refused_with_the_key(geometry, message):
    with pytest.raises(InputError, match=message):
        synthetic_bone(geometry, Lattice((40, 40, 40), 10.0), 0)


def test_an_image_is_not_synthetic():
    with pytest.raises(ValueError, match="image"):
        synthetic_bone(Geometry("image"), Lattice((4, 4, 4), 10.0), 0)
