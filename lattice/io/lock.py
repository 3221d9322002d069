"""One process at a time writes to a run folder."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import socket
from pathlib import Path
from types import TracebackType

from lattice.io.files import explain_os_error
from lattice.model.errors import InputError

NAME = ".lock"


class RunLock:
    """Holds the right to write to a run folder until `release`.

    The lock belongs to the open file, not to the file's existence, so the operating system
    drops it with the process, however that ends. `shared` with others who ask so, each of which
    writes to a part of the folder of which it holds the lock, under the `part`'s name. Raises
    InputError when another process holds it.
    """

    def __init__(self, folder: Path, *, shared: bool = False, part: str | None = None):
        path = folder / (NAME if part is None else f"{NAME}.{part}")
        try:
            self._descriptor: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o666)
        except OSError as error:
            raise explain_os_error(path, error) from error
        try:
            kind = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
            fcntl.flock(self._descriptor, kind | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._descriptor, 200, 0).decode(errors="replace").strip()
            if error.errno in (errno.EWOULDBLOCK, errno.EACCES):
                self.release()
                what = folder if part is None else f"{part} in {folder}"
                raise InputError(
                    f"{what} is being written by another process ({owner or 'unknown'}): "
                    "wait for it or choose another folder with --out"
                ) from error
            if error.errno not in (errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS):
                self.release()
                raise explain_os_error(path, error) from error
            # Some network file systems have no locks; a run there must still be possible.
        with contextlib.suppress(OSError):
            os.ftruncate(self._descriptor, 0)
            os.pwrite(
                self._descriptor, f"process {os.getpid()} on {socket.gethostname()}\n".encode(), 0
            )

    def release(self) -> None:
        """Lets another process write. Releasing twice is harmless."""
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None

    def __enter__(self) -> RunLock:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()
