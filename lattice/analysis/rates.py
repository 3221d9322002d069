"""Rates from a run's ledgers: exact fluxes of matrix, and the life of corpses.

A *ledger* is the columns of a run's time series by name, and "time" in hours. Running totals
(`matrix.formed`, `events.<rule>`, ...) are counted by the engine itself, so that these rates have
no error of observation.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

import numpy as np
from jaxtyping import Float

from lattice.analysis.cellular import Roles
from lattice.analysis.labels import DAYS_PER_YEAR
from lattice.analysis.morphometry import Measure, ratio
from lattice.model.structure import Model

Ledger = Mapping[str, Float[np.ndarray, "T"]]

_FLUXES = {
    "BFR": ("formed", "matrix laid down as osteoid"),
    "Mineralised": ("mineralised", "osteoid that became mineral"),
    "BRs.R": ("resorbed", "matrix removed"),
}
_PER = {"BS": "bone surface", "BV": "bone volume", "TV": "tissue volume"}

DESCRIPTIONS = {
    f"{flux}/{per} (exact)": f"{meaning}, per {whole}; counted by the engine between the begins of "
    "the labels, or over the whole run"
    for flux, (_, meaning) in _FLUXES.items()
    for per, whole in _PER.items()
} | {
    "Corpse life": "mean time from death to removal: time-mean number of apoptotic cells / rate at "
    "which rules remove them",
    "Corpses engulfed": "share of the removed apoptotic cells that a touching cell took",
}


def matrix_fluxes(
    ledger: Ledger, static: Mapping[str, Measure], window: tuple[float, float] | None = None
) -> dict[str, Measure]:
    """Matrix formed, mineralised and resorbed per day of the window (hours; None: all of the run).

    `static` holds BS (mm2), BV and TV (mm3) at the end. A flux or a window that the ledger does not
    cover is left out.
    """
    time = ledger["time"]
    low, high = window or (float(time[0]), float(time[-1]))
    if not time[0] <= low < high <= time[-1] * (1 + 1e-12):
        return {}
    days = (high - low) / 24.0
    result = {}
    for flux, (column, _) in _FLUXES.items():
        if f"matrix.{column}" not in ledger:
            continue
        begin, end = np.interp([low, high], time, ledger[f"matrix.{column}"])
        per_day = float(end - begin) / days  # mm3/d
        surface = 1000.0 * ratio(per_day, static["BS"].value)
        result[f"{flux}/BS (exact)"] = Measure(surface, "um^3/um^2/d")
        for per in ("BV", "TV"):
            yearly = 100 * DAYS_PER_YEAR * ratio(per_day, static[per].value)
            result[f"{flux}/{per} (exact)"] = Measure(yearly, "%/y")
    return result


def corpse_measures(model: Model, roles: Roles, ledger: Ledger) -> dict[str, Measure]:
    """How long apoptotic cells lie about, and how many are engulfed, over the whole ledger.

    By Little's law the mean life is the time-mean number over the rate of removal, exact when as
    many are there at the end as at the start. Removal is by rules; kills and stranding are not
    counted. Nothing is returned for a model without apoptotic cells.
    """
    corpses = roles.get("apoptotic", frozenset())
    columns = [ledger[name] for name in corpses if name in ledger]
    time = ledger["time"]
    if not columns or len(time) < 2:
        return {}
    removed, engulfed = _removals(model, corpses, ledger)
    corpse_hours = float(np.trapezoid(np.sum(columns, axis=0), time))
    return {
        "Corpse life": Measure(ratio(corpse_hours, removed), "h"),
        "Corpses engulfed": Measure(100 * ratio(engulfed, removed), "%"),
    }


def _removals(model: Model, corpses: Collection[str], ledger: Ledger) -> tuple[float, float]:
    """Apoptotic cells that rules have made something else of, and those among them by contact."""
    removed = engulfed = 0.0
    for rule in model.rules:
        total = ledger.get(f"events.{rule.name}")
        if total is None or rule.kind in ("move", "divide"):
            continue
        lost = sum(r in corpses for r in rule.reactants) - sum(p in corpses for p in rule.products)
        count = max(lost, 0) * float(total[-1] - total[0])
        removed += count
        engulfed += count if rule.kind == "pair" else 0.0
    return removed, engulfed
