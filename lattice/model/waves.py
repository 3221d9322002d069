"""Gaussian random fields with wavelengths in a narrow band, made slab by slab.

Transforms run along one axis at a time, so that slabs which hold whole lines along it are enough;
the bits are those of a transform of the whole.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.fft import next_fast_len

from lattice.model.planes import Planes, Shape, Workspace

__all__ = ["Field", "band_limited_field", "box_of", "spectrum_of"]

BANDWIDTH = 0.2
"""Standard deviation of the wave number, relative to its mean."""

LEAF = 1 << 20
"""Values that are summed at once."""


@dataclass(frozen=True)
class Field:
    """A random field in a box that is at least as large as the lattice, not yet of variance 1."""

    values: Planes
    deviation: np.float32

    def normalised(self, first: int, last: int, shape: Shape) -> np.ndarray:
        """Planes of the lattice, cut from the box, of variance 1."""
        return (self.values.read(first, last) / self.deviation)[:, : shape[1], : shape[2]]


def band_limited_field(
    shape: Shape,
    periodic: tuple[bool, bool, bool],
    wavelength: float,
    random: np.random.Generator,
    workspace: Workspace,
) -> Field:
    """A Gaussian random field, float32, with wave numbers around 1 / `wavelength` (voxels).

    It is made in the box of `box_of`, which is periodic. Raises StorageError.
    """
    box = box_of(shape, periodic, wavelength)
    spectrum = _filtered_noise(box, wavelength, random, workspace)

    def plane(first: int, last: int) -> np.ndarray:
        along_x = np.fft.ifft(spectrum.read(first, last), axis=1)
        return np.fft.irfft(along_x, n=box[2], axis=2)

    values = workspace.filled(box, plane, np.float32)
    return Field(values, deviation(values))


def box_of(shape: Shape, periodic: tuple[bool, bool, bool], wavelength: float) -> Shape:
    """The lattice, made longer along axes that do not wrap by more than the memory of a field, so
    that their two ends are independent."""
    margin = round(1.5 * wavelength)
    z, y, x = (
        n if wraps else int(next_fast_len(n + margin, real=True) or n + margin)
        for n, wraps in zip(shape, periodic, strict=True)
    )
    return z, y, x


def spectrum_of(box: Shape) -> Shape:
    """The shape of the spectrum (complex64) of a box."""
    return box[0], box[1], box[2] // 2 + 1


def _filtered_noise(
    box: Shape, wavelength: float, random: np.random.Generator, workspace: Workspace
) -> Planes:
    """White noise times the weights of the band: over z as it is, over y and x as waves."""
    slabs, (_, ny, nx) = workspace.slabs(box), box
    spectrum = workspace.planes(spectrum_of(box), np.complex64)
    for first, last in slabs:  # the generator gives the numbers of the whole, in order
        noise = random.standard_normal((last - first, ny, nx), dtype=np.float32)
        spectrum.write(first, np.fft.fft(np.fft.rfft(noise, axis=2), axis=1))
    for first, last in workspace.slabs(box, axis=1):
        waves = np.fft.fft(spectrum.read_rows(first, last), axis=0)
        waves *= _weights(box, first, last, wavelength)
        spectrum.write_rows(first, np.fft.ifft(waves, axis=0))
    return spectrum


def _weights(box: Shape, first: int, last: int, wavelength: float) -> np.ndarray:
    """How much of each wave stays, for some wave numbers along y."""
    z, y, x = np.fft.fftfreq(box[0]), np.fft.fftfreq(box[1])[first:last], np.fft.rfftfreq(box[2])
    square = sum(k**2 for k in np.meshgrid(z, y, x, indexing="ij", sparse=True))
    weight = np.exp(-0.5 * ((np.sqrt(square) * wavelength - 1) / BANDWIDTH) ** 2)
    if first == 0:
        weight[0, 0, 0] = 0
    return weight.astype(np.float32)


def deviation(values: Planes) -> np.float32:
    """The standard deviation, to the bits of `numpy.std` of the whole array."""
    count = np.int64(values.shape[0] * values.plane)
    mean = np.float32(_summed(values, 0, int(count), None) / count)
    variance = np.float32(_summed(values, 0, int(count), mean) / count)
    return np.sqrt(variance)


def _summed(values: Planes, first: int, count: int, mean: np.float32 | None) -> np.float32:
    """Sum of `count` values from `first` on, or of their squared distances from a mean: the tree of
    halves, each but the last a multiple of 8, in which NumPy adds what lies together in memory."""
    if count <= LEAF:
        part = values.flat(first, first + count)
        if mean is not None:
            part = np.square(part - mean)
        return np.add.reduce(part)
    half = count // 2
    half -= half % 8
    left = _summed(values, first, half, mean)
    return left + _summed(values, first + half, count - half, mean)
