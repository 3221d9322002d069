"""The installed JAX passes the reproducers, and bad ones are told from good ones."""

import subprocess

import pytest

from lattice.cli import doctor


@pytest.mark.parametrize("version", ["0.10.2", "0.11.0", "0.11.1"])
def test_bad_versions_are_refused_by_name(version):
    sentence = doctor.known_bad_jax(version)
    assert sentence is not None
    assert version in sentence
    assert "jax-ml/jax#" in sentence


@pytest.mark.parametrize("version", ["0.10.1", "0.11.2", "0.12.0.1", "0.10.20"])
def test_good_versions_are_not(version):
    assert doctor.known_bad_jax(version) is None


@pytest.mark.parametrize("name", ["matvec_sum", "broadcast_sum"])
def test_the_installed_jax_passes_the_reproducers(name):
    assert doctor.reproduce(name, name) == doctor.Finding(name, "right")


def answer(returncode=0, stdout="", stderr=""):
    return lambda *args, **options: subprocess.CompletedProcess(args, returncode, stdout, stderr)


@pytest.mark.parametrize(
    ("run", "words"),
    [
        (answer(stdout="266342400 instead of 268435456"), "266342400"),
        (answer(returncode=-11), "ended with code -11"),
        (answer(returncode=1, stderr="ImportError: x"), "ImportError: x"),
    ],
)
def test_a_reproducer_that_goes_wrong_is_a_problem(monkeypatch, run, words):
    monkeypatch.setattr(subprocess, "run", run)
    finding = doctor.reproduce("matvec_sum", "a sum")
    assert finding.problem is not None
    assert words in finding.problem


def test_a_reproducer_that_hangs_is_a_problem(monkeypatch):
    def hang(*args, **options):
        raise subprocess.TimeoutExpired("python", 1)

    monkeypatch.setattr(subprocess, "run", hang)
    assert "no answer" in doctor.reproduce("matvec_sum", "a sum").state


def test_the_doctor_is_content_here(capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(doctor, "reproduce", lambda name, what: doctor.Finding(what, "right"))
    assert doctor.run_doctor() == 0
    out = capsys.readouterr().out
    for word in ("jaxlib", "devices", "HDF5", "memory", "allocator", "VTK"):
        assert f"ok  {word}" in out
    assert not list(tmp_path.iterdir())


def test_each_problem_is_one_sentence_and_the_code_is_3(capsys, monkeypatch):
    bad = [doctor.Finding("a", "x", "a is wrong; mend it"), doctor.Finding("b", "y")]
    monkeypatch.setattr(doctor, "findings", lambda: iter(bad))
    assert doctor.run_doctor() == 3
    output = capsys.readouterr()
    assert output.err == "osteolattice: a is wrong; mend it\n"
    assert "BAD a" in output.out


def test_a_folder_without_room_for_files_is_named(monkeypatch, tmp_path):
    from lattice.io.health import locking_problem

    assert locking_problem(tmp_path) is None
    assert locking_problem(tmp_path / "absent") is not None
