"""Numbers of the bone model are recovered; the seed may be given as OSTEOLATTICE_SEED."""

from __future__ import annotations

import os

import numpy as np
import pytest

from lattice.fitting.reading import load_fit
from tests.docs.blocks import ROOT
from tests.fitting.bone import PARAMETERS, Size, judged, recovered
from tests.fitting.study import floor_of, log_errors

HOMEOSTASIS = ROOT / "configs/fits/homeostasis/fit.toml"


def test_the_fit_of_homeostasis_is_read():
    """It estimates what the bone model calls fitted, from where the model file is."""
    problem = load_fit(HOMEOSTASIS)
    model = problem.conditions[0].model
    labels = {p.name: p.label for p in model.parameters}
    assert {labels[p.name] for p in problem.parameters} == {"fitted"}
    fitted = {name for name, label in labels.items() if label == "fitted"}
    assert set(problem.names) == {n for n in fitted if n.endswith((".rate", ".lays"))}
    for parameter, (mean, sd) in zip(
        problem.parameters, [p.prior for p in problem.parameters], strict=True
    ):
        assert parameter.start == pytest.approx(model.values[parameter.name])
        assert mean == pytest.approx(np.log(parameter.start), abs=1e-3)
        assert sd == pytest.approx(0.2 * np.log(10))
    assert all(d.noise > 0 for d in problem.data)


@pytest.mark.full
def test_ten_numbers_of_the_bone_model_are_recovered(tmp_path):
    """From data at a truth that the seed draws; no start lies at it."""
    seed = int(os.environ.get("OSTEOLATTICE_SEED", "1"))
    result, truth = recovered(seed, tmp_path, Size())
    assert len(PARAMETERS) >= 10
    errors = log_errors(result, truth)
    rms = np.sqrt(np.mean(errors**2))
    assert rms < 0.15, judged(result, truth)
    assert rms < 2.5 * floor_of(result), judged(result, truth)
    assert result.runs <= 300
