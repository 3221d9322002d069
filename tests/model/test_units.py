import math
from decimal import Decimal
from fractions import Fraction

import pytest

from lattice.model.units import DIMENSIONS, UnitError, concentration_power, parse


def canonical(text, dimension):
    quantity = parse(text)
    assert quantity.exponents == DIMENSIONS[dimension].exponents
    return float(quantity.value)


@pytest.mark.parametrize(
    ("text", "dimension", "value"),
    [
        ("30 um^2/s", "diffusion", 108000.0),
        ("1800 um²/min", "diffusion", 108000.0),
        ("78 min", "time", 1.3),
        ("0.6 /day", "rate", 0.025),
        ("0.6/d", "rate", 0.025),
        ("8.3 fg/day", "mass rate", 8.3e6 / 24),
        ("0.01 ng/mL", "mass concentration", 0.01),
        ("5 pM", "molar concentration", 5e-6),
        ("5 pmol/L", "molar concentration", 5e-6),
        ("0.5 um/min", "speed", 30.0),
        ("17.4 kDa", "molar mass", 17400.0),
        ("17.4 kg/mol", "molar mass", 17400.0),
        ("10 um^3/h", "volume rate", 10.0),
        ("100 /mm^3", "number density", 1e-7),
        ("1 amol/min", "molar rate", 60000.0),
        ("602.214076 molecules/day", "molar rate", 1 / 24),
        ("60 /mL/day", "number density rate", 2.5e-12),
        ("20 %", "number", 0.2),
        ("3 cells", "number", 3.0),
        ("1 1/hour", "rate", 1.0),
    ],
)
def test_known_quantities(text, dimension, value):
    assert canonical(text, dimension) == value


@pytest.mark.parametrize("dimension", DIMENSIONS.values(), ids=lambda d: d.name)
def test_canonical_units_have_factor_one_and_examples_parse(dimension):
    quantity = parse(f"1 {dimension.unit}" if dimension.unit != "1" else "1")
    assert (quantity.value, quantity.exponents) == (Fraction(1), dimension.exponents)
    assert parse(dimension.example).exponents == dimension.exponents


@pytest.mark.parametrize("order", [1, 2, 3, 5])
def test_rate_constants_of_mass_action(order):
    dimension = concentration_power(order)
    quantity = parse(f"1 {dimension.unit}")
    assert (quantity.value, quantity.exponents) == (Fraction(1), dimension.exponents)
    assert parse(dimension.example).exponents == dimension.exponents


@pytest.mark.parametrize(
    ("one", "other"),
    [("78 min", "1.3 h"), ("0.1 /day", "0.7 /week"), ("30 um^2/s", "0.00003 mm^2/s")],
)
def test_choice_of_unit_changes_no_bit(one, other):
    assert float(parse(one).value).hex() == float(parse(other).value).hex()


def test_mass_and_moles_meet_through_the_molar_mass():
    in_moles, molar_mass = parse("5 pM"), parse("17.4 kDa")
    assert in_moles.value * molar_mass.value == parse("87 pg/mL").value


@pytest.mark.parametrize(
    ("text", "part"),
    [
        ("fast", "does not begin with a number"),
        ("3 uum", 'did you mean "um"?'),
        ("3 Day", 'did you mean "day"?'),
        ("3 um^99", "too large"),
        ("1e999 um", "not a usable finite number"),
        ("3 um//s", "cannot be read"),
        ("3 um 1", "cannot be read"),
        ("3 um" * 60, "too long"),
        (math.nan, "not a usable finite number"),
        (math.inf, "not a usable finite number"),
        (Decimal("1e-9999"), "not a usable finite number"),
        (10**400, "not a usable finite number"),
        (True, "expected a quantity"),
        ([1], "expected a quantity"),
    ],
)
def test_errors_say_what_is_wrong(text, part):
    with pytest.raises(UnitError, match=part.replace("?", r"\?")):
        parse(text)


def test_a_bare_number_is_known_as_such():
    assert parse("0.2").bare
    assert parse(0.2).value == Fraction(1, 5)
    assert not parse("20 %").bare
