"""Where and how a model runs: lattice, bone at the start, time, output, solver.

Parts of a `Model` (`lattice.model.structure`), in its canonical units.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class Lattice:
    """The grid. `shape` in voxels (x, y, z), `voxel` in um, `periodic` per axis (x, y, z)."""

    shape: tuple[int, int, int]
    voxel: float
    periodic: tuple[bool, bool, bool] = (False, False, False)


@dataclass(frozen=True)
class Geometry:
    """The bone that a run starts with. Lengths in um.

    `kind` is "empty", "trabecular", "plate", "rod", "sphere" or "image".
    """

    kind: str = "empty"
    bone_fraction: float | None = None  # trabecular
    thickness: float | None = None  # trabecular, plate (full thickness), rod (diameter)
    radius: float | None = None  # sphere
    axis: int = 2  # plate normal and rod direction: 0 = x, 1 = y, 2 = z
    count: int = 1  # plates or rods, evenly spaced
    image: str | None = None  # absolute path
    image_voxel: float | None = None  # None: as the file says
    image_origin: tuple[float, float, float] = (0.0, 0.0, 0.0)  # um, corner of the part taken
    threshold: float | None = None  # None: Otsu
    smooth: float = 0.0  # um, standard deviation of a Gaussian before thresholding
    largest_component: bool = True


def file_and_volume(image: str) -> tuple[str, str]:
    """The file of an image, and the name of a volume in an HDF5 file of several ("" if none):
    "scans.h5:week_2"."""
    found = re.fullmatch(r"(.*\.(?:h5|hdf5|hdf)):(.*)", image, re.IGNORECASE)
    return (found[1], found[2]) if found else (image, "")


@dataclass(frozen=True)
class Time:
    """Hours. `step` is the step of the cells; fields are solved every `field_step` (a multiple
    or an integer part of `step`); the six matchings run every `contact_step` (an integer part of
    `step`)."""

    step: float
    until: float
    field_step: float
    contact_step: float


@dataclass(frozen=True)
class Output:
    """What is written, how often (hours; None: never), in which precision."""

    series: float | None
    snapshots: float | None
    checkpoints: float | None
    sparing: bool = False
    """Whether a checkpoint that is due may be left out to save time (`checkpoints = "auto"`)."""
    keep: int = 3
    precision: Literal["float32", "float16"] = "float32"
    compression: Literal["gzip", "lzf", "none"] = "gzip"
    fields: tuple[str, ...] = ("cells", "osteoid", "mineral", "cytokines")
    labels: tuple[float, float] | None = None
    """When two virtual fluorochrome labels begin to be given; each is taken up by the mineral that
    is laid down in the `label_window` hours that follow. They change nothing in the simulation."""
    label_window: float = 24.0

    @property
    def label_times(self) -> tuple[float, ...]:
        """Hours at which mineral must be known: each label's begin and end; none without labels."""
        begins = self.labels or ()
        return tuple(t for begin in begins for t in (begin, begin + self.label_window))


@dataclass(frozen=True)
class Solver:
    """The implicit field solve. `iterations` of preconditioned conjugate gradients per solve."""

    scheme: str = "auto"
    iterations: int | None = None  # None: the scheme's own default
