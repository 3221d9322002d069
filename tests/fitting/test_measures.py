"""Data of histology: what sampled runs of a fit measure, and what they never could is refused."""

from __future__ import annotations

import numpy as np
import pytest

from lattice.fitting.reading import load_fit
from lattice.fitting.sampled import sample
from lattice.model.errors import InputError
from tests.docs.blocks import ROOT

FIT = f"""
schema = 1
[fit]
model = "{ROOT}/configs/adult.toml"
set = ["lattice.shape=[14, 14, 14]", "time.until=4 day", "geometry.thickness=20 um"LABELS]
parameters = "parameters.tsv"
observables = "observables.tsv"
measurements = "measurements.tsv"
time_unit = "day"
"""
LABELS = ', "output.labels=[\\"1 day\\", \\"2 day\\"]", "output.label_window=12 h"'
NAMES = ("MS/BS", "Tb.Th", "E.app/E.tissue", "Ob.S/BS", "W.Th")


def written(folder, labels: str = LABELS, day: int = 4):
    tables = {
        "parameters": "parameterId\tlowerBound\tupperBound\n"
        "rule.commit.rate\t0.01 /day\t1000 /day\n",
        "observables": "observableId\tobservableFormula\tsurrogateFormula\n"
        + "".join(f"o{k}\t{name}\tosteoblast_aged\n" for k, name in enumerate(NAMES)),
        "measurements": "observableId\tmeasurement\ttime\tnoiseParameters\n"
        + "".join(f"o{k}\t1\t{day}\t0.1\n" for k in range(len(NAMES))),
    }
    for name, text in tables.items():
        (folder / f"{name}.tsv").write_text(text)
    config = folder / "fit.toml"
    config.write_text(FIT.replace("LABELS", labels))
    return config


def test_sampled_runs_measure_labels_widths_and_stiffness(tmp_path):
    problem = load_fit(written(tmp_path))
    start = np.array([p.scaled(p.start) for p in problem.parameters])
    (found,) = sample(problem, start, [1])
    values = dict(zip(NAMES, found, strict=True))
    assert 0 < values["MS/BS"] < 100
    assert 10 < values["Tb.Th"] < 140
    assert 0 <= values["E.app/E.tissue"] < 100
    assert 0 < values["Ob.S/BS"] < 100
    assert values["W.Th"] >= 0


@pytest.mark.parametrize(
    ("labels", "day", "words"),
    [
        ("", 4, ["fit.toml", "MS/BS", "output.labels", "model"]),
        (LABELS, 2, ["fit.toml", "o0", "48 h", "60 h", "later"]),
    ],
)
def test_what_labels_cannot_show_is_refused(tmp_path, labels, day, words):
    with pytest.raises(InputError) as refused:
        load_fit(written(tmp_path, labels, day))
    message = str(refused.value)
    for word in words:
        assert word in message.replace("measurements.tsv", "fit.toml"), message
