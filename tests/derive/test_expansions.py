"""The expansions in R, in small overlaps and in the components' distance, each against retyped integrals.

Each test measures the slope of the error in the expansion parameter.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import mpmath
import pytest
import sympy as sp
from derived_limits import expansion, limits
from error_slopes import DIGITS, average, edge_average, has_order, number, slope

import annealvi
from derive.asymptotics.equal_weights import HALF_LOG_ODDS, equal_weights
from derive.asymptotics.high_temperature import high_temperature
from derive.asymptotics.large_separation import SCALED_OVERLAP, large_separation
from derive.asymptotics.near_equal import DEFECT
from derive.asymptotics.transverse_growth import DIFFERENCE, MEAN
from derive.objects.system import BETA
from derive.rules.geometry import R

RADIUS, ODDS, TILT = sp.Rational(3, 2), sp.Rational(1, 3), sp.Rational(1, 2)
"""R and h* of the cases in which R is fixed, and the fixed ratio h*/R of the cases in which R grows."""


def mp(x: sp.Expr | float) -> mpmath.mpf:
    return mpmath.mpf(x.p) / x.q if isinstance(x, sp.Rational) else mpmath.mpf(x)


def F(m, radius=RADIUS, odds=ODDS):
    radius, odds = mp(radius), mp(odds)
    return average(mpmath.tanh, radius**2 * m + odds, radius)


def slope_of_F(m, radius=RADIUS, odds=ODDS):
    radius, odds = mp(radius), mp(odds)
    return radius**2 * edge_average(lambda y: mpmath.sech(y) ** 2, radius**2 * m + odds, radius)


def G_of_distance(delta):
    """G by the mean responsibility: E 1/(1 + e^{Δ + √(2Δ) z})."""
    return average(lambda y: 1 / (1 + mpmath.exp(y)), delta, mpmath.sqrt(2 * delta))


def G_of_large_distance(delta):
    """The same G as ½ e^{−Δ/4} E sech(√(Δ/2) z), whose integrand is positive, so that nothing cancels."""
    return mpmath.exp(-delta / 4) / 2 * edge_average(mpmath.sech, 0, mpmath.sqrt(delta / 2))


def rates(m_1, m_2, s, beta):
    """(dm_1/dt, dm_2/dt, ds/dt) at w_1 = w_2 = ½, typed from the theory page."""
    repulsion = G_of_distance(mp(RADIUS) ** 2 * (1 - s))
    pulls = F(m_1), F(m_2)
    first = (beta * pulls[0] * (1 - m_1**2) - repulsion * (m_2 - s * m_1)) / 2
    second = (beta * pulls[1] * (1 - m_2**2) - repulsion * (m_1 - s * m_2)) / 2
    closer = beta * (pulls[0] * (m_2 - s * m_1) + pulls[1] * (m_1 - s * m_2)) / 2 - repulsion * (1 - s**2)
    return first, second, closer


def critical_beta(radius):
    return 2 * G_of_large_distance(2 * mp(radius) ** 2) / slope_of_F(0, radius, TILT * radius)


@dataclass(frozen=True)
class Case:
    """The reference for one expansion.

    `exact` is the expanded quantity, retyped, as a function of the parameter; `at` gives the values of the other
    symbols, which may depend on the parameter.
    """

    exact: Callable
    parameters: tuple
    at: Callable[[sp.Expr], dict] = lambda x: {R: RADIUS, HALF_LOG_ODDS: ODDS}


LARGE = (20, 40, 80)
SMALL = tuple(sp.Rational(1, 1000 * 2**n) for n in range(3))
STATE = {"m_1": sp.Rational(7, 5), "m_2": sp.Rational(-4, 5), "s": sp.Rational(-2, 5), BETA: sp.Rational(3, 10)}
NEAR = {MEAN: sp.Rational(2, 5), DIFFERENCE: sp.Rational(6, 5), DEFECT: sp.Rational(7, 5), BETA: sp.Rational(3, 10)}


def of_radius(x):
    return {HALF_LOG_ODDS: TILT * x}


def small_state(x):
    named = {state: STATE[state.name] for state in limits().pair.states}
    return {R: RADIUS, HALF_LOG_ODDS: ODDS, BETA: STATE[BETA], **named}


def near_state(x):
    return {R: RADIUS, HALF_LOG_ODDS: ODDS, **NEAR}


def small(which: int) -> Callable:
    return lambda e: rates(mp(STATE["m_1"]) * e, mp(STATE["m_2"]) * e, mp(STATE["s"]), mp(STATE[BETA]))[which]


def near(combine: Callable) -> Callable:
    def exact(e):
        m, b, delta = (mp(NEAR[x]) for x in (MEAN, DIFFERENCE, DEFECT))
        return combine(*rates(m + e * b / 2, m - e * b / 2, 1 - e**2 * delta, mp(NEAR[BETA])))

    return exact


CASES = {
    "repulsion of distant components": Case(G_of_large_distance, (300, 600, 1200), lambda x: {}),
    "repulsion of the antipodal pair": Case(lambda r: G_of_large_distance(2 * mpmath.mpf(r) ** 2), LARGE),
    "slope of the pull at the origin": Case(lambda r: slope_of_F(0, r, TILT * r), LARGE, of_radius),
    "pull near the edge": Case(
        lambda r: F(mpmath.mpf("0.7") / r, r, TILT * r),
        LARGE,
        lambda x: {**of_radius(x), SCALED_OVERLAP: sp.Rational(7, 10)},
    ),
    "critical inverse temperature": Case(critical_beta, LARGE, of_radius),
    "critical temperature": Case(lambda r: 1 / critical_beta(r), LARGE, of_radius),
    "dm_1/dt at small overlaps": Case(small(0), SMALL, small_state),
    "dm_2/dt at small overlaps": Case(small(1), SMALL, small_state),
    "ds/dt at small overlaps": Case(small(2), SMALL, small_state),
    "repulsion of near components": Case(G_of_distance, SMALL),
    "dm/dt of near components": Case(near(lambda first, second, closer: (first + second) / 2), SMALL, near_state),
    "db/dt of near components": Case(near(lambda first, second, closer: first - second), SMALL, near_state),
    "d(1 - s)/dt of near components": Case(near(lambda first, second, closer: -closer), SMALL, near_state),
}
IN_TIME = {"u_1 along the relaxation", "u_2 along the relaxation", "m under a slow schedule", "s under a slow schedule"}
"""`test_limits_in_time.py` tests these expansions, and those for a small probability."""


@pytest.fixture(autouse=True)
def _precision():
    with mpmath.workdps(DIGITS + 5):
        yield


def value(expression: sp.Expr, case: Case, x, variable: sp.Symbol) -> mpmath.mpf:
    # The variable is substituted first: it may be R, and then R = RADIUS must not replace it.
    in_averages = limits().pair.written_out(expression)
    return number(in_averages.subs(variable, x).subs(case.at(sp.sympify(x))))


@cache
def exact_values(name: str) -> tuple:
    return tuple(CASES[name].exact(mp(sp.sympify(x))) for x in CASES[name].parameters)


def errors(name: str, expression: sp.Expr) -> list[mpmath.mpf]:
    case, expanded = CASES[name], expansion(name)
    left_out = []
    for x, exact in zip(case.parameters, exact_values(name), strict=True):
        scale = value(expanded.scale, case, x, expanded.variable)
        left_out.append((value(expression, case, x, expanded.variable) - exact) / scale)
    return left_out


def test_every_expansion_has_a_test():
    assert {e.name for e in limits().expansions} == {
        *CASES,
        *IN_TIME,
        *(f"{g.kind} schedule for a small probability" for g in limits().growth),
    }


@pytest.mark.parametrize("name", CASES)
def test_what_is_expanded_is_the_retyped_quantity(name):
    expanded = expansion(name)
    x = CASES[name].parameters[0]
    assert abs(value(expanded.quantity, CASES[name], x, expanded.variable) / exact_values(name)[0] - 1) < mpmath.mpf(
        "1e-18"
    )


@pytest.mark.parametrize("name", CASES)
def test_what_is_left_out_is_of_the_stated_order(name):
    parameters = [mp(sp.sympify(x)) for x in CASES[name].parameters]
    assert has_order(errors(name, expansion(name).expression), parameters, expansion(name).order)


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_coefficient_spoils_the_order(name):
    """Changing any one term of the polynomial by 1 % makes the test of the order fail."""
    parameters = [mp(sp.sympify(x)) for x in CASES[name].parameters]
    terms = sp.Add.make_args(sp.expand(expansion(name).expression))
    for n, term in enumerate(terms):
        wrong = sp.Add(*terms[:n], term * sp.Rational(101, 100), *terms[n + 1 :])
        assert not has_order(errors(name, wrong), parameters, expansion(name).order), term


def test_one_more_correction_is_one_more_order():
    better = {e.name: e for e in large_separation(limits().pair, corrections=2)}["critical temperature"]
    case = CASES["critical temperature"]
    exact = exact_values("critical temperature")
    left = [
        (value(better.expression, case, x, R) - v) / value(better.scale, case, x, R)
        for x, v in zip(case.parameters, exact, strict=True)
    ]
    assert better.order == -6
    assert abs(slope(left, [mp(sp.sympify(x)) for x in case.parameters]) + 6) < 0.03


def test_the_critical_temperature_of_the_page():
    """For equal modes T_c ≈ (2/π) R² e^{R²/2} to leading order."""
    leading = expansion("critical temperature").scale.subs(HALF_LOG_ODDS, 0)
    assert sp.simplify(leading / (2 / sp.pi * R**2 * sp.exp(R**2 / 2))) == 1


def test_hot_rates_are_the_retyped_ones():
    """The derived rates of u_1, u_2 and θ equal the retyped ones, transformed by the chain rule.

    The comparison is at one state, with a β that is not small.
    """
    hot, (m_1, m_2, s) = high_temperature(limits().pair), limits().pair.states
    at = {m_1: sp.Rational(1, 5), m_2: sp.Rational(-3, 10), s: sp.Rational(1, 10)}
    beta = sp.Rational(1, 4)
    moved = rates(*(mp(at[x]) for x in (m_1, m_2, s)), mp(beta))
    u = [c.subs(at) for c in hot.conserved]
    theta = sp.acos(at[s]) / 2
    place = {
        sp.Symbol("u_1", real=True): u[0],
        sp.Symbol("u_2", real=True): u[1],
        sp.Symbol("theta", positive=True): theta,
    }
    for conserved, drift in zip(hot.conserved, hot.drift, strict=True):
        chain = mpmath.fsum(
            number(conserved.diff(x).subs(at)) * rate for x, rate in zip((m_1, m_2, s), moved, strict=True)
        )
        derived = number(beta * limits().pair.written_out(drift).subs({**place, R: RADIUS, HALF_LOG_ODDS: ODDS}))
        assert abs(derived / chain - 1) < mpmath.mpf("1e-18")
    for m, overlap in zip((m_1, m_2), hot.overlaps, strict=True):
        assert abs(number(overlap.subs(place)) - mp(at[m])) < mpmath.mpf("1e-18")
    still = rates(*(mp(at[x]) for x in (m_1, m_2, s)), 0)
    derived = number(limits().pair.written_out(hot.relaxation).subs({**place, R: RADIUS}))
    assert abs(derived / (still[2] / number(-2 * sp.sin(2 * theta))) - 1) < mpmath.mpf("1e-18")


def test_another_system_is_refused():
    for name in ("simplex", "two-scales", "learned-weights"):
        with pytest.raises(ValueError, match="two antipodal modes"):
            equal_weights(annealvi.open_session(annealvi.load_problem(name)).derivation.system)


def test_public_functions():
    problem = annealvi.load_problem("bimodal")
    assert annealvi.asymptotics(problem) == limits()
    assert annealvi.linear_stability(problem).collapsed.name == "collapsed"
    for function in (annealvi.asymptotics, annealvi.linear_stability):
        with pytest.raises(annealvi.BadInput, match="give the bimodal problem"):
            function(annealvi.load_problem("simplex"))


def test_each_result_has_latex():
    for name, text in limits().latex().items():
        assert text.count("{") == text.count("}"), name
        assert not any(word in text for word in ("Expectation", "Subs", "frac{d")), name
