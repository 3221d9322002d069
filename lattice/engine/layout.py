"""Layouts: how many blocks of a lattice lie along z, y and x, one for each device. No JAX here."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence

from lattice.model.errors import InputError
from lattice.model.setting import Lattice

Layout = tuple[int, int, int]
"""Blocks along z, y and x."""

Devices = int | str | Sequence[int]
"""What a user writes: a number of devices, or blocks along z, y and x (those left out are 1), as
"2x2", "2x2x1" or (2, 2, 1)."""

AXES: tuple[str, str, str] = ("z", "y", "x")
"""The axes of arrays, as `declare` names them, and of a mesh."""

SUMMED = 0.2
"""Sums over the lattice exchange whole lines along y where it is divided: so much of them, for each
time that the fields exchange a plane of halo (counted in the traced step of the bone model, as is
the next)."""

GATHERED = 0.04
"""The same for the planes that multigrid gathers where blocks have an odd number of them."""


def wanted(devices: Devices) -> int | Layout:
    """A number of devices, or a layout. Raises InputError."""
    if isinstance(devices, str):
        found = re.fullmatch(r"\d{1,6}(x\d{1,6}){0,2}", devices)
        numbers = [int(n) for n in devices.split("x")] if found else []
    else:
        numbers = [devices] if isinstance(devices, int) else list(devices)
    if not 1 <= len(numbers) <= 3 or min(numbers) < 1:
        said = devices if isinstance(devices, str) else "x".join(map(str, numbers))
        raise InputError(
            f"--devices {said}: write a whole number from 1 upwards, or how many blocks lie along "
            "z, y and x, as 2x2 or 2x2x1"
        )
    if isinstance(devices, int) or (isinstance(devices, str) and len(numbers) == 1):
        return numbers[0]
    z, y, x = [*numbers, 1, 1][:3]
    return z, y, x


def number_of(devices: Devices) -> int:
    """How many devices that are. Raises InputError."""
    found = wanted(devices)
    return found if isinstance(found, int) else math.prod(found)


def spelt(layout: Layout) -> str:
    """As a user writes it: a number for slabs along z."""
    return str(layout[0]) if layout[1:] == (1, 1) else "x".join(map(str, layout))


def layout_for(lattice: Lattice, devices: Devices) -> Layout:
    """The layout of a lattice on some devices: the one that is named, or of those with that number
    of blocks the one whose devices receive least, slabs along z before others.

    Blocks are equal, with at least two planes along each divided axis. Raises InputError."""
    found = wanted(devices)
    if isinstance(found, int):
        possible = layouts(lattice, found)
        if not possible:
            raise InputError(_not_divisible(lattice, found))
        return min(possible, key=lambda layout: (traffic(lattice, layout), -layout[0], -layout[1]))
    for axis, name in enumerate(AXES):
        planes, count = lattice.shape[2 - axis], found[axis]
        if not _fits(planes, count):
            possible = [str(n) for n in range(1, planes + 1) if _fits(planes, n)]
            raise InputError(
                f"--devices {spelt(found)}: {planes} planes along {name} cannot be shared evenly "
                f"by {count} blocks (at least 2 planes each); write {one_of(possible)} along "
                f"{name}, or another lattice.shape"
            )
    return found


def _not_divisible(lattice: Lattice, count: int) -> str:
    able = sharings(lattice)
    lower, higher = [n for n in able if n < count], [n for n in able if n > count]
    near = [str(n) for n in (*lower[-1:], *higher[:1])]
    shape = " x ".join(map(str, lattice.shape))
    return (
        f"--devices {count}: a lattice of {shape} voxels (x, y, z) cannot be shared evenly by "
        f"{count} devices (equal blocks, at least 2 planes along each divided axis); "
        f"{one_of(near)} can share it, or choose another lattice.shape"
    )


def one_of(words: Sequence[str]) -> str:
    """As "2, 4 or 8"."""
    return " or ".join([", ".join(words[:-1]), words[-1]] if len(words) > 1 else words)


def _fits(planes: int, count: int) -> bool:
    return count == 1 or (planes % count == 0 and planes // count >= 2)


def layouts(lattice: Lattice, count: int) -> list[Layout]:
    """All layouts of so many blocks that a lattice can have."""
    nx, ny, nz = lattice.shape
    return [
        (z, y, count // z // y)
        for z in range(1, count + 1)
        if count % z == 0 and _fits(nz, z)
        for y in range(1, count // z + 1)
        if count // z % y == 0 and _fits(ny, y) and _fits(nx, count // z // y)
    ]


def sharings(lattice: Lattice) -> list[int]:
    """The numbers of devices that can share a lattice, fewest first."""
    along = [[n for n in range(1, size + 1) if _fits(size, n)] for size in lattice.shape]
    return sorted({x * y * z for x in along[0] for y in along[1] for z in along[2]})


def traffic(lattice: Lattice, layout: Layout) -> float:
    """What the device with most neighbours receives, in voxels, each time that the fields exchange
    a plane of halo."""
    (nx, ny, nz), (px, py, pz) = lattice.shape, lattice.periodic
    block = [n // count for n, count in zip((nz, ny, nx), layout, strict=True)]
    voxels = math.prod(block)
    total = SUMMED * voxels * (1 - 1 / layout[1])
    for extent, count, periodic in zip(block, layout, (pz, py, px), strict=True):
        if count > 1:
            sides = 2 if periodic or count > 2 else 1
            halvings = (extent & -extent).bit_length() - 1
            total += sides * voxels / extent + GATHERED * voxels * (count - 1) / 8**halvings
    return total
