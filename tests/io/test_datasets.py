"""Arrays as they lie in HDF5 files: read by HDF5 itself, checksums included."""

import h5py
import numpy as np
import pytest

from lattice.io import datasets
from lattice.io.datasets import fletcher32, write_array

RNG = np.random.default_rng(4)


def some(shape, dtype):
    """Values with runs of zeros, as bone and cells have them."""
    values = RNG.integers(0, 200, shape) * (RNG.random(shape) < 0.3)
    return values.astype(dtype) / np.dtype(dtype).type(
        7 if np.issubdtype(dtype, np.floating) else 1
    )


@pytest.mark.parametrize("compression", ["gzip", "lzf", "none"])
@pytest.mark.parametrize("dtype", ["uint8", "int32", "float32", "float64"])
@pytest.mark.parametrize("shape", [(1,), (7,), (5, 3), (11, 6, 5), (9, 4, 3, 2)])
def test_hdf5_reads_what_was_written(tmp_path, monkeypatch, shape, dtype, compression):
    monkeypatch.setattr(datasets, "CHUNK_BYTES", 4 * 6 * 5 * 2)  # several chunks, the last in part
    values = some(shape, dtype).astype(dtype)
    with h5py.File(tmp_path / "x.h5", "w") as file:
        write_array(file, "still", values, compression)
        write_array(file, "moving", np.stack([values, values[::-1]]), compression, frames=True)
    with h5py.File(tmp_path / "x.h5") as file:
        np.testing.assert_array_equal(file["still"], values)
        np.testing.assert_array_equal(file["moving"], np.stack([values, values[::-1]]))
        assert file["moving"].chunks[0] == 1
        assert file["still"].fletcher32
        assert file["still"].dtype == values.dtype
        assert file["still"].compression == (None if compression == "none" else compression)


def test_numbers_and_empty_arrays(tmp_path):
    with h5py.File(tmp_path / "x.h5", "w") as file:
        write_array(file, "number", np.array(5), "gzip")
        write_array(file, "nothing", np.zeros((0, 3)), "gzip")
        assert file["number"][()] == 5
        assert file["nothing"].shape == (0, 3)


@pytest.mark.parametrize("size", [1, 2, 3, 719, 722, 4096, 100_001, 600_000])
@pytest.mark.parametrize("kind", ["random", "zeros", "ones", "multiple of 65535"])
def test_checksum_is_that_of_hdf5(tmp_path, size, kind):
    values = {
        "random": RNG.integers(0, 256, size, np.uint8),
        "zeros": np.zeros(size, np.uint8),
        "ones": np.full(size, 255, np.uint8),
        "multiple of 65535": np.resize(np.array([255, 254, 0, 1], np.uint8), size),
    }[kind]
    with h5py.File(tmp_path / "x.h5", "w") as file:
        dataset = file.create_dataset("a", data=values, chunks=(size,), fletcher32=True)
        file.flush()
        _, stored = dataset.id.read_direct_chunk((0,))
    assert stored[:-4] == values.tobytes()
    assert fletcher32(values.tobytes()) == int.from_bytes(stored[-4:], "little")


def test_a_flipped_bit_is_found_by_hdf5(tmp_path):
    path = tmp_path / "x.h5"
    with h5py.File(path, "w") as file:
        where = write_array(file, "a", some((8, 8, 8), "float32"), "gzip").id.get_chunk_info(0)
    for place in range(0, where.size, 7):
        content = bytearray(path.read_bytes())
        content[where.byte_offset + place] ^= 4
        (tmp_path / "y.h5").write_bytes(content)
        with h5py.File(tmp_path / "y.h5") as file, pytest.raises(OSError, match=r"[Rr]ead"):
            file["a"][()]


def test_as_small_as_what_hdf5_makes(tmp_path):
    values = some((32, 32, 32), "float32")
    with h5py.File(tmp_path / "x.h5", "w") as file:
        ours = write_array(file, "ours", values, "gzip")
        theirs = file.create_dataset(
            "theirs", data=values, chunks=ours.chunks, shuffle=True, compression=1
        )
        file.flush()
        assert ours.id.get_storage_size() < 1.1 * theirs.id.get_storage_size()
