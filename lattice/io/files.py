"""Files that appear complete or not at all, and the error when they cannot be written."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from io import RawIOBase
from pathlib import Path

import h5py

from lattice.model.errors import InputError, StorageError


def explain_os_error(path: Path, error: OSError) -> StorageError:
    """The sentence for an operating system's refusal to write `path`."""
    reason = error.strerror or str(error)
    return StorageError(
        f"{path} could not be written ({reason}): make room or restore write access, then go on "
        "with `osteolattice resume`; every file completed before is intact"
    )


def newer(path: Path, schema: int, known: int, version: object) -> InputError:
    """The sentence for a file of a newer schema, written by that version (None: unknown)."""
    needed = f"osteolattice {version} or newer" if version else "the newer version"
    return InputError(
        f"{path} was written by a newer osteolattice (schema {schema}, this one reads {known}): "
        f"install {needed}"
    )


def sync_folder(folder: Path) -> None:
    """Makes a rename in `folder` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder_of(path: Path) -> None:
    """Makes the folder that `path` lies in; the one above must be there. Raises StorageError."""
    try:
        path.parent.mkdir(exist_ok=True)
    except OSError as error:
        raise explain_os_error(path, error) from error


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path in the same folder that takes the name `path` at the end.

    The content is synced before the rename and the folder after it. On an error the temporary
    file is removed and `path` is what it was. Raises StorageError for an OSError.
    """
    temporary = path.with_name(f".{path.name}.part")
    try:
        yield temporary
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
        sync_folder(path.parent)
    except BaseException as error:
        # The folder itself may be gone or read-only: then nothing is left to clean.
        with _ignored_os_errors():
            temporary.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise explain_os_error(path, error) from error
        raise


@contextmanager
def _ignored_os_errors() -> Iterator[None]:
    try:
        yield
    except OSError:
        return


def write_text(path: Path, text: str) -> None:
    """Writes UTF-8 text atomically. Raises StorageError."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


class _Sink(RawIOBase):
    """The file that HDF5 writes to. It keeps the first error instead of passing it on.

    HDF5 leaves its caches in a broken state when the disk is full, and the process dies at the
    next garbage collection. So HDF5 is told that all went well, and the error is raised after
    HDF5 has closed its file.
    """

    def __init__(self, path: Path):
        self.error: OSError | None = None
        self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o666)
        self._position = 0

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self._position}.get(whence)
        if base is None:
            base = os.fstat(self._descriptor).st_size
        self._position = base + offset
        return self._position

    def tell(self) -> int:
        return self._position

    def readinto(self, buffer) -> int:
        count = os.preadv(self._descriptor, [buffer], self._position)
        self._position += count
        return count

    def write(self, buffer) -> int:
        view = memoryview(buffer).cast("B")
        done = 0
        try:
            while self.error is None and done < len(view):
                done += os.pwrite(self._descriptor, view[done:], self._position + done)
        except OSError as error:
            self.error = error
        self._position += len(view)
        return len(view)

    def truncate(self, size: int | None = None) -> int:
        size = self._position if size is None else size
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            self.error = self.error or error
        return size

    def close(self) -> None:
        if not self.closed:
            os.close(self._descriptor)
        super().close()


@contextmanager
def safe_sink(path: Path) -> Iterator[RawIOBase]:
    """A file object at `path` for h5py to write to. Raises OSError at the end if it must."""
    sink = _Sink(path)
    try:
        yield sink
    except OSError:
        # HDF5 may miss what it believes to have written: the first error is the reason.
        if sink.error is None:
            raise
    finally:
        sink.close()
    if sink.error is not None:
        raise sink.error


@contextmanager
def new_hdf5(path: Path, *, user_block: int = 0) -> Iterator[h5py.File]:
    """A new HDF5 file at `path`, which must be a temporary path of `replacing`.

    `user_block`: bytes kept free before HDF5's own. Raises OSError when the disk is full.
    """
    with safe_sink(path) as sink, h5py.File(sink, "w", userblock_size=user_block) as file:
        yield file


def dataset_in(group: h5py.Group, name: str) -> h5py.Dataset:
    """A dataset by name. Raises KeyError when there is none."""
    found = group[name]
    if not isinstance(found, h5py.Dataset):
        raise KeyError(f"{name} is not a dataset")
    return found


def group_in(group: h5py.Group, name: str) -> h5py.Group:
    """A group by name. Raises KeyError when there is none."""
    found = group[name]
    if not isinstance(found, h5py.Group):
        raise KeyError(f"{name} is not a group")
    return found


def text_in(group: h5py.Group, name: str) -> str:
    """A text by the name of its dataset. Raises KeyError when there is none, ValueError when it
    claims more bytes than the file has."""
    dataset = dataset_in(group, name)
    if _length_of_text(dataset) > os.fstat(group.file.id.get_vfd_handle()).st_size:
        raise ValueError(f"{name} claims more bytes than the file has")
    return str(dataset.asstr()[()])


def _length_of_text(dataset: h5py.Dataset) -> int:
    """Bytes of a text as its dataset claims them.

    Where texts have lengths of their own the dataset refers to this one by length (4 bytes, little
    endian), address and index. HDF5 sets the length aside before it looks whether any is there."""
    if dataset.shape != ():
        raise ValueError(f"{dataset.name} is not one text")
    kind = h5py.check_string_dtype(dataset.dtype)
    if kind is not None and kind.length is not None:
        return kind.length
    offset = dataset.id.get_offset()
    if offset is None:
        raise ValueError(f"{dataset.name} refers to no text")
    return int.from_bytes(os.pread(dataset.file.id.get_vfd_handle(), 4, offset), "little")
