"""Intervals are those of a bootstrap over values, and the same in every run."""

import math
import statistics

import pytest

from lensgraph.tools.runtime.interval import RESAMPLES, interval, percentiles


def test_an_interval_is_the_one_of_the_normal_approximation_for_many_values() -> None:
    values = [0.0] * 300 + [1.0] * 700
    low, high = interval(values)
    half = 1.96 * statistics.pstdev(values) / math.sqrt(len(values))
    assert (low, high) == (pytest.approx(0.7 - half, abs=0.003), pytest.approx(0.7 + half, abs=0.003))


def test_an_interval_is_drawn_from_its_seed_alone() -> None:
    values = [float(n % 7) for n in range(50)]
    assert interval(values) == interval(values, seed=0) != interval(values, seed=1)


def test_equal_values_have_an_interval_without_width_and_no_values_have_none() -> None:
    assert interval([0.5, 0.5]) == (0.5, 0.5)
    assert all(math.isnan(end) for end in interval([]))


def test_each_tail_that_is_cut_off_holds_two_and_a_half_percent_of_the_resamples() -> None:
    counted = iter(range(RESAMPLES))
    assert percentiles(lambda rng: float(next(counted))) == (0.025 * RESAMPLES, 0.975 * RESAMPLES - 1)
