"""The symmetric states of the bimodal system: their derived spectra.

The references are hand-typed spectra and the linearised equations of the overlaps.
"""

from __future__ import annotations

import dataclasses

import mpmath
import pytest
import sympy as sp
from retyped import F_mp, G_1_mp, gaussian_mean_mp

from derive.asymptotics.limits import asymptotics
from derive.asymptotics.linear_stability import EXCHANGE, PULL, bimodal_stability, pull_condition
from derive.dynamics.forces import descent_system, force_system
from derive.dynamics.symbolic_problem import derive_problem
from derive.objects.expectation import Expectation, StandardNormal
from derive.objects.system import BETA
from derive.problem.built_in import BUILT_IN
from derive.problem.problem_file import load_problem

DIGITS = 25


@pytest.fixture(scope="module")
def derivation():
    return derive_problem(BUILT_IN["bimodal"])


@pytest.fixture(scope="module")
def stability(derivation):
    return bimodal_stability(derivation)


@pytest.fixture(scope="module")
def symbols(derivation):
    return {p.name: p for p in derivation.system.parameters}


def numbers(symbols, beta, R="3", w_star="0.8", w_1="0.5"):
    exact = {"R": R, "w_1": w_1, "w_star_1": w_star}
    values = {symbols[name]: sp.Rational(value) for name, value in exact.items()}
    values |= {symbols["w_2"]: 1 - sp.Rational(w_1), symbols["w_star_2"]: 1 - sp.Rational(w_star)}
    return {**values, BETA: sp.Rational(beta)}


@pytest.mark.parametrize("name", ["collapsed", "mixed"])
def test_the_tangent_matrix_of_coincident_means(stability, symbols, name):
    w_1, w_2, (p, _) = symbols["w_1"], symbols["w_2"], PULL
    typed = sp.Matrix([[w_1 * (w_2 - BETA * p), -w_1 * w_2], [-w_1 * w_2, w_2 * (w_1 - BETA * p)]])
    found = getattr(stability, name)
    assert (found.matrix - typed).expand() == sp.zeros(2)
    assert sp.expand(found.determinant - w_1 * w_2 * BETA * p * (BETA * p - 1)) == 0


def changed(found, **images):
    """The same state with another matrix, in which the pulls or the repulsion are multiplied by numbers."""
    symbols = {"pull": PULL, "g": (EXCHANGE,)}
    factors = {symbol: factor * symbol for name, factor in images.items() for symbol in symbols[name]}
    return dataclasses.replace(found, matrix=found.matrix.xreplace(factors))


@pytest.mark.parametrize("name", ["collapsed", "mixed"])
def test_coincident_means_are_a_saddle_because_the_pull_is_between_zero_and_one(stability, name):
    found = getattr(stability, name)
    assert (found.is_saddle, found.is_stable) == (True, False)
    assert found.conclusion.startswith("a saddle for every 0 < beta <= 1")
    for factor in (-1, 2):  # a push, and a pull that may exceed one
        wrong = changed(found, pull=sp.Integer(factor))
        assert (wrong.is_saddle, wrong.is_stable) == (False, False)
        assert wrong.conclusion.startswith("undecided")


def test_the_separated_state_is_stable_because_it_is_pulled_and_repelled(stability):
    found = stability.separated
    assert (found.is_saddle, found.is_stable) == (False, True)
    assert found.conclusion.startswith("linearly stable for every 0 < beta <= 1")
    assert not changed(found, g=-sp.S.One).is_stable
    pushed = changed(found, pull=-sp.S.One, g=sp.S.Zero)  # a push without repulsion, so both rates are positive
    assert (pushed.is_saddle, pushed.is_stable) == (False, False)


@pytest.mark.quick
@pytest.mark.parametrize("mean", ["0.05", "-0.05", "1.5"])
def test_a_pull_has_the_sign_of_what_is_its_condition(mean):
    z, A = StandardNormal("z"), sp.Symbol("A", real=True)
    assert pull_condition(Expectation(sp.tanh(A + 2 * z), z)) == A
    assert pull_condition(-Expectation(sp.tanh(2 * z - A), z)) == A
    value = gaussian_mean_mp(lambda x: mpmath.tanh(mpmath.mpf(mean) + 2 * x))
    assert mpmath.sign(value) == mpmath.sign(mpmath.mpf(mean))
    assert abs(value) < 1


@pytest.mark.parametrize("f", [lambda y: y, lambda y: sp.sech(y), lambda y: sp.tanh(y) ** 2])
def test_what_is_no_pull_gets_no_condition(f):
    z = StandardNormal("z")
    with pytest.raises((ValueError, ArithmeticError)):
        pull_condition(Expectation(f(1 + 2 * z), z))


def test_what_scales_leave_open_is_not_concluded():
    stability = bimodal_stability(derive_problem(load_problem("bimodal", ["target.scales=[0.8, 0.8]"])))
    assert stability.collapsed.conclusion == "undecided: the signs depend on parameters"
    assert stability.separated.is_stable


def test_the_separated_state_is_stable_at_every_temperature(stability, symbols):
    found = stability.separated
    g, (p_1, p_2) = EXCHANGE, PULL
    typed = -sp.Matrix([[BETA * symbols["w_1"] * p_1 + g, g], [g, BETA * symbols["w_2"] * p_2 + g]])
    assert (found.matrix - typed).expand() == sp.zeros(2)
    assert found.trace.is_negative
    assert sp.expand(found.determinant).is_positive


@pytest.mark.parametrize(("R", "w_star", "w_1"), [("3", "0.8", "0.5"), ("1.5", "0.5", "0.3")])
def test_the_averages_are_those_of_the_state(stability, symbols, R, w_star, w_1):
    values = numbers(symbols, "0.3", R, w_star, w_1)
    matrix = stability.separated.at(values).evalf(DIGITS)
    g = mpmath.mpf(w_1) * G_1_mp("-1", R, w_1)
    pull = mpmath.mpf("0.3") * mpmath.mpf(w_1) * F_mp("1", R, w_star)
    assert abs(mpmath.mpf(str(matrix[0, 1])) + g) < 1e-15
    assert abs(mpmath.mpf(str(matrix[0, 0])) + g + pull) < 1e-15


def test_the_overlaps_own_equations_give_the_same_matrix_in_second_order(derivation, stability):
    """The equations of the overlaps, expanded near the collapsed state, contain the derived matrix.

    With m_i = √(1 − ε²x_i²) and s = m_1 m_2 + ε² x_1 x_2, the rates are dm_i/dt = −ε² x_i ẋ_i and
    ds/dt = −ε² (x_1 − x_2)(ẋ_1 − ẋ_2).
    """
    system, found = derivation.system, stability.collapsed
    named = {s.name: s for s, _ in system.subexpressions}
    eps, x = sp.Symbol("epsilon", positive=True), sp.symbols("x_1 x_2", real=True)
    m = [sp.sqrt(1 - eps**2 * v**2) for v in x]
    at = dict(zip(system.states, [*m, m[0] * m[1] + eps**2 * x[0] * x[1]], strict=True))
    w = sp.symbols("w_1 w_2", positive=True)
    averages = {named["F_1"]: PULL[0], named["F_2"]: PULL[0], named["g"]: w[0] * w[1]}
    second_order = [
        sp.series(rate.xreplace(averages).xreplace(at), eps, 0, 3).removeO().coeff(eps, 2) for rate in system.rhs
    ]
    velocity = found.matrix * sp.Matrix(x)
    expected = [-x[0] * velocity[0], -x[1] * velocity[1], -(x[0] - x[1]) * (velocity[0] - velocity[1])]
    assert [sp.expand(a - b) for a, b in zip(second_order, expected, strict=True)] == [0, 0, 0]


def test_the_pair_is_torn_below_the_critical_temperature(stability, symbols):
    values = numbers(symbols, "1", w_star="0.5")
    critical = stability.pair.critical_beta.xreplace(values).evalf(DIGITS)
    with mpmath.workdps(40):
        slope = 9 * gaussian_mean_mp(lambda z: mpmath.sech(3 * z) ** 2)
        typed = 2 * G_1_mp("-1", "3", "0.5") / slope
    assert abs(mpmath.mpf(str(critical)) / typed - 1) < 1e-15
    assert sp.diff(stability.pair.apart, BETA).xreplace(values).evalf(10) > 0
    assert abs(float(stability.pair.across.xreplace(values).evalf(10)) + float(G_1_mp("-1", "3", "0.5"))) < 1e-10


def test_results_have_latex(stability):
    texts = stability.latex()
    assert set(texts) == {"collapsed", "mixed", "separated", "antipodal pair"}
    assert r"\beta p_{1}" in texts["collapsed"]


def test_what_is_not_bimodal_is_refused():
    with pytest.raises(ValueError, match="two antipodal modes"):
        bimodal_stability(derive_problem(BUILT_IN["one-component"]))
    off_the_sphere = derive_problem(load_problem("bimodal", ["proposal.radius=2.0"]))
    with pytest.raises(ValueError, match="modes' sphere"):
        bimodal_stability(off_the_sphere)
    with pytest.raises(ValueError, match="modes' sphere"):
        asymptotics(off_the_sphere.system)
    with pytest.raises(ValueError, match="spherical flow of the means"):
        force_system(derive_problem(BUILT_IN["learned-weights"]))


def test_forces_of_both_means_on_one_overlap_agree(derivation):
    """f_12 = −w_1 E_1[ρ_2] = −w_2 E_2[ρ_1], although each is derived from another mean.

    Both are the same force −∂𝓛/∂(a_1·a_2).
    """
    forces = force_system(derivation)
    assert [str(f) for f in forces.rhs] == ["F_1*beta*w_1", "F_2*beta*w_2", "-g"]


def test_off_spheres_a_mean_is_also_pulled_along_itself():
    """For the modes ±ν, da_i/dt = w_i β (F_i ν − a_i) + g (a_i − a_j) with unit scales.

    The target pulls at β w_i (E[tanh] ν − a_i), and the components repel each other at equal and opposite rates.
    """
    forces = descent_system(derive_problem(load_problem("bimodal", ['flow.manifold="euclidean"'])))
    assert [s.name for s in forces.states] == ["M_11", "M_21", "Q_11", "Q_12", "Q_22"]
    assert [str(f) for f in forces.rhs] == ["F_1*beta*w_1", "F_2*beta*w_2", "-beta*w_1 + g", "-g", "-beta*w_2 + g"]


def test_means_that_rest_have_no_forces():
    with pytest.raises(ValueError, match="rest"):
        descent_system(derive_problem(load_problem("bimodal", ['flow.learn=["weights"]'])))
