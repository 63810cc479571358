"""Half-lives of lost weight by hand, and the weight error that sampling alone makes of the target's own weights."""

import math

import numpy as np
import pytest

from annealvi.realnvp.recovery import first_records, half_lives, sampling_error, weight_error


@pytest.mark.parametrize(
    ("errors", "annealed_at", "expected"),
    [
        ([0.2, 0.2, 0.15, 0.1, 0.1, 0.1], 0, 200),  # half of the error is left at a record
        ([0.3, 0.2, 0.12, 0.04, 0.0, 0.0], 0, 125),  # a quarter of the way from 0.12 to 0.04
        ([0.3, 0.3, 0.3, 0.2, 0.1, 0.02], 150, 150),  # counted from step 200, the record after step 150
        ([0.3, 0.3, 0.2, 0.2, 0.1, 0.02], 100, 200),  # the record at step 100 precedes step 100
        ([0.0, 0.05, 0.2, 0.2, 0.15, 0.1], 0, 300),  # the weight is lost on the way and counted from then on
        ([0.3, 0.2, 0.2, 0.19, 0.18, 0.11], 0, math.inf),
        ([0.0, 0.0, 0.0, 0.0, 0.1, 0.2], 0, math.inf),  # the weight is lost at the very end
        ([0.3, 0.01, 0.009, 0.01, 0.0, 0.0], 0, 0),
        ([0.3, 0.3, 0.3, 0.3, 0.01, 0.0], 350, 0),
        ([0.3, 0.3, 0.3, 0.3, 0.3, 0.3], 500, math.nan),  # the next step would have been the first
        ([0.3, 0.3, 0.3, 0.3, 0.3, 0.3], math.nan, math.nan),
    ],
)
def test_half_lives_by_hand(errors, annealed_at, expected):
    found = half_lives(np.arange(0, 600, 100), np.array([errors]), np.array([float(annealed_at)]), 0.01)
    np.testing.assert_allclose(found, [expected])


def test_the_weights_of_annealed_flows_are_those_of_the_record_after_it():
    steps = np.array([0, 10, 20, 30])
    np.testing.assert_array_equal(first_records(steps, np.array([0, 9, 10, 29, 30, np.nan])), [1, 1, 2, 3, 3, 3])


def test_half_life_of_an_exponential_decay():
    """Half-lives found from records agree with the decay, which is recorded every τ/10 or more often.

    A chord between two records lies above the curve by less than (ln 2 / 10)² / 8 of the error.
    """
    tau = np.array([300.0, 1000.0])
    steps = np.arange(0, 4000, 30)
    errors = 0.4 * 2 ** (-steps / tau[:, None])
    found = half_lives(steps, errors, np.zeros(2), 1e-3)
    late = (np.log(2) / 10) ** 2 / 8 / np.log(2) * tau
    assert (found >= tau - 1e-6).all()
    assert (found <= tau + late + 1e-6).all()


@pytest.mark.parametrize(
    "weights",
    [
        [0.8, 0.2],
        [0.5, 0.5],
        [0.99, 0.01],
        np.full(8, 1 / 8),
        np.full(40, 1 / 40),
        [0.3, 0.2, 0.1, *np.full(37, 0.4 / 37)],
    ],
    ids=["0.8", "0.5", "0.99", "8", "40", "uneven"],
)
@pytest.mark.parametrize("samples", [200, 2048])
def test_sampling_error_is_seldom_exceeded_and_not_lax(weights, samples):
    """At most one of a thousand counts of the target's own weights exceeds the bound, which is not much too wide.

    The bound is less than 1.5 times the error that one of a thousand counts exceeds. Of 20000 counts 20 are expected
    beyond one of a thousand; four standard errors more make 38.
    """
    weights = np.array(weights)
    counts = np.random.default_rng(0).multinomial(samples, weights, size=20_000) / samples
    errors, bound = weight_error(counts, weights), sampling_error(weights, samples)
    assert (errors > bound).sum() <= 38
    assert bound < 1.5 * np.quantile(errors, 0.999)
