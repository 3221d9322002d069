"""`osteolattice bench`: the benchmark cases of a checkout, their report, and comparisons."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from lattice.model.errors import InputError


def command_bench(options: argparse.Namespace) -> int:
    """Run cases and print, or write, their records; or report or compare records."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "benchmarks" / "cases.py").is_file():
        raise InputError(f"{root} holds no benchmarks; run `osteolattice bench` from a checkout")
    sys.path.insert(0, str(root))
    action = {"report": _report, "compare": _compare}.get(options.action, _run)
    return action(options)


def _run(options: argparse.Namespace) -> int:
    from lattice.cli.jax_setup import prepare_jax

    if not 16 <= options.grid <= 1024:
        raise InputError(f"--grid {options.grid}: write a whole number from 16 to 1024")
    if not 1 <= options.species <= 64:
        raise InputError(f"--species {options.species}: write a whole number from 1 to 64")
    if options.seed is not None and not 0 <= options.seed < 2**31:
        raise InputError(f"--seed {options.seed}: write a whole number from 0 to 2147483647")
    prepare_jax()
    from benchmarks.cases import CASES, summary
    from benchmarks.measure import Setting
    from benchmarks.record import write_records

    unknown = sorted(set(options.case) - set(CASES))
    if unknown:
        raise InputError(f"--case {unknown[0]}: there are {', '.join(sorted(CASES))}")
    setting = Setting(options.grid, options.seed, options.species, options.peers)
    records = []
    for name in options.case or CASES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        for record in CASES[name](setting):
            records.append(record)
            print(summary(record), flush=True)
            if options.json is not None:
                write_records(options.json, records)
    if options.json is not None:
        print(f"written: {options.json}")
    return 0


def _report(options: argparse.Namespace) -> int:
    from benchmarks.record import read_files
    from benchmarks.report import write_report

    for path in write_report(read_files(options.records), options.out):
        print(f"written: {path}")
    return 0


def _compare(options: argparse.Namespace) -> int:
    from benchmarks.compare import compare, table
    from benchmarks.record import read_records

    found = compare(read_records(options.before), read_records(options.after), options.threshold)
    print(table(found))
    return int(found.is_regression)
