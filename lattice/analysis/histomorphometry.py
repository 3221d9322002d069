"""All histomorphometry of a model's snapshots in one call, without files.

`histomorphometry` is what tables, reports and trials share. It joins structure (`morphometry`),
cells (`cellular`), fluorochrome labels (`labels`), matrix flux and firings of rules (`rates`),
and stiffness (`stiffness`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from lattice.analysis import cellular, labels, morphometry, rates, stiffness
from lattice.analysis.morphometry import Measure
from lattice.analysis.rates import Ledger
from lattice.model.errors import InputError
from lattice.model.structure import Model

Snapshot = Mapping[str, np.ndarray]
"""Arrays [z, y, x] as `lattice.io.vtkhdf.frame` makes them: "bone" (0 or 1) and, where the model
has matrix, "cells" (codes of `Model.states`), "osteoid" and "mineral" (fractions of a voxel)."""

PARTS = ("structure", "cells", "labels", "flux", "quality")

DESCRIPTIONS = (
    morphometry.DESCRIPTIONS
    | cellular.DESCRIPTIONS
    | labels.DESCRIPTIONS
    | rates.DESCRIPTIONS
    | stiffness.DESCRIPTIONS
)


DEAR = {
    "structure": morphometry.DESCRIPTIONS,
    "labels": labels.DESCRIPTIONS,
    "quality": stiffness.DESCRIPTIONS,
}


def parts_for(names: Collection[str]) -> tuple[str, ...]:
    """The `PARTS` that give these measures: those that cost little, and of the others what is
    asked for."""
    return tuple(p for p in PARTS if p not in DEAR or any(n in DEAR[p] for n in names))


def describe(name: str) -> str:
    """What a measure is, in words."""
    if name in DESCRIPTIONS:
        return DESCRIPTIONS[name]
    state = name.removeprefix("N.").removesuffix("/TV")
    return f"cells in the state {state} per tissue volume"


def histomorphometry(
    model: Model,
    snapshots: Mapping[float, Snapshot],
    ledger: Ledger | None = None,
    *,
    parts: Collection[str] = PARTS,
) -> dict[str, Measure]:
    """Measures of the last snapshot: name -> (value, unit), under the names of the ASBMR.

    `snapshots`: hours -> arrays; the labels also need those at `model.output.label_times`, and
    W.Th is measured against the earliest ones. They are read one at a time, in their order, so the
    mapping may be a lazy one. `ledger`: columns of the run's series by name, and "time" in hours,
    all of one length. `parts`: which of `PARTS` to measure, besides volumes and surface;
    "structure" (widths by spheres) and
    "quality" (finite elements) take seconds, the others a fraction of one. What cannot be
    measured from what is given is left out; what is not defined (a thickness of nothing) is NaN.

    Raises InputError for a part that does not exist, ValueError without a snapshot.
    """
    if unknown := sorted(set(parts) - set(PARTS)):
        raise InputError(f"there is no part {unknown[0]!r}: choose among {', '.join(PARTS)}")
    if not snapshots:
        raise ValueError("histomorphometry needs a snapshot")
    voxel = model.lattice.voxel
    last = snapshots[max(snapshots)]
    bone = last["bone"] != 0
    whole = model.matrix is not None and {"cells", "osteoid", "mineral"} <= set(last)
    matrix = np.clip(last["osteoid"] + last["mineral"], 0, 1) if whole else bone
    if "structure" in parts:
        found = morphometry.morphometry(matrix, voxel)
    else:
        found = morphometry.volumes(matrix.astype(np.float32), voxel)
    roles = cellular.roles_of_model(model)
    if whole:
        cells = _cells(model, roles, last, bone, found["BS"].value)
        if "labels" in parts:
            found |= _labels(model, snapshots, last, matrix, found | cells)
        if "cells" in parts:
            found |= cells
    if ledger is not None and "flux" in parts:
        found |= rates.matrix_fluxes(ledger, found, _interval(model, ledger))
        found |= rates.corpse_measures(model, roles, ledger)
    if "quality" in parts:
        found |= stiffness.stiffness_measures(last["mineral"] if whole else bone)
    return found


def _cells(model: Model, roles, last: Snapshot, bone: np.ndarray, surface: float):
    voxel, names = model.lattice.voxel, [s.name for s in model.states]
    matrix = last["cells"], last["osteoid"], last["mineral"]
    found = cellular.cellular_morphometry(bone, *matrix, names, roles, voxel, surface)
    return found | cellular.state_densities(model, last["cells"], voxel)


def _interval(model: Model, ledger: Ledger) -> tuple[float, float] | None:
    """From the begin of one label to that of the other, if the ledger has come so far."""
    times = model.output.labels
    return times if times is not None and times[1] <= ledger["time"][-1] else None


def _labels(model, snapshots, last, matrix, static) -> dict[str, Measure]:
    """What the labels show, if all of their snapshots are there; and the thickness of new walls."""
    output, voxel = model.output, model.lattice.voxel
    marks = [_nearest(snapshots, t) for t in output.label_times]
    found = {}
    if marks and None not in marks:
        minerals = [snapshots[t]["mineral"] for t in marks]
        later = [snapshots[t]["mineral"] for t in snapshots if t > marks[-1]]
        seen = labels.see_labels(
            minerals, later or [minerals[-1]], matrix, voxel, output.label_window / 24
        )
        interval = (output.label_times[2] - output.label_times[0]) / 24
        found = labels.dynamic_measures(seen, interval, static)
    if len(snapshots) > 1:
        least = matrix
        for time in snapshots:
            arrays = snapshots[time]
            least = np.minimum(least, arrays["osteoid"] + arrays["mineral"])
        wall = labels.wall_thickness(least, matrix, last["osteoid"], voxel)
        found["W.Th"] = Measure(wall, "um")
    return found


def _nearest(snapshots: Mapping[float, Snapshot], hours: float) -> float | None:
    """The time of the snapshot that was taken at `hours`, to rounding."""
    return next((t for t in snapshots if abs(t - hours) <= 1e-9 * max(1.0, hours)), None)


__all__ = ["PARTS", "Measure", "Snapshot", "describe", "histomorphometry"]
