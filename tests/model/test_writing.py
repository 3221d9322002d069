"""The resolved text, the schema, the description and the advice."""

import tomllib
from pathlib import Path

import jsonschema
import pytest

from lattice.kernels import time_scheme
from lattice.model import load, loads
from lattice.model.advice import advice
from lattice.model.describe import describe
from lattice.model.grammar import SOLVER_SCHEMES
from lattice.model.schema import json_schema
from lattice.model.writing import to_toml
from tests.docs.stand_in import NAME, folder_with_image
from tests.model.example import BASE, changed

CONFIGS = Path(__file__).parents[2] / "configs"
FILES = sorted(
    p
    for p in CONFIGS.rglob("*.toml")
    if p.parent.name not in ("screens", "trials", "calibrations", "designs")
    and p.name != "fit.toml"
)
MODELS = sorted([*CONFIGS.glob("*.toml"), *(CONFIGS / "oracles").glob("*.toml")])


def shipped(path, folder):
    own = [f"geometry.image={folder_with_image(folder) / NAME}"] if NAME in path.read_text() else []
    return load(path, own)


@pytest.mark.parametrize("path", MODELS, ids=lambda p: p.stem)
def test_shipped_models_load_and_round_trip(path, tmp_path):
    model = shipped(path, tmp_path)
    again = loads(model.text)
    assert again == model
    assert hash(again.structure) == hash(model.structure)
    assert all(p.label for p in model.parameters), "each number has a source"
    # A precursor that comes to a free site is to land in that very step.
    assert [a for a in advice(model) if not a.startswith("rule.land.rate")] == []


@pytest.mark.parametrize(
    "more",
    [
        "",
        '[output]\nsnapshots = "never"\n[matrix]\nstages = 2\ninitial_surface = "uniform"\n',
        '[[intervention]]\nname = "i"\nat = ["1 h", "2 h"]\n'
        'kill = { states = ["M0"], fraction = 0.1, cluster = "50 um" }\n',
        '[[intervention]]\nname = "i"\nsource = { cytokine = "TNF", rate = "1 pM/h" }\n',
        '[[cytokine]]\nname = "PTH"\nsystemic = true\ndecay = "1 /min"\ninitial = "3 pM"\n',
        '[[rule]]\nname = "x"\nfrom = "M1"\nto = "M0"\nrate = "1 /day"\nkeep_age = true\n'
        "needs_matrix = 0.2\nconsumes_matrix = 0.1\n",
        '[[rule]]\nname = "x"\nfrom = "empty"\nto = "M1"\nrate = "5 pM/day"\nwhen = [ { signal = '
        '"density.M0+M1", effect = "decreases", shape = "inverse", scale = "2 /mm^3" } ]\n',
        '[[cytokine]]\nname = "PTH"\nsystemic = true\ndecay = "1 /min"\nproduction = { rate = '
        '"3 pM/h", when = [ { signal = "PTH", effect = "decreases", half = "2 pM" } ] }\n',
        '[[rule]]\nname = "x"\nfrom = "M1"\nto = "M1"\nafter = "1 day"\nreset_age = true\n',
    ],
)
def test_every_part_of_the_grammar_round_trips(more):
    model = loads(BASE + more)
    assert loads(model.text) == model


@pytest.mark.parametrize("step", ["7 min", "1 min", "20 s", "0.1 s", "5 h"])
def test_steps_that_no_float_holds_round_trip(step):
    model = loads(changed('step = "15 min"', f'step = "{step}"'))
    assert loads(model.text) == model


def test_values_that_were_set_round_trip():
    model = loads(BASE).with_values(**{"rule.engulf.rate": 0.1 + 0.2})
    assert loads(to_toml(model)).values == model.values


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_shipped_files_fit_the_schema(path):
    jsonschema.validate(tomllib.loads(path.read_text()), json_schema())


def test_the_schema_refuses_what_the_loader_refuses():
    jsonschema.Draft202012Validator.check_schema(json_schema())
    for old, new in [('voxel = "10 um"', 'voxl = "10 um"'), ("[8, 6, 4]", "[8, 6]")]:
        with pytest.raises(jsonschema.ValidationError):
            jsonschema.validate(tomllib.loads(changed(old, new)), json_schema())
    jsonschema.validate(tomllib.loads(BASE), json_schema())


def test_solver_schemes_are_those_of_the_kernels():
    assert set(SOLVER_SCHEMES) == {"auto", *time_scheme.SCHEMES}


def test_the_description_says_what_the_model_is():
    text = describe(loads(BASE), bytes_per_voxel=lambda model: 100.0)
    for line in (
        "8 x 6 x 4 voxels of 10 um: 80 x 60 x 40 um, boundary no-flux",
        "memory: 100 bytes per voxel, 0 MiB",
        "M0 + corpse -> M1 + empty  0.167 /min",
        "polarise: M0 -> M1  0.6 /day, increases with TNF (half 0.01 ng/mL, power 2)",
        "die: builder -> corpse  at age 5 day",
        "TNF: diffusion 30 um^2/s, in bone x 0.02, half-life 1.3 h (length 450 um), in ng/mL",
        "pulse: 0.2 of builder -> corpse, every 3.5 day from 0 hour",
        "a paper, doi 10.1/2",
    ):
        assert line in text


def test_advice_names_what_is_seldom_meant():
    text = changed('rate = "0.167 /min"', 'rate = "1 /min"') + '[[state]]\nname = "lost"\n'
    text = text.replace('TNF = { rate = "8.3 fg/day"', 'TNF = { rate = "0 fg/day"')
    found = "\n".join(advice(loads(text)))
    assert "rule.engulf.rate: up to 15 events in one step of 15 min" in found
    assert "state.lost: it is not seeded" in found
    assert "cytokine.TNF: nothing makes it" in found
    assert "state.corpse" not in found
