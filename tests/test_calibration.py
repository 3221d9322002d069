"""Calibration by feedback, on a model whose answer is known, and its refusals."""

import csv
from itertools import pairwise

import pytest

from lattice.calibration import calibrate, load_calibration
from lattice.cli.main import main
from lattice.model.errors import InputError, NumericalError

MODEL = """
schema = 1
[lattice]
shape = [20, 20, 20]
voxel = "10 um"
[time]
step = "1 h"
until = "1 day"
[[state]]
name = "quiet"
seeding = { where = "everywhere", fraction = 1 }
[[state]]
name = "busy"
[[rule]]
name = "start"
from = "quiet"
to = "busy"
rate = "0.5 /day"
[[rule]]
name = "stop"
from = "busy"
to = "quiet"
rate = "1000 /day"
"""
PLAN = """
schema = 1
[calibration]
model = "model.toml"
seed = 1
every = "1 day"
until = "12 day"
[[control]]
numbers = ["rule.start.rate"]
measure = "events.start"
target = 800
gain = 0.7
"""


def written(folder, plan=PLAN):
    (folder / "model.toml").write_text(MODEL)
    path = folder / "plan.toml"
    path.write_text(plan)
    return path


def test_a_rate_is_found_that_fires_as_often_as_it_should(tmp_path):
    plan = load_calibration(written(tmp_path))
    readings, simulation = calibrate(plan)
    assert readings[0].measured[0] == pytest.approx(4000, rel=0.1)
    # 8000 cells start 800 times a day at 0.1 /day; each draw of a day scatters by 3.5 %.
    assert readings[-1].numbers["rule.start.rate"] * 24 == pytest.approx(0.1, rel=0.12)
    assert readings[-1].measured[0] == pytest.approx(800, rel=0.12)
    assert simulation.time_h == pytest.approx(288)


def test_a_number_never_jumps(tmp_path):
    readings, _ = calibrate(load_calibration(written(tmp_path)))
    rates = [r.numbers["rule.start.rate"] for r in readings]
    assert all(1 / 1.41 < b / a < 1.41 for a, b in pairwise(rates))


def test_what_never_happens_cannot_be_steered(tmp_path):
    path = written(tmp_path, PLAN.replace('every = "1 day"', 'every = "1 day"\n'))
    (tmp_path / "model.toml").write_text(MODEL.replace('"0.5 /day"', '"0 /day"'))
    with pytest.raises(NumericalError, match=r"events\.start is 0 at 24 h"):
        calibrate(load_calibration(path))


@pytest.mark.parametrize(
    ("before", "after", "words"),
    [
        ("rule.start.rate", "rule.strat.rate", "rule.start.rate"),
        ("events.start", "events.strat", "events.start"),
        ("gain = 0.7", 'gain = "fast"', "control.0.gain"),
        ("target = 800", "target = -1", "control.0.target"),
        ("every =", "evry =", "evry"),
        ('every = "1 day"', 'every = "1 min"', "calibration.every"),
        ("[[control]]", "[[controls]]", "controls"),
        ("schema = 1", "schema = 7", "schema"),
    ],
)
def test_refusals_name_the_key(tmp_path, before, after, words):
    with pytest.raises(InputError) as caught:
        load_calibration(written(tmp_path, PLAN.replace(before, after)))
    assert words in str(caught.value)
    assert "plan.toml" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_the_command_writes_a_table_once(tmp_path, capsys):
    path = written(tmp_path, PLAN.replace("12 day", "3 day"))
    out = tmp_path / "table.csv"
    assert main(["calibrate", str(path), "--out", str(out)]) == 0
    assert "rule.start.rate" in capsys.readouterr().out
    with out.open() as file:
        rows = list(csv.DictReader(file))
    assert [float(r["time_h"]) for r in rows] == [24, 48, 72]
    assert {"events.start", "rule.start.rate"} <= set(rows[0])
    assert main(["calibrate", str(path), "--out", str(out)]) == 2
    assert "is there already" in capsys.readouterr().err
