"""`osteolattice info`, `report`, `export` and `morphometry`: reading what runs have written."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

from lattice.cli.durations import micrometres_of
from lattice.io.checkpoint import Checkpoint, list_checkpoints, newest_checkpoint, read_checkpoint
from lattice.io.runfile import NAME, RunFile
from lattice.model import loads
from lattice.model.errors import InputError, OsteolatticeError


def command_info(options: argparse.Namespace) -> int:
    """Tell what a run folder, a run file or a checkpoint holds."""
    folder, checkpoint, run = _opened(options.path)
    if options.digest:
        if checkpoint is None:
            raise InputError(f"{options.path}: a run file holds no state; name the run's folder")
        print(checkpoint.digest)
        return 0
    facts = _facts(folder, checkpoint, run)
    if options.json:
        print(json.dumps(facts, indent=2))
        return 0
    for key, value in facts.items():
        if key == "last":
            print("last row of the series:")
            for name, number in (value or {}).items():
                unit = run.series[name][1] if run and name in run.series else "h"
                print(f"  {name:<28}{number:.6g} {unit}")
        else:
            shown = ", ".join(map(str, value)) if isinstance(value, list) else value
            print(f"{key:<14}{json.dumps(shown) if isinstance(shown, dict) else shown}")
    for sentence in checkpoint.skipped if checkpoint else ():
        print(f"passed over: {sentence}", file=sys.stderr)
    return 0


def _opened(path: Path) -> tuple[Path | None, Checkpoint | None, RunFile | None]:
    """What there is: a folder, its newest good checkpoint, its run file."""
    if not path.exists():
        raise InputError(f"{path} does not exist; name a run folder, a run.h5 or a checkpoint")
    if path.is_dir():
        run = RunFile.open(path) if (path / NAME).is_file() else None
        return path, newest_checkpoint(path), run
    try:
        return None, read_checkpoint(path), None
    except InputError:
        return None, None, RunFile.open(path)


def _facts(
    folder: Path | None, checkpoint: Checkpoint | None, run: RunFile | None
) -> dict[str, Any]:
    """The facts that `--json` promises, then some more."""
    source = checkpoint or run
    assert source is not None
    model, provenance = loads(source.config), source.provenance
    last = None
    if run is not None and len(run.series_time):
        last = {"time": float(run.series_time[-1])}
        last |= {name: float(values[-1]) for name, (values, _) in run.series.items()}
    step = checkpoint.step if checkpoint else round(last["time"] / model.time.step) if last else 0
    kept = [] if folder is None else [p.name for p in reversed(list_checkpoints(folder))]
    return {
        "model": model.name,
        "seed": source.seed,
        "step": step,
        "time_h": step * model.time.step,
        "until_h": model.time.until,
        "shape": list(model.lattice.shape),
        "voxel_um": model.lattice.voxel,
        "states": [s.name for s in model.states],
        "cytokines": [c.name for c in model.cytokines],
        "digest": checkpoint.digest if checkpoint else None,
        "checkpoints": kept,
        "snapshots": len(run.times) if run else 0,
        "devices": provenance.get("device_count"),
        "versions": provenance.get("versions"),
        "commit": provenance.get("commit"),
        "provenance": provenance,
        "last": last,
    }


def command_report(options: argparse.Namespace) -> int:
    """Write the report of a run."""
    from lattice.analysis.report import write_report

    if not options.folder.exists():
        raise InputError(f"{options.folder} does not exist; name the folder of a run")
    print(f"report: {write_report(options.folder)}")
    return 0


def command_export(options: argparse.Namespace) -> int:
    """Convert a run."""
    from lattice.io.export import export

    print(f"written: {export(options.folder, options.to, options.out)}")
    return 0


def command_morphometry(options: argparse.Namespace) -> int:
    """Measure bone in an image or in a run."""
    from lattice.analysis.tables import write_morphometry

    voxel = None if options.voxel is None else micrometres_of(options.voxel, "--voxel")
    try:
        written = write_morphometry(options.path, options.out, voxel_um=voxel)
    except OsteolatticeError as error:
        sentence = str(error).removeprefix("geometry.image: ").replace("image_voxel", "--voxel")
        raise type(error)(sentence) from error
    for path in written:
        print(f"written: {path}")
    return 0
