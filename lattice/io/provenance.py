"""Where a file came from: versions, commit, machine and time."""

from __future__ import annotations

import os
import platform
import socket
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

PACKAGES = ("osteolattice", "jax", "jaxlib", "numpy", "scipy", "h5py")


def collect(device_kind: str = "", device_count: int = 0) -> dict[str, object]:
    """What to write beside results, as JSON types.

    Keys: versions, commit, dirty, xla_flags, device_kind, device_count, host, machine, utc.
    `commit` and `dirty` are None outside a checkout.
    """
    commit, dirty = _commit(Path(__file__).resolve().parents[2])
    return {
        "versions": package_versions(),
        "commit": commit,
        "dirty": dirty,
        "xla_flags": os.environ.get("XLA_FLAGS", ""),
        "device_kind": device_kind,
        "device_count": device_count,
        "host": socket.gethostname(),
        "machine": f"{platform.system()} {platform.machine()}, {os.cpu_count()} CPUs",
        "utc": datetime.now(UTC).isoformat(timespec="seconds"),
    }


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results may depend on."""
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _commit(root: Path) -> tuple[str | None, bool | None]:
    if not (root / ".git").exists():
        return None, None
    try:
        commit = _git(root, "rev-parse", "HEAD")
        return commit, bool(_git(root, "status", "--porcelain", "--untracked-files=no"))
    except (OSError, subprocess.SubprocessError):
        return None, None


def _git(root: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-C", str(root), *arguments],
        capture_output=True,
        text=True,
        timeout=10,
        check=True,
    )
    return done.stdout.strip()
