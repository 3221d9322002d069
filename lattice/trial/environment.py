"""What worker processes inherit: a GPU each or, where there is none, one thread each."""

from __future__ import annotations

import importlib.util
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager

__all__ = ["environment_of", "inherited", "visible_gpus"]

_VISIBLE = "CUDA_VISIBLE_DEVICES"
_COUNT = "import jax; print(jax.local_device_count() if jax.default_backend() == 'gpu' else 0)"


def count_by_jax() -> int:
    """GPUs that JAX finds, asked in a process of its own: they stay free for others. 0 where JAX
    cannot say; the runs will then tell why."""
    quiet = {**os.environ, "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    asked = subprocess.run(
        [sys.executable, "-c", _COUNT], env=quiet, capture_output=True, text=True, check=False
    )
    words = asked.stdout.split()
    return int(words[-1]) if asked.returncode == 0 and words else 0


def visible_gpus(
    environment: Mapping[str, str] | None = None, count: Callable[[], int] | None = None
) -> tuple[str, ...]:
    """Names of the GPUs that this process may use, as CUDA_VISIBLE_DEVICES writes them."""
    environment = os.environ if environment is None else environment
    platforms = environment.get("JAX_PLATFORMS", "")
    plugins = ("jax_cuda13_plugin", "jax_cuda12_plugin")
    if count is None and not any(importlib.util.find_spec(name) for name in plugins):
        return ()
    if platforms and "cuda" not in platforms and "gpu" not in platforms:
        return ()
    found = (count or count_by_jax)()
    names = [name.strip() for name in environment.get(_VISIBLE, "").split(",") if name.strip()]
    return tuple(names[:found]) if names else tuple(str(k) for k in range(found))


def environment_of(worker: int, gpus: tuple[str, ...]) -> dict[str, str]:
    """What makes a worker, counted from 0, see one GPU alone, which is not filled at once, since
    others may use it too; without GPUs, what keeps workers from competing for cores."""
    if gpus:
        return {_VISIBLE: gpus[worker % len(gpus)], "XLA_PYTHON_CLIENT_PREALLOCATE": "false"}
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_cpu_multi_thread_eigen=false".strip()
    return {
        "XLA_FLAGS": flags,
        "NPROC": "1",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
        "XLA_PYTHON_CLIENT_PREALLOCATE": "false",
    }


@contextmanager
def inherited(wanted: Mapping[str, str]) -> Iterator[None]:
    """Processes that are started inside have these variables."""
    before = {name: os.environ.get(name) for name in wanted}
    os.environ.update(wanted)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value
