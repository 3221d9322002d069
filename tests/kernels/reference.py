"""References in float64: the voxel system as a dense matrix, and its exact solution in time."""

from __future__ import annotations

import numpy as np
from scipy.linalg import eigh
from scipy.ndimage import gaussian_filter

DIFFUSION = np.array([100.0, 63.0, 10.0, 0.5]) * 3600  # um^2/hour
DECAY = np.log(2) / np.array([1 / 6, 6.0, 1.5, 48.0])  # 1/hour
VOXEL = 10.0


def random_bone(shape, fraction=0.25, seed=0):
    """A smooth random field above a quantile, as uint8."""
    field = gaussian_filter(np.random.default_rng(seed).standard_normal(shape), 1.5)
    return (field > np.quantile(field, 1 - fraction)).astype(np.uint8)


def diffusion_matrix(bone, in_bone, periodic=(False, False, False), voxel=VOXEL):
    """Minus div f grad for unit diffusion, with harmonic means on faces."""
    f = np.where(bone, in_bone, 1.0).ravel()
    index = np.arange(bone.size).reshape(bone.shape)
    matrix = np.zeros((bone.size, bone.size))
    for axis, extent in enumerate(bone.shape):
        for i in range(extent if periodic[axis] and extent > 1 else extent - 1):
            a = np.take(index, i, axis).ravel()
            b = np.take(index, (i + 1) % extent, axis).ravel()
            k = 2 * f[a] * f[b] / (f[a] + f[b]) / voxel**2
            for row, column, sign in ((a, a, 1), (b, b, 1), (a, b, -1), (b, a, -1)):
                np.add.at(matrix, (row, column), sign * k)
    return matrix


class ExactInTime:
    """du/dt = source - A u for constant sources, exactly, for several species of one matrix."""

    def __init__(self, bone, in_bone, diffusion, decay, **options):
        self.shape = bone.shape
        values, self.vectors = eigh(diffusion_matrix(bone, in_bone, **options))
        self.rates = decay[:, None] + diffusion[:, None] * np.maximum(values, 0)

    def step(self, u, source, dt):
        """The field [z, y, x, S] after a time dt."""
        count = len(self.rates)
        modes = self.vectors.T @ u.reshape(-1, count)
        push = self.vectors.T @ source.reshape(-1, count)
        steady = push / self.rates.T
        modes = steady + np.exp(-self.rates.T * dt) * (modes - steady)
        return (self.vectors @ modes).reshape(*self.shape, count)


def relative(a, b):
    """Relative L2 error of each species."""
    a, b = np.asarray(a, np.float64), np.asarray(b, np.float64)
    return np.sqrt(((a - b) ** 2).sum((0, 1, 2)) / (b**2).sum((0, 1, 2)))


def random_sources(rng, places, shape, species, fraction=0.01):
    """Unit sources in a part of the places (flat indices), the same for every species."""
    chosen = rng.choice(places, max(1, int(fraction * np.prod(shape))), replace=False)
    field = np.zeros(int(np.prod(shape)))
    field[chosen] = 1
    return np.repeat(field.reshape(shape)[..., None], species, axis=-1)
