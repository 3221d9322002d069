"""All histomorphometry of a model's snapshots in one call, without files.

`histomorphometry` is what tables, reports and trials share. It joins structure (`morphometry`),
cells (`cellular`), fluorochrome labels (`labels`), matrix flux and firings of rules (`ledger`), and
bone quality (`quality`).
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np

from lattice.analysis.morphometry import Measure
from lattice.model.structure import Model

Snapshot = Mapping[str, np.ndarray]
"""Arrays [z, y, x] as `lattice.io.vtkhdf.frame` makes them: "bone" (0 or 1) and, where the model
has matrix, "cells" (codes of `Model.states`), "osteoid" and "mineral" (fractions of a voxel)."""

PARTS = ("structure", "cells", "labels", "flux", "quality")


def histomorphometry(
    model: Model,
    snapshots: Mapping[float, Snapshot],
    ledger: Mapping[str, np.ndarray] | None = None,
    *,
    parts: Collection[str] = PARTS,
) -> dict[str, Measure]:
    """Measures of the last snapshot: name -> (value, unit), under the names of the ASBMR.

    `snapshots`: hours -> arrays; the labels also need those at `model.output.label_times`.
    `ledger`: columns of the run's series by name, and "time" in hours, all of one length.
    `parts`: which of `PARTS` to measure; "structure" (widths by spheres) and "quality" (finite
    elements) take seconds, the others a fraction of one. What cannot be measured from what is
    given is left out; what is not defined (a thickness of nothing) is NaN.

    Raises InputError for a part that does not exist, ValueError without a snapshot.
    """
    raise NotImplementedError


__all__ = ["PARTS", "Measure", "Snapshot", "histomorphometry"]
