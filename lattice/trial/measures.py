"""Measures of a finished run that are not in its series: an outcome's ``histomorphometry``.

To add some: write a function of a run file and its model that returns name -> (value, unit), and
list it with the names it gives in `MEASURERS`. A trial calls it once for each run, and only if an
outcome asks for one of its names. The run holds a snapshot of the end and one of each of
`model.output.label_times`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import NamedTuple

from lattice.analysis import cellular, labels, morphometry, rates, stiffness
from lattice.analysis.tables import snapshot_measures
from lattice.io.runfile import RunFile
from lattice.model.structure import Model

__all__ = ["MEASURERS", "NAMES", "Measurer", "measures_of"]

Measures = dict[str, tuple[float, str]]


class Measurer(NamedTuple):
    """A function that measures a run, and the names of what it gives."""

    names: tuple[str, ...]
    measure: Callable[[RunFile, Model], Measures]


def _part(part: str) -> Callable[[RunFile, Model], Measures]:
    """One part of the histomorphometry of the last snapshot."""

    def measure(run: RunFile, model: Model) -> Measures:
        if not run.times or "bone" not in run.arrays or run.voxel_um is None:
            return {}
        found = snapshot_measures(run, model, len(run.times) - 1, (part,))
        return {name: (float(m.value), m.unit) for name, m in found.items()}

    return measure


MEASURERS: list[Measurer] = [
    Measurer(tuple(names), _part(part))
    for part, names in (
        ("structure", morphometry.DESCRIPTIONS),
        ("cells", cellular.DESCRIPTIONS),
        ("labels", labels.DESCRIPTIONS),
        ("flux", rates.DESCRIPTIONS),
        ("quality", stiffness.DESCRIPTIONS),
    )
]

NAMES = tuple(dict.fromkeys(name for m in MEASURERS for name in m.names))


def measures_of(run: RunFile, model: Model, wanted: Iterable[str]) -> Measures:
    """Everything that the measurers of the wanted names give for one run."""
    wanted, found = set(wanted), {}
    for measurer in MEASURERS:
        if wanted.intersection(measurer.names):
            found |= measurer.measure(run, model)
    return found
