"""The scans of configs/fits/time_lapse: synthetic bone, and what a run makes of it.

python -m tests.fitting.make_scans --seed 1
"""

from __future__ import annotations

import argparse
from pathlib import Path

import h5py
import numpy as np

from lattice.engine.simulation import Simulation
from lattice.fitting.scans import shown_bone
from lattice.model import load
from lattice.model.geometry import synthetic_bone
from lattice.model.setting import Geometry, Lattice
from lattice.model.structure import Model

FOLDER = Path(__file__).resolve().parents[2] / "configs/fits/time_lapse"
DAYS = (7, 28)
EDGE, VOXEL = 32, 10.0


def first_scan() -> np.ndarray:
    """The bone at the start, uint8 [z, y, x]."""
    shape = Geometry("trabecular", bone_fraction=0.25, thickness=50.0)
    return synthetic_bone(shape, Lattice((EDGE, EDGE, EDGE), VOXEL), seed=3)


def later_scans(model: Model, bone: np.ndarray, seed: int, days=DAYS) -> dict[int, np.ndarray]:
    """Day -> what a scanner shows of a sampled run, uint8 [z, y, x]."""
    simulation, found = Simulation(model, seed, bone), {}
    for day in days:
        simulation.advance(round(24 * day / model.time.step) - simulation.step)
        found[day] = shown_bone(simulation.host_state()).astype(np.uint8)
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    bone, path = first_scan(), FOLDER / "scans.h5"
    with h5py.File(path, "w", libver="latest") as file:
        _put(file, "day_0", bone)
    later = later_scans(load(FOLDER / "model.toml"), bone, options.seed)
    with h5py.File(path, "a", libver="latest") as file:
        for day, scan in later.items():
            _put(file, f"day_{day}", scan)
    print(f"written: {path}")


def _put(file: h5py.File, name: str, scan: np.ndarray) -> None:
    data = file.create_dataset(name, data=scan, chunks=scan.shape, compression="gzip")
    data.attrs["element_size_um"] = [VOXEL] * 3


if __name__ == "__main__":
    main()
