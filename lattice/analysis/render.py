"""A small renderer: triangles and spheres, seen in parallel projection, with shading.

It draws what a scientific picture of bone needs and no more: a depth buffer, two lights, the
darkening of hollows, and a haze with distance. Coordinates are (x, y, z) in any one unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
from jaxtyping import Float, Int

KEY_LIGHT = np.array([-0.45, 0.65, 0.62])
FILL_LIGHT = np.array([0.8, 0.1, 0.5])


@dataclass
class Canvas:
    """Collects what is visible. View axes: right, up, towards the viewer."""

    rotation: Float[np.ndarray, "3 3"]
    scale: float  # pixels per unit of length
    size: tuple[int, int]  # height, width
    centre: Float[np.ndarray, "3"]

    def __post_init__(self) -> None:
        pixels = self.size[0] * self.size[1]
        self._depth = np.full(pixels, -np.inf, np.float32)
        self._normal = np.zeros((pixels, 3), np.float32)
        self._colour = np.zeros((pixels, 3), np.float32)

    def project(self, points: Float[np.ndarray, "N 3"]) -> Float[np.ndarray, "N 3"]:
        """Pixel column, pixel row and depth (towards the viewer) of points."""
        view = (points - self.centre) @ self.rotation.T * self.scale
        height, width = self.size
        return np.stack([width / 2 + view[:, 0], height / 2 - view[:, 1], view[:, 2]], axis=1)

    def triangles(
        self,
        corners: Float[np.ndarray, "V 3"],
        faces: Int[np.ndarray, "F 3"],
        normals: Float[np.ndarray, "V 3"],
        colours: Float[np.ndarray, "V 3"],
    ) -> None:
        """Adds a closed mesh with an outward normal and a colour at each corner."""
        seen, turned = self.project(corners), normals @ self.rotation.T
        faces = faces[(turned[faces, 2] > 0).any(axis=1)]
        low = np.ceil(seen[faces, :2].min(axis=1)).astype(int)
        extent = (np.floor(seen[faces, :2].max(axis=1)).astype(int) - low).max(axis=1)
        order = np.argsort(-extent, kind="stable")  # wide triangles first: each offset is a prefix
        faces, low, extent = faces[order], low[order], -extent[order]
        a, b, c = (seen[faces[:, i]] for i in range(3))
        slopes = _barycentric_slopes(a, b, c)
        side = 1 - int(extent.min(initial=0))
        for dy, dx in product(range(side), repeat=2):
            n = int(np.searchsorted(extent, -max(dx, dy), side="right"))
            x, y = low[:n, 0] + dx, low[:n, 1] + dy
            weights = _barycentric(x - a[:n, 0], y - a[:n, 1], slopes[:n])
            hit = np.flatnonzero(np.logical_and.reduce([w >= -1e-6 for w in weights]))
            w, f = np.stack([w[hit] for w in weights], axis=1), faces[hit]
            depth = (w * seen[f, 2]).sum(axis=1)
            top, pixels = self._nearest(x[hit], y[hit], depth)
            w, f = w[top], f[top]
            self._paint(pixels, _mix(w, turned[f]), _mix(w, colours[f]))

    def spheres(
        self,
        centres: Float[np.ndarray, "N 3"],
        radius: float,
        colours: Float[np.ndarray, "N 3"],
    ) -> None:
        """Adds spheres of one radius (same unit as the points)."""
        seen, r = self.project(centres), radius * self.scale
        base = np.round(seen[:, :2]).astype(int)
        reach = int(np.ceil(r)) + 1
        for dy in range(-reach, reach + 1):
            for dx in range(-reach, reach + 1):
                x, y = base[:, 0] + dx, base[:, 1] + dy
                across, down = x - seen[:, 0], y - seen[:, 1]
                beneath = r * r - across**2 - down**2
                hit = np.flatnonzero(beneath > 0)
                rise = np.sqrt(beneath[hit])
                top, pixels = self._nearest(x[hit], y[hit], seen[hit, 2] + rise)
                hit, rise = hit[top], rise[top]
                normal = np.stack([across[hit], -down[hit], rise], axis=1) / r
                self._paint(pixels, normal, colours[hit])

    def _nearest(self, x, y, depth) -> tuple[np.ndarray, np.ndarray]:
        """Which of these points lie before all that was drawn at their pixels, and the pixels."""
        height, width = self.size
        inside = np.flatnonzero((x >= 0) & (x < width) & (y >= 0) & (y < height))
        pixels = y[inside] * width + x[inside]
        depth = depth[inside].astype(np.float32)
        np.maximum.at(self._depth, pixels, depth)
        front = np.flatnonzero(depth == self._depth[pixels])
        return inside[front], pixels[front]

    def _paint(self, pixels, normal, colour) -> None:
        self._normal[pixels], self._colour[pixels] = normal, colour

    def image(self, haze: float = 0.45) -> Float[np.ndarray, "H W 4"]:
        """What is nearest at each pixel, lit; transparent where there is nothing.

        `haze` is how far the farthest point fades to white."""
        height, width = self.size
        result = np.zeros((height * width, 4), np.float32)
        covered = np.flatnonzero(np.isfinite(self._depth))
        if covered.size:
            colour = _lit(self._normal[covered], self._colour[covered])
            d = self._depth[covered]
            fade = haze * (d.max() - d) / max(float(np.ptp(d)), 1e-9)
            result[covered, :3] = colour + (1 - colour) * fade[:, None] ** 1.3
            result[covered, 3] = 1.0
        return result.reshape(height, width, 4)


def _barycentric_slopes(a, b, c) -> np.ndarray:
    """How the weights of corners b and c grow with x and y: (b by x, b by y, c by x, c by y)."""
    ab, ac = b[:, :2] - a[:, :2], c[:, :2] - a[:, :2]
    double_area = ab[:, 0] * ac[:, 1] - ab[:, 1] * ac[:, 0]
    flat = np.abs(double_area) < 1e-9
    slopes = np.stack([ac[:, 1], -ac[:, 0], -ab[:, 1], ab[:, 0]], axis=1)
    slopes = slopes / np.where(flat, 1.0, double_area)[:, None]
    return np.where(flat[:, None], np.nan, slopes)  # seen edge-on: no pixel is inside


def _barycentric(dx, dy, slopes) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights of the corners at a point that is (dx, dy) away from corner a."""
    wb = dx * slopes[:, 0] + dy * slopes[:, 1]
    wc = dx * slopes[:, 2] + dy * slopes[:, 3]
    return 1 - wb - wc, wb, wc


def _mix(weights: np.ndarray, values: np.ndarray) -> np.ndarray:
    return np.einsum("nk,nkc->nc", weights, values)


def _lit(normals: np.ndarray, colours: np.ndarray) -> np.ndarray:
    """Diffuse light from two lamps, and a faint highlight (Blinn-Phong)."""
    n = normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-6)
    key = KEY_LIGHT / np.linalg.norm(KEY_LIGHT)
    fill = FILL_LIGHT / np.linalg.norm(FILL_LIGHT)
    diffuse = 0.36 + 0.62 * np.clip(n @ key, 0, None) + 0.2 * np.clip(n @ fill, 0, None)
    half = key + np.array([0.0, 0.0, 1.0])
    shine = 0.14 * np.clip(n @ (half / np.linalg.norm(half)), 0, None) ** 24
    return np.clip(colours * diffuse[:, None] + shine[:, None], 0, 1)


def averaged(image: Float[np.ndarray, "H W 4"], factor: int) -> Float[np.ndarray, "h w 4"]:
    """The image `factor` times smaller, for smooth edges; colours weighted by what they cover."""
    height, width = image.shape[0] // factor, image.shape[1] // factor
    blocks = image[: height * factor, : width * factor].reshape(height, factor, width, factor, 4)
    alpha = blocks[..., 3:].mean(axis=(1, 3))
    colour = (blocks[..., :3] * blocks[..., 3:]).mean(axis=(1, 3)) / np.maximum(alpha, 1e-6)
    return np.concatenate([colour, alpha], axis=-1)
