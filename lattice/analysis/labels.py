"""Dynamic histomorphometry from two virtual fluorochrome labels, as a laboratory does it.

A fluorochrome binds to the mineral that is laid down while it circulates, and stays. On the lattice
the mineral of a voxel is a fraction, filled from below and resorbed from above, so that mineral
with an amount between m(begin) and m(end) in a voxel carries the label of that window, as far as
no later snapshot holds less. Every element of the bone surface at the end looks down its own
normal: a label is there if it is thick enough to be seen, and the distance between the labels is
the mineral on the way that was laid down from the begin of one to the begin of the other. That
distance is finer than a voxel.

Terms and formulas: Dempster et al., J. Bone Miner. Res. 28 (2013) 2-17.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Float, Shaped
from scipy import ndimage

from lattice.analysis.morphometry import Measure, ratio
from lattice.analysis.surface import areas, inside_image, surface_mesh

Fraction = Shaped[np.ndarray, "Z Y X"]

LEAST_APPOSITION = 0.1
"""Apposition (um/day) during a label's window below which no label is seen: a line of less than
0.1 um a day cannot be resolved by light. Chosen for this program."""

_STEP = 0.25  # voxels along a normal; divides a voxel, so that a straight column is summed exactly
_OUTWARD = 2.0  # voxels: the surface lies within this distance of the voxels that are being filled
_STRAY = 0.5  # voxels by which depth and distance from the surface may differ on one's own side

DESCRIPTIONS = {
    "sLS/BS": "single-labelled surface",
    "dLS/BS": "double-labelled surface",
    "MS/BS": "mineralising surface, dLS + sLS / 2",
    "Ir.L.Th": "interlabel thickness, mean over the double-labelled surface",
    "MAR": "mineral apposition rate, Ir.L.Th / interval; of labels",
    "BFR/BS": "bone formation rate, MAR x MS/BS; of labels",
    "BFR/BV": "bone formation rate per bone volume, of labels",
    "BFR/TV": "bone formation rate per tissue volume, of labels",
    "Aj.AR": "adjusted apposition rate, BFR / OS",
    "Mlt": "mineralisation lag time, O.Th / Aj.AR",
    "Omt": "osteoid maturation time, O.Th / MAR",
    "W.Th": "wall thickness: matrix laid down since the first snapshot, or since the site was last "
    "eroded, on surface without osteoid",
}
DAYS_PER_YEAR = 365.25


class Labels(NamedTuple):
    """What is seen of two labels on the surface of bone."""

    single: float
    """Share of the surface that bears one of the labels (0 to 1)."""
    double: float
    """Share that bears both."""
    apart_um: float
    """Mean distance between the labels where both are, um; NaN where none are."""


def see_labels(
    mineral: Sequence[Fraction],
    later: Sequence[Fraction],
    bone: Fraction,
    voxel_um: float,
    window_days: float,
    least_apposition: float = LEAST_APPOSITION,
) -> Labels:
    """The labels on the surface of `bone` (fractions of matrix of any age at the end).

    `mineral`: fractions of mineral at begin and end of the first and of the second label. `later`:
    mineral in later snapshots, the end among them; what they hold less has been resorbed.
    """
    first, second, between = _deposits(mineral, later)
    mesh = surface_mesh(bone)
    if not len(mesh.faces):
        return Labels(float("nan"), float("nan"), float("nan"))
    area = areas(mesh) * inside_image(mesh, bone.shape)
    rays = _Rays.into(bone, mesh.corners[mesh.faces].mean(axis=1))
    reach = rays.reach((first > 0) | (second > 0))
    sums = rays.sums((first, second, between), reach)
    least = least_apposition * window_days / voxel_um
    seen_first, seen_second = sums[0] >= least, sums[1] >= least
    both = area * (seen_first & seen_second)
    total = float(area.sum())
    return Labels(
        float((area * (seen_first ^ seen_second)).sum() / total),
        float(both.sum() / total),
        voxel_um * ratio(float((both * sums[2]).sum()), float(both.sum())),
    )


def _deposits(mineral: Sequence[Fraction], later: Sequence[Fraction]) -> list[Fraction]:
    """Of each voxel, the mineral of the first label, of the second, and of the time from the begin
    of the one to that of the other, as far as it is still there."""
    begin1, end1, begin2, end2 = (np.asarray(m, np.float32) for m in mineral)
    last = np.minimum.reduce([np.asarray(m, np.float32) for m in (*later, end2)])
    kept = np.minimum(last, begin2)

    def span(low: Fraction, high: Fraction) -> Fraction:
        return np.maximum(high - low, 0)

    return [
        span(begin1, np.minimum(end1, kept)),
        span(begin2, last),
        span(begin1, kept),
    ]


class _Rays(NamedTuple):
    """Lines from the elements of a surface into bone."""

    origin: Float[np.ndarray, "F 3"]
    inward: Float[np.ndarray, "F 3"]
    depth: Float[np.ndarray, "Z Y X"]
    """Distance below the surface, voxels; negative in marrow."""

    @classmethod
    def into(cls, bone: Fraction, origin: Float[np.ndarray, "F 3"]) -> _Rays:
        smooth = ndimage.gaussian_filter(bone.astype(np.float32), 1.5, mode="nearest")
        slope = [
            _between_centres(along, origin)
            for along in (np.gradient(smooth, axis=i) for i in range(3))
        ]
        inward = np.stack(slope, axis=1)
        length = np.linalg.norm(inward, axis=1, keepdims=True)
        inward /= np.maximum(length, 1e-12)
        # Elements that the image's face cuts begin on that face.
        origin = np.clip(origin, 0, np.array(bone.shape) - 1)
        return cls(origin, inward, _depth(bone >= 0.5))

    def reach(self, marked: Bool[np.ndarray, "Z Y X"]) -> float:
        """How deep a ray must go to see every marked voxel."""
        return float(self.depth[marked].max(initial=0)) + _OUTWARD

    def sums(self, fields: Sequence[Fraction], reach: float) -> list[Float[np.ndarray, "F"]]:
        """The integral of each field along each ray, in voxels, on the ray's own side."""
        limit = np.array(self.depth.shape) - 0.5
        totals = [np.zeros(len(self.origin)) for _ in fields]
        begin = _between_centres(self.depth, self.origin)
        for s in np.arange(-_OUTWARD + _STEP / 2, reach, _STEP):
            at = self.origin + s * self.inward
            stray = s - _between_centres(self.depth, at) + begin
            own_side = (stray <= _STRAY) & (stray >= -_OUTWARD)
            seen = ((at > -0.5) & (at < limit)).all(axis=1) & own_side
            for total, field in zip(totals, fields, strict=True):
                total[seen] += _STEP * _between_centres(field, at[seen])
        return totals


def _between_centres(field: Fraction, at: Float[np.ndarray, "F 3"]) -> Float[np.ndarray, "F"]:
    return ndimage.map_coordinates(field, at.T, order=1, mode="nearest")


def _depth(mask: Bool[np.ndarray, "Z Y X"]) -> Float[np.ndarray, "Z Y X"]:
    """Signed distance of voxel centres from the surface, which lies half a voxel from them."""
    if mask.all() or not mask.any():
        return np.full(mask.shape, np.inf if mask.all() else -np.inf, np.float32)
    inside = np.asarray(ndimage.distance_transform_edt(mask)) - 0.5
    outside = np.asarray(ndimage.distance_transform_edt(~mask)) - 0.5
    return np.where(mask, inside, -outside).astype(np.float32)


def wall_thickness(
    least: Fraction, matrix: Fraction, osteoid: Fraction, voxel_um: float, seam_um: float = 1.0
) -> float:
    """Mean thickness (um) of finished new walls; NaN where there are none.

    `least`: the least matrix that each voxel has held in the snapshots, so that what `matrix` holds
    above it is new; a wall is finished where no seam of osteoid of `seam_um` is left on it.
    """
    mesh = surface_mesh(matrix)
    if not len(mesh.faces):
        return float("nan")
    rays = _Rays.into(matrix, mesh.corners[mesh.faces].mean(axis=1))
    new = np.maximum(np.asarray(matrix, np.float32) - least, 0)
    reach = rays.reach(new > 0)
    wall, seam = (voxel_um * total for total in rays.sums((new, osteoid), reach))
    weight = areas(mesh) * inside_image(mesh, matrix.shape)
    weight = weight * ((wall >= seam_um) & (seam < seam_um))
    return ratio(float((weight * wall).sum()), float(weight.sum()))


def dynamic_measures(
    labels: Labels, interval_days: float, static: Mapping[str, Measure]
) -> dict[str, Measure]:
    """The measures of two labels whose begins lie `interval_days` apart.

    `static` holds BS/BV and BS/TV (1/mm) and, for the lag of mineralisation, OS/BS (%) and
    O.Th (um). Without any double label MAR and what follows from it are NaN.
    """
    mineralising = labels.double + labels.single / 2
    apposition = labels.apart_um / interval_days
    formation = apposition * mineralising
    per_year = DAYS_PER_YEAR * 100 / 1000  # of um^3/um^2/d times 1/mm
    result = {
        "sLS/BS": Measure(100 * labels.single, "%"),
        "dLS/BS": Measure(100 * labels.double, "%"),
        "MS/BS": Measure(100 * mineralising, "%"),
        "Ir.L.Th": Measure(labels.apart_um, "um"),
        "MAR": Measure(apposition, "um/d"),
        "BFR/BS": Measure(formation, "um^3/um^2/d"),
        "BFR/BV": Measure(formation * static["BS/BV"].value * per_year, "%/y"),
        "BFR/TV": Measure(formation * static["BS/TV"].value * per_year, "%/y"),
    }
    if "OS/BS" in static and "O.Th" in static:
        osteoid = static["O.Th"].value
        adjusted = ratio(formation, static["OS/BS"].value / 100)
        result["Aj.AR"] = Measure(adjusted, "um/d")
        result["Mlt"] = Measure(ratio(osteoid, adjusted), "d")
        result["Omt"] = Measure(ratio(osteoid, apposition), "d")
    return result
