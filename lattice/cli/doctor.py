"""`osteolattice doctor`: can this installation be trusted, and what does it have?"""

from __future__ import annotations

import argparse
import importlib.util
import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import NamedTuple

from lattice.cli.launcher import compilation_cache

KNOWN_BAD = {
    "0.10.2": "computes wrongly and crashes on CPU (jax-ml/jax#39103, #39257)",
    "0.11.0": "crashes on CPU (jax-ml/jax#39257) and computes wrongly on GPU (#40633)",
    "0.11.1": "computes wrongly on GPU (jax-ml/jax#40633) and is slow on CPU",
}
SECONDS_FOR_A_REPRODUCER = 120


class Finding(NamedTuple):
    """One line of the report; `problem` is a sentence, or None when all is well."""

    what: str
    state: str
    problem: str | None = None


def known_bad_jax(version: str) -> str | None:
    """Why this version of jax or jaxlib is refused, in one sentence; None if it is not."""
    reason = KNOWN_BAD.get(version.partition("+")[0])
    if reason is None:
        return None
    return f"JAX {version} {reason}; install another with `pip install 'jax!={version}'`"


def command_doctor(options: argparse.Namespace) -> int:
    """The command of the same name."""
    return run_doctor()


def run_doctor() -> int:
    """Print every finding, then one sentence per problem; 0 if there is none, else 3."""
    problems = []
    for finding in findings():
        mark = "ok " if finding.problem is None else "BAD"
        print(f"{mark} {finding.what:<20} {finding.state}", flush=True)
        problems += [finding.problem] if finding.problem is not None else []
    for problem in problems:
        print(f"osteolattice: {problem}", file=sys.stderr)
    return 3 if problems else 0


def findings() -> Iterator[Finding]:
    """All examinations, in the order in which one builds on another."""
    yield Finding("Python", f"{sys.version.split()[0]} ({sys.executable})")
    for package in ("jax", "jaxlib"):
        yield Finding(package, version(package), known_bad_jax(version(package)))
    yield reproduce("matvec_sum", "matrix-vector sum")
    yield reproduce("broadcast_sum", "sum of rank 8")
    yield from _devices()
    yield from _files()
    yield _memory()
    yield _allocator()
    cache = compilation_cache(os.environ)
    yield Finding("compiled programs", f"kept in {cache}" if cache else "not kept")
    yield _vtk()


def reproduce(name: str, what: str) -> Finding:
    """Run one of `lattice.cli.reproducers` on CPU in a process of its own."""
    command = [sys.executable, "-m", "lattice.cli.reproducers", name]
    environment = os.environ | {"JAX_PLATFORMS": "cpu"}
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            env=environment,
            stdin=subprocess.DEVNULL,
            timeout=SECONDS_FOR_A_REPRODUCER,
        )
    except subprocess.TimeoutExpired:
        return _failed(what, f"no answer in {SECONDS_FOR_A_REPRODUCER} s")
    if done.returncode != 0:
        last = (done.stderr.strip().splitlines() or [""])[-1]
        return _failed(what, f"ended with code {done.returncode} {last}".strip())
    answer = done.stdout.strip()
    return Finding(what, answer) if answer == "right" else _failed(what, answer)


def _failed(what: str, answer: str) -> Finding:
    return Finding(
        what,
        answer,
        f"JAX {version('jax')} fails a known reproducer ({what}: {answer}); install another JAX",
    )


def _devices() -> Iterator[Finding]:
    import jax

    try:
        devices = jax.devices()
    except RuntimeError as error:
        state = str(error).splitlines()[0]
        yield Finding("devices", "none", f"JAX finds no device ({state}); check JAX_PLATFORMS")
        return
    yield Finding("devices", f"{len(devices)} x {devices[0].device_kind} ({devices[0].platform})")
    yield Finding("64-bit arithmetic", "on" if jax.config.read("jax_enable_x64") else "off")


def _files() -> Iterator[Finding]:
    from lattice.io.health import hdf5_versions, locking_problem

    yield Finding("HDF5", hdf5_versions())
    locking = os.environ.get("HDF5_USE_FILE_LOCKING", "not set")
    problem = locking_problem(Path())
    yield Finding(
        "HDF5 files here",
        f"written and locked (HDF5_USE_FILE_LOCKING {locking})" if problem is None else "refused",
        None
        if problem is None
        else f"an HDF5 file cannot be written in {Path().resolve()} ({problem}); change to another "
        "folder, or set HDF5_USE_FILE_LOCKING=FALSE on a network file system",
    )


def _memory() -> Finding:
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        available = next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        return Finding("memory", "unknown")
    return Finding("memory", f"{available / 2**20:.1f} GiB available")


def _allocator() -> Finding:
    tunables = os.environ.get("GLIBC_TUNABLES")
    if tunables is None:
        return Finding("allocator", "GLIBC_TUNABLES not set (the commands that compute set it)")
    return Finding("allocator", f"GLIBC_TUNABLES {tunables}")


def _vtk() -> Finding:
    if importlib.util.find_spec("vtkmodules") is None:
        return Finding(
            "VTK", "not installed (only a test of the files that ParaView opens needs it)"
        )
    try:
        return Finding("VTK", version("vtk"))
    except PackageNotFoundError:
        return Finding("VTK", "installed")
