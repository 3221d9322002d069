"""Apparent stiffness of a piece of bone, by finite elements of its voxels.

Every voxel with mineral is one linear hexahedron, as in van Rietbergen et al., J. Biomech. 28
(1995) 69-81: isotropic, of Poisson's ratio 0.3, and of a modulus in proportion to the mineral that
it holds. In proportion (the upper bound of Voigt), because a partly filled voxel of this lattice is
a part of fully mineralised bone beside marrow, not bone of less mineral. The piece is compressed
between two smooth rigid plates, its sides are free, and the system is solved by conjugate
gradients without a matrix.

Validity: small strains, one tissue modulus everywhere, no marrow pressure, no damage. Free sides
make a small piece softer than the same bone inside a whole, and elements of this kind are too stiff
in bending where trabeculae are only a few voxels thick (`tests/analysis/test_stiffness.py` measures
that by refinement): compare pieces of one size and one voxel. What dead osteocytes do to the tissue
is beyond it; see "Lacunar integrity" in `lattice.analysis.cellular`.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Int, Shaped
from scipy import ndimage, sparse

from lattice.analysis.morphometry import Measure

POISSON = 0.3
LEAST_FRACTION = 0.05
"""Voxels with less mineral than this carry nothing: they would only slow the solver down."""
MOST_VOXELS = 400_000
"""In images of more voxels than this they are joined 2 x 2 x 2 at a time, to bound time, and their
mineral is averaged. The size of the image decides, not its bone, so that images of one size, as the
arms of a trial are, are measured alike: joining makes thin trabeculae stiffer by a half."""
_BLOCK = 1024
"""Elements whose forces are computed together: they stay in the cache, and a product of this size
is left to one thread, as it must be where many runs share a machine."""

DESCRIPTIONS = {
    "E.app/E.tissue": "apparent modulus along z as a share of the modulus of mineralised tissue, "
    "by voxel finite elements",
    "E.app/E.tissue (power law)": "the same from mineral volume alone, 0.885 x fraction ^ 1.89: "
    "the middle one of three axes (Yang et al., J. Elast. 53 (1999) 125; coefficients recalled). "
    "Its exponent lies within the 1.49 to 2.18 of Morgan et al., J. Biomech. 36 (2003) 897",
}


class Compression(NamedTuple):
    """Result of one virtual test."""

    modulus: float
    """Apparent modulus as a share of that of tissue."""
    elements: int
    iterations: int
    coarsening: int
    """Edge of an element in voxels."""


def stiffness_measures(mineral: Shaped[np.ndarray, "Z Y X"]) -> dict[str, Measure]:
    """The apparent modulus of a piece and a second opinion from its volume, in % of tissue.

    Nothing is measured in images of more than eight times `MOST_VOXELS`."""
    share = float(np.clip(mineral, 0, 1).mean(dtype=np.float64))
    if mineral.size > 8 * MOST_VOXELS:
        return {}
    return {
        "E.app/E.tissue": Measure(100 * compress(mineral).modulus, "%"),
        "E.app/E.tissue (power law)": Measure(100 * 0.885 * share**1.89, "%"),
    }


def compress(
    mineral: Shaped[np.ndarray, "Z Y X"],
    axis: int = 0,
    *,
    poisson: float = POISSON,
    most_voxels: int = MOST_VOXELS,
    tolerance: float = 1e-3,
) -> Compression:
    """Compress a piece along an axis of the array between smooth plates.

    `mineral`: fractions of mineral (0 to 1). `tolerance`: of the residual, relative to its start;
    the error of the modulus goes with its square. Bone that does not reach from plate to plate has
    the modulus 0. Raises ArithmeticError if the solver does not arrive.
    """
    moduli, factor = _coarsened(np.moveaxis(np.clip(mineral, 0, 1), axis, 0), most_voxels)
    carrying = _spanning(moduli >= LEAST_FRACTION)
    if not carrying.any():
        return Compression(0.0, 0, 0, factor)
    system = _System.of(carrying, moduli, poisson)
    moved, iterations = _solve(system, tolerance)
    height, *across = moduli.shape
    # Twice the energy of unit strain over the volume of the piece.
    energy = float((moved * system.force(moved)).sum(dtype=np.float64))
    modulus = energy / (height * across[0] * across[1])
    return Compression(modulus, len(system.moduli), iterations, factor)


def _coarsened(fraction: np.ndarray, most: int) -> tuple[Float[np.ndarray, "Z Y X"], int]:
    """Means over blocks of voxels (the last ones go on as the image ends), and their edge."""
    values, factor = np.asarray(fraction, np.float64), 1
    while values.size > most:
        values = np.pad(values, [(0, n % 2) for n in values.shape], mode="edge")
        z, y, x = (n // 2 for n in values.shape)
        values = values.reshape(z, 2, y, 2, x, 2).mean((1, 3, 5))
        factor *= 2
    return values, factor


def _spanning(mask: Bool[np.ndarray, "Z Y X"]) -> Bool[np.ndarray, "Z Y X"]:
    """The pieces that touch both plates; elements hang together by any shared corner."""
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask, np.ones((3, 3, 3)), output=labels)
    both = np.intersect1d(labels[0], labels[-1])
    return np.isin(labels, both[both > 0])


class _System(NamedTuple):
    """Elements of unit edge: their corners, moduli, and which displacements are prescribed."""

    corners: Int[np.ndarray, "E 8"]
    moduli: Float[np.ndarray, "E"]
    unit: Float[np.ndarray, "24 24"]
    height: Int[np.ndarray, "N"]
    """Of each node above the lower plate."""
    top: int
    gather: sparse.csr_array
    """Sums over the corners of all elements (columns, 8 E) at each node (rows)."""

    @classmethod
    def of(cls, carrying: np.ndarray, moduli: np.ndarray, poisson: float) -> _System:
        at = np.argwhere(carrying)
        shape = np.array(carrying.shape) + 1
        offsets = np.array(np.unravel_index(range(8), (2, 2, 2))).T
        nodes = np.ravel_multi_index(tuple((at[:, None] + offsets).T), tuple(shape)).T
        used, corners = np.unique(nodes, return_inverse=True)
        height = np.unravel_index(used, tuple(shape))[0]
        count = corners.size
        gather = sparse.csr_array(
            (np.ones(count, np.float32), (corners.ravel(), np.arange(count))), (len(used), count)
        )
        return cls(
            corners.reshape(nodes.shape),
            moduli[carrying].astype(np.float32),
            element(poisson).astype(np.float32),
            height,
            len(carrying),
            gather,
        )

    @property
    def free(self) -> Bool[np.ndarray, "N 3"]:
        """The plates hold the first component of the nodes that they touch."""
        free = np.ones((len(self.height), 3), bool)
        free[(self.height == 0) | (self.height == self.top), 0] = False
        return free

    def force(self, moved: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """The stiffness matrix times displacements."""
        each = np.empty((len(self.moduli), 24), np.float32)
        for first in range(0, len(each), _BLOCK):
            some = slice(first, first + _BLOCK)
            ends = np.take(moved, self.corners[some], axis=0).reshape(-1, 24)
            np.matmul(ends, self.unit, out=each[some])
        each *= self.moduli[:, None]
        return self.gather @ each.reshape(-1, 3)

    def diagonal(self) -> Float[np.ndarray, "N 3"]:
        """The diagonal of the stiffness matrix."""
        each = self.moduli[:, None] * np.diag(self.unit)
        return self.gather @ each.reshape(-1, 3)


def element(poisson: float) -> Float[np.ndarray, "24 24"]:
    """Stiffness matrix of a trilinear cube of unit edge and modulus, by 2 x 2 x 2 Gauss points.

    Corners in the order of the bits (z, y, x), with three displacements (z, y, x) each."""
    lame = poisson / ((1 + poisson) * (1 - 2 * poisson))
    shear = 1 / (2 * (1 + poisson))
    elastic = np.diag([2 * shear] * 3 + [shear] * 3)
    elastic[:3, :3] += lame
    corner = np.array(np.unravel_index(range(8), (2, 2, 2))).T  # 0 or 1
    total = np.zeros((24, 24))
    for point in 0.5 + (corner - 0.5) / np.sqrt(3):
        along = np.where(corner == 1, point, 1 - point)  # the shape function's three factors
        sign = 2 * corner - 1
        slope = np.stack(
            [sign[:, i] * np.delete(along, i, axis=1).prod(axis=1) for i in range(3)], axis=1
        )
        strain = np.zeros((6, 8, 3))
        for i in range(3):
            strain[i, :, i] = slope[:, i]
            j, k = (i + 1) % 3, (i + 2) % 3
            strain[3 + i, :, j], strain[3 + i, :, k] = slope[:, k], slope[:, j]
        b = strain.reshape(6, 24)
        total += b.T @ elastic @ b / 8
    return total


def _solve(system: _System, tolerance: float) -> tuple[Float[np.ndarray, "N 3"], int]:
    """Displacements at a unit compressive strain, by conjugate gradients preconditioned by the
    diagonal. Sliding and turning as a whole stay as the start has them: no force acts on them."""
    free, diagonal = system.free, system.diagonal()
    moved = np.zeros((len(system.height), 3), np.float32)
    moved[:, 0] = -system.height  # uniform strain, which the plates prescribe at both ends
    residual = -system.force(moved) * free
    start = _dot(residual, residual) ** 0.5
    if start <= 1e-6 * _dot(diagonal, diagonal) ** 0.5:
        return moved, 0
    direction = scaled = residual / diagonal
    product = _dot(residual, scaled)
    for iteration in range(1, 20_000):
        force = system.force(direction) * free
        step = np.float32(product / _dot(direction, force))
        moved = moved + step * direction
        residual = residual - step * force
        if _dot(residual, residual) <= (tolerance * start) ** 2:
            return moved, iteration
        scaled = residual / diagonal
        last, product = product, _dot(residual, scaled)
        direction = scaled + np.float32(product / last) * direction
    raise ArithmeticError("the finite-element solver did not arrive in 20000 iterations")


def _dot(a: np.ndarray, b: np.ndarray) -> float:
    """In double precision: the vectors themselves are single, which suffices for 1e-4."""
    return float(np.einsum("ij,ij->", a, b, dtype=np.float64))
