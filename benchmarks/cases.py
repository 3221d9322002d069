"""The cases that `osteolattice bench` knows, by name."""

from __future__ import annotations

from collections.abc import Callable, Iterator

from benchmarks import (
    accuracy,
    cell_cases,
    field_cases,
    kernel_cases,
    model_case,
    process_cases,
    reference_case,
    run_cases,
    whole_step,
)
from benchmarks.measure import Setting
from benchmarks.record import Record

CASES: dict[str, Callable[[Setting], Iterator[Record]]] = {
    "copy": kernel_cases.copy,
    "random": kernel_cases.random_numbers,
    "stencil": kernel_cases.stencil,
    "sweep": kernel_cases.sweep,
    "solve": kernel_cases.solve,
    "field": field_cases.constant,
    "field-bone": field_cases.in_bone,
    "field-reference": reference_case.references,
    "field-reference-large": reference_case.large_references,
    "field-accuracy": accuracy.accuracy,
    "field-accuracy-bone": accuracy.accuracy_with_bone,
    "model-fields": model_case.model_fields,
    "cells": cell_cases.cells,
    "whole-step": whole_step.whole_step,
    "whole-step-sizes": whole_step.whole_step_sizes,
    "memory": whole_step.memory,
    "output": whole_step.output,
    "checkpoint": run_cases.checkpoint,
    "ensemble": run_cases.ensemble,
    "gradient": run_cases.gradient,
    "start-up": process_cases.start_up,
    "scaling": process_cases.scaling,
}

SHOWN = {
    "median_s": "{:.4g} s",
    "iqr_s": "+- {:.2g}",
    "error_l2": "L2 {:.2e}",
    "error_linf": "Linf {:.2e}",
    "seconds_per_simulated_day": "{:.3g} s/simulated day",
    "mlups": "{:.4g} MLUPS",
    "copy_fraction": "{:.2f} of copy",
    "compile_s": "compile {:.1f} s",
    "bytes_per_voxel": "{:.0f} B/voxel",
}


def summary(record: Record) -> str:
    """One line about a record."""
    parts = [t.format(v) for k, t in SHOWN.items() if (v := getattr(record, k)) is not None]
    parts += [f"{k} {v:.4g}" for k, v in record.more.items() if isinstance(v, int | float)]
    size = "x".join(str(n) for n in record.size)
    told = {k: v for k, v in record.parameters.items() if k in VARIED}
    what = " ".join([record.method, *(f"{k}={v:g}" for k, v in told.items() if v is not None)])
    return f"{record.case:<19} {size:<12} {what:<32} " + ", ".join(parts)


VARIED = ("contrast", "step_minutes", "occupied", "devices")
"""Parameters that vary within a case."""
