"""Voxels that lie alike: by side of the bone surface, depth, and part of the image.

Where the cells were between two scans of one bone nobody knows, so voxels that lie alike change
with one probability, and how many of them have changed is all that the second scan says of it.
Formed and resorbed volumes of a registered pair of scans are their sums over depth (Schulte et al.
2011, doi 10.1016/j.bone.2010.10.007).
"""

from __future__ import annotations

import numpy as np
from jaxtyping import Bool, Int, UInt8, UInt16
from scipy import ndimage

DEPTHS = 2
"""Voxels at the surface, and all that lie deeper."""

Regions = tuple[int, int, int]


def layer_names(regions: Regions = (1, 1, 1)) -> tuple[str, ...]:
    """The names of the layers in the order of `layers_of`: "marrow.1" touches bone, "bone.2" is
    two or more voxels deep. With several `regions` (along z, y, x) each has its place behind it:
    "marrow.1.0-0-1"."""
    names = [f"{side}.{depth}" for side in ("marrow", "bone") for depth in range(1, DEPTHS + 1)]
    if regions == (1, 1, 1):
        return tuple(names)
    return tuple(f"{n}.{z}-{y}-{x}" for z, y, x in np.ndindex(regions) for n in names)


def layers_of(
    bone: UInt8[np.ndarray, "Z Y X"], regions: Regions = (1, 1, 1)
) -> UInt16[np.ndarray, "Z Y X"]:
    """The layer of each voxel: its place in `layer_names(regions)`. Depth counts steps through
    faces to the other side of the surface."""
    inside = bone != 0
    to_bone = np.asarray(ndimage.distance_transform_cdt(~inside, metric="taxicab"))
    to_marrow = np.asarray(ndimage.distance_transform_cdt(inside, metric="taxicab"))
    # A distance of -1: there is no other side.
    depth = np.where(inside, to_marrow, to_bone)
    depth = np.where(depth < 0, DEPTHS, np.clip(depth, 1, DEPTHS)) - 1
    layer = depth + np.where(inside, DEPTHS, 0)
    region = np.zeros((1, 1, 1), np.int64)
    for axis, count in enumerate(regions):
        length = bone.shape[axis]
        place = np.arange(length) * count // length
        region = region * count + place.reshape([-1 if a == axis else 1 for a in range(3)])
    return (region * 2 * DEPTHS + layer).astype(np.uint16)


def in_bone(layers: UInt16[np.ndarray, "Z Y X"]) -> Bool[np.ndarray, "Z Y X"]:
    """The bone that layers were made of."""
    return layers % (2 * DEPTHS) >= DEPTHS


def changed_in_layers(
    layers: UInt16[np.ndarray, "Z Y X"],
    before: Bool[np.ndarray, "Z Y X"],
    after: Bool[np.ndarray, "Z Y X"],
    regions: Regions = (1, 1, 1),
) -> Int[np.ndarray, "L"]:
    """Voxels of each layer that two scans show differently: formed in those of marrow, resorbed in
    those of bone. What forms in bone of `layers` (where `before` shows a pit of less than a voxel)
    counts as formed at the surface, and the other way round."""
    bone, surface = in_bone(layers), layers - layers % (2 * DEPTHS)
    formed = np.where(bone, surface, layers)[after & ~before]
    resorbed = np.where(bone, layers, surface + DEPTHS)[before & ~after]
    return np.bincount(np.concatenate([formed, resorbed]), minlength=len(layer_names(regions)))
