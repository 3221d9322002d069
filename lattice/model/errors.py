"""Errors with the exit code that the command line returns for each of them."""

__all__ = ["DamagedFileError", "InputError", "NumericalError", "OsteolatticeError", "StorageError"]


class OsteolatticeError(Exception):
    """Base of all errors that a user may see; the message is one clear sentence."""

    exit_code = 1


class InputError(OsteolatticeError):
    """Something the user wrote (a model file, an override, an image) cannot be used."""

    exit_code = 2


class NumericalError(OsteolatticeError):
    """A computation left the range in which its result can be trusted."""

    exit_code = 3


class DamagedFileError(OsteolatticeError):
    """A file written by an earlier run is truncated, altered or of another version."""

    exit_code = 4


class StorageError(OsteolatticeError):
    """A file could not be written; what was complete before is still there."""

    exit_code = 3
