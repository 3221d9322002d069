"""The run folder while it is written, and ``run.h5`` in it.

HDF5 cannot be appended to safely: a killed process leaves a file that nothing opens. So each
snapshot becomes a file of its own in ``snapshots/`` and is never touched again, and ``run.h5`` is
a small master that shows them as virtual datasets beside the time series and is replaced as a
whole. When the run ends, `finish` joins everything into one ``run.h5`` that stands alone.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import h5py
import numpy as np

from lattice.io import vtkhdf
from lattice.io.files import (
    explain_os_error,
    make_folder_of,
    new_hdf5,
    replacing,
    sync_folder,
    write_text,
)
from lattice.io.lock import NAME as LOCK_NAME
from lattice.io.lock import RunLock
from lattice.io.runread import NAME, PARTS, SCHEMA, RunFile
from lattice.io.shards import Share
from lattice.io.vtkhdf import Part
from lattice.model.errors import InputError
from lattice.model.structure import Model

Scalar = float | int | np.number

FLUSH_SHARE = 0.005  # of the time that may go into rewriting the master


class RunWriter:
    """Writes one run folder; made by `create` or `resume`. One process at a time may hold it."""

    def __init__(self, folder: Path, model: Model, lock: RunLock, about: dict[str, Any]):
        self.folder = folder
        self.model = model
        self._lock = lock
        self._about = about
        self._specs = vtkhdf.array_specs(model)
        self._states = [s.name for s in model.states]
        self._times: list[float] = []
        self._series: dict[str, list[float]] = {}
        self._units: dict[str, str] = {}
        self._parts: list[Part] = []
        self._next_part = 1
        self._next_flush = 0.0
        self._joined = False

    @classmethod
    def create(
        cls,
        folder: Path,
        model: Model,
        *,
        seed: int,
        provenance: Mapping[str, Any],
        units: Mapping[str, str] | None = None,
    ) -> RunWriter:
        """Starts a run in a folder that is absent or empty.

        `units` of the series by name; those of states and cytokines are known. Raises InputError
        when the folder holds anything, StorageError when it cannot be written.
        """
        vtkhdf.array_specs(model)
        refuse_occupied(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise explain_os_error(folder, error) from error
        about = {"schema": SCHEMA, "seed": int(seed), "provenance": dict(provenance)}
        run = cls(folder, model, RunLock(folder), about)
        # Another process may have begun here between the first look and the lock.
        run._guarded(refuse_occupied, folder)
        run._units = dict(units or {})
        run._guarded(run._start)
        return run

    def _start(self) -> None:
        write_text(self.folder / "config.toml", self.model.text)
        self.flush()

    @classmethod
    def resume(
        cls,
        folder: Path,
        model: Model,
        *,
        time_h: float,
        provenance: Mapping[str, Any] | None = None,
    ) -> RunWriter:
        """Goes on with a run from `time_h` (hours): what was written for later times is dropped.

        `provenance` of the resuming process is added under "resumed". Raises InputError when the
        folder holds no run, DamagedFileError when ``run.h5`` cannot be read.
        """
        if not folder.is_dir():
            raise InputError(f"{folder} is not a run folder: start one with `osteolattice run`")
        lock = RunLock(folder)
        try:
            old = RunFile.open(folder)
            old.check_parts()
        except BaseException:
            lock.release()
            raise
        about = dict(old.about)
        if provenance is not None:
            about["resumed"] = [*about.get("resumed", []), {"time_h": time_h, **provenance}]
        run = cls(folder, model, lock, about)
        run._guarded(run._take_over, old, time_h)
        return run

    def _guarded(self, function, *arguments) -> None:
        try:
            function(*arguments)
        except BaseException:
            self.close()
            raise

    def _take_over(self, old: RunFile, time_h: float) -> None:
        if {s.name for s in self._specs} != set(old.arrays) and old.times:
            raise InputError(
                f"{self.folder}: output.fields differs from that of the run so far: keep it as "
                "in config.toml of the run folder"
            )
        latest = time_h * (1 + 1e-12)
        kept = int(np.searchsorted(old.series_time, latest, side="right"))
        self._times = old.series_time[:kept].tolist()
        self._series = {name: v[:kept].tolist() for name, (v, _) in old.series.items()}
        self._units = {name: unit for name, (_, unit) in old.series.items()}
        taken = [p.path.name for p in old.parts]
        self._next_part = 1 + max((int(n.removesuffix(".h5")) for n in taken), default=0)
        parts = list(old.parts)
        if old.stands_alone and old.times:
            parts = [Part(self._keep_as_part(), tuple(old.times))]
        for part in parts:
            times = tuple(t for t in part.times if t <= latest)
            if times:
                self._parts.append(Part(part.path, times))
        # A new end of the run, or a configuration of the user's hand, is what run.h5 says now.
        write_text(self.folder / "config.toml", self.model.text)
        self.flush()
        self._remove_parts(keep={p.path for p in self._parts})

    def _keep_as_part(self) -> Path:
        """Gives a finished ``run.h5`` a second name, under which it survives its replacement."""
        part = self._part_path()
        try:
            part.parent.mkdir(exist_ok=True)
            part.unlink(missing_ok=True)
            try:
                os.link(self.folder / NAME, part)
            except OSError:
                with replacing(part) as temporary:
                    shutil.copyfile(self.folder / NAME, temporary)
            sync_folder(part.parent)
        except OSError as error:
            raise explain_os_error(part, error) from error
        return part

    def _part_path(self) -> Path:
        path = self.folder / PARTS / f"{self._next_part:09d}.h5"
        self._next_part += 1
        return path

    def add_row(self, time_h: float, values: Mapping[str, Scalar]) -> None:
        """Adds one moment to the time series. A row at the time of the last one replaces it.

        A name that is new is NaN before, one that is absent is NaN here. Raises ValueError when
        time runs backwards.
        """
        if self._times and time_h < self._times[-1]:
            raise ValueError(f"series: {time_h} h comes after {self._times[-1]} h")
        if self._times and time_h == self._times[-1]:
            self._times.pop()
            for column in self._series.values():
                column.pop()
        rows = len(self._times)
        self._times.append(float(time_h))
        for name in values:
            self._series.setdefault(name, [np.nan] * rows)
        for name, column in self._series.items():
            column.append(float(values.get(name, np.nan)))
        self._flush_if_due()

    def add_snapshot(self, time_h: float, state: Mapping[str, np.ndarray]) -> None:
        """Writes one frame. One at the time of the last frame replaces it.

        The file is on the disk when this returns; the master shows it after the next flush.
        Raises StorageError, ValueError when time runs backwards.
        """
        arrays = vtkhdf.frame(self.model, state)
        self._add_part(time_h, lambda file, t: vtkhdf.write_frame(file, self.model, t, arrays))

    def add_blocks(self, time_h: float, blocks: Sequence[Path]) -> None:
        """The same for a frame whose blocks several processes have written with `write_block`; the
        files of these are removed."""
        self._add_part(
            time_h, lambda file, t: vtkhdf.write_frame_of_blocks(file, self.model, t, blocks)
        )
        for path in blocks:
            path.unlink(missing_ok=True)

    def _add_part(self, time_h: float, write: Callable[[h5py.File, float], None]) -> None:
        last = self._parts[-1].times[-1] if self._parts else -np.inf
        if time_h < last:
            raise ValueError(f"snapshots: {time_h} h comes after {last} h")
        path = self._part_path()
        make_folder_of(path)
        with replacing(path) as temporary, new_hdf5(temporary) as file:
            write(file, float(time_h))
        if time_h == last:
            part = self._parts.pop()
            if part.frames > 1:
                self._parts.append(Part(part.path, part.times[:-1]))
        self._parts.append(Part(path, (float(time_h),)))
        self._flush_if_due()

    def _flush_if_due(self) -> None:
        if time.monotonic() >= self._next_flush:
            self.flush()

    def flush(self) -> None:
        """Brings ``run.h5`` up to date. Call it before a checkpoint is written: a run resumed
        from that checkpoint then finds every earlier row. Raises StorageError."""
        began = time.monotonic()
        self._write_master()
        now = time.monotonic()
        self._next_flush = now + (now - began) / FLUSH_SHARE

    def finish(self) -> None:
        """Joins everything into one ``run.h5`` that stands alone and removes ``snapshots/``.

        Raises StorageError; the run folder is then as before."""
        self._joined = True
        self._write_master()
        if self._parts:
            times = tuple(t for part in self._parts for t in part.times)
            self._parts = [Part(self.folder / NAME, times)]
        self._remove_parts(keep=set())

    def _write_master(self) -> None:
        with (
            replacing(self.folder / NAME) as temporary,
            new_hdf5(temporary) as file,
        ):
            series = {n: (np.array(v), self._unit(n)) for n, v in self._series.items()}
            write_series(file, self.model.text, self._about, np.array(self._times), series)
            if self._parts and self._joined:
                vtkhdf.write_joined(
                    file, self.model.lattice, self._specs, self._states, self._parts
                )
            elif self._parts:
                vtkhdf.write_virtual(
                    file, self.model.lattice, self._specs, self._states, self._parts, self.folder
                )
                file["parts"] = json.dumps([p.path.name for p in self._parts for _ in p.times])

    def _unit(self, name: str) -> str:
        if name in self._units:
            return self._units[name]
        if name in self._states:
            return "cells"
        amounts = {c.name: c.amount for c in self.model.cytokines}
        amount = amounts.get(name.rsplit(".", 1)[0])
        return {"mass": "ng/mL", "mole": "uM"}.get(amount or "", "1")

    def _remove_parts(self, keep: set[Path]) -> None:
        folder = self.folder / PARTS
        if not folder.is_dir():
            return
        for path in folder.iterdir():
            if path not in keep and path.suffix in {".h5", ".part"}:
                path.unlink(missing_ok=True)
        if not any(folder.iterdir()):
            folder.rmdir()

    def close(self) -> None:
        """Lets another process write to the folder. What was added since the last flush is lost."""
        self._lock.release()

    def __enter__(self) -> RunWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def write_block(
    folder: Path,
    share: Share,
    step: int,
    model: Model,
    state: Mapping[str, np.ndarray],
    planes: int,
) -> None:
    """One process's block of a snapshot, in a file that waits in the run folder until the first
    process adds it (`RunWriter.add_blocks`, `shards.await_files`). The number of planes of each
    block is a multiple of `planes`.

    Raises StorageError."""
    path = folder / PARTS / share.name(step)
    make_folder_of(path)
    with replacing(path) as temporary, new_hdf5(temporary) as file:
        vtkhdf.write_block(file, model, vtkhdf.frame(model, state), share.first, planes)


def refuse_occupied(folder: Path) -> None:
    """Raises InputError when a run cannot begin in a folder because something is in it."""
    if folder.exists() and (
        not folder.is_dir() or any(path.name != LOCK_NAME for path in folder.iterdir())
    ):
        raise InputError(
            f"{folder} exists and is never overwritten: go on with "
            f"`osteolattice resume {folder}` or choose another folder with --out"
        )


def write_series(
    file: h5py.File,
    config: str,
    about: Mapping[str, Any],
    time_h: np.ndarray,
    series: Mapping[str, tuple[np.ndarray, str]],
) -> None:
    """Writes all of a run file but its snapshots: configuration, provenance and time series."""
    file["config"] = config
    file["about"] = json.dumps(dict(about))
    group = file.create_group("series")
    for name, (values, unit) in {"time": (time_h, "hour"), **series}.items():
        group[name] = np.asarray(values, dtype=np.float64)
        group[name].attrs["unit"] = unit
