"""`osteolattice screen`: the known answer, going on, refusals, one compilation."""

from __future__ import annotations

import csv

import numpy as np
import pytest

from lattice.analysis.screen_file import read_screen
from lattice.analysis.screening import design, indices
from lattice.cli import screening
from lattice.cli.main import main
from lattice.engine import simulation
from lattice.model.errors import NumericalError
from tests.analysis.two_rules import expected_difference, write_screen
from tests.cli.tiny import run_command


def table(path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("screen")
    path = write_screen(folder)
    done = run_command("screen", path, "--out", folder / "out", "--processes", 2)
    assert done.returncode == 0, done.stderr
    return path, folder / "out", done


def test_the_known_answer(finished):
    path, out, done = finished
    rows = table(out / "screen.csv")
    assert rows[0]["parameter"] == "rule.turn.rate"
    assert rows[0]["sign"] == "+"
    assert [float(r["mu_star"]) for r in rows[1:]] == [0, 0]
    assert {r["sign"] for r in rows[1:]} == {"none"}
    # A binomial count of 2000 scatters by 45 cells at most; an effect is of about 1400.
    screen = read_screen(path)
    points = design(screen)
    values = [screen.values(p)["rule.turn.rate"] for p in points]
    exact = np.array([[expected_difference(v)] for v in values])
    mu_star = indices(screen, points, exact)[0]["mu_star"]
    assert float(rows[0]["mu_star"]) == pytest.approx(mu_star, rel=0.1)
    found = [float(r["difference A"]) for r in table(out / "points.csv")]
    assert np.all(np.abs(found - exact[:, 0]) < 5 * 45)
    assert "pairs of runs, 0 s left" in done.stderr
    assert "rule.turn.rate" in done.stdout


def test_figure_and_page(finished):
    _, out, _ = finished
    assert (out / "screen.png").read_bytes()[:4] == b"\x89PNG"
    page = (out / "index.html").read_text()
    assert "rule.wake.rate" in page
    assert "intervention.pulse.kill.fraction" in page


def test_going_on_gives_the_same_table(finished, tmp_path):
    path, out, _ = finished
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "screen.json").write_bytes((out / "screen.json").read_bytes())
    lines = (out / "runs.csv").read_text().splitlines(keepends=True)
    (begun / "runs.csv").write_text("".join(lines[:5]) + lines[5][:4])  # cut off while writing
    done = run_command("screen", path, "--out", begun)
    assert done.returncode == 0, done.stderr
    assert f"{len(lines) - 1}/{len(lines) - 1} pairs" in done.stderr
    assert (begun / "screen.csv").read_bytes() == (out / "screen.csv").read_bytes()
    assert sorted((begun / "runs.csv").read_text().splitlines()) == sorted(
        line.rstrip("\n") for line in lines
    )
    # Nothing is left to run: only the tables are made anew.
    again = run_command("screen", path, "--out", begun, "--quiet")
    assert (again.returncode, again.stderr) == (0, "")


def test_another_screening_is_refused(finished, tmp_path, capsys):
    _, out, _ = finished
    other = write_screen(tmp_path, ("seed = 3", "seed = 4"))
    assert main(["screen", str(other), "--out", str(out)]) == 2
    assert "another folder with --out" in capsys.readouterr().err
    (tmp_path / "occupied").mkdir()
    (tmp_path / "occupied" / "mine.txt").write_text("")
    assert main(["screen", str(other), "--out", str(tmp_path / "occupied")]) == 2
    assert "not empty" in capsys.readouterr().err
    assert main(["screen", str(other), "--processes", "0"]) == 2
    assert "--processes" in capsys.readouterr().err


@pytest.mark.parametrize(("asked", "processes"), [((), 2), (("--processes", "3"), 3)])
def test_one_process_for_each_gpu_unless_asked_otherwise(tmp_path, monkeypatch, asked, processes):
    began = []

    def each(work, tasks, count, prepare, arguments, gpus):
        began.append((count, gpus))
        raise NumericalError("far enough")

    monkeypatch.setattr(screening, "visible_gpus", lambda: ("4", "5"))
    monkeypatch.setattr(screening.pool, "each", each)
    path = write_screen(tmp_path)
    assert main(["screen", str(path), "--out", str(tmp_path / "out"), *asked]) == 3
    assert began == [(processes, ("4", "5"))]


def test_all_points_and_arms_share_one_compilation(tmp_path):
    screen = read_screen(write_screen(tmp_path))
    points = design(screen)
    screening._prepare(screen, points)
    simulation._compiled.cache_clear()
    simulation._seeding.cache_clear()
    rows = [screening._pair((k, 0)) for k in range(0, len(points), 5)]
    assert len({tuple(numbers) for _, _, numbers in rows}) > 1
    assert simulation._compiled.cache_info().misses == 1
    assert simulation._seeding.cache_info().misses == 1
