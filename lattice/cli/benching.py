"""`osteolattice bench`: the benchmark cases of a checkout, one record each."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from lattice.cli.jax_setup import prepare_jax
from lattice.model.errors import InputError


def command_bench(options: argparse.Namespace) -> int:
    """Run cases and print, or write, their records."""
    root = Path(__file__).resolve().parents[2]
    if not (root / "benchmarks" / "cases.py").is_file():
        raise InputError(f"{root} holds no benchmarks; run `osteolattice bench` from a checkout")
    if not 16 <= options.grid <= 1024:
        raise InputError(f"--grid {options.grid}: write a whole number from 16 to 1024")
    prepare_jax()
    sys.path.insert(0, str(root))
    from benchmarks.cases import CASES, summary

    unknown = sorted(set(options.case) - set(CASES))
    if unknown:
        raise InputError(f"--case {unknown[0]}: there are {', '.join(sorted(CASES))}")
    records = []
    for name in options.case or CASES:
        print(f"{name} ...", file=sys.stderr, flush=True)
        found = CASES[name](options.grid, options.seed)
        records += found
        for one in found:
            print(summary(one), flush=True)
    if options.json is not None:
        from lattice.io.files import write_text

        write_text(options.json, json.dumps(records, indent=1) + "\n")
        print(f"written: {options.json}")
    return 0
