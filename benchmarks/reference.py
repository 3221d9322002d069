"""The voxel system solved exactly in time, in float64 and without the project's solver.

du/dt = s - (decay + D L) u with the seven-point operator L (harmonic means at faces) is linear, and
all species have the same L. From an empty domain with sources s_0, s_1, ... of whole steps t, the
field at the end of step n is a sum of functions of L applied to the sources,

    u_n = sum_j exp(-(n - j) t A) (1 - exp(-t A)) / A s_j,      A = decay + D L.

Each function is expanded in Chebyshev polynomials on an interval that holds the spectrum
(Gershgorin), so that one recurrence for each s_j serves all species and times. What is cut off is
bounded by the sum of the coefficients left out, which is returned.

Source: Tal-Ezer & Kosloff, J. Chem. Phys. 81 (1984) 3967; Trefethen, Approximation Theory and
Approximation Practice (2013), chapters 3 and 8.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import scipy.sparse
from scipy.fft import dct

TOLERANCE = 1e-10
BLOCK = 16


def operator(bone: np.ndarray, in_bone: float, voxel: float) -> scipy.sparse.csr_matrix:
    """Minus div f grad, no-flux ends, f = `in_bone` in bone and 1 elsewhere, in 1/um^2."""
    f = np.where(bone, in_bone, 1.0)
    index = np.arange(f.size, dtype=np.int32).reshape(f.shape)
    diagonal = np.zeros(f.shape)
    rows, columns, values = [], [], []
    for axis in range(f.ndim):
        low = tuple(slice(None, -1) if a == axis else slice(None) for a in range(f.ndim))
        high = tuple(slice(1, None) if a == axis else slice(None) for a in range(f.ndim))
        k = 2 * f[low] * f[high] / (f[low] + f[high]) / voxel**2
        diagonal[low] += k
        diagonal[high] += k
        a, b = index[low].ravel(), index[high].ravel()
        rows += [a, b]
        columns += [b, a]
        values += [-k.ravel(), -k.ravel()]
    rows.append(index.ravel())
    columns.append(index.ravel())
    values.append(diagonal.ravel())
    entries = (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns)))
    return scipy.sparse.csr_matrix(entries, shape=(f.size, f.size))


def coefficients(function: Callable[[np.ndarray], np.ndarray], largest: float) -> np.ndarray:
    """Chebyshev coefficients on [0, largest], as many as rise above rounding."""
    terms = 256
    while True:
        x = np.cos(np.pi * (np.arange(terms) + 0.5) / terms)
        found = np.asarray(dct(function(largest / 2 * (1 + x)), type=2)) / terms
        found[0] /= 2
        if np.abs(found[-terms // 8 :]).max() < 1e-13 * np.abs(found).max():
            return found
        if terms > 1 << 16:
            raise ValueError("the function is too steep for a polynomial")
        terms *= 2


def truncated(found: np.ndarray, tolerance: float) -> tuple[np.ndarray, float]:
    """The shortest series whose rest is below a part of the whole, and the sum of the rest."""
    rest = np.append(np.cumsum(np.abs(found[::-1]))[::-1], 0.0)
    length = max(1, int(np.argmax(rest <= tolerance * rest[0])))
    return found[:length], float(rest[length])


def apply_functions(
    matrix: scipy.sparse.csr_matrix, largest: float, series: Sequence[np.ndarray], start: np.ndarray
) -> np.ndarray:
    """Each Chebyshev series as a function of the matrix, applied to one vector: [series, voxel]."""
    order = np.argsort([-len(s) for s in series])
    lengths = [len(series[i]) for i in order]
    table = np.zeros((len(series), max(lengths)))
    for row, i in enumerate(order):
        table[row, : lengths[row]] = series[i]
    total = np.zeros((len(series), start.size))
    block = np.zeros((BLOCK, start.size))
    scaled = matrix * (2 / largest)
    before = now = start
    for first in range(0, max(lengths), BLOCK):
        for k in range(first, min(first + BLOCK, max(lengths))):
            if k == 1:
                before, now = now, scaled @ now - now
            elif k > 1:
                following = scaled @ now
                following -= now
                following *= 2
                following -= before
                before, now = now, following
            block[k - first] = now
        # Series that have ended already are left out of the product.
        alive = sum(length > first for length in lengths)
        part = table[:alive, first : first + BLOCK]
        total[:alive] += part @ block[: part.shape[1]]
    result = np.empty_like(total)
    result[order] = total
    return result


def solution(
    bone: np.ndarray,
    in_bone: float,
    voxel: float,
    diffusion: np.ndarray,
    decay: np.ndarray,
    sources: Sequence[np.ndarray],
    steps: Sequence[float],
) -> tuple[np.ndarray, float]:
    """Fields [step, z, y, x, S] at the end of each of some steps (hours) from an empty domain,
    with `sources` [z, y, x] (concentration/hour, the same for every species) constant in each.

    Also the bound of the error, as a part of the largest norm that a field can have. Diffusion in
    um^2/hour, decay in 1/hour (positive), voxel in um.
    """
    matrix = operator(bone, in_bone, voxel)
    largest = 2 * float(matrix.diagonal().max())
    ends = np.cumsum(steps)
    fields = np.zeros((len(steps), len(decay), bone.size))
    bound = 0.0
    for j, source in enumerate(sources):
        series = []
        for end in ends[j:]:
            for d, k in zip(diffusion, decay, strict=True):

                def response(x, d=d, k=k, wait=end - ends[j], t=steps[j]):
                    rate = k + d * x
                    return np.exp(-wait * rate) * -np.expm1(-t * rate) / rate

                cut, rest = truncated(coefficients(response, largest), TOLERANCE)
                series.append(cut)
                bound = max(bound, rest * float(k))
        found = apply_functions(matrix, largest, series, source.ravel().astype(np.float64))
        fields[j:] += found.reshape(len(steps) - j, len(decay), -1)
    shape = (len(steps), len(decay), *bone.shape)
    return np.moveaxis(fields.reshape(shape), 1, -1), bound
