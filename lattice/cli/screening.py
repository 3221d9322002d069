"""`osteolattice screen`: which parameters decide the difference between two arms."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import numpy as np

from lattice.cli import pool
from lattice.cli.jax_setup import prepare_jax
from lattice.model.errors import InputError, NumericalError
from lattice.trial.environment import visible_gpus

SECONDS_BETWEEN_LINES = 10.0
RUNS, IDENTITY = "runs.csv", "screen.json"
RESULTS = ("screen.csv", "points.csv", "screen.png", "index.html")


def command_screen(options: argparse.Namespace) -> int:
    """Carry out a screening, or go on with one."""
    if options.processes is not None and options.processes < 1:
        raise InputError(f"--processes {options.processes}: write a whole number from 1 upwards")
    prepare_jax()
    from lattice.analysis.screen_file import read_screen
    from lattice.analysis.screening import design
    from lattice.engine.estimate import runs_that_fit
    from lattice.io.identity import claimed_folder
    from lattice.run import bone_of

    screen = read_screen(Path(options.config))
    points = design(screen)
    arms = (screen.reference, screen.treated)
    for model in arms:
        bone_of(model, screen.seed)  # refused here, not in each process
    folder = options.out or Path("runs") / screen.name
    said, other = _said(screen, points), "a screening of another file or model"
    with claimed_folder(folder, IDENTITY, said, other):
        done = _finished(folder / RUNS, screen)
        tasks = [
            (k, r)
            for k in range(len(points))
            for r in range(screen.replicates)
            if (k, r) not in done
        ]
        if tasks:
            gpus = visible_gpus()
            most = options.processes or len(gpus) or runs_that_fit(arms)
            shared = (screen, points)
            results = pool.each(_pair, tasks, min(most, len(tasks)), _prepare, shared, gpus)
            _carry(folder / RUNS, screen, results, len(tasks), len(done), options.quiet)
        differences = _differences(_finished(folder / RUNS, screen), screen, len(points))
        rows = _write(folder, screen, points, differences)
    _summarise(folder, screen, rows)
    return 0


def _said(screen, points) -> dict[str, object]:
    """What decides the bits of a screening."""
    return {
        "reference": screen.reference.text,
        "treated": screen.treated.text,
        "outcomes": screen.outcomes,
        "ranges": [[r.name, r.low, r.high, r.scale] for r in screen.ranges],
        "seed": screen.seed,
        "replicates": screen.replicates,
        "method": screen.method,
        "points": points.tolist(),
    }


def _head(screen) -> list[str]:
    arms = [f"{arm} {name}" for name in screen.outcomes for arm in ("reference", "treated")]
    return ["point", "replicate", *arms]


def _finished(path: Path, screen) -> dict[tuple[int, int], list[float]]:
    """Pairs of runs that are on disk; a line that was cut off is dropped."""
    if not path.exists():
        return {}
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    if whole != text:
        path.write_text(whole, encoding="utf-8")
    done = {}
    for line in whole.splitlines()[1:]:
        point, replicate, *numbers = line.split(",")
        done[int(point), int(replicate)] = [float(x) for x in numbers]
    return done


def _carry(path: Path, screen, results: Iterable, missing: int, done: int, quiet: bool) -> None:
    """What is missing goes to disk, each pair of runs as it comes."""
    from lattice.analysis.screening import csv_text

    new = not path.exists()
    began, last = time.monotonic(), 0.0
    with path.open("a", encoding="utf-8", newline="") as file:
        if new:
            file.write(csv_text(_head(screen), []))
        for count, (point, replicate, numbers) in enumerate(results, 1):
            file.write(",".join([str(point), str(replicate), *map(repr, numbers)]) + "\n")
            file.flush()
            os.fsync(file.fileno())
            now = time.monotonic()
            if not quiet and (now - last > SECONDS_BETWEEN_LINES or count == missing):
                left = (now - began) / count * (missing - count)
                total = done + missing
                line = f"{done + count}/{total} pairs of runs, {left:.0f} s left"
                print(line, file=sys.stderr, flush=True)
                last = now


_shared: dict = {}
"""What a process of the pool keeps: the screening, its design, bones."""


def _prepare(screen, points) -> None:
    _shared.update(screen=screen, points=points, bone={})


def _pair(task: tuple[int, int]) -> tuple[int, int, list[float]]:
    """Both arms at a design point with the same seed: outcomes, reference before treated."""
    point, replicate = task
    screen = _shared["screen"]
    changes = screen.values(_shared["points"][point])
    seed = screen.seed + replicate
    rows = [
        _last_row(arm, getattr(screen, arm).with_values(**changes), seed, point)
        for arm in ("reference", "treated")
    ]
    return point, replicate, [row[name][0] for name in screen.outcomes for row in rows]


def _last_row(arm: str, model, seed: int, point: int) -> dict[str, tuple[float, str]]:
    from lattice.engine.simulation import Simulation
    from lattice.recording import check_state
    from lattice.run import bone_of, steps_until

    bones = _shared["bone"]
    if (arm, seed) not in bones:
        bones[arm, seed] = bone_of(model, seed)
    simulation = Simulation(model, seed, bones[arm, seed])
    simulation.advance(steps_until(model))
    try:
        check_state(simulation, 0)
    except NumericalError as error:
        raise NumericalError(f"design point {point}, {arm} arm, seed {seed}: {error}") from None
    return simulation.row()


def _differences(done, screen, count: int) -> np.ndarray:
    """Mean over the replicates of treated minus reference, [point, outcome]."""
    pairs = np.array(
        [[done[k, r] for r in range(screen.replicates)] for k in range(count)], np.float64
    )
    return (pairs[..., 1::2] - pairs[..., 0::2]).mean(axis=1)


def _write(folder: Path, screen, points, differences) -> list[dict]:
    from lattice.analysis.screen_page import draw, page
    from lattice.analysis.screening import columns, csv_text, indices, points_table
    from lattice.io.files import write_text

    rows = indices(screen, points, differences)
    head = columns(screen)
    write_text(folder / "screen.csv", csv_text(head, [[r[c] for c in head] for r in rows]))
    write_text(folder / "points.csv", points_table(screen, points, differences))
    picture = draw(screen, rows, folder / "screen.png")
    write_text(folder / "index.html", page(screen, rows, differences, picture))
    return rows


def _summarise(folder: Path, screen, rows) -> None:
    leading = "mu_star" if screen.method == "morris" else "total"
    for outcome in screen.outcomes:
        print(f"{outcome}, treated minus reference: {leading}, direction")
        for row in [r for r in rows if r["outcome"] == outcome][:10]:
            value = f"{row[leading]:.4g} +- {row[f'{leading}_conf']:.2g}"
            print(f"  {row['parameter']:<40}{value:<24}{row['sign']}")
    print(f"written to {folder}: {', '.join(RESULTS)}")
