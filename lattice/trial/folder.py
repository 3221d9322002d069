"""The folder of a trial: which runs there are, which have finished, and for which trial.

``trial.json``            the trial that the runs belong to
``starts/<mark>/r000/``   a common beginning of replicate 0: a run folder with a checkpoint
``runs/<arm>/r000/``      a run: ``run.h5`` (its series, and snapshots at the labels and at the
                          end) and ``result.json``, which is written last
``trial.csv``, ``replicates.csv``, ``findings.csv``, ``findings.json``, ``report/``
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lattice.io.files import explain_os_error, write_text
from lattice.io.lock import NAME as LOCK
from lattice.model.errors import DamagedFileError, InputError
from lattice.trial.models import essence, fingerprint, first_change
from lattice.trial.structure import Arm, Trial

__all__ = ["TrialFolder"]

MANIFEST, RESULT, FAILURE, MEASURES = "trial.json", "result.json", "failure.json", "measures.json"
SCHEMA = 1


class TrialFolder:
    """The folder of one trial. Raises InputError if it belongs to another one."""

    def __init__(self, path: Path, trial: Trial) -> None:
        self.path, self.trial = path, trial
        self._slugs = _slugs(trial)

    def prepare(self) -> None:
        """Makes the folder, or checks that what is in it was run as this trial says.

        Arms, replicates, outcomes and findings may be added to a trial later; an arm that has been
        run may not change."""
        try:
            self.path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(self.path, error) from error
        manifest = self.path / MANIFEST
        now = self._manifest()
        if manifest.is_file():
            old = _read(manifest)
            self._compare(old, now)
            now["arms"] = {**old["arms"], **now["arms"]}
        elif any(not p.name.startswith(LOCK) for p in self.path.iterdir()):
            raise InputError(
                f"{self.path} holds something else than a trial; choose another folder with --out"
            )
        write_text(manifest, json.dumps(now, indent=1) + "\n")

    def _manifest(self) -> dict[str, Any]:
        trial = self.trial
        return {
            "schema": SCHEMA,
            "trial": {
                "seed": trial.seed,
                "until": trial.until,
                "treated_from": trial.treated_from,
            },
            "arms": {arm.name: essence(arm.model) for arm in trial.arms},
        }

    def _compare(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> None:
        advice = "choose another folder with --out, or undo the change"
        # Through JSON, so that numbers and lists compare as they were written.
        new = json.loads(json.dumps(new))
        change = first_change(old["trial"], new["trial"])
        if change is not None:
            raise InputError(f"{self.path} holds another trial: {change}; {advice}")
        for name, arm in new["arms"].items():
            change = first_change(old["arms"].get(name, arm), arm)
            if change is not None and self._has_runs(name):
                raise InputError(
                    f'{self.path} holds runs of the arm "{name}" with another model: {change}; '
                    f"{advice}"
                )

    def _has_runs(self, name: str) -> bool:
        return any((self.path / "runs" / self._slugs[name]).glob(f"*/{RESULT}"))

    def start(self, index: int, replicate: int) -> Path:
        """The folder of a common beginning."""
        mark = fingerprint(self.trial.starts[index])[:16]
        return self.path / "starts" / mark / f"r{replicate:03d}"

    def run(self, arm: Arm | str, replicate: int) -> Path:
        """The folder of a run."""
        name = arm if isinstance(arm, str) else arm.name
        return self.path / "runs" / self._slugs[name] / f"r{replicate:03d}"

    def result(self, arm: Arm | str, replicate: int) -> dict[str, Any] | None:
        """What a finished run says of itself: seed, digest, seconds; None without one."""
        return result_of(self.run(arm, replicate))

    def failure(self, arm: Arm | str, replicate: int) -> str | None:
        """Why a run failed; None if it did not."""
        path = self.run(arm, replicate) / FAILURE
        return _read(path)["problem"] if path.is_file() else None

    def measures(self, arm: Arm | str, replicate: int) -> dict[str, tuple[float, str]]:
        """The measures of a run that have been taken so far."""
        return measures_in(self.run(arm, replicate))


def result_of(folder: Path) -> dict[str, Any] | None:
    """``result.json`` of a run, or None."""
    path = folder / RESULT
    return _read(path) if path.is_file() else None


def measures_in(folder: Path) -> dict[str, tuple[float, str]]:
    """``measures.json`` of a run: name -> (value, unit); empty without one."""
    path = folder / MEASURES
    if not path.is_file():
        return {}
    found = _read(path)
    return {n: (float("nan") if v is None else float(v), unit) for n, (v, unit) in found.items()}


def write_measures(folder: Path, measures: Mapping[str, tuple[float, str]]) -> None:
    """Adds measures to those of a run."""
    both = {**measures_in(folder), **measures}
    plain = {n: [v if v == v else None, unit] for n, (v, unit) in both.items()}
    write_text(folder / MEASURES, json.dumps(plain, indent=1) + "\n")


def write_result(folder: Path, result: Mapping[str, Any]) -> None:
    """Marks a run as finished."""
    write_text(folder / RESULT, json.dumps(dict(result), indent=1) + "\n")


def write_failure(folder: Path, problem: str) -> None:
    """Marks a run as failed; the next call tries it again."""
    folder.mkdir(parents=True, exist_ok=True)
    write_text(folder / FAILURE, json.dumps({"problem": problem}, indent=1) + "\n")


def empty(folder: Path) -> None:
    """Removes what a run that did not finish has left."""
    try:
        if folder.is_dir():
            shutil.rmtree(folder)
        folder.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise explain_os_error(folder, error) from error


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DamagedFileError(
            f"{path} cannot be read ({error}): remove it, and what it stands for is run again"
        ) from error
    if not isinstance(found, dict):
        raise DamagedFileError(f"{path} is not what was written: remove it")
    return found


def _slugs(trial: Trial) -> dict[str, str]:
    """A folder name for each arm. Raises InputError where two arms would share one."""
    slugs: dict[str, str] = {}
    for arm in trial.arms:
        slug = re.sub(r"[^A-Za-z0-9._-]+", "-", arm.name).strip("-.") or "arm"
        twin = next((n for n, s in slugs.items() if s.lower() == slug.lower()), None)
        if twin is not None:
            raise InputError(
                f'{trial.file}: arm.{arm.name}: as a folder it has the name of "{twin}"; '
                "write names that differ in letters or digits"
            )
        slugs[arm.name] = slug
    return slugs
