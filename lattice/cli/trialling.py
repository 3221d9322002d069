"""`osteolattice trial`: arms times replicates, and what they show."""

from __future__ import annotations

import argparse
import os
import re
import sys
import time
from collections.abc import Sequence
from contextlib import contextmanager
from pathlib import Path

from lattice.cli.durations import hours_of
from lattice.cli.jax_setup import prepare_jax
from lattice.cli.running import SECONDS_BETWEEN_LOG_LINES, stop_signals
from lattice.model.errors import InputError


def command_trial(options: argparse.Namespace) -> int:
    """Do the runs of a trial that are missing, then its tables and its report."""
    if options.until is not None:
        hours_of(options.until, "--until")
    for value, name in ((options.jobs, "--jobs"), (options.replicates, "--replicates")):
        if value is not None and value < 1:
            raise InputError(f"{name} {value}: write a whole number from 1 upwards")
    part = part_of(options.part)
    prepare_jax()
    from lattice.trial.conduct import conduct
    from lattice.trial.reading import load_trial

    trial = load_trial(
        options.config,
        overrides=options.set,
        until=options.until,
        replicates=options.replicates,
    )
    folder = options.out or Path("runs") / Path(options.config).stem
    arms = None
    if options.arms is not None:
        arms = named_arms(options.arms, [arm.name for arm in trial.arms])
    with stop_signals() as stop, _display(folder, options.quiet) as show:
        ending = conduct(
            trial, folder, arms=arms, part=part, processes=options.jobs, show=show, stop=stop
        )
    if ending.results is not None:
        _tell(ending)
    if ending.stopped is not None:
        print(f"stopped: {ending.stopped}; the same command goes on with what is missing")
        return 0
    if ending.results is None:
        print(
            f"part {options.part}: {ending.done} jobs done; when all parts have ended, the same "
            "command without --part writes the tables"
        )
        return _told_failures(ending)
    from lattice.trial.report import write_report

    print(f"written to {folder}: trial.csv, replicates.csv, findings.csv, findings.json")
    print(f"report: {write_report(ending.results)}")
    return _told_failures(ending)


def named_arms(text: str, known: Sequence[str]) -> list[str]:
    """The names in "A,B", of which a known one may hold commas itself: the longest counts."""
    pieces = text.split(",")
    found = []
    while pieces:
        starts = {n: ",".join(pieces[:n]).strip() for n in range(len(pieces), 0, -1)}
        length = next((n for n, name in starts.items() if name in known), 1)
        found.append(starts[length])
        pieces = pieces[length:]
    return [name for name in found if name]


def part_of(text: str | None) -> tuple[int, int] | None:
    """The (i, n) of "i/n", 1 <= i <= n. Raises InputError."""
    if text is None:
        return None
    found = re.fullmatch(r"\s*(\d{1,6})\s*/\s*(\d{1,6})\s*", text)
    if found is None or not 1 <= int(found[1]) <= int(found[2]):
        raise InputError(f'--part "{text}": write a part and their number, as 2/8')
    return int(found[1]), int(found[2])


def _told_failures(ending) -> int:
    """Prints what failed; returns the exit code."""
    for key, problem in ending.failed.items():
        print(f"osteolattice: {key} failed: {problem}", file=sys.stderr)
    return 3 if ending.failed else 0


def _tell(ending) -> None:
    records = ending.results.records
    finished = sum(r.status == "done" for r in records)
    print(f"{finished} of {len(records)} runs are there, {ending.done} jobs done by this call")
    for judged in ending.results.judged:
        print(f"  {judged.finding.name:<6} {judged.verdict:<15} {judged.finding.claim}")


@contextmanager
def _display(folder: Path, quiet: bool):
    """Progress as a bar on a terminal, as lines elsewhere, and always in log.txt."""
    last = 0.0

    def line_of(standing) -> str:
        left = standing.seconds_left
        wait = "" if left is None else f", {_time(left)} left"
        failed = f", {len(standing.failed)} failed" if standing.failed else ""
        return (
            f"{standing.finished} of {standing.runs} jobs, {100 * standing.share:.0f} %"
            f"{failed}{wait}"
        )

    def due(standing) -> str | None:
        nonlocal last
        now = time.monotonic()
        ended = standing.finished + len(standing.failed) == standing.runs
        if not ended and now - last < SECONDS_BETWEEN_LOG_LINES:
            return None
        last = now
        line = line_of(standing)
        if folder.is_dir():
            with (folder / "log.txt").open("a", encoding="utf-8") as file:
                file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S')} {line}\n")
        return line

    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":

        def lines(standing) -> None:
            line = due(standing)
            if line is not None and not quiet:
                print(line, file=sys.stderr, flush=True)

        yield lines
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (TextColumn("{task.description}"), BarColumn(), TimeElapsedColumn())
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("starting", total=1.0)

        def draw(standing) -> None:
            bar.update(task, completed=standing.share, description=line_of(standing))
            due(standing)

        yield draw


def _time(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
