"""The command line: arguments, and the exit codes that scripts rely on.

0 done; 1 `bench compare` found a regression; 2 the input is wrong; 3 the run failed; 4 a file is
damaged; 130 interrupted. Each command lives in a module of its own, imported only when it is
called, so that ``--help`` is instant.
"""

from __future__ import annotations

import argparse
import importlib
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from lattice.cli import distributed
from lattice.model.errors import InputError, OsteolatticeError

COMMANDS = {
    "check": ("lattice.cli.checking", "read a model file and print what it says"),
    "run": ("lattice.cli.running", "simulate a model file into a new run folder"),
    "resume": ("lattice.cli.running", "go on from the newest good checkpoint of a run"),
    "trial": ("lattice.cli.trialling", "run arms times replicates and compare them; goes on"),
    "info": ("lattice.cli.telling", "tell what a run folder, run file or checkpoint holds"),
    "report": ("lattice.cli.telling", "write figures and an HTML page for a run"),
    "export": ("lattice.cli.telling", "convert a run for ParaView, napari, xarray, spreadsheets"),
    "morphometry": ("lattice.cli.telling", "measure bone in an image or a run (ASBMR names)"),
    "screen": ("lattice.cli.screening", "find the parameters that decide between two arms"),
    "calibrate": (
        "lattice.cli.calibrating",
        "steer numbers of a model until a run holds its targets",
    ),
    "fit": ("lattice.cli.fitting", "estimate numbers of a model from tables of data; goes on"),
    "design": ("lattice.cli.designing", "choose numbers of a treatment within limits; goes on"),
    "schema": ("lattice.cli.checking", "print the JSON Schema of model files for editors"),
    "bench": ("lattice.cli.benching", "measure the stepping core"),
    "doctor": ("lattice.cli.doctor", "examine this installation: JAX, devices, HDF5, memory"),
}


DEVICES = (
    "so many devices to share the lattice, in blocks that cost least traffic; or blocks along z, y "
    "and x, in this order, one device each: 4x1x1 divides z, 2x2 or 2x2x1 z and y, 1x1x4 x (mind "
    "that lattice.shape has x first)"
)

INTERRUPTED = 130
"""What shells make of a process that SIGINT has ended."""

AT_A_TIME = "one on each GPU, else on each core that memory has room for"


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one sentence and exit code 2."""

    def error(self, message: str) -> None:
        raise InputError(f"{message}; `{self.prog} --help` lists what there is")


def build_parser() -> Parser:
    """The parser of all commands."""
    parser = Parser(
        prog="osteolattice",
        description="What cytokines and cells do in a piece of bone: a 3-D lattice simulator.",
    )
    parser.add_argument("--version", action="store_true", help="print the version and stop")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", parser_class=Parser)
    for name, (_, summary) in COMMANDS.items():
        sub = commands.add_parser(name, help=summary, description=summary.capitalize() + ".")
        _ARGUMENTS[name](sub)
    return parser


def _overrides(
    sub: argparse.ArgumentParser,
    help: str = 'replace a number of the model, as rule.engulf.rate="0.1 /min" (repeatable)',
) -> None:
    sub.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help=help)


def _model(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("config", metavar="CONFIG", help="a model file (TOML)")
    _overrides(sub)


def _check(sub: argparse.ArgumentParser) -> None:
    _model(sub)
    sub.add_argument("--until", metavar="T", help='simulated time, as "35 day"')
    sub.add_argument("--shape", metavar="XxYxZ", help="voxels along each axis, as 256x256x128")
    sub.add_argument(
        "--devices",
        metavar="N|ZxYxX",
        help=f"plan for {DEVICES}: memory, traffic, time, checkpoints (compiles the step)",
    )
    sub.add_argument(
        "--device-memory",
        metavar="SIZE",
        help='tell how many devices of this size are needed, as "80 GB" (default: those here)',
    )


def _pace(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--until", metavar="T", help='simulated time at which to end, as "35 day"')
    sub.add_argument(
        "--devices",
        default="1",
        metavar="N|ZxYxX",
        help=f"{DEVICES}; with --distributed, N is that of each process and the blocks are those "
        "of all (default: 1, with --distributed all that there are)",
    )
    distributed.add_arguments(sub)
    sub.add_argument(
        "--max-walltime", metavar="T", help='stop with a checkpoint after so long, as "3.5 h"'
    )
    sub.add_argument("--quiet", action="store_true", help="no progress, only the summary")


def _run(sub: argparse.ArgumentParser) -> None:
    _model(sub)
    sub.add_argument("--out", type=Path, metavar="DIR", help="run folder (default runs/NAME)")
    sub.add_argument("--seed", type=int, default=0, metavar="N", help="seed of all random numbers")
    _pace(sub)


def _resume(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", type=Path, metavar="DIR", help="a run folder")
    _overrides(sub, "from here on, as solver.iterations=4 or output.checkpoints=never (repeatable)")
    _pace(sub)


def _trial(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("config", metavar="CONFIG", help="a trial file (TOML)")
    _overrides(sub)
    sub.add_argument(
        "--out", type=Path, metavar="DIR", help="folder (default runs/NAME); the same one goes on"
    )
    sub.add_argument("--jobs", type=int, metavar="N", help=f"runs at a time (default: {AT_A_TIME})")
    sub.add_argument("--replicates", type=int, metavar="N", help="runs of each arm")
    sub.add_argument("--arms", metavar="A,B", help="run only these arms now")
    sub.add_argument(
        "--part",
        metavar="I/N",
        help="run only every N-th replicate from the I-th, beside other parts (job arrays)",
    )
    sub.add_argument("--until", metavar="T", help='simulated time at which to end, as "35 day"')
    sub.add_argument("--quiet", action="store_true", help="no progress, only the summary")


def _info(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("path", type=Path, metavar="FILE-OR-DIR")
    sub.add_argument("--digest", action="store_true", help="only the SHA-256 of the state")
    sub.add_argument("--json", action="store_true", help="as JSON")


def _report(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", type=Path, metavar="DIR", help="a run folder")


def _export(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("folder", type=Path, metavar="DIR", help="a run folder or run.h5")
    sub.add_argument(
        "--to", required=True, choices=("vtkhdf", "ome-zarr", "netcdf", "csv"), help="format"
    )
    sub.add_argument("--out", type=Path, metavar="PATH", help="where (default: in the run folder)")


def _morphometry(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("path", type=Path, metavar="IMAGE-OR-RUN")
    sub.add_argument("--voxel", metavar="SIZE", help='voxel size of the image, as "19.5 um"')
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder for the tables")


def _screen(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("config", metavar="CONFIG", help="a screening (TOML), as configs/screens/")
    sub.add_argument(
        "--out", type=Path, metavar="DIR", help="folder (default runs/NAME); goes on where it ended"
    )
    sub.add_argument("--processes", type=int, metavar="N", help=f"processes (default: {AT_A_TIME})")
    sub.add_argument("--quiet", action="store_true", help="no progress, only the summary")


def _fit(sub: argparse.ArgumentParser) -> None:
    _problem(sub, "fit")


def _design(sub: argparse.ArgumentParser) -> None:
    _problem(sub, "design")


def _problem(sub: argparse.ArgumentParser, table: str) -> None:
    sub.add_argument("config", type=Path, metavar="CONFIG", help=f"a {table} file (TOML)")
    sub.add_argument("--out", type=Path, metavar="DIR", help="folder (default runs/NAME)")
    sub.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help=f'replace a key of [{table}], as runs=16 or reading="mean_field" (repeatable)',
    )
    sub.add_argument(
        "--jobs", type=int, metavar="N", help=f"at most N runs at a time (default: {AT_A_TIME})"
    )
    sub.add_argument("--quiet", action="store_true", help="no progress, only the summary")


def _calibrate(sub: argparse.ArgumentParser) -> None:
    sub.add_argument(
        "config", type=Path, metavar="CONFIG", help="a calibration (TOML), as configs/calibrations/"
    )
    sub.add_argument("--out", type=Path, metavar="FILE", help="table (default runs/NAME.csv)")


def _bench(sub: argparse.ArgumentParser) -> None:
    sub.add_argument("--case", action="append", default=[], metavar="NAME", help="only this case")
    sub.add_argument("--json", type=Path, metavar="FILE", help="write the records")
    sub.add_argument("--grid", type=int, default=128, metavar="N", help="voxels along each edge")
    sub.add_argument(
        "--seed",
        type=int,
        metavar="N",
        help="seed of sources, bone and cells; field-accuracy also draws its coefficients",
    )
    sub.add_argument("--species", type=int, default=6, metavar="N", help="cytokines of the kernels")
    sub.add_argument(
        "--peers", action="store_true", help="measure other programs in field-accuracy"
    )
    actions = sub.add_subparsers(dest="action", metavar="ACTION", parser_class=Parser)
    report = actions.add_parser("report", help="tables and plots of records")
    report.add_argument("records", type=Path, nargs="+", metavar="RECORDS.json")
    report.add_argument("--out", type=Path, required=True, metavar="DIR", help="where to write")
    compare = actions.add_parser(
        "compare", help="tell changes from noise; exit code 1 if something became worse"
    )
    compare.add_argument("before", type=Path, metavar="A.json")
    compare.add_argument("after", type=Path, metavar="B.json")
    compare.add_argument(
        "--threshold",
        type=float,
        default=0.1,
        metavar="SHARE",
        help="smallest change that counts (default: 0.1, a tenth)",
    )


_ARGUMENTS = {
    "check": _check,
    "run": _run,
    "resume": _resume,
    "trial": _trial,
    "info": _info,
    "report": _report,
    "export": _export,
    "morphometry": _morphometry,
    "screen": _screen,
    "calibrate": _calibrate,
    "fit": _fit,
    "design": _design,
    "schema": lambda sub: None,
    "bench": _bench,
    "doctor": lambda sub: None,
}

COMPUTES = {"run", "resume", "trial", "screen", "calibrate", "fit", "design", "bench"}
"""Commands that step a lattice, and therefore want the allocator's settings."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; returns its exit code."""
    try:
        return _main(sys.argv[1:] if arguments is None else arguments)
    except OsteolatticeError as error:
        print(f"osteolattice: {error}", file=sys.stderr)
        return error.exit_code
    except BrokenPipeError:
        # The reader of a pipe has gone: nothing is left to tell anybody.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except KeyboardInterrupt:
        print("osteolattice: interrupted", file=sys.stderr)
        return INTERRUPTED


def program() -> None:
    """The command `osteolattice`: its process ends with the exit code of `main`.

    An interrupt may leave runs in threads, within compiled programs that nothing stops. The
    interpreter's own end would abort the process when such a thread comes back to it."""
    code = main()
    sharing = sys.modules.get("lattice.inference.sharing")
    if code == INTERRUPTED and sharing is not None and sharing.runs_go_on():
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
    sys.exit(code)


def _main(arguments: Sequence[str]) -> int:
    parser = build_parser()
    options = parser.parse_args(arguments)
    if options.version:
        from importlib.metadata import version

        print(f"osteolattice {version('osteolattice')}")
        return 0
    if options.command is None:
        parser.print_help()
        return 0
    if options.command in COMPUTES:
        from lattice.cli.launcher import reexec_with_allocator_settings

        reexec_with_allocator_settings()
    module = importlib.import_module(COMMANDS[options.command][0])
    return getattr(module, f"command_{options.command}")(options)


if __name__ == "__main__":
    program()
