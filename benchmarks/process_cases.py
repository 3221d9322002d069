"""What takes processes of its own: starting up, and scaling over devices."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from benchmarks.measure import Setting, Timing, measured
from benchmarks.record import Record
from benchmarks.whole_step import MODEL
from lattice.model.errors import OsteolatticeError

ROOT = Path(__file__).resolve().parents[1]
FORCE = "--xla_force_host_platform_device_count"


def start_up(setting: Setting) -> Iterator[Record]:
    """From the shell to the end of one step of the whole-step model: with an empty cache of
    compiled programs, and with one that the run before has filled. Also `--help`."""
    n = setting.grid
    yield timed_process("start-up", "--help", setting, ["--help"], {}, repeats=5)
    with tempfile.TemporaryDirectory() as name:
        for method in ("cold cache", "warm cache"):
            arguments = [
                "run", str(MODEL), "--out", f"{name}/{method}", "--quiet", "--until", "30 min",
                "--seed", str(setting.drawn_from), "--set", f"lattice.shape=[{n}, {n}, {n}]",
                "--set", f"geometry.thickness={min(50.0, 10 * n / 7):.6g} um",
            ]  # fmt: skip
            settings = {"JAX_COMPILATION_CACHE_DIR": f"{name}/cache"}
            yield timed_process("start-up", method, setting, arguments, settings)


def timed_process(
    case: str,
    method: str,
    setting: Setting,
    arguments: Sequence[str],
    settings: dict[str, str],
    repeats: int = 1,
) -> Record:
    """The wall time of an `osteolattice` command; `peak_bytes` is that of the command."""
    seconds, peak = [], 0
    command = [sys.executable, "-m", "lattice.cli.main", *arguments]
    for _ in range(repeats):
        with tempfile.TemporaryFile() as said:
            start = time.perf_counter()
            process = subprocess.Popen(command, env=environment(settings), stdout=said, stderr=said)
            _, status, usage = os.wait4(process.pid, 0)
            seconds.append(time.perf_counter() - start)
            process.returncode = os.waitstatus_to_exitcode(status)
            if process.returncode:
                said.seek(0)
                last = said.read().decode(errors="replace").strip().splitlines()[-1:]
                raise OsteolatticeError(f"`{' '.join(arguments)}` failed: {''.join(last)}")
        peak = max(peak, usage.ru_maxrss * (1 if sys.platform == "darwin" else 1024))
    return replace(measured(case, method, setting.shape, Timing.of(seconds)), peak_bytes=peak)


def environment(settings: dict[str, str]) -> dict[str, str]:
    """That of this process, without what its own start has set, and with this checkout's code."""
    own = ("GLIBC_TUNABLES", "OSTEOLATTICE_REEXECUTED", "JAX_COMPILATION_CACHE_DIR")
    kept = {k: v for k, v in os.environ.items() if k not in own}
    return {**kept, "PYTHONPATH": str(ROOT), **settings}


def scaling(setting: Setting) -> Iterator[Record]:
    """The whole step on as many devices as there are cores, each a core: the same lattice for all
    (strong), and one as thick as there are devices (weak). All bits have to be the same in both
    measurements of one lattice."""
    cores = sorted(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else []
    if len(cores) < 2:
        print("scaling is left out: it needs two cores to choose from", file=sys.stderr)
        return
    counts = [n for n in (1, 2, 4, 8, 16, 32) if n <= len(cores)]
    for kind in ("strong", "weak"):
        base = None
        for count in counts:
            planes = setting.grid * (count if kind == "weak" else 1)
            found = on_devices(setting.grid, planes, count, cores[:count], setting.drawn_from)
            timing = Timing(found["median_s"], found["iqr_s"], found["repeats"])
            base = base or found
            if kind == "strong" and found["digest"] != base["digest"]:
                raise OsteolatticeError(f"{count} devices give other bits than one")
            speed_up = base["median_s"] / timing.median
            yield measured(
                "scaling",
                kind,
                (planes, setting.grid, setting.grid),
                timing,
                updates=planes * setting.grid**2,
                compile_s=found["compile_s"],
                parameters={"devices": count, "seed": setting.drawn_from},
                more={"efficiency_share": speed_up / (count if kind == "strong" else 1)},
            )


def on_devices(grid: int, planes: int, devices: int, cores: Sequence[int], seed: int) -> dict:
    """What `benchmarks.scaling_worker` measures in a process that has these cores only."""
    told = {"grid": grid, "planes": planes, "devices": devices, "cores": list(cores), "seed": seed}
    settings = {"XLA_FLAGS": f"{os.environ.get('XLA_FLAGS', '')} {FORCE}={devices}".strip()}
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.scaling_worker", json.dumps(told)],
        env={**environment(settings), "JAX_PLATFORMS": "cpu"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise OsteolatticeError(f"{devices} devices: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout.splitlines()[-1])
