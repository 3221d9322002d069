"""`--distributed`: joining the processes of one run (Slurm, Open MPI, or said explicitly)."""

from __future__ import annotations

import argparse
import math
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lattice.model.errors import InputError

if TYPE_CHECKING:  # `--help` reads this file, and is instant without the engine
    from lattice.engine.layout import Devices

LAUNCHERS = {
    "Slurm": ("SLURM_PROCID", "SLURM_NTASKS", "SLURM_JOB_ID", "SLURM_STEP_NODELIST"),
    "Open MPI": ("OMPI_COMM_WORLD_RANK", "OMPI_COMM_WORLD_SIZE", "OMPI_MCA_orte_hnp_uri"),
}
"""Rank, number of processes, and what JAX needs to find the first of them (Open MPI 5 no longer
tells that: there `--coordinator` is needed, and rank and number are taken from the launcher)."""


def add_arguments(sub: argparse.ArgumentParser) -> None:
    """The options that `run` and `resume` share."""
    sub.add_argument(
        "--distributed",
        action="store_true",
        help="this is one of several processes (srun, mpirun, or the three options below)",
    )
    sub.add_argument("--coordinator", metavar="HOST:PORT", help="where the first process listens")
    sub.add_argument("--processes", type=int, metavar="N", help="how many processes there are")
    sub.add_argument("--process", type=int, metavar="I", help="which one this is, from 0")


def launcher(environment: Mapping[str, str]) -> str | None:
    """The launcher that has started this process and tells where the first one is, or None."""
    for name, variables in LAUNCHERS.items():
        if all(v in environment for v in variables):
            return name
    return None


def place(environment: Mapping[str, str]) -> tuple[int, int] | None:
    """Number of processes and rank as any launcher tells them; None if there is none."""
    for rank, count, *_ in LAUNCHERS.values():
        if rank in environment and count in environment:
            return int(environment[count]), int(environment[rank])
    return None


def own_devices(options: argparse.Namespace) -> int:
    """How many devices this process has to bring: of blocks that are named, its share. Raises
    InputError."""
    from lattice.engine.layout import wanted

    found = wanted(options.devices)
    if isinstance(found, int):
        return found
    count = math.prod(found)
    told = place(os.environ)
    processes = options.processes or (told[0] if told is not None else 1)
    if not options.distributed or processes < 1:
        return count
    if count % processes:
        raise InputError(
            f"--devices {options.devices}: {count} blocks cannot be shared evenly by {processes} "
            f"processes; write {processes} blocks or a multiple of it, or start another number of "
            "processes"
        )
    return count // processes


def join(options: argparse.Namespace, folder: Path | None) -> Devices:
    """Join the other processes; returns what all of them together share the lattice by: the blocks
    that are named, or the number of all devices.

    Has to come before JAX is first used. Raises InputError."""
    explicit = (options.coordinator, options.processes, options.process)
    if not options.distributed:
        if any(value is not None for value in explicit):
            raise InputError("--coordinator, --processes and --process need --distributed")
        return options.devices
    if folder is None:
        raise InputError("--distributed needs a folder that all processes know; write --out DIR")
    import jax

    from lattice.engine.layout import wanted

    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    try:
        if any(value is not None for value in explicit):
            jax.distributed.initialize(*checked(*explicit, os.environ))
        elif launcher(os.environ) is None:
            raise InputError(
                "--distributed: neither Slurm nor Open MPI has started this process; use srun or "
                "mpirun, or write --coordinator HOST:PORT --processes N --process I"
            )
        else:
            jax.distributed.initialize()
    except (RuntimeError, ValueError) as error:
        reason = str(error).strip().splitlines()
        raise InputError(
            f"--distributed: the processes cannot join ({reason[0] if reason else 'no reason'}); "
            "look whether all of them run and whether the coordinator's port is free"
        ) from None
    found, available = wanted(options.devices), jax.device_count()
    if isinstance(found, int):
        return available
    if math.prod(found) != available:
        raise InputError(
            f"--devices {options.devices}: these are {math.prod(found)} blocks, but the processes "
            f"have {available} devices together; write as many blocks as there are devices"
        )
    return found


def checked(
    coordinator: str | None,
    processes: int | None,
    process: int | None,
    environment: Mapping[str, str],
) -> tuple[str, int, int]:
    """The three options, completed by what a launcher has said. Raises InputError."""
    told = place(environment)
    if told is not None:
        processes = told[0] if processes is None else processes
        process = told[1] if process is None else process
    if coordinator is None or processes is None or process is None:
        raise InputError("--coordinator, --processes and --process belong together; write all")
    if not re.fullmatch(r"[^:\s]+:\d{1,5}", coordinator):
        raise InputError(f'--coordinator "{coordinator}": write it as node01:12345')
    if processes < 1 or not 0 <= process < processes:
        raise InputError(
            f"--process {process} of --processes {processes}: write a number from 0 to "
            f"{max(processes, 1) - 1}"
        )
    return coordinator, processes, process


def is_first() -> bool:
    """Whether this process is the one that talks."""
    from lattice.engine import processes

    return processes.is_first()
