"""Histomorphometry of bone structure, with the names and units of the ASBMR.

Nomenclature: Dempster et al., J. Bone Miner. Res. 28 (2013) 2-17; Bouxsein et al., J. Bone Miner.
Res. 25 (2010) 1468-1486. The same functions serve segmented images and lattices.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Shaped
from scipy import ndimage
from skimage.measure import euler_number

from lattice.analysis.surface import SMOOTHING, surface_area
from lattice.analysis.thickness import Border, mean_and_sd, thickness
from lattice.model.errors import InputError


class Measure(NamedTuple):
    """A measured value and its unit; NaN where the image does not define it."""

    value: float
    unit: str


DESCRIPTIONS = {
    "TV": "tissue volume: the whole image",
    "BV": "bone volume, osteoid included; fractions of voxels are summed",
    "BV/TV": "bone volume fraction",
    "BS": "bone surface, by marching cubes at half a voxel of bone",
    "BS/BV": "specific bone surface",
    "BS/TV": "bone surface density",
    "Tb.Th": "trabecular thickness, mean of the widest inscribed spheres",
    "Tb.Th.SD": "its standard deviation over bone",
    "Tb.Sp": "trabecular separation, mean of the widest inscribed spheres",
    "Tb.Sp.SD": "its standard deviation over marrow",
    "Tb.N": "trabecular number, 1 / mean distance between the mid-axes of trabeculae",
    "Tb.Th (plate model)": "2 BV / BS",
    "Tb.N (plate model)": "BS / 2 TV",
    "Tb.Sp (plate model)": "2 (TV - BV) / BS",
    "Conn.D": "connectivity density, (1 - Euler number) / TV of the largest connected piece",
}


def morphometry(
    bone: Shaped[np.ndarray, "..."],
    voxel_um: float,
    smoothing: float = SMOOTHING,
    bone_border: Border = "visible",
    marrow_border: Border = "mirror",
) -> dict[str, Measure]:
    """Structural measures of a mask or of an array of bone fractions (0 to 1).

    Volumes sum the fractions; every other measure takes voxels that are at least half bone.
    `smoothing` (voxels) is the filter before marching cubes. The borders are those of
    `lattice.analysis.thickness.thickness`: by default bone ends where the image ends, marrow goes
    on behind it.

    Raises InputError if the array is not three-dimensional, holds values outside [0, 1], or the
    voxel size is not positive.
    """
    fraction = _checked(bone, voxel_um)
    mask = fraction >= 0.5
    found = volumes(fraction, voxel_um, smoothing) | {
        **_spheres(mask, voxel_um, bone_border, marrow_border),
        "Conn.D": Measure(_connectivity_density(mask, voxel_um), "1/mm^3"),
    }
    return {name: found[name] for name in DESCRIPTIONS}


def _checked(bone: np.ndarray, voxel_um: float) -> np.ndarray:
    if bone.ndim != 3:
        raise InputError(
            f"morphometry needs a three-dimensional image, and this one has {bone.ndim} axes; "
            "give a stack of slices."
        )
    if not voxel_um > 0:
        raise InputError(f"the voxel size is {voxel_um} um; give a positive length.")
    fraction = bone.astype(np.float32)
    if fraction.size and (fraction.min() < 0 or fraction.max() > 1.0001):
        raise InputError(
            f"bone must be a mask (0 and 1) or a fraction (0 to 1), and this array reaches from "
            f"{fraction.min():g} to {fraction.max():g}; threshold the image first."
        )
    return fraction


def ratio(numerator: float | int, denominator: float | int) -> float:
    """The quotient, or NaN where the denominator is nothing."""
    return numerator / denominator if denominator > 0 else float("nan")


def volumes(
    fraction: Shaped[np.ndarray, "Z Y X"], voxel_um: float, smoothing: float = SMOOTHING
) -> dict[str, Measure]:
    """Volumes and surface of bone, and what follows from them: the measures that take no time."""
    voxel_mm3 = (voxel_um / 1000.0) ** 3
    tv = fraction.size * voxel_mm3
    bv = float(fraction.sum(dtype=np.float64)) * voxel_mm3
    bs = surface_area(fraction, voxel_um, smoothing)
    return {
        "TV": Measure(tv, "mm^3"),
        "BV": Measure(bv, "mm^3"),
        "BV/TV": Measure(100 * bv / tv, "%"),
        "BS": Measure(bs, "mm^2"),
        "BS/BV": Measure(ratio(bs, bv), "1/mm"),
        "BS/TV": Measure(bs / tv, "1/mm"),
        "Tb.Th (plate model)": Measure(1000 * ratio(2 * bv, bs), "um"),
        "Tb.N (plate model)": Measure(bs / (2 * tv), "1/mm"),
        "Tb.Sp (plate model)": Measure(1000 * ratio(2 * (tv - bv), bs), "um"),
    }


def _spheres(
    mask: np.ndarray, voxel_um: float, bone_border: Border, marrow_border: Border
) -> dict[str, Measure]:
    trabeculae = thickness(mask, bone_border)
    th, th_sd = mean_and_sd(trabeculae.local, mask)
    sp, sp_sd = mean_and_sd(thickness(~mask, marrow_border).local, ~mask)
    return {
        "Tb.Th": Measure(voxel_um * th, "um"),
        "Tb.Th.SD": Measure(voxel_um * th_sd, "um"),
        "Tb.Sp": Measure(voxel_um * sp, "um"),
        "Tb.Sp.SD": Measure(voxel_um * sp_sd, "um"),
        "Tb.N": Measure(_trabecular_number(trabeculae.axis, voxel_um, marrow_border), "1/mm"),
    }


def _trabecular_number(axis: np.ndarray, voxel_um: float, border: Border) -> float:
    """1 / mean spacing of the mid-axes (Hildebrand et al., JBMR 14 (1999) 1167), per mm."""
    between = ~axis
    if not axis.any() or not between.any():
        return float("nan")
    gap, _ = mean_and_sd(thickness(between, border).local, between)
    return 1000.0 / (voxel_um * (gap + 1))  # the axis itself is one voxel wide


def _connectivity_density(mask: np.ndarray, voxel_um: float) -> float:
    """(1 - Euler number) / TV (Odgaard and Gundersen, Bone 14 (1993) 173), per mm3."""
    pure = purified(mask)
    if not pure.any():
        return float("nan")
    return (1 - int(euler_number(pure, connectivity=3))) / (mask.size * (voxel_um / 1000.0) ** 3)


def purified(mask: Bool[np.ndarray, "Z Y X"]) -> Bool[np.ndarray, "Z Y X"]:
    """The largest 26-connected piece of bone; of the marrow, all but the largest 6-connected piece
    is filled."""
    if not mask.any():
        return mask
    bone = _largest(mask, ndimage.generate_binary_structure(3, 3))
    return bone if bone.all() else ~_largest(~bone, ndimage.generate_binary_structure(3, 1))


def _largest(mask: np.ndarray, structure: np.ndarray) -> np.ndarray:
    labels = np.empty(mask.shape, np.int32)
    ndimage.label(mask, structure, output=labels)
    return labels == 1 + np.argmax(np.bincount(labels.ravel())[1:])
