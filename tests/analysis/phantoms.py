"""Shapes whose measures are known."""

from __future__ import annotations

import numpy as np


def plates(width: int, period: int, count: int, across: int = 24) -> np.ndarray:
    """Plates normal to z, evenly spaced, half a gap before the first and behind the last."""
    mask = np.zeros((period * count, across, across), bool)
    for i in range(count):
        start = i * period + (period - width) // 2
        mask[start : start + width] = True
    return mask


def rod(diameter: float, length: int = 20, margin: int = 5) -> np.ndarray:
    """A rod along z that runs through the image."""
    n = int(diameter) + 2 * margin
    y, x = np.indices((n, n)) - (n - 1) / 2
    return np.broadcast_to(x**2 + y**2 <= (diameter / 2) ** 2, (length, n, n)).copy()


def sphere(diameter: float, margin: int = 5) -> np.ndarray:
    """A ball in the middle of the image."""
    n = int(diameter) + 2 * margin
    z, y, x = np.indices((n, n, n)) - (n - 1) / 2
    return x**2 + y**2 + z**2 <= (diameter / 2) ** 2


def torus(large: float, small: float) -> np.ndarray:
    """A ring: one handle."""
    n = int(2 * (large + small)) + 7
    z, y, x = np.indices((int(2 * small) + 7, n, n))
    z, y, x = z - (z.max()) / 2, y - (n - 1) / 2, x - (n - 1) / 2
    return (np.hypot(y, x) - large) ** 2 + z**2 <= small**2
