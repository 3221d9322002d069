"""Small intact files of every kind that is read, in a folder: (file to mangle, what to read)."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import h5py
import numpy as np
import tifffile

from lattice.io.checkpoint import write_checkpoint
from lattice.io.runfile import RunWriter
from tests.io import samples

CONFIGS = Path(__file__).resolve().parents[2] / "configs"
VALUES = np.random.default_rng(0).integers(0, 60_000, (5, 6, 7)).astype(np.uint16)


def checkpoints(folder: Path) -> Iterator[tuple[Path, Path]]:
    """One good checkpoint that stays, and one to mangle."""
    for step in (1, 2):
        path = write_checkpoint(
            folder,
            state=samples.state(step),
            ledger=samples.ledger(),
            model=samples.model(),
            seed=1,
            step=step,
            time_h=0.25 * step,
            provenance={},
            keep=3,
        )
    yield path, path


def run_files(folder: Path) -> Iterator[tuple[Path, Path]]:
    """A run that goes on, with its snapshots beside it, and one that has finished."""
    for name in ("going", "finished"):
        with RunWriter.create(folder / name, samples.model(), seed=1, provenance={}) as run:
            for step in (0, 1):
                run.add_row(float(step), {"M0": 3 + step, "TNF.mean": 0.5})
                run.add_snapshot(float(step), samples.state(step))
            run.flush()
            if name == "finished":
                run.finish()
        master = folder / name / "run.h5"
        yield master, master
    yield next((folder / "going" / "snapshots").glob("*.h5")), folder / "going" / "run.h5"


def images(folder: Path) -> Iterator[tuple[Path, Path]]:
    """An image in every format."""
    yield from _tiffs(folder)
    path = folder / "bone.npy"
    np.save(path, VALUES)
    yield path, path
    path = folder / "bone.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("data", data=VALUES, compression="gzip")
        file["data"].attrs["element_size_um"] = (12.0, 11.0, 10.0)
    yield path, path
    try:
        import SimpleITK as itk
    except ImportError:
        return
    image = itk.GetImageFromArray(VALUES)
    image.SetSpacing((0.010, 0.011, 0.012))
    for ending in ("nrrd", "nhdr", "mha", "mhd", "nii", "nii.gz"):
        for compressed in (False, True):
            path = folder / f"itk{int(compressed)}.{ending}"
            itk.WriteImage(image, str(path), useCompression=compressed)
            yield path, path


def _tiffs(folder: Path) -> Iterator[tuple[Path, Path]]:
    settings = {
        "plain.tif": {},
        "zlib.tif": {"compression": "zlib", "photometric": "minisblack"},
        "imagej.tif": {
            "imagej": True,
            "resolution": (100, 50),
            "metadata": {"spacing": 0.012, "unit": "mm", "axes": "ZYX"},
        },
        "bone.ome.tif": {"metadata": {"PhysicalSizeX": 10.0, "axes": "ZYX"}},
    }
    for name, options in settings.items():
        path = folder / name
        tifffile.imwrite(path, VALUES, **options)
        yield path, path
    stack = folder / "slices"
    stack.mkdir(exist_ok=True)
    for i, plane in enumerate(VALUES):
        tifffile.imwrite(stack / f"slice{i}.tif", plane)
    yield stack / "slice2.tif", stack


def fits(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Fit files, their tables and images, each read through the fit file; with small lattices."""
    for name in ("efferocytosis", "time_lapse"):
        shutil.copytree(CONFIGS / "fits" / name, folder / name)
        for path in sorted((folder / name).iterdir()):
            yield path, folder / name / "fit.toml"


def studies(folder: Path) -> Iterator[tuple[Path, Path]]:
    """Files of trials, screenings, calibrations and designs; what they include is not mangled."""
    shutil.copytree(CONFIGS, folder / "configs", ignore=shutil.ignore_patterns("results"))
    for name in STUDIES:
        path = folder / "configs" / name
        yield path, path


STUDIES = {
    "trials/vaccination.toml": "trial",
    "screens/quickstart.toml": "screen",
    "calibrations/adult.toml": "calibration",
    "designs/efferocytosis.toml": "design",
}
