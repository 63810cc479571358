"""The linear flow of a protected pair, the switching function, and the best schedules that the two predict."""

from __future__ import annotations

import math
from functools import cache

import brute_force
import numpy as np
import pytest
import retyped
import sympy as sp
from scipy.integrate import quad

import annealvi
from annealvi.collapse.best_holds import best_hold, ultimate_hold
from annealvi.collapse.optimal import optimal_schedule
from derive.asymptotics.equal_weights import equal_weights
from derive.asymptotics.hold_and_quench import DRIFT, END, REPULSION, SLOPE, protected_pair
from derive.asymptotics.quasi_static import quasi_static
from derive.asymptotics.transverse_growth import MEAN, symmetric_path
from derive.objects.system import BETA


@cache
def bimodal():
    return equal_weights(annealvi.open_session(annealvi.load_problem("bimodal")).derivation.system)


@cache
def pair():
    return protected_pair(symmetric_path(bimodal()))


def numbers(R=3.0, w_star=0.8):
    slope = (retyped.F(1e-5, R, w_star) - retyped.F(-1e-5, R, w_star)) / 2e-5
    return {DRIFT: retyped.F(0.0, R, w_star), SLOPE: slope, REPULSION: 2 * retyped.exchange_sech(-1.0, R, 0.5)}


def test_the_linear_flow_is_the_tangent_of_the_retyped_one():
    """At (a, b) = ε (1, 2) and β of order ε, the linear and the retyped flow differ by O(ε²).

    Half the ε therefore leaves at most a quarter of the difference.
    """
    rates = brute_force.flow(3.0, 0.8, 0.5)
    known = numbers()

    def difference(small):
        # At s = −1 the domain has no state with m_1 + m_2 ≠ 0, so the state lies on the rim, where s = −1 + O(ε²).
        m_1, m_2 = 1.5 * small, -0.5 * small
        s = m_1 * m_2 - math.sqrt((1 - m_1**2) * (1 - m_2**2))
        first, second, _ = rates(small, np.array([[m_1, m_2, s]]))[0]
        linear_a = float((pair().drift + pair().damping * small).subs({BETA: small, **known}))
        linear_b = float((pair().growth * 2 * small).subs({BETA: small, **known}))
        return abs(first + second - linear_a), abs(first - second - linear_b)

    coarse, fine = np.array(difference(0.02)), np.array(difference(0.01))
    # The differences are O(ε²) β or O(ε³) and so fall by at least a factor of four, apart from the splines' 1e-8.
    assert (fine < coarse / 3.6 + 1e-8).all()
    assert (coarse > 1e-7).all()


def test_the_ultimate_rate_is_the_repulsion_itself():
    assert sp.simplify(pair().fastest_protected_growth - REPULSION) == 0
    assert sp.simplify(pair().critical_beta - 2 * REPULSION / SLOPE) == 0


@pytest.mark.parametrize("seed", range(4))
def test_the_switching_function_rises_under_any_schedule_as_derived(seed):
    """The numerical slope of the switching function S equals the derived slope.

    S comes from quadrature under a random β(t), with a(t) from its integral.
    """
    rng = np.random.default_rng(seed)
    drift, slope, repulsion = 0.6, 2.2, 0.05
    waves = rng.random((3, 3)) * [0.02, 0.3, 6.0]
    duration = 30.0

    def beta(t):
        return 0.05 + sum(size * math.sin(rate * t + phase) for size, rate, phase in waves) / 2

    def damping(t):
        return slope * beta(t) / 2 - repulsion

    def weight(t):
        return math.exp(quad(damping, t, duration, epsabs=1e-13)[0])

    def total(t):
        return quad(lambda x: drift * beta(x) * math.exp(quad(damping, x, t, epsabs=1e-13)[0]), 0, t, epsabs=1e-12)[0]

    def switching(t):
        return (drift + slope * total(t) / 2) * weight(t)

    derived = float(pair().switching_slope().subs({DRIFT: drift, SLOPE: slope, REPULSION: repulsion}))
    assert derived == pytest.approx(drift * repulsion)
    for t in (5.0, 15.0, 25.0):
        difference = (switching(t + 1e-3) - switching(t - 1e-3)) / 2e-3
        assert difference == pytest.approx(derived * weight(t), rel=1e-6)


def test_the_held_sum_solves_its_equation():
    known = {DRIFT: 0.6, SLOPE: 2.2, REPULSION: 0.05, BETA: 0.03}
    held = sp.lambdify(END, pair().held_sum().subs(known))
    rate = (held(10 + 1e-5) - held(10 - 1e-5)) / 2e-5
    assert rate == pytest.approx(float((pair().drift + pair().damping * held(10.0)).subs(known)), rel=1e-8)
    assert held(1e-9) == pytest.approx(0, abs=1e-10)


@pytest.mark.slow
def test_the_best_monotone_schedule_is_a_hold_and_the_best_free_one_begins_cold():
    """A search from a falling start ends at the best hold and at nothing better.

    Without the constraint that T never rises, the search reaches a lower b_c.
    """
    problem = annealvi.load_problem("bimodal")
    falling = optimal_schedule(problem, 1000.0, knots=6, start=np.geomspace(2000, 40, 6))
    assert falling.b_c == pytest.approx(falling.hold_b_c, rel=2e-3)
    assert falling.T[:-1] == pytest.approx(np.full(5, falling.hold_temperature), rel=0.05)
    free = optimal_schedule(problem, 1000.0, knots=6, monotone=False)
    assert free.b_c < 0.85 * free.hold_b_c
    assert free.T[0] < falling.hold_temperature < free.T[1:].max()


def waiting_growth(m, R, w_star):
    """The growth rate λ(m) of the waiting state (`QuasiStatic.growth`), retyped."""
    slope = (retyped.F(m + 1e-5, R, w_star) - retyped.F(m - 1e-5, R, w_star)) / 2e-5
    repulsion = 2 * retyped.exchange_sech(2 * m**2 - 1, R, 0.5)
    return m * repulsion * (slope * (1 - m**2) / retyped.F(m, R, w_star) - m)


@pytest.mark.parametrize(("R", "w_star"), [(3.0, 0.8), (2.0, 0.7), (3.5, 0.3)])
def test_the_best_long_hold_is_the_retyped_maximum(R, w_star):
    weights = f"target.weights=[{w_star}, {1 - w_star}]"
    found = ultimate_hold(
        annealvi.load_problem("bimodal", [f"target.means=[[{R}], [{-R}]]", f"proposal.radius={R}", weights])
    )
    heavy = max(w_star, 1 - w_star)
    overlaps = np.linspace(0.01, 0.7, 1400)
    values = [waiting_growth(m, R, heavy) for m in overlaps]
    assert found.rate == pytest.approx(max(values), rel=1e-5)  # near the flat top the grid errs by (0.0005/0.2)²
    assert abs(found.overlap) == pytest.approx(overlaps[int(np.argmax(values))], abs=2e-3)
    assert np.sign(found.overlap) == np.sign(w_star - 0.5)
    beta = (
        2
        * abs(found.overlap)
        * 2
        * retyped.exchange_sech(2 * found.overlap**2 - 1, R, 0.5)
        / retyped.F(abs(found.overlap), R, heavy)
    )
    assert found.temperature == pytest.approx(1 / beta, rel=1e-6)


def test_the_waiting_state_is_stationary_under_the_retyped_flow_and_grows_as_retyped():
    waiting, m = quasi_static(symmetric_path(bimodal())), 0.3
    at = {MEAN: m, sp.Symbol("R", positive=True): 3, sp.Symbol("h_star", real=True): math.log(4) / 2}
    beta, s, growth = (
        float(bimodal().written_out(e).subs(at).evalf()) for e in (waiting.beta, waiting.similarity, waiting.growth)
    )
    rates = brute_force.flow(3.0, 0.8, 0.5)(beta, np.array([[m, m, s]]))
    assert rates == pytest.approx(np.zeros((1, 3)), abs=1e-8)
    assert growth == pytest.approx(waiting_growth(m, 3.0, 0.8), rel=1e-6)


def test_modes_of_equal_weight_wait_between_and_reach_the_repulsion_itself():
    """The rate tends to G(−1) as w* → ½, but at small m only.

    The search is bounded by m >= 10⁻³, which costs a relative (10⁻³)².
    """
    found = ultimate_hold(annealvi.load_problem("bimodal", ["target.weights=[0.5, 0.5]"]))
    assert found.rate >= 0.999 * float(numbers(w_star=0.5)[REPULSION])


@pytest.mark.slow
def test_held_pairs_approach_the_derived_rate_and_temperature():
    """For long times D, the best hold approaches the derived ultimate rate and temperature.

    −d log b_c/dD of the best hold rises to the ultimate rate, 0.636 G(−1); it is within 2 % at D = 5000, from below.
    T_h tends to the ultimate temperature with an error of order 1/D: D times the distance is constant up to O(1/D).
    """
    problem = annealvi.load_problem("bimodal")
    ultimate = ultimate_hold(problem)
    best = {
        duration: best_hold(problem, duration, leading=True) for duration in (1000.0, 2000.0, 4000.0, 5000.0, 8000.0)
    }
    rates = [math.log(best[a].b_c / best[a + 1000].b_c) / 1000 for a in (1000.0, 4000.0)]
    assert rates[0] < rates[1] < ultimate.rate
    assert rates[1] > 0.98 * ultimate.rate
    missing = [(ultimate.temperature - best[duration].temperature) * duration for duration in (2000.0, 4000.0, 8000.0)]
    assert 0 < missing[2] - missing[1] < (missing[1] - missing[0]) * 0.6


def test_the_best_hold_is_the_best_of_its_neighbours_by_brute_force():
    """P is lower at T_h than at half and at twice T_h.

    P is the collapsed share of 20000 drawn starts under the retyped flow; the starts are the same for each temperature.
    """
    problem = annealvi.load_problem("bimodal", ["target.means=[[2], [-2]]", "proposal.radius=2", "space.dimension=32"])
    found = best_hold(problem, 60.0)
    starts = brute_force.initial_overlaps(20_000, 32, np.random.default_rng(7))
    rates = brute_force.flow(2.0, 0.8, 0.5)

    def collapsed(temperature):
        held = brute_force.run(rates, lambda t: 1 / temperature, starts, 60.0)
        ends = brute_force.run(rates, lambda t: 1.0, held, 50.0)
        return float((np.sign(ends[:, 0]) == np.sign(ends[:, 1])).mean())

    at = collapsed(found.temperature)
    assert at == pytest.approx(found.p, abs=0.01 + 4 * math.sqrt(found.p * (1 - found.p) / 20_000))
    assert at < collapsed(found.temperature / 2)
    assert at < collapsed(2 * found.temperature)


def test_equal_modes_have_a_best_hold_too():
    problem = annealvi.load_problem("bimodal", ["target.weights=[0.5, 0.5]", "space.dimension=64"])
    found = best_hold(problem, 500.0)
    assert found.b_c == 0
    assert 0 < found.p < best_hold(problem, 250.0).p


@pytest.mark.parametrize(
    ("call", "said"),
    [
        (lambda p: best_hold(p, 0.0), "not a positive number"),
        (lambda p: best_hold(p, float("nan")), "not a positive number"),
        (
            lambda p: best_hold(annealvi.load_problem("bimodal", ["target.weights=[0.5, 0.5]"]), 100.0, leading=True),
            "equal modes",
        ),
        (lambda p: best_hold(annealvi.load_problem("simplex"), 100.0), "--method ode"),
        (lambda p: optimal_schedule(p, -1.0), "not a positive number"),
        (lambda p: optimal_schedule(p, 100.0, knots=1), "2 or more"),
        (lambda p: optimal_schedule(p, 100.0, knots=3, start=np.array([10.0, 20.0, 5.0])), "3 falling temperatures"),
        (lambda p: optimal_schedule(p, 100.0, knots=3, start=np.array([10.0, 5.0])), "3 falling temperatures"),
        (
            lambda p: optimal_schedule(annealvi.load_problem("bimodal", ["target.weights=[0.5, 0.5]"]), 100.0),
            "equal modes",
        ),
    ],
)
def test_refusals(call, said):
    with pytest.raises(annealvi.BadInput, match=said):
        call(annealvi.load_problem("bimodal"))
