from __future__ import annotations

import numpy as np
import pytest

import lattice
from lattice import run as runs
from lattice.analysis.histomorphometry import histomorphometry
from lattice.analysis.tables import morphometry_table
from lattice.model import loads
from lattice.model.advice import advice
from lattice.model.describe import describe
from lattice.model.errors import InputError
from tests.conftest import small_model

FORMING = """
schema = 1
name = "a plate that grows on both sides"
[lattice]
shape = [10, 10, 14]
voxel = "10 um"
[geometry]
kind = "plate"
thickness = "60 um"
axis = "z"
[time]
step = "2 h"
until = "6 day"
[output]
labels = ["2 day", "4 day"]
label_window = "12 h"
snapshots = "never"
checkpoints = "1 day"
series = "4 h"
[matrix]
lag = "1 day"
[[state]]
name = "worker"
lives = "surface"
lays = "1.5 um/day"
seeding = { where = "surface", fraction = 1 }
[[state]]
name = "rester"
lives = "bone"
role = "osteocyte"
seeding = { where = "bone", fraction = 0.1 }
"""
LABELS = 'labels = ["2 day", "4 day"]\nlabel_window = "12 h"\n'


@pytest.fixture(scope="module")
def labelled():
    return lattice.simulate(loads(FORMING), seed=3)


def test_labels_show_the_exact_flux_of_mineral(labelled):
    """A flat front that moves at one rate: no error of sampling is left between the two."""
    found = labelled.histomorphometry(parts=("cells", "labels", "flux"))
    assert found["dLS/BS"].value == pytest.approx(100)
    assert found["Mineralised/BS (exact)"].value > 1
    assert found["BFR/BS"].value == pytest.approx(found["Mineralised/BS (exact)"].value, rel=1e-3)
    assert found["Ob.S/BS"].value == pytest.approx(100)
    assert found["N.Ot/BV"].value > 0
    assert found["N.rester/TV"].unit == "1/mm^3"


def test_labels_change_no_bit(labelled):
    assert lattice.simulate(loads(FORMING.replace(LABELS, "")), seed=3).digest == labelled.digest


def test_labels_survive_a_stop_and_a_resume(labelled, tmp_path):
    """Stopped between the labels; the table of the run folder is that of the run in memory."""
    model = loads(FORMING)
    reasons = iter([None, None, "enough"])
    outcome = runs.start(
        model, tmp_path / "run", seed=3, stop=lambda: next(reasons, "enough"), max_seconds=None
    )
    assert outcome.stopped
    assert 0 < outcome.time_h < 96
    outcome = runs.resume(tmp_path / "run")
    assert outcome.digest == labelled.digest
    rows = morphometry_table(tmp_path / "run")
    last = {r.symbol: r.value for r in rows if r.time_h == 144.0}
    expected = labelled.histomorphometry()
    for name in ("MS/BS", "MAR", "BFR/BS", "Mineralised/BS (exact)", "Mlt", "Tb.Th"):
        assert last[name] == pytest.approx(expected[name].value, rel=1e-6), name


def test_what_is_not_there_is_left_out(labelled):
    only_last = {144.0: labelled.snapshot()}
    found = histomorphometry(labelled.model, only_last, parts=("labels",))
    assert set(found).isdisjoint({"MAR", "W.Th", "Ob.S/BS", "BFR/BS (exact)", "Tb.Th"})
    assert {"BV/TV", "BS"} <= set(found)
    with pytest.raises(InputError, match="no part 'cell'"):
        histomorphometry(labelled.model, only_last, parts=("cell",))
    with pytest.raises(ValueError, match="needs a snapshot"):
        histomorphometry(labelled.model, {})


@pytest.mark.parametrize(
    ("written", "problem"),
    [
        ('labels = ["2 day"]', "labels"),
        ('labels = ["2 day", "50 h"]', "has ended"),
        ('labels = ["2 day", "97 h"]', "multiple of time.step"),
        ('label_window = "1 day"', "does nothing"),
        ('labels = ["2 day", "4 day"]\nfields = ["cells"]', '"mineral"'),
    ],
)
def test_labels_that_cannot_be_given_are_refused(written, problem):
    with pytest.raises(InputError, match=problem):
        loads(FORMING.replace(LABELS, written + "\n"))


def test_the_resolved_text_keeps_labels_and_roles():
    model = loads(FORMING)
    again = loads(model.text)
    assert again == model
    assert again.output.label_times == (48.0, 60.0, 96.0, 108.0)
    assert {s.name: s.role for s in again.states}["rester"] == "osteocyte"


def test_volumes_sum_fractions(labelled):
    snapshot = labelled.snapshot()
    found = labelled.histomorphometry(parts=())
    share = (snapshot["osteoid"] + snapshot["mineral"]).mean(dtype=np.float64)
    assert found["BV/TV"].value == pytest.approx(100 * share, rel=1e-5)


def test_labels_after_the_end_are_advised_against():
    short = loads(FORMING, overrides=["time.until=3 day"])
    assert any("after the end of the run" in sentence for sentence in advice(short))
    assert not any("label" in sentence for sentence in advice(loads(FORMING)))
    assert "label 2 is taken up from 4 day for 12 h" in describe(loads(FORMING))
    moved = loads(FORMING, overrides=['output.labels=["1 day", "5 day"]'])
    assert moved.output.labels == (24.0, 120.0)


WORKERS = """
[geometry]
kind = "trabecular"
bone_fraction = 0.25
thickness = "50 um"
[output]
labels = ["3 day", "10 day"]
[matrix]
lag = "2 day"
initial_surface = "uniform"
[[state]]
name = "worker"
lives = "surface"
lays = "1.5 um/day"
when_filled = { worker = 1 }
seeding = { where = "surface", fraction = 0.4 }
"""


@pytest.mark.full
def test_labels_on_rough_trabeculae_are_near_the_exact_flux():
    """Each cell forms for a time of its own, so sLS / 2 is a guess, as in a laboratory."""
    model = small_model(WORKERS, shape=(32, 32, 40), step="1 h", until="14 day")
    found = lattice.simulate(model).histomorphometry(parts=("cells", "labels", "flux"))
    assert found["sLS/BS"].value > 20
    assert found["BFR/BS"].value == pytest.approx(found["Mineralised/BS (exact)"].value, rel=0.15)
