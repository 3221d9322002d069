"""Whether files can be written and locked here: what `osteolattice doctor` asks of HDF5."""

from pathlib import Path
from tempfile import NamedTemporaryFile

import h5py

__all__ = ["hdf5_versions", "locking_problem"]


def hdf5_versions() -> str:
    """The versions of h5py and of the HDF5 library beneath it."""
    return f"h5py {h5py.version.version}, HDF5 {h5py.version.hdf5_version}"


def locking_problem(folder: Path) -> str | None:
    """What goes wrong when a file in `folder` is written, closed and read; None if nothing does."""
    try:
        with NamedTemporaryFile(dir=folder, prefix=".osteolattice-", suffix=".h5") as place:
            with h5py.File(place.name, "w") as file:
                file["x"] = range(8)
            with h5py.File(place.name, "r") as file:
                data = file["x"]
                same = isinstance(data, h5py.Dataset) and list(data[()]) == list(range(8))
                return None if same else "it does not read back"
    except OSError as error:
        return str(error)
