"""A trial from its file to its tables: which runs are missing, doing them, what they show."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from lattice.engine.estimate import runs_that_fit
from lattice.io.lock import RunLock
from lattice.model.errors import InputError
from lattice.model.kinds import did_you_mean
from lattice.model.structure import Model
from lattice.trial.environment import visible_gpus
from lattice.trial.folder import TrialFolder, result_of
from lattice.trial.models import essence
from lattice.trial.pool import Show, Stop, carry_out
from lattice.trial.results import Results, collect
from lattice.trial.structure import Trial
from lattice.trial.tables import write_tables
from lattice.trial.worker import Job

__all__ = ["Ending", "conduct", "jobs_of"]


@dataclass(frozen=True)
class Ending:
    """How a call ended: `stopped` tells why it ended early, `failed` why runs failed; `results` of
    all arms and replicates, None after a part."""

    folder: Path
    done: int
    missing: int
    failed: dict[str, str]
    stopped: str | None
    results: Results | None


def conduct(
    trial: Trial,
    folder: Path,
    *,
    arms: Sequence[str] | None = None,
    part: tuple[int, int] | None = None,
    processes: int | None = None,
    show: Show = lambda _: None,
    stop: Stop = lambda: None,
) -> Ending:
    """Do the runs of a trial that are missing and write its tables.

    Runs that have finished in this folder are kept. `arms`: only these are run now. `part` (i, n):
    only every n-th replicate from the i-th (from 1), beside other parts that may run at the same
    time, and no tables. `processes`: runs at a time, None for one on each GPU or, where there is
    none, on each core that memory has room for. Raises InputError, also for a folder of another
    trial, StorageError, DamagedFileError.
    """
    names = [arm.name for arm in trial.arms]
    for name in arms or ():
        if name not in names:
            raise InputError(f'--arms: there is no arm "{name}"; {did_you_mean(name, names)}')
    place = TrialFolder(folder, trial)
    folder.mkdir(parents=True, exist_ok=True)
    first, step = part or (1, 1)
    replicates = range(first - 1, trial.replicates, step)
    with ExitStack() as locks:
        locks.enter_context(RunLock(folder, shared=part is not None))
        for replicate in replicates if part is not None else ():
            locks.enter_context(RunLock(folder, part=f"replicate {replicate}"))
        place.prepare()
        jobs = jobs_of(trial, place, names if arms is None else arms, replicates)
        gpus = visible_gpus() if jobs and processes != 1 else ()
        if processes is None:
            processes = len(gpus) or runs_that_fit(arm.model for arm in trial.arms)
        standing = carry_out(jobs, processes, show, stop, gpus)
        results = None
        if part is None:
            results = collect(trial, place)
            write_tables(results, folder)
    missing = len(jobs) - standing.finished - len(standing.failed)
    reason = stop() if missing else None
    return Ending(folder, standing.finished, missing, standing.failed, reason, results)


def jobs_of(
    trial: Trial, place: TrialFolder, arms: Sequence[str], replicates: Sequence[int] | None = None
) -> list[Job]:
    """The jobs that are still to be done for these arms and replicates (None: all)."""
    wanted = tuple(o.measure for o in trial.outcomes if o.measure is not None)
    jobs: dict[str, Job] = {}
    for arm in (trial.arm(name) for name in arms):
        program = _program(arm.model)
        for replicate in range(trial.replicates) if replicates is None else replicates:
            finished = place.result(arm, replicate) is not None
            unmeasured = set(wanted) - set(place.measures(arm, replicate))
            if finished and not unmeasured:
                continue
            seed = trial.seed_of(replicate)
            needs, begin = None, None
            if trial.starts and not finished:
                begin = place.start(arm.start, replicate)
                key = f"start {arm.start}, replicate {replicate}"
                if result_of(begin) is None:
                    needs = key
                    common = trial.starts[arm.start]
                    jobs.setdefault(
                        key,
                        Job(
                            key,
                            common,
                            seed,
                            begin,
                            trial.treated_from,
                            trial.treated_from,
                            _program(common),
                            keeps_state=True,
                        ),
                    )
            key = f"{arm.name}, replicate {replicate}"
            jobs[key] = Job(
                key,
                arm.model,
                seed,
                place.run(arm, replicate),
                trial.until,
                trial.treated_from,
                program,
                needs=needs,
                begin=begin,
                measures=wanted,
                measure_only=finished,
            )
    return list(jobs.values())


def _program(model: Model) -> str:
    """What a compiled step depends on."""
    text = json.dumps(essence(model)["structure"], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
