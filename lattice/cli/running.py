"""`osteolattice run` and `osteolattice resume`."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import time
from collections.abc import Callable
from contextlib import contextmanager
from pathlib import Path

from lattice.cli.distributed import is_first, join, own_devices
from lattice.cli.durations import hours_of, until_override
from lattice.cli.jax_setup import prepare_jax
from lattice.model import load
from lattice.model.errors import InputError

SECONDS_BETWEEN_LOG_LINES = 10.0


def command_run(options: argparse.Namespace) -> int:
    """Start a run and carry it to its end."""
    if not 0 <= options.seed < 2**64:
        raise InputError(f"--seed {options.seed}: write a whole number from 0 to 2**64 - 1")
    model = load(options.config, overrides=[*options.set, *until_override(options.until)])
    prepare_jax(own_devices(options))
    options.devices = join(options, options.out)
    from lattice import run

    folder = options.out or run.free_folder(Path("runs") / Path(options.config).stem)
    return _carry(
        lambda **hooks: run.start(model, folder, seed=options.seed, **hooks), folder, options
    )


def command_resume(options: argparse.Namespace) -> int:
    """Go on with a run."""
    until_override(options.until)
    prepare_jax(own_devices(options))
    options.devices = join(options, options.folder)
    from lattice import run

    folder = run.require_folder(options.folder)
    return _carry(
        lambda **hooks: run.resume(folder, until=options.until, overrides=options.set, **hooks),
        folder,
        options,
    )


def _carry(go: Callable, folder: Path, options: argparse.Namespace) -> int:
    limit = options.max_walltime
    seconds = None if limit is None else 3600 * hours_of(limit, "--max-walltime")
    first = is_first()
    with stop_signals() as stop, _display(folder, options.quiet or not first) as show:
        outcome = go(
            devices=options.devices,
            progress=show,
            stop=stop,
            max_seconds=seconds,
        )
    if not first:
        return 0
    for sentence in outcome.skipped:
        print(f"passed over: {sentence}", file=sys.stderr)
    _summarise(outcome)
    return 0


def _summarise(outcome) -> None:
    hours, row = outcome.time_h, outcome.row
    print(f"{hours / 24:g} days simulated, {outcome.step} steps, {outcome.seconds:.1f} s")
    for name in ("BV/TV", "osteoid", "mineral"):
        if name in row:
            print(f"  {name:<12}{row[name][0]:.6g} {row[name][1]}")
    cells = {k: v for k, (v, unit) in row.items() if unit == "cells" and v}
    print("  cells       " + ", ".join(f"{name} {count:g}" for name, count in cells.items()))
    print(f"  digest      {outcome.digest}")
    if outcome.stopped is not None:
        print(f"stopped: {outcome.stopped}; go on with `osteolattice resume {outcome.folder}`")
        return
    print(f"written to {outcome.folder} (run.h5 opens in ParaView); figures:")
    print(f"  osteolattice report {outcome.folder}")


@contextmanager
def stop_signals():
    """SIGTERM, SIGINT and SIGUSR1 end a run with a checkpoint; a second SIGINT ends it at once."""
    received: list[str] = []

    def note(number, _frame):
        if number == signal.SIGINT and received:
            raise KeyboardInterrupt
        received.append(signal.Signals(number).name)

    numbers = (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1)
    before = {n: signal.signal(n, note) for n in numbers}
    try:
        yield lambda: f"{received[0]} was received" if received else None
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _display(folder: Path, quiet: bool):
    """Progress as a bar on a terminal, as lines elsewhere, and always in log.txt."""
    last = 0.0

    def log(progress) -> str:
        left = progress.seconds_left
        wait = "" if left is None else f", {left:.0f} s left"
        line = (
            f"step {progress.step}/{progress.steps}, {progress.time_h / 24:.3g} of "
            f"{progress.until_h / 24:g} days{wait}"
        )
        if folder.is_dir():
            with (folder / "log.txt").open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {line}\n")
        return line

    def due(progress) -> bool:
        nonlocal last
        now = time.monotonic()
        if progress.step < progress.steps and now - last < SECONDS_BETWEEN_LOG_LINES:
            return False
        last = now
        return True

    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":

        def lines(progress) -> None:
            if due(progress):
                line = log(progress)
                if not quiet:
                    print(line, file=sys.stderr, flush=True)

        yield lines
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.progress import TimeRemainingColumn as Remaining

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.percentage:>3.0f}%"),
    )
    with Progress(*columns, TimeElapsedColumn(), Remaining(), console=Console(stderr=True)) as bar:
        task = bar.add_task("compiling the step", total=None)

        def draw(progress) -> None:
            text = f"{progress.time_h / 24:.2f} of {progress.until_h / 24:g} days"
            bar.update(task, total=progress.steps, completed=progress.step, description=text)
            if due(progress):
                log(progress)

        yield draw
