"""The environment that a computing process wants, settled before JAX is imported.

glibc reads its tunables only when a process starts, so the command re-executes itself once.
Whatever the user has set is left alone.
"""

import importlib.util
import os
import sys
from collections.abc import Mapping
from pathlib import Path

__all__ = ["NO_CACHE", "TUNABLES", "compilation_cache", "reexec_with_allocator_settings", "wanted"]

TUNABLES = ":".join(
    (
        "glibc.malloc.hugetlb=1",
        "glibc.malloc.mmap_threshold=8589934592",
        "glibc.malloc.trim_threshold=17179869184",
        "glibc.malloc.top_pad=536870912",
    )
)
"""Keep freed arrays mapped: fresh buffers cost a page fault per page in every operation."""

NO_CACHE = "OSTEOLATTICE_NO_CACHE"
"""Set to 1: compiled programs are not kept between runs."""

_GUARD = "OSTEOLATTICE_REEXECUTED"
_GPU_FLAGS = ("--xla_gpu_deterministic_ops=true", "--xla_gpu_enable_command_buffer=-WHILE")
"""Sums in one order; and no loop inside a CUDA graph, where XLA computed a wrong state (JAX 0.11.2,
not its default there)."""


def reexec_with_allocator_settings(any_program: bool = False) -> None:
    """Set what `wanted` says and, where the allocator is to change, start this process anew.

    Does nothing once JAX is imported, or in a program other than the `osteolattice` command (a
    notebook, a test runner), which must not be restarted behind its user's back; a script of its
    own that may be restarted says `any_program`. After the one restart it returns.
    """
    if "jax" in sys.modules or not (any_program or _is_own_command()):
        return
    settings = wanted(os.environ)
    os.environ.update(settings)
    if "GLIBC_TUNABLES" not in settings or _GUARD in os.environ:
        return
    os.environ[_GUARD] = "1"
    sys.stdout.flush()
    sys.stderr.flush()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def wanted(environment: Mapping[str, str]) -> dict[str, str]:
    """The variables to be set beside what `environment` already holds."""
    settings = {}
    if _is_glibc() and "GLIBC_TUNABLES" not in environment:
        settings["GLIBC_TUNABLES"] = TUNABLES
    flags = environment.get("XLA_FLAGS", "")
    missing = [flag for flag in _GPU_FLAGS if flag.partition("=")[0] not in flags]
    if _has_cuda() and missing:
        settings["XLA_FLAGS"] = " ".join([flags, *missing]).strip()
    cache = compilation_cache(environment)
    if cache is not None and "JAX_COMPILATION_CACHE_DIR" not in environment:
        settings["JAX_COMPILATION_CACHE_DIR"] = str(cache)
    return settings


def compilation_cache(environment: Mapping[str, str]) -> Path | None:
    """The folder of compiled programs in use, made if need be; None if there is none.

    Without CUDA there is none unless the user names one: JAX up to 0.10 never reuses a program
    compiled for CPU, and says so in red for each of them (jax-ml/jax#38445).
    """
    if environment.get(NO_CACHE, "0") not in ("", "0"):
        return None
    if "JAX_COMPILATION_CACHE_DIR" in environment:
        return Path(environment["JAX_COMPILATION_CACHE_DIR"])
    if not _has_cuda():
        return None
    try:
        folder = _user_cache(environment) / "osteolattice" / "jax"
        folder.mkdir(parents=True, exist_ok=True)
    except (OSError, RuntimeError):  # read-only, or no home
        return None
    return folder


def _user_cache(environment: Mapping[str, str]) -> Path:
    if environment.get("XDG_CACHE_HOME"):
        return Path(environment["XDG_CACHE_HOME"])
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches"
    if environment.get("LOCALAPPDATA"):
        return Path(environment["LOCALAPPDATA"])
    return Path.home() / ".cache"


def _is_own_command() -> bool:
    program = Path(sys.argv[0])
    return program.stem == "osteolattice" or program.resolve() == Path(__file__).with_name(
        "main.py"
    )


def _is_glibc() -> bool:
    try:
        return sys.platform == "linux" and (os.confstr("CS_GNU_LIBC_VERSION") or "") != ""
    except (ValueError, OSError):
        return False


def _has_cuda() -> bool:
    plugins = ("jax_cuda13_plugin", "jax_cuda12_plugin")
    return any(importlib.util.find_spec(name) is not None for name in plugins)
