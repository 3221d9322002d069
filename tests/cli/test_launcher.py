"""The environment is settled once, and never against the user."""

import os
import subprocess
import sys

import pytest

from lattice.cli import launcher

SCRIPT = """
import os, sys
from lattice.cli.launcher import reexec_with_allocator_settings
before = os.getpid()
reexec_with_allocator_settings(any_program=True)
print(os.environ.get("GLIBC_TUNABLES"), os.environ.get("JAX_COMPILATION_CACHE_DIR"))
print(sys.argv[1:], sys.flags.dev_mode, "jax" in sys.modules)
"""

glibc_only = pytest.mark.skipif(not launcher._is_glibc(), reason="glibc only")


@pytest.fixture
def bare(tmp_path):
    """This environment without what the launcher sets, with a cache of its own."""
    hidden = ("GLIBC_TUNABLES", "JAX_COMPILATION_CACHE_DIR", "XLA_FLAGS", launcher._GUARD)
    kept = {k: v for k, v in os.environ.items() if k not in hidden}
    return kept | {"XDG_CACHE_HOME": str(tmp_path)}


def run(path, environment, *arguments):
    path.write_text(SCRIPT)
    command = [sys.executable, "-X", "dev", str(path), *arguments]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    return done.stdout.splitlines()


@glibc_only
def test_the_process_is_started_anew_once_with_the_same_arguments(tmp_path, bare):
    first, second = run(tmp_path / "script.py", bare, "run", "a b", "--seed=1")
    assert first.startswith(launcher.TUNABLES)
    assert second == "['run', 'a b', '--seed=1'] True False"


def test_what_the_user_has_set_stays(tmp_path, bare):
    own = {"GLIBC_TUNABLES": "glibc.malloc.check=1", "JAX_COMPILATION_CACHE_DIR": "/nowhere"}
    first, _ = run(tmp_path / "script.py", bare | own)
    assert first == "glibc.malloc.check=1 /nowhere"
    assert launcher.wanted(bare | own | {"XLA_FLAGS": " ".join(launcher._GPU_FLAGS)}) == {}


def test_without_cuda_no_cache_is_set_up(monkeypatch, bare):
    monkeypatch.setattr(launcher, "_has_cuda", lambda: False)
    assert "JAX_COMPILATION_CACHE_DIR" not in launcher.wanted(bare)


def test_with_cuda_the_cache_lies_in_the_users_folder(monkeypatch, bare, tmp_path):
    monkeypatch.setattr(launcher, "_has_cuda", lambda: True)
    folder = tmp_path / "osteolattice" / "jax"
    assert launcher.wanted(bare)["JAX_COMPILATION_CACHE_DIR"] == str(folder)
    assert folder.is_dir()


def test_the_cache_can_be_turned_off(monkeypatch, bare):
    monkeypatch.setattr(launcher, "_has_cuda", lambda: True)
    assert "JAX_COMPILATION_CACHE_DIR" in launcher.wanted(bare)
    assert "JAX_COMPILATION_CACHE_DIR" not in launcher.wanted(bare | {launcher.NO_CACHE: "1"})
    assert launcher.compilation_cache(bare | {launcher.NO_CACHE: "1"}) is None
    assert launcher.compilation_cache(bare | {launcher.NO_CACHE: "0"}) is not None


def test_without_a_writable_home_nothing_is_kept(monkeypatch, tmp_path, bare):
    monkeypatch.setattr(launcher, "_has_cuda", lambda: True)
    (tmp_path / "file").touch()
    assert launcher.compilation_cache(bare | {"XDG_CACHE_HOME": str(tmp_path / "file")}) is None


@pytest.mark.parametrize("flags", ["", "--xla_dump_to=x"])
def test_cuda_gets_its_flags_beside_others(monkeypatch, bare, flags):
    monkeypatch.setattr(launcher, "_has_cuda", lambda: True)
    settings = launcher.wanted(bare | {"XLA_FLAGS": flags})
    assert settings["XLA_FLAGS"].split() == [*flags.split(), *launcher._GPU_FLAGS]


@pytest.mark.parametrize("k", range(len(launcher._GPU_FLAGS)))
def test_a_choice_of_the_user_is_respected(monkeypatch, bare, k):
    monkeypatch.setattr(launcher, "_has_cuda", lambda: True)
    own = launcher._GPU_FLAGS[k].partition("=")[0] + "=other"
    settings = launcher.wanted(bare | {"XLA_FLAGS": own})
    others = [flag for flag in launcher._GPU_FLAGS if flag != launcher._GPU_FLAGS[k]]
    assert settings["XLA_FLAGS"].split() == [own, *others]


def test_elsewhere_than_glibc_the_allocator_is_left_alone(monkeypatch, bare):
    monkeypatch.setattr(launcher, "_is_glibc", lambda: False)
    assert "GLIBC_TUNABLES" not in launcher.wanted(bare)


@pytest.mark.parametrize("imported", [True, False])
def test_another_program_is_never_started_anew(monkeypatch, imported):
    def refuse(*arguments):
        raise AssertionError("re-executed")

    monkeypatch.setattr(os, "execv", refuse)
    monkeypatch.delenv("GLIBC_TUNABLES", raising=False)
    if not imported:
        monkeypatch.delitem(sys.modules, "jax", raising=False)
    before = dict(os.environ)
    launcher.reexec_with_allocator_settings(any_program=imported and "jax" in sys.modules)
    assert dict(os.environ) == before
