"""Images in: every format, and what is refused."""

import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
import SimpleITK as itk
import tifffile

from lattice.io.images import read_image
from lattice.model.errors import InputError

ROOT = Path(__file__).parents[2]
SHAPE = (5, 6, 7)
VALUES = np.random.default_rng(0).integers(0, 60_000, SHAPE).astype(np.uint16)


def _tiff(path: Path) -> Path:
    tifffile.imwrite(path / "stack.tif", VALUES, photometric="minisblack", compression="zlib")
    return path / "stack.tif"


def _tiff_folder(path: Path) -> Path:
    folder = path / "slices"
    folder.mkdir()
    for i, plane in enumerate(VALUES):
        # Without leading zeros, from 8 to 12: 10 must not come before 8.
        tifffile.imwrite(folder / f"slice{i + 8}.tif", plane)
    (folder / "notes.txt").touch()
    return folder


def _numpy(path: Path) -> Path:
    np.save(path / "stack.npy", VALUES.astype(">u2"))
    return path / "stack.npy"


def _hdf5(path: Path) -> Path:
    with h5py.File(path / "bone.h5", "w") as file:
        file["entry/data"] = VALUES
        file["entry/angles"] = np.arange(3)
    return path / "bone.h5"


def _hdf5_named(path: Path) -> Path:
    with h5py.File(_hdf5(path), "r+") as file:
        file["other"] = VALUES[::-1]
    return Path(f"{path / 'bone.h5'}:entry/data")


@pytest.mark.parametrize("make", [_tiff, _tiff_folder, _numpy, _hdf5, _hdf5_named])
def test_formats_without_a_voxel_size_need_one(tmp_path, make):
    path = make(tmp_path)
    image = read_image(path, 12.5)
    np.testing.assert_array_equal(image.values, VALUES, strict=True)
    assert image.voxel_um == (12.5, 12.5, 12.5)
    with pytest.raises(InputError, match=r"image_voxel = \"19.5 um\""):
        read_image(path)


@pytest.mark.parametrize("ending", [".nrrd", ".nhdr", ".mha", ".mhd", ".nii", ".nii.gz"])
def test_medical_formats_carry_their_voxel_size(tmp_path, ending):
    image = itk.GetImageFromArray(VALUES)
    image.SetSpacing((0.010, 0.011, 0.012))
    path = tmp_path / f"bone{ending}"
    itk.WriteImage(image, str(path))
    found = read_image(path)
    np.testing.assert_array_equal(found.values, VALUES, strict=True)
    np.testing.assert_allclose(found.voxel_um, (12.0, 11.0, 10.0), rtol=1e-6)
    assert read_image(path, 3.0).voxel_um == (3.0, 3.0, 3.0)
    image.SetSpacing((1.0, 1.0, 1.0))
    itk.WriteImage(image, str(path))
    with pytest.raises(InputError, match="image_voxel"):
        read_image(path)


def test_voxel_sizes_of_imagej_ome_and_hdf5(tmp_path):
    path = tmp_path / "imagej.tif"
    notes = {"spacing": 0.012, "unit": "mm", "axes": "ZYX"}
    tifffile.imwrite(path, VALUES, imagej=True, resolution=(100, 50), metadata=notes)
    np.testing.assert_allclose(read_image(path).voxel_um, (12.0, 20.0, 10.0))
    path = tmp_path / "bone.ome.tif"
    sizes = {"PhysicalSizeX": 10.0, "PhysicalSizeY": 0.011, "PhysicalSizeYUnit": "mm"}
    sizes |= {"PhysicalSizeZ": 12.0, "axes": "ZYX"}
    tifffile.imwrite(path, VALUES, metadata=sizes)
    np.testing.assert_allclose(read_image(path).voxel_um, (12.0, 11.0, 10.0))
    with h5py.File(_hdf5(tmp_path), "r+") as file:
        file["entry/data"].attrs["element_size_um"] = (12.0, 11.0, 10.0)
    assert read_image(tmp_path / "bone.h5").voxel_um == (12.0, 11.0, 10.0)


def test_print_resolution_is_not_a_voxel_size(tmp_path):
    path = tmp_path / "stack.tif"
    tifffile.imwrite(path, VALUES, resolution=(72, 72), resolutionunit="INCH")
    with pytest.raises(InputError, match="image_voxel"):
        read_image(path)


def _rgb(path: Path) -> Path:
    tifffile.imwrite(path / "rgb.tif", np.zeros((4, 5, 6, 3), np.uint8), photometric="rgb")
    return path / "rgb.tif"


def _not_finite(path: Path) -> Path:
    np.save(path / "nan.npy", np.full(SHAPE, np.nan))
    return path / "nan.npy"


def _objects(path: Path) -> Path:
    np.save(path / "objects.npy", np.array([[[{}]]], dtype=object), allow_pickle=True)
    return path / "objects.npy"


def _unknown(path: Path) -> Path:
    (path / "bone.stl").write_text("solid")
    return path / "bone.stl"


def _uneven_folder(path: Path) -> Path:
    folder = _tiff_folder(path)
    tifffile.imwrite(folder / "slice99.tif", VALUES[0, :3])
    return folder


def _empty_folder(path: Path) -> Path:
    return path


def _absurd_numpy(path: Path) -> Path:
    file = _numpy(path)
    file.write_bytes(file.read_bytes().replace(b"(5, 6, 7)", b"(5000000000, 6000, 7)")[:200])
    return file


def _absurd_nrrd(path: Path) -> Path:
    (path / "bone.nrrd").write_bytes(
        b"NRRD0004\ntype: uint8\ndimension: 3\nsizes: 99999 99999 99999\nencoding: raw\n\nabc"
    )
    return path / "bone.nrrd"


def _absurd_meta(path: Path) -> Path:
    (path / "bone.mhd").write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 90000 90000 90000\nElementType = MET_UCHAR\n"
        "ElementDataFile = bone.raw\n"
    )
    (path / "bone.raw").write_bytes(bytes(100))
    return path / "bone.mhd"


def _absurd_axes(path: Path) -> Path:
    (path / "bone.mha").write_text(
        "ObjectType = Image\nNDims = 18446744073709551616\nDimSize = 7 6 5\n"
        "ElementType = MET_UCHAR\nElementDataFile = LOCAL\n"
    )
    return path / "bone.mha"


def _endless_tiff(path: Path) -> Path:
    file = path / "endless.tif"
    tifffile.imwrite(file, VALUES, photometric="minisblack")
    with tifffile.TiffFile(file) as tiff:
        last, first = tiff.pages[-1].offset, tiff.pages[0].offset
    content = bytearray(file.read_bytes())
    tags = int.from_bytes(content[last : last + 2], sys.byteorder)
    link = last + 2 + 12 * tags
    content[link : link + 4] = first.to_bytes(4, sys.byteorder)
    file.write_bytes(content)
    return file


def _absurd_hdf5(path: Path) -> Path:
    with h5py.File(path / "bone.h5", "w") as file:
        file.create_dataset("a", shape=(10**5, 10**5, 10**5), dtype="u1", chunks=True)
    return path / "bone.h5"


def _absurd_tiff(path: Path) -> Path:
    content = bytearray(_tiff(path).read_bytes())
    with tifffile.TiffFile(path / "stack.tif") as tiff:
        tag = tiff.pages.first.tags["ImageWidth"]
    content[tag.valueoffset : tag.valueoffset + 4] = (2**31 - 1).to_bytes(4, sys.byteorder)
    (path / "stack.tif").write_bytes(content)
    return path / "stack.tif"


@pytest.mark.parametrize(
    "make",
    [
        _rgb,
        _not_finite,
        _objects,
        _unknown,
        _uneven_folder,
        _empty_folder,
        _absurd_numpy,
        _absurd_nrrd,
        _absurd_meta,
        _absurd_axes,
        _endless_tiff,
        _absurd_hdf5,
        _absurd_tiff,
    ],
)
def test_what_is_no_grey_volume_is_refused_in_one_sentence(tmp_path, make):
    path = make(tmp_path)
    with pytest.raises(InputError, match=r"^geometry\.image: ") as caught:
        read_image(path, 10.0)
    assert str(path.name) in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("names", ["bone%03d.{}raw 1 5 1", "LIST {}"])
def test_names_of_data_files_that_a_decoder_has_no_room_for_are_refused(tmp_path, names):
    """The decoder of MetaImage copies each word of them into 80 bytes."""
    image = tmp_path / "bone.mhd"
    image.write_text(
        "ObjectType = Image\nNDims = 3\nDimSize = 7 6 5\nElementType = MET_UCHAR\n"
        f"ElementDataFile = {names.format('x' * 200)}\n"
    )
    with pytest.raises(InputError, match=r"^geometry\.image: .*bone\.mhd.*shorten the names"):
        read_image(image, 10.0)


@pytest.mark.parametrize("make", [_tiff, _numpy, _hdf5])
def test_mangled_files_are_refused(tmp_path, make):
    path = make(tmp_path)
    whole = path.read_bytes()
    for length in (0, 3, 40, len(whole) // 2):
        path.write_bytes(whole[:length])
        with pytest.raises(InputError, match=r"^geometry\.image: "):
            read_image(path, 10.0)


def test_a_decoder_says_nothing_beside_the_one_sentence(tmp_path):
    """In a process whose logging nobody has set up, as that of a command."""
    path = _tiff(tmp_path)
    with tifffile.TiffFile(path) as tiff:
        place = tiff.pages.first.tags["ImageWidth"].offset + 2
    content = bytearray(path.read_bytes())
    content[place : place + 2] = b"\0\0"  # no type of TIFF
    path.write_bytes(content)
    code = (
        "import sys; from pathlib import Path\n"
        "from lattice.io.images import InputError, read_image\n"
        "try: read_image(Path(sys.argv[1]), 10.0)\n"
        "except InputError as error: print(error)\n"
    )
    command = [sys.executable, "-c", code, str(path)]
    told = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert told.stderr == ""
    assert told.stdout.startswith("geometry.image: ")
    assert told.stdout.count("\n") == 1


def test_absent_images_and_datasets_are_named(tmp_path):
    with pytest.raises(InputError, match=r"nowhere\.tif does not exist"):
        read_image(tmp_path / "nowhere.tif")
    with pytest.raises(InputError, match="entry/data"):
        read_image(Path(f"{_hdf5(tmp_path)}:wrong"))


def test_a_missing_package_is_one_sentence(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "SimpleITK", None)
    (tmp_path / "bone.nrrd").touch()
    with pytest.raises(InputError, match=r"pip install 'osteolattice\[images\]'"):
        read_image(tmp_path / "bone.nrrd")
