"""Intervals and effect sizes against scipy, and where they are not defined."""

import math

import numpy as np
import pytest
from scipy import stats

from lattice.trial.statistics import cohen_d, estimate, slopes


def test_the_interval_is_that_of_the_paired_t_test():
    rng = np.random.default_rng(1)
    treated, reference = rng.normal(5, 2, 9), rng.normal(4, 2, 9)
    test = stats.ttest_rel(treated, reference)
    expected = test.confidence_interval(0.95)
    found = estimate(treated - reference)
    assert (found.low, found.high) == pytest.approx((expected.low, expected.high))
    # t = d_z sqrt(n)
    assert found.effect * 3 == pytest.approx(test.statistic)
    assert (found.n, found.mean) == (9, pytest.approx((treated - reference).mean()))


def test_the_interval_covers_in_95_of_100():
    rng = np.random.default_rng(2)
    found = [estimate(rng.normal(1, 3, 5)) for _ in range(2000)]
    covered = sum(f.low <= 1 <= f.high for f in found)
    assert covered / 2000 == pytest.approx(0.95, abs=0.02)


def test_missing_values_are_left_out():
    whole = estimate(np.array([1.0, 2.0, 4.0]))
    assert estimate(np.array([1.0, np.nan, 2.0, np.inf, 4.0])) == whole


def test_one_value_has_no_interval_and_none_has_nothing():
    one = estimate(np.array([2.5]))
    assert (one.n, one.mean) == (1, 2.5)
    assert math.isnan(one.low)
    assert math.isnan(one.effect)
    none = estimate(np.array([np.nan]))
    assert none.n == 0
    assert math.isnan(none.mean)


def test_equal_values_have_a_point_as_interval_and_no_effect_size():
    found = estimate(np.full(7, 0.1))
    assert (found.sd, found.low, found.high) == (0, found.mean, found.mean)
    assert math.isnan(found.effect)


def test_cohens_d_of_a_known_case():
    # Means 3 and 2, both variances 1: d = 1.
    assert cohen_d(np.array([2.0, 3.0, 4.0]), np.array([1.0, 2.0, 3.0])) == pytest.approx(1.0)
    assert math.isnan(cohen_d(np.array([1.0]), np.array([1.0, 2.0])))
    assert math.isnan(cohen_d(np.array([1.0, 1.0]), np.array([1.0, 1.0])))


def test_slopes_are_those_of_a_regression():
    rng = np.random.default_rng(3)
    doses, values = np.array([0.1, 0.2, 0.5, 0.9]), rng.normal(size=(4, 6))
    expected = [stats.linregress(doses, column).slope for column in values.T]
    assert slopes(doses, values) == pytest.approx(expected)
