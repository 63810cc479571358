"""The scaling law of slow schedules.

The tests compare the law with shooting and with ensembles over decades of the dimension, and look at its refusals.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import retyped
from scipy.optimize import brentq

import annealvi
from annealvi.collapse.ensemble import collapse_by_ensemble
from annealvi.collapse.family import Family
from annealvi.collapse.growth import transverse_growth
from annealvi.collapse.scaling import required_time_scale, scaling_law
from derive.problem.specification import BadInput, Space


def problem_of(*changes):
    return annealvi.load_problem("bimodal", list(changes))


def waiting(m, R=3.0, w_star=0.8):
    """(β, λ) of the stationary state m_1 = m_2 = m, from retyped averages."""
    F, G = retyped.F(m, R, w_star), 2 * retyped.exchange_sech(2 * m**2 - 1, R, 0.5)
    slope = (retyped.F(m + 1e-5, R, w_star) - retyped.F(m - 1e-5, R, w_star)) / 2e-5
    return 2 * m * G / F, m * G * (slope * (1 - m**2) / F - m)


def test_the_pair_is_let_go_where_the_retyped_growth_vanishes():
    m = brentq(lambda m: waiting(m)[1], 0.3, 0.9)
    assert scaling_law(problem_of()).release == pytest.approx(1 / waiting(m)[0], rel=1e-5)


def test_the_rate_of_a_hold_is_the_retyped_growth_itself():
    law = scaling_law(problem_of("schedule.kind='hold'", "schedule.T0=400"))
    m = brentq(lambda m: waiting(m)[0] - 1 / 400, 0.01, 0.6)
    assert law.rate == pytest.approx(waiting(m)[1], rel=1e-5)


@pytest.mark.parametrize("T0", [700, 1000, 2000])
def test_above_the_critical_temperature_a_hold_between_almost_equal_modes_grows_as_derived(T0):
    """As w* → ½ the rate approaches λ = ½ β F'(0), the rate of all closed forms of Λ_hot.

    The pair waits at an m of order w* − ½. As λ is even in both, the error is quadratic in w* − ½.
    """
    errors = []
    for w_star in (0.52, 0.51):
        weights = f"target.weights=[{w_star}, {1 - w_star}]"
        law = scaling_law(problem_of("schedule.kind='hold'", f"schedule.T0={T0}", weights))
        slope = (retyped.F(1e-5, 3.0, w_star) - retyped.F(-1e-5, 3.0, w_star)) / 2e-5
        errors.append(law.rate * T0 / (slope / 2) - 1)
    assert abs(errors[0]) < 0.05
    assert errors[1] == pytest.approx(errors[0] / 4, rel=0.15)


@pytest.mark.parametrize(
    ("kind", "T0", "t0"), [("exponential", 1000, 4000.0), ("linear", 1000, 20000.0), ("geometric", 3000, 20000.0)]
)
def test_the_rate_is_the_slope_of_the_growth_exponent_of_slow_schedules(kind, T0, t0):
    """The rate of the law is the slope of the growth exponent in t0.

    Λ = A t0 + const + O(1/t0): between t0 and 2 t0 the slope is off by O(1/t0²), and between 2 t0 and 4 t0 by four
    times less.
    """
    problem = problem_of(f"schedule.kind='{kind}'", f"schedule.T0={T0}")
    rate, family, growth = scaling_law(problem).rate, Family.of(problem), []
    for scale in (t0, 2 * t0, 4 * t0):
        member = family.at({"schedule.t0": scale})
        growth.append(transverse_growth(member.kernel, member.separatrix.traps, member.separatrix.t_end))
    slopes = (growth[1] - growth[0]) / t0, (growth[2] - growth[1]) / (2 * t0)
    assert slopes[0] == pytest.approx(rate, rel=0.03)
    assert abs(slopes[1] - rate) < 0.6 * abs(slopes[0] - rate)


@pytest.mark.slow
def test_ensembles_over_four_decades_of_the_dimension_follow_the_law():
    """At the t0 that the law gives for P = 0.1, ensembles find this P.

    The bound allows for sampling and for the law's own O(d^-½) corrections, which show at the smallest d.
    """
    problem = problem_of("schedule.T0=1000")
    law = scaling_law(problem)
    for d, correction in ((100, 0.02), (1000, 0.01), (10_000, 0.007), (100_000, 0.005), (1_000_000, 0.005)):
        t0 = float(law.time_scale(0.1, d))
        changed = replace(problem, space=Space(d), schedule=replace(problem.schedule, t0=t0))
        outcomes = collapse_by_ensemble(annealvi.open_session(changed), n=20_000, seed=d).outcomes
        assert abs(outcomes.p - 0.1) < correction + 3.5 * outcomes.stderr


@pytest.mark.slow
def test_the_corrected_formula_needs_the_same_time_in_high_dimension():
    problem = problem_of("schedule.T0=1000", "space.dimension=100000")
    law = scaling_law(problem)
    assert required_time_scale(problem, 0.1, law) == pytest.approx(law.time_scale(0.1, 100_000), rel=0.01)


def test_the_law_is_logarithmic():
    law = scaling_law(problem_of())
    steps = np.diff(law.time_scale(0.01, np.array([1e2, 1e4, 1e6])))
    assert steps == pytest.approx(np.log(100) / 2 / law.rate)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        (["schedule.T0=100"], "let go"),
        (["target.weights=[0.5, 0.5]"], "equal modes"),
        (["proposal.weights=[0.4, 0.6]"], "not alike"),
        (["schedule.kind='expression'", "schedule.expression='1+(T0-1)*exp(-t/t0)'"], "never falls"),
        (["schedule.kind='hold'", "schedule.T0=inf"], "finite T0"),
        (["schedule.kind='table'", "schedule.points=[[0, 300], [1000, 1]]"], "no T0 and t0"),
    ],
)
def test_what_has_no_law_is_refused(changes, said):
    with pytest.raises(BadInput, match=said):
        scaling_law(problem_of(*changes))
