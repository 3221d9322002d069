"""The house stands as declared: rooms, wheel, public names, versions of JAX that are refused."""

import ast
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest

from lattice.cli.doctor import KNOWN_BAD

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
PACKAGES = PROJECT["tool"]["setuptools"]["packages"]

PUBLIC_NAMES = ["Model", "Run", "gradient", "load", "loads", "simulate"]
"""`lattice.__all__`: a name that is added here is promised to users."""


def python(*arguments: str, **options) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], capture_output=True, text=True, **options)


def modules(folder: Path) -> set[str]:
    """The Python files of a folder of the repository, as a wheel names them."""
    return {p.relative_to(ROOT).as_posix() for p in folder.rglob("*.py")}


def test_the_public_names_are_frozen():
    import lattice

    assert lattice.__all__ == PUBLIC_NAMES
    for name in PUBLIC_NAMES:
        assert getattr(lattice, name).__doc__, name


def test_the_kernels_are_reached_by_a_symlink():
    link = ROOT / "lattice" / "kernels"
    assert link.is_symlink()
    assert os.readlink(link) == "../kernels"
    tracked = python("-c", "import lattice.kernels; print(lattice.kernels.__file__)", cwd=ROOT)
    assert Path(tracked.stdout.strip()).resolve() == ROOT / "kernels" / "__init__.py"


def test_the_kernels_are_flat_and_do_not_take_the_name_of_another_package():
    assert not [p for p in (ROOT / "kernels").rglob("*/*.py") if "__pycache__" not in p.parts]
    done = python("-c", "import kernels", cwd=ROOT)
    assert done.returncode != 0
    assert "import lattice.kernels, not kernels" in done.stderr


def test_the_list_of_packages_is_the_folders():
    folders = {p.parent for p in (ROOT / "lattice").rglob("*.py")}
    names = {".".join(p.relative_to(ROOT).parts) for p in folders}
    assert set(PACKAGES) == names | {"lattice.kernels"}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory) -> Path:
    """The wheel, built from a copy so that the checkout stays clean."""
    copy = tmp_path_factory.mktemp("wheel")
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, copy)
    ignored = shutil.ignore_patterns("__pycache__")
    shutil.copytree(ROOT / "kernels", copy / "kernels", ignore=ignored)
    shutil.copytree(ROOT / "lattice", copy / "lattice", symlinks=True, ignore=ignored)
    command = ["-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(copy / "out")]
    done = python(*command, str(copy))
    assert done.returncode == 0, done.stderr
    (path,) = (copy / "out").glob("*.whl")
    return path


def test_the_wheel_holds_every_module_once_and_nothing_else(wheel):
    files = set(zipfile.ZipFile(wheel).namelist())
    inside = {name for name in files if ".dist-info/" not in name}
    kernels = {f"lattice/{name}" for name in modules(ROOT / "kernels")}
    rooms = {n for n in modules(ROOT / "lattice") if not n.startswith("lattice/kernels/")}
    assert {name for name in inside if name.endswith(".py")} == kernels | rooms
    assert {name.split("/")[0] for name in inside} == {"lattice"}
    assert any(name.endswith("licenses/LICENSE") for name in files)


def test_the_bare_wheel_imports_and_starts(wheel, tmp_path):
    zipfile.ZipFile(wheel).extractall(tmp_path)
    program = (
        "import sys; sys.path.insert(0, '.');"
        "import lattice, lattice.kernels, lattice.cli.main as m;"
        "assert lattice.__file__.startswith(sys.argv[1]), lattice.__file__;"
        "assert not [n for n in sys.modules if n.split('.')[0] in ('jax', 'h5py', 'matplotlib')];"
        "sys.argv[1:] = ['--help']; m.main()"
    )
    done = python("-I", "-c", program, str(tmp_path), cwd=tmp_path)
    assert done.returncode == 0 or "usage: osteolattice" in done.stdout, done.stderr
    assert "usage: osteolattice" in done.stdout


def test_versions_of_jax_that_are_known_to_be_bad_are_not_installed():
    (jax,) = [d for d in PROJECT["project"]["dependencies"] if re.match(r"jax\W", d)]
    assert set(re.findall(r"!=([\d.]+)", jax)) == set(KNOWN_BAD)


def imported(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module.partition(".")[0])
    return names


DISTRIBUTIONS = {"skimage": "scikit-image", "mpl_toolkits": "matplotlib"}


def test_what_is_imported_is_declared_and_what_is_declared_is_imported():
    used = set().union(*(imported(ROOT / name) for name in modules(ROOT / "lattice")))
    used |= set().union(*(imported(ROOT / name) for name in modules(ROOT / "kernels")))
    used -= {"lattice", "benchmarks", *sys.stdlib_module_names}
    used = {DISTRIBUTIONS.get(name, name) for name in used}
    declared = {re.split(r"[^\w-]", line)[0] for line in PROJECT["project"]["dependencies"]}
    assert used == declared
