"""`osteolattice design`: numbers of a treatment that bring most, within limits."""

from __future__ import annotations

import argparse
from pathlib import Path

from lattice.cli.jax_setup import prepare_jax_for_runs
from lattice.cli.progress import timed_lines


def command_design(options: argparse.Namespace) -> int:
    """Carry a design out, or go on with it; write its files and its page."""
    from lattice.fitting.design import load_design
    from lattice.fitting.design_conduct import design_treatment
    from lattice.fitting.design_report import sentences, write_report
    from lattice.fitting.design_result import searched_by, write_result

    design = load_design(options.config, options.set)
    prepare_jax_for_runs(options.jobs, [c.model for c in design.problem.conditions])
    folder = options.out or Path("runs") / options.config.stem
    result = design_treatment(design, folder, timed_lines(options.quiet), jobs=options.jobs)
    paths = write_result(result, folder)
    page = write_report(result, folder)
    width = max(len(p.name) for p in design.problem.parameters)
    for i, (p, u) in enumerate(zip(design.problem.parameters, result.treated.u, strict=True)):
        print(f"{p.name:<{width}}  {p.written(u):.4g} {p.unit}".rstrip(), end="")
        print(f"  ({searched_by(design, i)})")
    for line in sentences(result):
        print(line)
    print("written: " + ", ".join(str(path) for path in paths))
    print(f"report: {page}")
    return 0
