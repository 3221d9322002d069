"""The surface of bone as a triangle mesh (marching cubes), and its area."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy import ndimage
from skimage.measure import marching_cubes

SMOOTHING = 0.5
"""Default Gaussian filter before marching cubes (standard deviation in voxels). On a mask the
bare method reads a sphere's area 8-9 % high; with this filter 1-4 %, and flat faces are exact."""


class Mesh(NamedTuple):
    """Triangles; corners in voxels, (z, y, x), the centre of voxel (0, 0, 0) at the origin."""

    corners: Float[np.ndarray, "V 3"]
    faces: Int[np.ndarray, "F 3"]


def surface_mesh(bone: Shaped[np.ndarray, "Z Y X"], smoothing: float = SMOOTHING) -> Mesh:
    """The surface where the bone fraction is one half (Lewiner et al., J. Graph. Tools 8 (2003) 1).

    The image is continued by half a voxel behind its faces; a face of the image that cuts bone is
    not surface. Without any surface the mesh is empty.
    """
    padded = np.pad(bone.astype(np.float32), 1, mode="edge")
    if smoothing > 0:
        padded = ndimage.gaussian_filter(padded, smoothing, mode="nearest")
    if not padded.min() < 0.5 < padded.max():
        return Mesh(np.empty((0, 3), np.float32), np.empty((0, 3), np.int32))
    corners, faces, _, _ = marching_cubes(padded, 0.5)
    return Mesh(corners - 1, faces)


def areas(mesh: Mesh) -> Float[np.ndarray, "F"]:
    """Area of each triangle, in squared voxels."""
    a, b, c = (mesh.corners[mesh.faces[:, i]].astype(np.float64) for i in range(3))
    return np.linalg.norm(np.cross(b - a, c - a), axis=1) / 2


def surface_area(
    bone: Shaped[np.ndarray, "Z Y X"], voxel_um: float, smoothing: float = SMOOTHING
) -> float:
    """Bone surface inside the image, in mm2."""
    mesh = surface_mesh(bone, smoothing)
    if not len(mesh.faces):
        return 0.0
    share = inside_image(mesh, bone.shape)
    return float((areas(mesh) * share).sum() * (voxel_um / 1000.0) ** 2)


def inside_image(mesh: Mesh, shape: tuple[int, ...]) -> Float[np.ndarray, "F"]:
    """The share of each triangle that lies inside an image of this shape."""
    middle = mesh.corners[mesh.faces].mean(axis=1)
    # The outer layer of cubes reaches one voxel behind the last centres; half of it is image.
    behind = (middle < 0) | (middle > np.array(shape) - 1)
    return 0.5 ** behind.sum(axis=1)
