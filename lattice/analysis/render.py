"""A small renderer: triangles and spheres, seen in parallel projection, with shading.

It draws what a scientific picture of bone needs and no more: a depth buffer, two lights, the
darkening of hollows, and a haze with distance. Coordinates are (x, y, z) in any one unit.
"""

from __future__ import annotations

from dataclasses import dataclass, field

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
    _pixels: list[np.ndarray] = field(default_factory=list)
    _depths: list[np.ndarray] = field(default_factory=list)
    _normals: list[np.ndarray] = field(default_factory=list)
    _colours: list[np.ndarray] = field(default_factory=list)

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
        """Adds a mesh with a normal and a colour at each corner."""
        seen, turned = self.project(corners), normals @ self.rotation.T
        a, b, c = (seen[faces[:, i]] for i in range(3))
        double_area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (
            c[:, 0] - a[:, 0]
        )
        keep = np.abs(double_area) > 1e-9
        faces, a, b, c, double_area = faces[keep], a[keep], b[keep], c[keep], double_area[keep]
        low = np.floor(np.minimum(np.minimum(a, b), c)[:, :2]).astype(int)
        high = np.ceil(np.maximum(np.maximum(a, b), c)[:, :2]).astype(int)
        extent = (high - low).max(axis=0, initial=0)
        for dy in range(extent[1] + 1):
            for dx in range(extent[0] + 1):
                reach = np.flatnonzero((low[:, 0] + dx <= high[:, 0]) & (low[:, 1] + dy <= high[:, 1]))
                x, y = low[reach, 0] + dx, low[reach, 1] + dy
                weights = _barycentric(x, y, a[reach], b[reach], c[reach], double_area[reach])
                hit = (weights >= -1e-6).all(axis=1)
                x, y, w, f = x[hit], y[hit], weights[hit], faces[reach[hit]]
                depth = (w * seen[f, 2]).sum(axis=1)
                self._add(x, y, depth, _mix(w, turned[f]), _mix(w, colours[f]))

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
                hit = beneath > 0
                rise = np.sqrt(beneath[hit])
                normal = np.stack([across[hit], -down[hit], rise], axis=1) / r
                self._add(x[hit], y[hit], seen[hit, 2] + rise, normal, colours[hit])

    def _add(self, x, y, depth, normal, colour) -> None:
        height, width = self.size
        inside = (x >= 0) & (x < width) & (y >= 0) & (y < height)
        self._pixels.append((y * width + x)[inside])
        self._depths.append(depth[inside].astype(np.float32))
        self._normals.append(normal[inside].astype(np.float32))
        self._colours.append(colour[inside].astype(np.float32))

    def image(self, haze: float = 0.45) -> Float[np.ndarray, "H W 4"]:
        """What is nearest at each pixel, lit; transparent where there is nothing.

        `haze` is how far the farthest point fades to white."""
        height, width = self.size
        result = np.zeros((height * width, 4), np.float32)
        pixels = np.concatenate(self._pixels) if self._pixels else np.empty(0, int)
        if not pixels.size:
            return result.reshape(height, width, 4)
        depth = np.concatenate(self._depths)
        # Written far to near, so that the last value of a pixel is that of its nearest point.
        order = np.argsort(depth, kind="stable")
        nearest = np.full(height * width, -1)
        nearest[pixels[order]] = order
        covered = np.flatnonzero(nearest >= 0)
        top = nearest[covered]
        colour = _lit(np.concatenate(self._normals)[top], np.concatenate(self._colours)[top])
        d = depth[top]
        fade = haze * (d.max() - d) / max(float(np.ptp(d)), 1e-9)
        result[covered, :3] = colour + (1 - colour) * fade[:, None] ** 1.3
        result[covered, 3] = 1.0
        return result.reshape(height, width, 4)


def _barycentric(x, y, a, b, c, double_area) -> np.ndarray:
    wb = ((x - a[:, 0]) * (c[:, 1] - a[:, 1]) - (y - a[:, 1]) * (c[:, 0] - a[:, 0])) / double_area
    wc = ((b[:, 0] - a[:, 0]) * (y - a[:, 1]) - (b[:, 1] - a[:, 1]) * (x - a[:, 0])) / double_area
    return np.stack([1 - wb - wc, wb, wc], axis=1)


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
