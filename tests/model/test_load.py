"""Includes, overrides, dotted names, canonical order, and what the grammar's short forms mean."""

import math
import random
import re

import pytest

from lattice.model import InputError, load, loads
from lattice.model.interventions import FOREVER
from tests.model.example import BASE, changed


def rule(model, name):
    return next(r for r in model.rules if r.name == name)


def state(model, name):
    return next(s for s in model.states if s.name == name)


def test_numbers_are_in_canonical_units():
    values = loads(BASE).values
    assert values["rule.engulf.rate"] == 10.02
    assert values["rule.crawl.speed"] == 30.0
    assert values["cytokine.TNF.decay"] == math.log(2) / 1.3
    assert values["cytokine.TNF.diffusion"] == 108000.0
    assert values["state.builder.lays"] == 0.2 / 24
    assert values["state.corpse.takes_up.TNF"] == 10.0
    assert values["state.builder.seeding.age"] == 120.0
    assert values["rule.polarise.when.TNF.half"] == 0.01
    assert values["rule.polarise.when.TNF-2.above"] == 0.087
    assert values["rule.polarise.when.neighbours.M1.scale"] == 2.0
    assert values["rule.polarise.when.neighbours.M1.ceiling"] == math.inf
    assert values["state.M1.secretes.TNF.when.IL10.half"] == 0.025
    assert values["intervention.pulse.every"] == 84.0
    assert values["intervention.pulse.until"] == FOREVER
    assert values["matrix.lag"] == 48.0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ('"78 min"', '"1.3 h"'),
        ('"0.167 /min"', '"10.02 /h"'),
        ('"0.01 ng/mL"', '"10 pg/mL"'),
        ('"5 pM"', '"87 pg/mL"'),
        ('"2 um/day"', '"0.2 /day"'),
        ('"2 um/day"', '"200 um^3/day"'),
        ('"10 um^3/h"', '"0.01 /h"'),
        ('"10 um"', '"0.01 mm"'),
    ],
)
def test_choice_of_units_changes_nothing(old, new):
    assert loads(changed(old, new)) == loads(BASE)


def test_a_changed_number_is_seen():
    assert loads(changed('"78 min"', '"79 min"')) != loads(BASE)


def test_sources_follow_the_names():
    found = {p.name: p for p in loads(BASE).parameters}
    assert found["rule.engulf.rate"].label == "read"
    assert found["rule.engulf.rate"].doi == "10.1/2"
    assert found["rule.crawl.speed"].source == "a guess"
    assert found["cytokine.TNF.decay"].written == "half_life 78 min"
    assert found["cytokine.TNF.production"].written == "(default)"


def test_the_order_of_tables_changes_nothing():
    head, *tables = re.split(r"(?m)^(?=\[)", BASE)
    random.Random(3).shuffle(tables)
    assert loads(head + "".join(tables)) == loads(BASE)
    assert [s.name for s in loads(BASE).states] == [
        "empty",
        "M0",
        "M1",
        "builder",
        "buried",
        "corpse",
    ]


def test_movement_is_one_rule_for_each_state_that_gives_way():
    model = loads(BASE)
    crawl, through = rule(model, "crawl"), rule(model, "crawl.through.corpse")
    assert (crawl.reactants, crawl.products) == (("M0", "empty"), ("empty", "M0"))
    assert (through.reactants, through.products) == (("M0", "corpse"), ("corpse", "M0"))
    assert crawl.rate == through.rate == "rule.crawl.speed"
    assert crawl.carries == through.carries == (1, 0)


def test_ages_that_are_carried():
    model = loads(BASE)
    assert rule(model, "divide").carries == (0, None)
    assert rule(model, "engulf").carries == (None, None)
    assert rule(model, "die").carries == (None,)
    kept = loads(changed('to = "corpse"\nafter', 'to = "corpse"\nkeep_age = true\nafter'))
    assert rule(kept, "die").carries == (0,)
    reset = loads(changed('divide = "M0"', 'divide = "M0"\nreset_age = true'))
    assert rule(reset, "divide").carries == (None, None)
    follows = loads(changed('to = ["M1", "empty"]', 'to = ["empty", "M0"]'))
    assert rule(follows, "engulf").carries == (None, 0)


def test_a_factor_finds_the_rate_of_a_rule():
    block = loads(BASE).interventions[0]
    assert block.scales == (
        ("cytokine.TNF.decay", "intervention.block.factor.cytokine.TNF.decay"),
        ("rule.engulf.rate", "intervention.block.factor.engulf"),
    )


def test_matrix_only_where_something_touches_it():
    assert loads(BASE).matrix is not None
    assert loads(changed('lays = "2 um/day"', "")).matrix is None


def test_density_may_be_given_per_volume():
    text = changed(
        'signal = "neighbours.M1", effect = "increases", shape = "linear", scale = 2',
        'signal = "density.M1", effect = "decreases", half = "2e4 /mm^3"',
    )
    assert loads(text).values["rule.polarise.when.density.M1.half"] == 0.02


def test_cells_may_be_counted_in_moles_and_arrive_per_volume():
    per_pM = 602.214076 * 1e-6 * 1000  # cells in a voxel of 10 um
    text = changed(
        'signal = "neighbours.M1", effect = "increases", shape = "linear", scale = 2',
        'signal = "density.M1", effect = "decreases", half = "2 pM"',
    )
    text += '[[rule]]\nname = "in"\nfrom = "empty"\nto = "M0"\nrate = "48 pM/day"\n'
    values = loads(text).values
    assert values["rule.polarise.when.density.M1.half"] == pytest.approx(2 * per_pM, rel=1e-15)
    assert values["rule.in.rate"] == pytest.approx(2 * per_pM, rel=1e-15)
    assert loads(text.replace("48 pM/day", "24 /mm^3/day")).values["rule.in.rate"] == 1e-6
    assert loads(text.replace("48 pM/day", "24 /day")).values["rule.in.rate"] == 1
    text = changed("fraction = 0.05", 'fraction = "5e4 /mm^3"')
    assert loads(text).values["state.M0.seeding.fraction"] == 0.05


def test_reactions_and_their_units():
    text = (
        BASE
        + """
[[cytokine]]
name = "pair"
diffusion = "1 um^2/s"
decay = "0 /h"
[[cytokine]]
name = "lure"
diffusion = "1 um^2/s"
decay = "0 /h"
[[reaction]]
name = "bind"
equation = "TNF + 2 lure <-> pair"
forward = "5 /nM^2/h"
backward = "1 /day"
"""
    )
    model = loads(text)
    (reaction,) = model.reactions
    assert (reaction.left, reaction.right) == ((("TNF", 1), ("lure", 2)), (("pair", 1),))
    assert model.values["reaction.bind.forward"] == 5e6
    assert {c.name: c.amount for c in model.cytokines} == {
        "IL10": "mass",
        "TNF": "mass",
        "lure": "mole",
        "pair": "mole",
    }
    with pytest.raises(InputError, match=r"reaction.bind.forward: .*rate constant of order 3"):
        loads(text.replace("nM^2", "nM"))
    with pytest.raises(InputError, match=r'reaction.bind.equation: "lur" .*did you mean "lure"'):
        loads(text.replace("2 lure", "2 lur"))
    with pytest.raises(InputError, match=r"reaction.bind.backward: the equation has ->"):
        loads(text.replace("<->", "->"))


@pytest.mark.parametrize(
    ("override", "name", "value"),
    [
        ("rule.engulf.rate=0.1 /min", "rule.engulf.rate", 6.0),
        ('rule.engulf.rate="0.1 /min"', "rule.engulf.rate", 6.0),
        ("rule.polarise.when.TNF.half=3 pM", "rule.polarise.when.TNF.half", 0.0522),
        ("cytokine.TNF.decay=0.5 /h", "cytokine.TNF.decay", 0.5),
        ("cytokine.TNF.half_life=1 h", "cytokine.TNF.decay", math.log(2)),
        ("cytokine.TNF.initial=1 ng/mL", "cytokine.TNF.initial", 1.0),
        ("state.builder.when_filled.buried=0.5", "state.builder.when_filled.buried", 0.5),
        ("state.builder.seeding.age=1 day", "state.builder.seeding.age", 24.0),
        ("state.M1.lays=0.24 /day", "state.M1.lays", 0.01),
        ("intervention.pulse.kill.fraction=0.9", "intervention.pulse.kill.fraction", 0.9),
        ("intervention.block.factor.engulf=0.9", "intervention.block.factor.engulf", 0.9),
        ("matrix.lag=1 day", "matrix.lag", 24.0),
    ],
)
def test_numbers_set_by_name(override, name, value):
    model = loads(BASE, [override])
    assert model.values[name] == pytest.approx(value, rel=1e-15)
    assert next(p for p in model.parameters if p.name == name).file == "--set"


def test_static_keys_set_by_name():
    keys = ["lattice.shape=[4, 4, 4]", "time.until=1 day", "rule.die.to=M1", "name=other"]
    model = loads(BASE, [*keys, "state.M0.lives=['marrow', 'bone']", "solver.iterations=3"])
    assert model.lattice.shape == (4, 4, 4)
    assert model.time.until == 24.0
    assert rule(model, "die").products == ("M1",)
    assert model.name == "other"
    assert state(model, "M0").lives == {"marrow", "bone"}
    assert model.solver.iterations == 3


@pytest.mark.parametrize(
    ("override", "part"),
    [
        ("rule.engulf.rat=1 /h", 'did you mean "rule.engulf.rate"'),
        ("rule.engulf.rate=1", "has no unit"),
        ("rule.engulf.rate", "key=value"),
        ("rul.engulf.rate=1 /h", 'did you mean "rule"'),
        ("lattice.shap=[1, 1, 1]", 'did you mean "shape"'),
        ("lattice.shape=[1, 1]", "write 3"),
        ("time.until=inf", "not a usable finite number"),
        ("=", "key=value"),
        ("rule.polarise.when.TNF-2.power=2", "has no power"),
        ("intervention.block.every=1 day", "only a kill comes in pulses"),
    ],
)
def test_overrides_that_are_refused(override, part):
    with pytest.raises(InputError, match=f"^--set: .*{re.escape(part)}"):
        loads(BASE, [override])


def test_includes_are_relative_and_merge_by_name(tmp_path):
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "base.toml").write_text(BASE)
    (tmp_path / "parts" / "middle.toml").write_text(
        'include = "base.toml"\n[time]\nuntil = "1 day"\n'
    )
    arm = tmp_path / "arm.toml"
    arm.write_text(
        'name = "arm"\ninclude = ["parts/middle.toml"]\n'
        '[[rule]]\nname = "engulf"\nrate = "1 /h"\n'
        '[[cytokine]]\nname = "TNF"\ndecay = "2 /h"\n'
    )
    model = load(arm)
    assert model.values["rule.engulf.rate"] == 1.0
    assert rule(model, "engulf").reactants == ("M0", "corpse")
    assert model.values["cytokine.TNF.decay"] == 2.0
    assert model.time.until == 24.0
    assert model.name == "arm"
    files = {p.name: p.file for p in model.parameters}
    assert files["rule.engulf.rate"] == str(arm)
    assert files["rule.crawl.speed"].endswith("base.toml")


def test_an_error_names_the_included_file(tmp_path):
    (tmp_path / "part.toml").write_text(changed('"0.167 /min"', "3"))
    (tmp_path / "arm.toml").write_text('include = ["part.toml"]')
    with pytest.raises(InputError, match=r"part.toml:\d+: rule.engulf.rate: 3 has no unit"):
        load(tmp_path / "arm.toml")


def test_include_cycles_and_missing_files_are_refused(tmp_path):
    (tmp_path / "a.toml").write_text('include = ["b.toml"]')
    (tmp_path / "b.toml").write_text('include = ["a.toml"]')
    with pytest.raises(InputError, match=r"b.toml:?\d*: include: .*again"):
        load(tmp_path / "a.toml")
    (tmp_path / "b.toml").write_text('include = ["c.toml"]')
    with pytest.raises(InputError, match=r"include: \"c.toml\" does not exist"):
        load(tmp_path / "a.toml")


def test_one_file_may_be_included_on_two_paths(tmp_path):
    (tmp_path / "base.toml").write_text(BASE)
    for name in ("one", "two"):
        (tmp_path / f"{name}.toml").write_text('include = "base.toml"')
    (tmp_path / "all.toml").write_text('include = ["one.toml", "two.toml"]')
    assert load(tmp_path / "all.toml", ["name=base"]) == loads(BASE)


def test_cadences_are_whole_steps_by_default():
    output = loads(changed('step = "15 min"', 'step = "7 min"')).output
    assert output.series == pytest.approx(63 / 60)
    never = loads(BASE + '[output]\nsnapshots = "never"\nfields = ["osteoid", "cells"]\n').output
    assert never.snapshots is None
    assert never.fields == ("cells", "osteoid")
