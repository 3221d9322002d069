"""From grey values to bone: threshold, pieces, resampling, and the part that a lattice takes."""

import os
from pathlib import Path

import numpy as np
import pytest

from lattice.io.images import planes_from_image, read_image
from lattice.io.segmentation import otsu, resample, segment
from lattice.model.errors import InputError
from lattice.model.planes import Workspace
from lattice.model.setting import Geometry, Lattice


def bone_from_image(geometry: Geometry, lattice: Lattice) -> np.ndarray:
    return planes_from_image(geometry, lattice, Workspace()).whole()


def test_otsu_agrees_with_scikit_image():
    from skimage.filters import threshold_otsu

    draw = np.random.default_rng(1)
    both = np.concatenate([draw.normal(40, 9, 4000), draw.normal(120, 20, 1000)])
    grey = both.reshape(10, 20, 25)
    assert otsu(grey) == pytest.approx(float(threshold_otsu(grey)))
    whole = np.clip(grey, 0, 255).astype(np.uint8)
    assert otsu(whole) == float(threshold_otsu(whole))
    with pytest.raises(InputError, match="one grey value"):
        otsu(np.ones((3, 3, 3)))


def test_segmentation_keeps_the_largest_piece():
    values = np.zeros((6, 6, 6))
    values[1, 1, 1] = values[2, 2, 2] = values[3, 3, 3] = 9.0  # joined by corners
    values[5, 0, 0:2] = 9.0
    kept = segment(values, 5.0).bone
    assert kept.sum() == 3
    assert kept[2, 2, 2] == 1
    assert segment(values, 5.0, largest_component=False).bone.sum() == 5
    with pytest.raises(InputError, match="go from 0 to 9"):
        segment(values, 9.0)


@pytest.mark.parametrize(("spacing", "count"), [(10.0, 12), (20.0, 6), (30.0, 4), (24.0, 5)])
def test_resampling_preserves_the_mean_when_it_coarsens(spacing, count):
    values = np.random.default_rng(2).random((12, 12, 12))
    coarse = resample(values, (10.0,) * 3, (0.0,) * 3, spacing, (count,) * 3)
    assert coarse.mean() == pytest.approx(values.mean(), rel=1e-6)
    if spacing == 10.0:
        np.testing.assert_array_equal(coarse, values.astype(np.float32))


def test_resampling_reproduces_a_linear_image_in_place():
    z, y, x = np.meshgrid(*(np.arange(n) + 0.5 for n in (12, 14, 16)), indexing="ij")
    values = 3 * (12 * z) - 2 * (11 * y) + 10 * x  # a plane in um: voxels of 12, 11 and 10 um
    for spacing in (4.0, 13.0):
        fine = resample(values, (12.0, 11.0, 10.0), (24.0, 30.0, 36.0), spacing, (5, 6, 7))
        at = [
            o + spacing * (np.arange(n) + 0.5)
            for o, n in zip((24.0, 30.0, 36.0), (5, 6, 7), strict=True)
        ]
        z, y, x = np.meshgrid(*at, indexing="ij")
        # A mean over a voxel that begins inside another is off the centre by a part of it.
        np.testing.assert_allclose(fine, 3 * z - 2 * y + x, atol=1e-3 if spacing < 10 else 15)


def _sphere(tmp_path: Path) -> Geometry:
    z, y, x = np.ogrid[:40, :40, :40]
    distance = np.sqrt((z - 25.0) ** 2 + (y - 20) ** 2 + (x - 15) ** 2)
    grey = np.clip(120 - 8 * (distance - 10), 0, 200).astype(np.float32)
    grey[2, 2, 2] = 200  # a speck
    np.save(tmp_path / "sphere.npy", grey)
    return Geometry("image", image=str(tmp_path / "sphere.npy"), image_voxel=20.0, threshold=120.0)


def test_bone_sits_where_it_is_in_the_image(tmp_path):
    geometry = _sphere(tmp_path)
    for shape, voxel in (((40, 40, 40), 20.0), ((80, 80, 80), 10.0), ((20, 20, 20), 40.0)):
        bone = bone_from_image(geometry, Lattice(shape, voxel))
        assert bone.dtype == np.uint8
        assert bone.sum() * voxel**3 == pytest.approx(4 / 3 * np.pi * 200**3, rel=0.05)
        centre = [(i.mean() + 0.5) * voxel for i in np.nonzero(bone)]
        np.testing.assert_allclose(centre, (510, 410, 310), atol=2)


def test_a_part_is_the_part_of_the_whole(tmp_path):
    geometry = _sphere(tmp_path)
    whole = bone_from_image(geometry, Lattice((40, 40, 40), 20.0))
    part = Geometry(**{**vars(geometry), "image_origin": (100.0, 200.0, 300.0)})
    found = bone_from_image(part, Lattice((20, 21, 22), 20.0))
    np.testing.assert_array_equal(found, whole[15:37, 10:31, 5:25])


def test_pieces_that_meet_outside_the_part_stay(tmp_path):
    arch = np.zeros((10, 10, 10), np.uint8)
    arch[:, 5, 2] = arch[:, 5, 7] = arch[9, 5, 2:8] = 100
    arch[2, 1, 1] = 100  # a speck that hangs in the air
    np.save(tmp_path / "arch.npy", arch)
    geometry = Geometry("image", image=str(tmp_path / "arch.npy"), image_voxel=10.0, threshold=50.0)
    bone = bone_from_image(geometry, Lattice((10, 10, 5), 10.0))
    assert bone.sum() == 10
    kept = Geometry(**{**vars(geometry), "largest_component": False})
    assert bone_from_image(kept, Lattice((10, 10, 5), 10.0)).sum() == 11


def test_a_lattice_beyond_the_image_is_told_the_largest_shape(tmp_path):
    geometry = _sphere(tmp_path)
    with pytest.raises(InputError, match=r"largest shape from image_origin on is \[40, 40, 40\]"):
        bone_from_image(geometry, Lattice((41, 40, 40), 20.0))
    shifted = Geometry(**{**vars(geometry), "image_origin": (0.0, 410.0, 0.0)})
    with pytest.raises(InputError, match=r"\[26, 13, 26\]"):
        bone_from_image(shifted, Lattice((26, 26, 26), 30.0))
    outside = Geometry(**{**vars(geometry), "image_origin": (0.0, 0.0, 900.0)})
    with pytest.raises(InputError, match="image_origin"):
        bone_from_image(outside, Lattice((4, 4, 4), 20.0))
    black = Geometry(**{**vars(geometry), "threshold": 250.0})
    with pytest.raises(InputError, match="no bone above 250"):
        bone_from_image(black, Lattice((4, 4, 4), 20.0))


@pytest.fixture(scope="module")
def trabecula() -> Path:
    root = Path(os.environ.get("OSTEOLATTICE_DATA", Path(__file__).parents[3] / "shared" / "data"))
    path = root / "human_trabecula_19.5um.tif"
    if not path.is_file():
        pytest.skip(f"{path.name} is not in OSTEOLATTICE_DATA nor in ../shared/data")
    return path


def test_human_trabecula_has_its_known_bone_fraction(trabecula):
    image = read_image(trabecula, 19.5)
    found = segment(image.values, largest_component=False)
    assert found.threshold == 84
    assert found.bone.mean() == pytest.approx(0.186, abs=5e-4)
    largest = segment(image.values).bone
    assert largest.sum() / found.bone.sum() == pytest.approx(0.9996, abs=3e-4)


@pytest.mark.parametrize("voxel", [15.0, 30.0])
def test_human_trabecula_keeps_its_bone_fraction_when_resampled(trabecula, voxel):
    geometry = Geometry("image", image=str(trabecula), image_voxel=19.5)
    bone = bone_from_image(geometry, Lattice((int(3900 / voxel),) * 3, voxel))
    assert bone.mean() == pytest.approx(0.1864, rel=0.01)
