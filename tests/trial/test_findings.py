"""Every verdict is reachable, for every kind of claim, on numbers made for it."""

from dataclasses import replace

import numpy as np
import pytest

from lattice.trial.findings import evaluate, verdict_of
from lattice.trial.statistics import estimate
from lattice.trial.structure import Check, Difference, Finding, Trial

NOISE = np.array([-0.1, 0.1, 0.0, 0.05, -0.05])
WIDE = NOISE * 60
BASE = np.array([10.0, 11.0, 9.0, 10.5, 9.5])


def judge(test: Check | tuple[Check, ...], **arms: np.ndarray):
    """The verdict on a claim about the outcome "y"; arms are given as gains over `BASE`."""
    tests = test if isinstance(test, tuple) else (test,)
    finding = Finding("F", "a claim", "", "", tests)
    trial = replace(EMPTY, findings=(finding,))
    column = {"ref": BASE} | {name: BASE + gain for name, gain in arms.items()}
    (judged,) = evaluate(trial, {"y": column, "z": column})
    return judged


EMPTY = Trial("t", "t.toml", 0, 5, 1.0, 0.0, (), (), (), (), (), {})


def arms_of(*names: str) -> tuple[Difference, ...]:
    return tuple(Difference(name, "ref") for name in names)


def directed(expect: str, *names: str, **options) -> Check:
    return Check(expect, ("y",), arms_of(*names or ("a",)), **options)


@pytest.mark.parametrize(
    ("gain", "verdict"),
    [(NOISE, "reproduced"), (3 + NOISE, "not reproduced"), (WIDE, "undecided")],
)
def test_a_range(gain, verdict):
    # Means of 10, 13 and 10: only the first has its whole interval between 8.5 and 11.5.
    judged = judge(Check("within", ("y",), (), arms=("a",), range=(8.5, 11.5)), a=gain)
    assert judged.verdict == verdict
    assert judged.lines[0].expect == "within 8.5 to 11.5"


@pytest.mark.parametrize(
    ("expect", "gain", "size", "verdict"),
    [
        ("up", 2 + NOISE, 0, "reproduced"),
        ("up", -2 + NOISE, 0, "not reproduced"),
        ("up", 0.5 + WIDE, 0, "undecided"),
        ("down", -2 + NOISE, 0, "reproduced"),
        ("down", 2 + NOISE, 0, "not reproduced"),
        ("down", WIDE, 0, "undecided"),
        ("none", NOISE, 0.05, "reproduced"),
        ("none", 2 + NOISE, 0.05, "not reproduced"),
        ("none", -2 + NOISE, 0.05, "not reproduced"),
        ("none", WIDE, 0.05, "undecided"),
        ("up", 2 + NOISE, 0.1, "reproduced"),
        ("up", 2 + NOISE, 0.3, "not reproduced"),
        ("up", 2 + NOISE, 0.2, "undecided"),
        ("down", -2 + NOISE, 0.1, "reproduced"),
        ("down", -2 + NOISE, 0.3, "not reproduced"),
    ],
)
def test_a_direction(expect, gain, size, verdict):
    judged = judge(directed(expect, size=float(size)), a=gain)
    assert judged.verdict == verdict
    (line,) = judged.lines
    assert line.bound == pytest.approx(10 * size)
    assert line.relative_percent == pytest.approx(10 * gain.mean())


def test_exactly_nothing_is_neither_up_nor_down():
    nothing = estimate(np.zeros(5))
    assert verdict_of(nothing, "up") == verdict_of(nothing, "down") == "not reproduced"
    assert verdict_of(nothing, "none", 0.01) == "reproduced"


def test_one_replicate_decides_nothing():
    one = estimate(np.array([3.0]))
    assert {verdict_of(one, e, 1.0) for e in ("up", "down", "none")} == {"undecided"}


def test_missing_arms_decide_nothing():
    assert judge(directed("up"), a=np.full(5, np.nan)).verdict == "undecided"


@pytest.mark.parametrize(
    ("combine", "gains", "verdict"),
    [
        ("all", (2, 2), "reproduced"),
        ("all", (2, -2), "not reproduced"),
        ("any", (2, -2), "reproduced"),
        ("any", (-2, -2), "not reproduced"),
    ],
)
def test_several_arms(combine, gains, verdict):
    test = directed("up", "a", "b", combine=combine)
    assert judge(test, a=gains[0] + NOISE, b=gains[1] + NOISE).verdict == verdict


def test_an_open_arm_leaves_both_combinations_open():
    for combine, other in (("all", 2), ("any", -2)):
        test = directed("up", "a", "b", combine=combine)
        assert judge(test, a=other + NOISE, b=WIDE).verdict == "undecided"


def test_all_parts_have_to_hold():
    up, down = directed("up"), directed("down", "b")
    assert judge((up, down), a=2 + NOISE, b=-2 + NOISE).verdict == "reproduced"
    assert judge((up, down), a=2 + NOISE, b=2 + NOISE).verdict == "not reproduced"
    assert judge((up, down), a=2 + NOISE, b=WIDE).verdict == "undecided"


@pytest.mark.parametrize(
    ("with_it", "without", "verdict"),
    [(3, 1, "reproduced"), (1, 3, "not reproduced"), (1, 1, "undecided")],
)
def test_an_interaction(with_it, without, verdict):
    test = Check("up", ("y",), (Difference("a", "ref", "b", "c"),))
    gains = {"a": with_it + NOISE, "b": 5 + without + NOISE[::-1], "c": 5 + NOISE * 0}
    judged = judge(test, **gains)
    assert judged.verdict == verdict
    assert judged.lines[0].estimate.mean == pytest.approx(with_it - without)


@pytest.mark.parametrize(
    ("expect", "gains", "verdict"),
    [
        ("rises", (0, 1, 3), "reproduced"),
        ("rises", (3, 1, 0), "not reproduced"),
        ("rises", (1, 1, 1), "undecided"),
        ("falls", (3, 1, 0), "reproduced"),
        ("falls", (0, 1, 3), "not reproduced"),
    ],
)
def test_a_trend(expect, gains, verdict):
    test = Check(expect, ("y",), arms_of("a", "b", "c"), doses=(0.1, 0.2, 0.4))
    noisy = {n: g + NOISE * (i - 1) for i, (n, g) in enumerate(zip("abc", gains, strict=True))}
    assert judge(test, **noisy).verdict == verdict


@pytest.mark.parametrize(
    ("gains", "verdict"),
    [
        ((1, 3, 1), "reproduced"),
        ((1, 2, 3), "not reproduced"),
        ((-3, -2, -4), "not reproduced"),
        ((1, 2, 2), "undecided"),
    ],
)
def test_an_interior_optimum(gains, verdict):
    test = Check("interior optimum", ("y",), arms_of("a", "b", "c"), doses=(0.1, 0.2, 0.4))
    noise = (NOISE, NOISE, NOISE[::-1])
    noisy = {n: g + e for n, g, e in zip("abc", gains, noise, strict=True)}
    judged = judge(test, **noisy)
    assert judged.verdict == verdict
    assert len(judged.lines) == 2


@pytest.mark.parametrize(
    ("one", "other", "verdict"),
    [
        ((3, 1), (1, 3), "reproduced"),
        ((1, 3), (3, 1), "not reproduced"),
        ((1, 3), (1, 3), "not reproduced"),
    ],
)
def test_a_lower_optimum(one, other, verdict):
    test = Check(
        "lower optimum",
        ("y",),
        arms_of("a", "b"),
        doses=(0.1, 0.4),
        others=arms_of("c", "d"),
        other_doses=(0.1, 0.4),
    )
    gains = {n: g + NOISE for n, g in zip("abcd", (*one, *other), strict=True)}
    assert judge(test, **gains).verdict == verdict
