"""No input, however mangled, ends in anything but a model or an InputError."""

import datetime
import random
from pathlib import Path

import pytest

from lattice.model import InputError, Model, load, loads
from lattice.model.reading import read_text
from lattice.model.resolve import _resolve
from tests.conftest import TISSUE, small_model
from tests.model.example import BASE

ROOT = Path(__file__).parents[2]
PREDATORS = (ROOT / "configs" / "predator_prey.toml").read_text()
HEADED_TISSUE = small_model(TISSUE).text
PIECES = [
    "nan", "-inf", "1e999", "-1", "9" * 5000, "0x7fffffffffffffffffff", '"\u0000"', '""', "''",
    "[[", "]]", "[", "]", "{", "}", "=", ".", "\n", '"1e308 um^9"', '"1e-300 /s"', "[" * 3000,
    "1979-05-27", "true", "[[rule]]\n", "[[state]]\n", 'name = "empty"\n', "\ud7ff", "\U0001f9b4",
    '"0 um"', "include = 3\n", '"neighbours."', '"density.bone"', '"5 pM"', "0", "1e300",
]  # fmt: skip
VALUES = [
    None, 0, -1, 2**70, 10**400, True, 1.5, float("nan"), float("inf"), "", "x", "1 um", "\x00",
    "é" * 50, [], [[]], {}, {"a": {}}, [1, "a"], datetime.date(2020, 1, 1), ["M0", "M0"], "M0",
]  # fmt: skip


def attempt(make):
    """The message of the refusal, or that of nothing when a model came out."""
    message = "none"
    try:
        result = make()
    except InputError as error:
        message = str(error)
    else:
        assert isinstance(result, Model)
        assert loads(result.text) == result
    assert message
    assert "\n" not in message


@pytest.mark.parametrize("seed", range(8))
def test_mangled_text(seed):
    random_state = random.Random(seed)
    for _ in range(40):
        text = BASE
        for _ in range(random_state.randint(1, 4)):
            at = random_state.randrange(len(text))
            cut = random_state.choice([0, 0, 1, 5, 40])
            text = text[:at] + random_state.choice(["", *PIECES]) + text[at + cut :]
        attempt(lambda text=text: loads(text))


@pytest.mark.parametrize("seed", range(8))
def test_values_of_the_wrong_type(seed):
    random_state = random.Random(seed)
    for _ in range(40):
        document = read_text(BASE, "", "fuzz")
        for _ in range(random_state.randint(1, 3)):
            _replace_one(document.tables, random_state)
        attempt(lambda document=document: _resolve(document, "fuzz"))


def _replace_one(tree, random_state):
    key = random_state.choice([k for k in tree if k not in ("schema", "name")])
    kinds = ("lattice", "geometry", "time", "cytokine", "state", "rule", "intervention", "sources")
    child = tree[key]
    while isinstance(child, dict | list) and child and random_state.random() < 0.8:
        tree, key = (
            child,
            random_state.choice(list(child) if isinstance(child, dict) else range(len(child))),
        )
        child = tree[key]
    if key not in kinds:
        tree[key] = random_state.choice(VALUES)


@pytest.mark.parametrize("seed", range(2))
def test_overrides(seed):
    random_state = random.Random(seed)
    names = [
        *loads(BASE).values,
        "lattice.shape",
        "time.step",
        "geometry.kind",
        "rule.die.to",
        "a",
        "",
    ]
    for _ in range(60):
        value = random_state.choice([*PIECES, "[1, 2", '"', "1 /h", "0.5"])
        name = random_state.choice(names)
        attempt(lambda text=f"{name}={value}": loads(BASE, [text]))


@pytest.mark.full
@pytest.mark.parametrize("seed", range(100, 130))
def test_mangled_files_of_the_shipped_kind(seed):
    """Every mechanism of the language, and longer texts than the one above."""
    random_state = random.Random(seed)
    for _ in range(200):
        text = random_state.choice([HEADED_TISSUE, PREDATORS])
        for _ in range(random_state.randint(1, 6)):
            at = random_state.randrange(len(text))
            cut = random_state.choice([0, 0, 1, 5, 40, 200])
            text = text[:at] + random_state.choice(["", *PIECES]) + text[at + cut :]
        attempt(lambda text=text: loads(text))


@pytest.mark.parametrize("length", range(0, len(BASE), 97))
def test_truncated_text(length):
    attempt(lambda: loads(BASE[:length]))


def test_bytes_that_are_no_text(tmp_path):
    random_state = random.Random(0)
    path = tmp_path / "model.toml"
    for _ in range(20):
        path.write_bytes(random_state.randbytes(300))
        attempt(lambda: load(path))


def test_deep_nesting():
    attempt(lambda: loads("a = " + "[" * 100000))
    attempt(lambda: loads("a = " + "[" * 5000))
    attempt(lambda: loads("a" + ".a" * 100000 + " = 1"))
