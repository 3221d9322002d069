"""`osteolattice fit`: numbers of a model from tables of measurements."""

from __future__ import annotations

import argparse
from pathlib import Path

from lattice.cli.jax_setup import prepare_jax_for_runs
from lattice.cli.progress import timed_lines


def command_fit(options: argparse.Namespace) -> int:
    """Carry a fit out, or go on with it; write its files and its page."""
    from lattice.fitting.conduct import conduct
    from lattice.fitting.reading import load_fit
    from lattice.fitting.report import write_report
    from lattice.fitting.result import crossed_sentence, gradient_verdict, interval, write_result

    problem = load_fit(Path(options.config), options.set)
    prepare_jax_for_runs(options.jobs, [c.model for c in problem.conditions])
    folder = options.out or Path("runs") / Path(options.config).stem
    result = conduct(problem, folder, timed_lines(options.quiet), jobs=options.jobs)
    paths = write_result(result, folder)
    page = write_report(result, folder)
    width = max(len(p.name) for p in problem.parameters)
    for i, parameter in enumerate(problem.parameters):
        low, high = interval(result, i)
        estimate = parameter.written(result.fitted.u[i])
        checked = "" if result.check is None else f"; {gradient_verdict(result, i)}"
        print(
            f"{parameter.name:<{width}}  {estimate:.4g} ({low:.4g} to {high:.4g}) "
            f"{parameter.unit}  {result.information.verdicts[i]}{checked}"
        )
    print(
        f"sampled model at the estimate: chi2 {result.chi2:.4g} for {len(problem.data)} data; "
        f"{result.runs} sampled runs"
    )
    if result.crossed is not None:
        print(crossed_sentence(result))
    print("written: " + ", ".join(str(path) for path in paths))
    print(f"report: {page}")
    return 0
