"""Measure the whole suite on this machine, write its record, and renew the README's table.

    python -m benchmarks.suite                         the record of this machine
    python -m benchmarks.suite --case whole-step       only this case of it anew (repeatable)
    python -m benchmarks.suite --quick --out FILE      every case on a small lattice, elsewhere

Each case has a process of its own, so that memory is that of the case. Packages of the extra
`peers` are measured where they are installed.
"""

from __future__ import annotations

import argparse
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import readme
from benchmarks.cases import CASES
from benchmarks.process_cases import ROOT, environment
from benchmarks.record import Record, read_records, write_records

GRIDS = {
    "field-reference": 48,
    "model-fields": 96,
    "field-reference-large": 64,
    "scaling": 64,
    "solve": 64,
}
"""Edge of the lattice where it is not 128."""

QUICK = 24


def main() -> int:
    """Returns 1 if a case has failed; the others are written all the same."""
    parser = argparse.ArgumentParser(description="measure everything and renew the README")
    parser.add_argument("--quick", action="store_true", help="small lattices; needs --out")
    parser.add_argument("--out", type=Path, metavar="FILE", help="the record; no README is renewed")
    parser.add_argument(
        "--case", action="append", choices=CASES, help="the others stay as they are"
    )
    options = parser.parse_args()
    if options.quick and options.out is None:
        parser.error("--quick: write --out FILE, since it is no record of this machine")
    path = options.out or readme.FOLDER / f"{machine_name()}.json"
    kept = read_records(path) if options.case and path.exists() else []
    known = {record.key: record for record in kept}
    failed = []
    for case in options.case or CASES:
        found = run(case, QUICK if options.quick else GRIDS.get(case, 128))
        failed += [case] if found is None else []
        known |= {record.key: record for record in found or []}
        if known:
            write_records(path, list(known.values()))
    print(f"written: {path}")
    if path in readme.RECORDS and not failed:
        readme.main()
    if failed:
        print(f"failed: {', '.join(failed)}", file=sys.stderr)
    return int(bool(failed))


def run(case: str, grid: int) -> list[Record] | None:
    """The records of one case; None if it failed."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "records.json"
        command = [sys.executable, "-m", "lattice.cli.main", "bench", "--case", case]
        command += ["--grid", str(grid), "--peers", "--json", str(path)]
        done = subprocess.run(command, env=environment({}), cwd=ROOT, check=False)
        if done.returncode:
            return None
        return read_records(path) if path.exists() else []


def machine_name() -> str:
    """The name of the record of this machine, such as "cpu-2-cores"."""
    import os

    import jax

    device = jax.devices()[0]
    if device.platform == "cpu":
        return f"cpu-{os.cpu_count()}-cores"
    return re.sub(r"\W+", "-", f"{device.device_kind}-x{jax.device_count()}").lower().strip("-")


if __name__ == "__main__":
    sys.exit(main())
