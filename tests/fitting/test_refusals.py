"""What is wrong with a fit is said in one sentence that names the table, the line and the fix."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from lattice.fitting.formula import FormulaError, read_formula
from lattice.fitting.reading import load_fit
from lattice.model.errors import InputError
from tests.fitting.study import DISH


@pytest.fixture
def dish(tmp_path) -> Path:
    """A copy of the example, to be damaged."""
    shutil.copytree(DISH.parent, tmp_path / "dish")
    return tmp_path / "dish" / DISH.name


def change(config: Path, table: str, old: str, new: str) -> None:
    path = config.parent / table
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


def refusal(config: Path) -> str:
    with pytest.raises(InputError) as found:
        load_fit(config)
    message = str(found.value)
    assert "\n" not in message
    return message


def test_the_example_is_read(dish):
    problem = load_fit(dish)
    assert len(problem.parameters) == 8
    assert len(problem.data) == 2 * 5 * 5
    assert {d.replicates for d in problem.data} == {8}
    die = next(p for p in problem.parameters if p.name == "rule.die.rate")
    assert die.written(die.scaled(die.start)) == pytest.approx(0.5)
    assert die.start == pytest.approx(0.5 / 24)


@pytest.mark.parametrize(
    ("table", "old", "new", "words"),
    [
        ("measurements.tsv", "measurement\t", "value\t", ["line 1", "measurement", "is missing"]),
        ("measurements.tsv", "\ttime\t", "\tday\t", ["line 1", "time", "is missing"]),
        ("measurements.tsv", "corpses\t", "corpse\t", ["corpse", "did you mean", "corpses"]),
        ("measurements.tsv", "blocked\t1\t", "bloked\t1\t", ["bloked", "blocked"]),
        ("measurements.tsv", "\t1\t", "\t9\t", ["time", "after the end of the model"]),
        ("measurements.tsv", "\t1\t", "\t1 ng\t", ["time", "7 day"]),
        ("observables.tsv", "apoptotic\t", "apoptosis\t", ["line 4", "apoptosis", "did you mean"]),
        ("observables.tsv", "apoptotic\t", "__import__(1)\t", ["line 4", "__import__"]),
        ("observables.tsv", "lin\tng/mL", "lin\tuM", ["line 6", "unit", "ng/mL"]),
        ("observables.tsv", "\tlog\t", "\tlogarithm\t", ["line 2", "logarithm", "log"]),
        ("parameters.tsv", "rule.die.rate", "rule.dye.rate", ["line 4", "did you mean"]),
        ("parameters.tsv", "0.03 /day", "0.03 um", ["line 4", "lowerBound", "is not a rate"]),
        ("parameters.tsv", "0.03 /day", "0 /day", ["line 4", "lowerBound", "logarithm"]),
        ("parameters.tsv", "0.5 /day\t1", "9 /day\t1", ["line 4", "nominalValue", "bounds"]),
        ("parameters.tsv", "rule.die.rate", "rule.divide.rate", ["line 4", "line 2 too"]),
        ("parameters.tsv", "rule.die.rate", "cytokine.TGFb.decay", ["blocked"]),
        ("conditions.tsv", "cytokine.TGFb.decay", "cytokine.TGF.decay", ["line 3", "TGF"]),
        ("fit.toml", "seed = 1", "sede = 1", ["fit.sede", "did you mean"]),
        ("fit.toml", "seed = 1", 'seed = 1\nset = ["rule.dye.rate=1 /day"]', ["fit.set"]),
        ("fit.toml", '"model.toml"', '"modell.toml"', ["modell.toml"]),
    ],
)  # fmt: skip
def test_a_sentence_names_table_line_and_fix(dish, table, old, new, words):
    change(dish, table, old, new)
    message = refusal(dish)
    for word in words:
        assert word in message, message


@pytest.mark.parametrize("bad", ["nan", "inf", "many", ""])
def test_a_measurement_that_is_no_number_is_refused(dish, bad):
    path = dish.parent / "measurements.tsv"
    lines = path.read_text().splitlines()
    cells = lines[4].split("\t")
    cells[3] = bad
    path.write_text("\n".join([*lines[:4], "\t".join(cells), *lines[5:]]) + "\n")
    message = refusal(dish)
    assert "measurements.tsv: line 5: measurement" in message


def test_a_zero_on_a_logarithmic_scale_is_refused(dish):
    path = dish.parent / "measurements.tsv"
    lines = path.read_text().splitlines()
    cells = lines[1].split("\t")
    path.write_text("\n".join([lines[0], "\t".join([*cells[:3], "0", cells[4]]), *lines[2:]]))
    assert "has no logarithm" in refusal(dish)


def test_a_single_replicate_without_noise_is_refused(dish):
    change(dish, "fit.toml", "add_model_scatter = true", "add_model_scatter = false")
    load_fit(dish)  # eight replicates tell their noise
    path = dish.parent / "measurements.tsv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(x for x in lines if x.endswith("\t1"))]) + "\n")
    message = refusal(dish)
    assert "measurements.tsv: line 2: noiseParameters" in message
    assert "replicates" in message


def test_noise_may_be_written(dish):
    change(dish, "fit.toml", "add_model_scatter = true", "add_model_scatter = false")
    change(dish, "observables.tsv", "unit\n", "unit\tnoiseFormula\n")
    path = dish.parent / "observables.tsv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(f"{line}\t0.25" for line in lines[1:])]) + "\n")
    problem = load_fit(dish)
    assert {d.noise for d in problem.data} == {0.25}


def test_what_relaxations_do_not_give_needs_a_surrogate(dish):
    change(dish, "observables.tsv", "M2\tM2\t", "M2\tflux.engulf + M2\t")
    with pytest.raises(InputError):
        load_fit(dish)


def test_another_problem_in_the_folder_is_refused(dish, tmp_path):
    from lattice.fitting.conduct import conduct

    folder = tmp_path / "fit"
    folder.mkdir()
    (folder / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="not empty"):
        conduct(load_fit(dish), folder)


def test_formulas():
    known = ["BV/TV", "OPG.mean", "cells", "osteoblast_fresh"]
    formula = read_formula("100 * BV/TV / initial(BV/TV) - 100 + 0 * cells", known)
    assert formula.begins
    assert formula.names == ("BV/TV", "cells")
    now, beginning = {"BV/TV": 24.0, "cells": 1.0}, {"BV/TV": 20.0, "cells": 1.0}
    assert formula(now, beginning) == pytest.approx(20.0)
    assert read_formula("-(OPG.mean + 2) / 4", known)({"OPG.mean": 2.0}, {}) == -1.0
    for wrong in ("", "BV/TV +", "1 + 2", "cells()", "cells ** 2", "a", "cells[0]", "x0", "'a'"):
        with pytest.raises(FormulaError):
            read_formula(wrong, known)


def test_a_time_of_a_schedule_is_not_fitted(dish):
    config = dish.parent / "model.toml"
    pulse = '[[intervention]]\nname = "toxin"\nat = ["2 day"]\n'
    config.write_text(
        config.read_text() + pulse + 'kill = { states = ["osteoblast"], fraction = 0.1 }\n'
    )
    change(dish, "parameters.tsv", "rule.die.rate", "intervention.toxin.at.0")
    message = refusal(dish)
    for word in ("parameters.tsv", "line 4", "intervention.toxin.at.0", "osteolattice design"):
        assert word in message, message
