"""Images in parts: the values and the bone of the whole, in little memory."""

import tracemalloc
import weakref
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as itk
import tifffile

from lattice.io.images import planes_from_image, temporary_bytes
from lattice.io.raw import raw_data
from lattice.io.volumes import open_volume
from lattice.model.errors import InputError
from lattice.model.planes import BYTES_PER_VOXEL, Planes, Workspace
from lattice.model.setting import Geometry, Lattice

VALUES = np.random.default_rng(0).integers(0, 60_000, (40, 64, 68)).astype(np.uint16)


def _tiff(path: Path, **options) -> Path:
    tifffile.imwrite(path / "stack.tif", VALUES, photometric="minisblack", **options)
    return path / "stack.tif"


def _folder(path: Path) -> Path:
    for i, plane in enumerate(VALUES):
        tifffile.imwrite(path / f"slice{i}.tif", plane)
    return path


def _numpy(path: Path, values=VALUES) -> Path:
    np.save(path / "stack.npy", values)
    return path / "stack.npy"


def _hdf5(path: Path) -> Path:
    with h5py.File(path / "bone.h5", "w") as file:
        file.create_dataset("data", data=VALUES, chunks=(1, 64, 68), compression="gzip")
    return path / "bone.h5"


def _medical(path: Path, ending: str, values=VALUES, compressed=False) -> Path:
    itk.WriteImage(itk.GetImageFromArray(values), str(path / f"bone{ending}"), compressed)
    return path / f"bone{ending}"


IN_PARTS = {
    "pages": _tiff,
    "compressed pages": lambda path: _tiff(path, compression="zlib"),
    "big TIFF": lambda path: _tiff(path, bigtiff=True, byteorder=">"),
    "tiles": lambda path: _tiff(path, tile=(32, 32)),
    "ImageJ": lambda path: _tiff(path, imagej=True),
    "folder": _folder,
    "NumPy": _numpy,
    "NumPy, another order": lambda path: _numpy(path, VALUES.astype(">u2")),
    "HDF5": _hdf5,
    ".nrrd": lambda path: _medical(path, ".nrrd"),
    ".nhdr": lambda path: _medical(path, ".nhdr"),
    ".mha": lambda path: _medical(path, ".mha"),
    ".mhd": lambda path: _medical(path, ".mhd"),
    ".nii": lambda path: _medical(path, ".nii"),
}
AT_ONCE = {
    "tiles in depth": lambda path: _tiff(path, tile=(16, 32, 32), volumetric=True),
    "NumPy, Fortran": lambda path: _numpy(path, np.asfortranarray(VALUES)),
    "compressed .nrrd": lambda path: _medical(path, ".nrrd", compressed=True),
    "compressed .mha": lambda path: _medical(path, ".mha", compressed=True),
    ".nii.gz": lambda path: _medical(path, ".nii.gz"),
}


@pytest.mark.parametrize("kind", [*IN_PARTS, *AT_ONCE])
def test_planes_of_an_image_are_those_of_the_whole(tmp_path, kind):
    path = (IN_PARTS | AT_ONCE)[kind](tmp_path)
    volume = open_volume(path)
    assert volume.shape == VALUES.shape
    assert volume.dtype.newbyteorder("=") == VALUES.dtype
    for first, last in ((0, 40), (0, 1), (7, 12), (39, 40)):
        np.testing.assert_array_equal(volume.read(first, last), VALUES[first:last])


@pytest.mark.parametrize("kind", IN_PARTS)
def test_formats_that_allow_it_are_read_in_parts(tmp_path, kind):
    path = IN_PARTS[kind](tmp_path)
    open_volume(path).read(0, 1)  # what a first use imports and keeps is not counted
    tracemalloc.start()
    try:
        open_volume(path).read(20, 22)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < VALUES.nbytes / 2


@pytest.mark.parametrize("kind", ["i1", "u1", "i2", "u2", "i4", "u4", "f4", "f8"])
@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".nii"])
def test_types_of_uncompressed_values_are_known(tmp_path, ending, kind):
    values = (VALUES[:3, :4, :5] - 1000.0).astype("f8").astype(kind)
    path = _medical(tmp_path, ending, values)
    assert raw_data(path) is not None
    volume = open_volume(path)
    assert volume.dtype == values.dtype
    np.testing.assert_array_equal(volume.read(0, 3), values, strict=True)


BIG = VALUES[:3, :4, :5].astype(">u2").tobytes()
NRRD = b"NRRD0004\n# a remark\ntype: ushort\ndimension: 3\nsizes: 5 4 3\nencoding: raw\n"
META = b"ObjectType = Image\nNDims = 3\nDimSize = 5 4 3\nElementType = MET_USHORT\n"


@pytest.mark.parametrize(
    ("name", "head", "raw"),
    [
        ("a.nrrd", NRRD + b"endian: big\n\n", True),
        ("a.nrrd", NRRD + b"endian: big\nbyte skip: -1\n\n", False),
        ("a.mha", META + b"BinaryDataByteOrderMSB = True\nElementDataFile = LOCAL\n", True),
        ("a.mha", META + b"ElementByteOrderMSB = True\nElementDataFile = LOCAL\n", True),
        (
            "a.mha",
            META + b"ElementByteOrderMSB = True\nHeaderSize = -1\nElementDataFile = LOCAL\n",
            False,
        ),
    ],
)
def test_headers_are_read_as_by_itk(tmp_path, name, head, raw):
    (tmp_path / name).write_bytes(head + BIG)
    assert (raw_data(tmp_path / name) is not None) == raw
    expected = itk.GetArrayFromImage(itk.ReadImage(str(tmp_path / name)))
    found = open_volume(tmp_path / name).read(0, 3)
    np.testing.assert_array_equal(found, expected)
    np.testing.assert_array_equal(found, VALUES[:3, :4, :5])


@pytest.mark.parametrize("ending", [".nrrd", ".mha", ".mhd", ".nii"])
def test_values_that_end_too_early_are_refused(tmp_path, ending):
    path = _medical(tmp_path, ending)
    data = path.with_suffix(".raw") if ending == ".mhd" else path
    data.write_bytes(data.read_bytes()[:-1])
    geometry = Geometry("image", image=str(path), image_voxel=10.0)
    with pytest.raises(
        InputError, match=r"^geometry\.image: .* cannot be read \(it ends too early"
    ):
        planes_from_image(geometry, Lattice((4, 4, 4), 10.0), Workspace())


def speckled(shape, kind):
    draw = np.random.default_rng(sum(shape))
    blocks = draw.normal(size=tuple(-(-n // 3) for n in shape)).repeat(3, 0).repeat(3, 1)
    values = blocks.repeat(3, 2)[: shape[0], : shape[1], : shape[2]] + draw.normal(0, 0.3, shape)
    return values.astype(kind) if kind == "f4" else (values * 30 + 120).clip(0, 255).astype(kind)


@pytest.mark.parametrize("kind", ["u1", "f4"])
@pytest.mark.parametrize("smooth", [0.0, 12.0])
@pytest.mark.parametrize(
    ("spacing", "cells"), [(10.0, (19, 15, 20)), (7.0, (22, 20, 25)), (23.0, (8, 6, 8))]
)
@pytest.mark.parametrize("threshold", [None, 0.2])
@pytest.mark.parametrize("one_piece", [True, False])
def test_bone_from_slabs_is_that_from_the_whole(
    tmp_path, kind, smooth, spacing, cells, threshold, one_piece
):
    values = speckled((21, 17, 22), kind)
    geometry = Geometry(
        "image",
        image=str(_numpy(tmp_path, values)),
        image_voxel=10.0,
        image_origin=(10.0, 0.0, 7.0),
        smooth=smooth,
        threshold=threshold if kind == "f4" or threshold is None else 126.0,
        largest_component=one_piece,
    )
    lattice = Lattice((cells[2] - 1, cells[1], cells[0] - 1), spacing)
    whole = planes_from_image(geometry, lattice, Workspace()).whole()
    assert 0 < whole.sum() < whole.size
    for count in (1, 900):
        space = Workspace(BYTES_PER_VOXEL * count, tmp_path)
        found = planes_from_image(geometry, lattice, space).whole()
        np.testing.assert_array_equal(found, whole, strict=True)


def test_what_is_wrong_in_the_last_slab_is_found(tmp_path):
    values = VALUES.astype(np.float32)
    values[-1, 3, 4] = np.nan
    geometry = Geometry("image", image=str(_numpy(tmp_path, values)), image_voxel=10.0)
    with pytest.raises(InputError, match="not finite"):
        planes_from_image(geometry, Lattice((4, 4, 4), 10.0), Workspace(1))
    folder = _folder(tmp_path)
    tifffile.imwrite(folder / "slice99.tif", VALUES[0, :3])
    geometry = Geometry("image", image=str(folder), image_voxel=10.0)
    with pytest.raises(InputError, match=r"slice99\.tif differs"):
        planes_from_image(geometry, Lattice((4, 4, 4), 10.0), Workspace(1))


@pytest.mark.parametrize("smooth", [0.0, 12.0])
def test_the_room_for_temporary_files_is_foretold(tmp_path, smooth, monkeypatch):
    alive, most = weakref.WeakSet(), [0]
    begin = Planes.__init__

    def counted(self, shape, dtype, values, folder=None):
        begin(self, shape, dtype, values, folder)
        alive.add(self)
        most.append(sum(planes.nbytes for planes in alive))

    monkeypatch.setattr(Planes, "__init__", counted)
    path = _numpy(tmp_path, speckled((21, 17, 22), "u1"))
    geometry = Geometry("image", image=str(path), image_voxel=10.0, smooth=smooth)
    arguments = geometry, Lattice((20, 15, 18), 10.0), Workspace(1)
    planes_from_image(*arguments)
    assert max(most) == temporary_bytes(*arguments)


def test_memory_of_an_image_in_slabs_is_small(tmp_path):
    """The bone of an image of 8 million voxels, whose labels alone would take 34 MB."""
    values = np.zeros((128, 256, 256), np.uint8)
    values[::2, 3:9] = values[:, 100:150, ::3] = 200
    geometry = Geometry("image", image=str(_numpy(tmp_path, values)), image_voxel=10.0)
    lattice = Lattice((256, 256, 128), 10.0)
    expected = int((values > 0).sum())
    del values
    tracemalloc.start()
    try:
        bone = planes_from_image(geometry, lattice, Workspace(16 << 20, tmp_path))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < 16 << 20
    assert 0 < sum(int(bone.read(z, z + 1).sum()) for z in range(128)) <= expected
