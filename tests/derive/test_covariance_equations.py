"""Derived rates with covariances against the KL's gradient on grids, typed equations and particles; steps to 30 digits.

Problems have random covariances, and states the problem's own, so that `states_of_vectors` makes them of random means.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from one_coordinate import rates as typed_rates
from scipy import stats

import annealvi
from annealvi.session.session import Session
from annealvi.verification.evaluator import Evaluator
from derive.checks.concrete import Meaning
from derive.checks.step_check import BOUND, check_derivation, check_dimension, check_step, sample_point
from derive.dynamics.derivation import Derivation
from derive.dynamics.symbolic_problem import derive_problem
from derive.objects.step import Equation, Step
from derive.objects.system import BETA
from derive.problem.built_in import BUILT_IN
from derive.problem.specification import BadInput, Flow, Matrices, Problem, Proposal, Space, Target
from kernels.particles import kl_grid
from kernels.particles.simulation import estimate_velocity

MEANS, LEARNED, ALL = ("means",), ("means", "covariances"), ("means", "weights", "scales", "covariances")
INSIDE = ("means", "weights", "covariances")
"""All that is learned where nothing lies outside the span."""
LOG, BURES, RADIUS, BETA_HERE = "log", "bures-wasserstein", 1.2, 0.6
TOLERANCE = {1: 1e-11, 2: 1e-11, 3: 1e-9}


def random_problem(
    d: int,
    r: int,
    manifold: str,
    learn: tuple[str, ...],
    metric: str = LOG,
    sizes: tuple[int, int] = (2, 2),
    unequal: bool = False,
) -> Problem:
    """A problem of K modes and L components, sizes = (K, L), with random covariances of both mixtures.

    unequal: the scales outside differ within each mixture.
    """
    rng = np.random.default_rng(d)

    def covariances(count: int) -> Matrices:
        turns = np.linalg.qr(rng.normal(size=(count, r, r)))[0]
        found = turns * rng.uniform(0.7, 1.6, (count, 1, r)) @ turns.transpose(0, 2, 1)
        return tuple(map(tuple, (found + found.transpose(0, 2, 1)).tolist()))

    def shares(count: int) -> tuple[float, ...]:
        return tuple(rng.dirichlet(np.full(count, 5.0)).tolist())

    def scales(count: int) -> tuple[float, ...]:
        return tuple(rng.uniform(0.8, 1.25, count if unequal else 1).tolist()) * (1 if unequal else count)

    K, L = sizes
    modes = tuple(map(tuple, rng.uniform(-1.2, 1.2, (K, r)).tolist()))
    target = Target(shares(K), modes, scales(K), covariances=covariances(K))
    proposal = Proposal(shares(L), scales(L), RADIUS, covariances=covariances(L))
    return Problem("random", target, proposal, Flow(manifold, learn, metric), space=Space(d))


def random_means(problem: Problem) -> np.ndarray:
    """Means (L, d) of length RADIUS."""
    means = np.random.default_rng(7).normal(size=(len(problem.proposal.weights), problem.space.dimension))
    return RADIUS * means / np.linalg.norm(means, axis=1, keepdims=True)


def derived_rates(session: Session, state: np.ndarray) -> tuple[np.ndarray, float]:
    """The derived right-hand sides, without a kernel, and what quasi-random averages may be off."""
    evaluator, system = Evaluator(), session.derivation.system
    numbers = {**session.values, **dict(zip(system.states, state.tolist(), strict=True)), BETA: BETA_HERE}
    rates = evaluator.rates(system, {symbol: sp.Float(x, 30) for symbol, x in numbers.items()})
    return rates, evaluator.uncertainty


def rates_on_a_grid(session: Session, means: np.ndarray) -> np.ndarray:
    """The states' rates by the gradient of the KL on a grid and the definition of the flow."""
    problem, covariances = session.problem, session.covariances()
    modes, target, proposal = session.mixtures()
    q = kl_grid.Mixture(means, proposal["weights"], proposal["scales"], covariances.proposal)
    p = kl_grid.Mixture(modes, target["weights"], target["scales"], covariances.target)
    gradient = kl_grid.kl_gradient(q, p, BETA_HERE, TOLERANCE[problem.space.dimension])
    velocity = -gradient.means * ("means" in problem.flow.learn)
    if problem.flow.manifold == "sphere":
        velocity -= means * np.sum(means * velocity, axis=1, keepdims=True) / RADIUS**2
    half = velocity @ means.T
    of_parameters = kl_grid.rates(q, gradient, problem.flow.metric)
    return session.states_of_overlaps(velocity[:, : problem.coordinates], half + half.T, of_parameters)


@pytest.mark.parametrize(
    "case",
    [
        # One coordinate. In d = 1 the means have no part outside, and on a sphere they cannot move.
        (1, 1, "euclidean", MEANS),
        (1, 1, "euclidean", INSIDE, BURES, (2, 2), True),
        (2, 1, "sphere", LEARNED, LOG),
        (2, 1, "sphere", LEARNED, BURES),
        (2, 1, "euclidean", ("covariances",), LOG),
        (2, 1, "euclidean", ("means", "weights", "covariances"), LOG, (3, 2)),
        (2, 1, "sphere", LEARNED, LOG, (2, 1)),
        (3, 1, "sphere", LEARNED, LOG, (1, 3)),
        (3, 1, "euclidean", ALL, LOG, (2, 1), True),
        # Two coordinates, which are the whole plane.
        (2, 2, "sphere", LEARNED, LOG),
        (2, 2, "euclidean", INSIDE, BURES, (2, 2), True),
        (2, 2, "sphere", LEARNED, BURES, (3, 2)),
        (2, 2, "euclidean", MEANS, LOG, (2, 3)),
        (3, 2, "sphere", MEANS, LOG),
        (3, 2, "euclidean", LEARNED, BURES, (2, 1)),
        pytest.param((3, 2, "sphere", LEARNED, LOG), marks=pytest.mark.slow),
        pytest.param((3, 2, "euclidean", ("means", "weights", "covariances"), BURES), marks=pytest.mark.slow),
        # Three coordinates, which are the whole space.
        (3, 3, "euclidean", LEARNED, LOG, (2, 1)),
    ],
    ids=str,
)
def test_rates_in_the_fewest_dimensions_agree_with_a_grid(case):
    problem = random_problem(*case)
    session, means = annealvi.open_session(problem), random_means(problem)
    found, uncertainty = derived_rates(session, session.states_of_vectors(means[None])[0])
    bound = 10 * TOLERANCE[problem.space.dimension] + uncertainty
    np.testing.assert_allclose(found, rates_on_a_grid(session, means), rtol=0, atol=bound)


@pytest.mark.parametrize(
    "case",
    [
        (2, 1, "sphere", LEARNED, LOG),
        (4, 1, "euclidean", ALL, BURES, (2, 2), True),
        (2, 2, "sphere", LEARNED, BURES),
        (3, 2, "sphere", MEANS, LOG, (3, 2)),
        (5, 2, "euclidean", ALL, LOG, (2, 2), True),
    ],
    ids=str,
)
def test_rates_agree_with_particles(case):
    """With unequal scales the fewest dimensions outside the span are L + 1, which are more than a grid has."""
    problem, replicas = random_problem(*case), 16
    session, means = annealvi.open_session(problem), random_means(problem)
    estimate = estimate_velocity(
        means,
        *session.mixtures(),
        BETA_HERE,
        particles=8192,
        replicas=replicas,
        seed=3,
        manifold=problem.flow.manifold,
        learn=problem.flow.learn,
        device="cpu",
        covariances=session.covariances(),
    )
    found, uncertainty = derived_rates(session, session.states_of_vectors(means[None])[0])
    differences = np.maximum(np.abs(session.states_of_run(estimate) - found) - uncertainty, 0)
    error = np.abs(session.states_of_run(estimate, "_standard_error"))
    assert (error > 0).all()
    assert (differences / error).max() < stats.t.isf(1e-3 / (2 * len(found)), replicas - 1)


@pytest.mark.parametrize("d", [2, 3])
def test_unequal_scales_need_dimensions_outside_the_span_for_every_component(d):
    with pytest.raises(BadInput, match="more than 3 dimensions"):
        derive_problem(random_problem(d, 1, "sphere", LEARNED, unequal=True))
    assert derive_problem(random_problem(4, 1, "sphere", LEARNED, unequal=True)).system.states


@pytest.mark.quick
@pytest.mark.parametrize("seed", range(4))
def test_learned_variances_in_one_coordinate_follow_equations_typed_by_hand(seed):
    """The states have any number of dimensions; here the means are random in R⁵."""
    rng = np.random.default_rng(seed)
    session = annealvi.open_session(BUILT_IN["full-covariance"])
    means = rng.normal(size=(2, 5))
    means *= 1.5 / np.linalg.norm(means, axis=1, keepdims=True)
    X, Q, S, X_star = means[:, 0], means @ means.T, rng.uniform(0.5, 1.5, 2), rng.uniform(-2, 2, 2)
    w, w_star = rng.dirichlet([3, 3], 2)
    given = {"R": 1.5, "X_star_11": X_star[0], "X_star_21": X_star[1]}
    given |= {"w_1": w[0], "w_2": w[1], "w_star_1": w_star[0], "w_star_2": w_star[1]}
    values = {symbol: given[symbol.name] for symbol in session.derivation.system.parameters}
    found, _ = derived_rates(replace(session, values=values), np.array([*X, Q[0, 1], *S]))
    np.testing.assert_allclose(found, typed_rates(X, Q, S, w, X_star, w_star, BETA_HERE), rtol=0, atol=1e-13)


def derivation_of(name: str) -> Derivation:
    """A derivation whose steps are checked; "in the plane" has two coordinates and nothing outside."""
    if name == "in the plane":
        return derive_problem(random_problem(2, 2, "euclidean", LEARNED, BURES, (2, 1)))
    return derive_problem(BUILT_IN[name])


@pytest.mark.parametrize("name", ["full-covariance", pytest.param("elongated", marks=pytest.mark.slow), "in the plane"])
def test_every_step_holds_to_30_digits(name):
    derivation = derivation_of(name)
    checks = list(check_derivation(derivation, 1))
    assert [check.rule for check in checks] == [step.rule for step in derivation.written_out]
    assert [check.rule for check in checks if not check.passed or check.compared == 0] == []


@pytest.mark.parametrize("name", ["full-covariance", "in the plane"])
def test_a_step_with_a_doubled_term_does_not_hold(name):
    """Some term of an equation on both sides is not zero, as averages of a score are, and its factor shows."""
    derivation = derivation_of(name)
    place = check_dimension(derivation)
    meanings = {flag: Meaning(sample_point(derivation, place, 0, flag)) for flag in (False, True)}

    def rejected(step: Step, equation: Equation, term: sp.Expr) -> bool:
        wrong = replace(equation, value=equation.value + term)
        after = tuple(wrong if e is equation else e for e in step.after)
        return check_step(replace(step, after=after), [meanings[step.in_geometry]]).difference > 1e6 * BOUND

    for step in derivation.written_out:
        before = {e.label for e in step.before}
        shared = [e for e in step.after if e.label in before and isinstance(e.value, sp.Expr)]
        doubled = [(equation, term) for equation in shared for term in sp.Add.make_args(equation.value)]
        assert any(rejected(step, *pair) for pair in reversed(doubled)), step.rule
