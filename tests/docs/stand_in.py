"""An image in place of the micro-CT that is no part of the repository, where that is not there."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import tifffile
from scipy.ndimage import gaussian_filter

from tests.docs.blocks import ROOT

NAME = "human_trabecula_19.5um.tif"
VOXELS = 64


def data_folder() -> Path | None:
    """Where images that are not part of the repository lie."""
    named = os.environ.get("OSTEOLATTICE_DATA")
    folder = Path(named) if named else ROOT.parent / "shared" / "data"
    return folder if folder.is_dir() else None


def folder_with_image(folder: Path) -> Path:
    """The folder of the real image, or `folder` with invented trabeculae under its name."""
    real = data_folder()
    if real is not None:
        return real
    noise = np.random.default_rng(0).normal(size=(VOXELS,) * 3)
    smooth = gaussian_filter(noise, 2.0, mode="wrap")
    bone = smooth > np.quantile(smooth, 0.8)
    tifffile.imwrite(folder / NAME, np.where(bone, 160, 20).astype(np.uint8))
    return folder
