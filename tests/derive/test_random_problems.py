"""Properties that every derived flow has, tested on random mixtures, scales, geometries and states."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from by_grid import logit_rates, mixtures, velocity_by_grid
from grid_kl import objective
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import annealvi
from annealvi.runs.velocity import State, velocity
from derive.problem.specification import LEARNABLE, Flow, Problem, Proposal, ScheduleSpec, Space, Target
from kernels.particles.kl_grid import Mixture

SAME = 1e-12
"""The largest difference between two derived velocities that must be equal: averages over one variable have 17 digits,
other averages an error of 1e-13."""


def examples(count):
    return settings(
        max_examples=count,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow],
    )


def problems(dimensions=(1, 2, 3), most=3, spare=0, costly=False, sizes=(1, 2, 2, 2, 3, 3)):
    """A strategy for a problem with a state.

    `spare` is the number of further components for which the problem must have room, `costly` allows three components
    of unequal scales too, and `sizes` holds the numbers of modes and of components to choose from.
    """
    return st.integers(0, 2**32 - 1).map(
        lambda seed: random_problem(np.random.default_rng(seed), dimensions, most, spare, costly, sizes)
    )


def random_problem(rng, dimensions, most, spare, costly, sizes):
    """A random problem with a state.

    Some vectors are in whole tenths, some coincide, vanish or are opposite, so that dependent, equal and vanishing ones
    occur.
    """
    d = int(rng.choice(dimensions))
    K, L = (min(int(size), 2 if d == 3 else most) for size in rng.choice(sizes, 2))

    def vectors(count):
        found = rng.normal(size=(count, d))
        return np.round(found, 1) if rng.random() < 0.3 else found

    def weights(count):
        shares = rng.uniform(0.3, 1, count)
        return shares / shares.sum()

    def scales(count, crowded):
        return rng.uniform(0.75, 1.3, 1 if crowded or rng.random() < 0.4 else count) * np.ones(count)

    most_unequal = 1 + d if costly else 2
    crowded = L + spare > most_unequal
    learnable = [name for name in LEARNABLE if not (crowded and name == "scales")]
    learn = [name for name in learnable if rng.random() < 0.7] or ["means"]
    means, modes = vectors(L), vectors(K)
    means[np.linalg.norm(means, axis=1) < 0.05] = 1.0  # on a sphere, a mean needs a length above zero
    means[-1] = means[0] if rng.random() < 0.1 else means[-1]
    modes[0, 0] = modes[0, 0] or 1.0
    if K > 1 and rng.random() < 0.2:
        modes[-1] = rng.choice([-1, 0]) * modes[0]
    while len(np.unique(modes, axis=0)) < K:
        modes[-1] += 1.0
    problem = Problem(
        "random",
        Target(weights(K), modes, scales(K, most_unequal < K)),
        Proposal(weights(L), scales(L, crowded), np.linalg.norm(means, axis=1)),
        Flow("sphere" if d > 1 and rng.random() < 0.5 else "euclidean", learn),
        space=Space(d),
    )
    return problem, State(tuple(map(tuple, means)), problem.proposal, rng.uniform(0.05, 1))


def rates(problem, state):
    found = velocity(problem, state)
    return [np.array(part) for part in (found.means, *found.parameters.values())]


def with_target(problem, means, order=slice(None)):
    target = problem.target
    weights, scales = np.array(target.weights)[order], np.array(target.scales)[order]
    return dataclasses.replace(problem, target=Target(weights, np.asarray(means)[order], scales))


def with_proposal(problem, state, means, weights, scales):
    """The problem and the state, both with another proposal."""
    proposal = Proposal(weights, scales, tuple(np.linalg.norm(means, axis=1)))
    moved = State(tuple(tuple(map(float, row)) for row in means), proposal, state.beta)
    return dataclasses.replace(problem, proposal=proposal), moved


def padded_modes(problem):
    modes = np.zeros((len(problem.target.means), problem.space.dimension))
    modes[:, : problem.target.coordinates] = problem.target.means
    return modes


def agrees_with_the_grid(drawn):
    problem, state = drawn
    wanted = velocity_by_grid(problem, state)
    for derived, by_grid in zip(rates(problem, state), wanted[:3], strict=True):
        assert np.abs(derived - by_grid).max() <= wanted.bound
    assert wanted.bound < (1e-8 if problem.space.dimension == 3 else 1e-10)


@examples(10)
@given(problems())
def test_the_velocity_is_the_kls_gradient_on_a_grid(drawn):
    agrees_with_the_grid(drawn)


@pytest.mark.slow
@examples(10)
@given(problems(costly=True))
def test_the_velocity_is_the_kls_gradient_on_a_grid_for_many_problems(drawn):
    agrees_with_the_grid(drawn)


@pytest.mark.slow
@examples(5)
@given(problems(dimensions=(1, 2), most=5, sizes=(1, 4, 5)))
def test_the_velocity_is_the_kls_gradient_on_a_grid_for_many_modes_and_components(drawn):
    agrees_with_the_grid(drawn)


@examples(4)
@given(problems(), st.integers(0, 2**32 - 1))
def test_a_rotation_of_all_vectors_rotates_the_velocity(drawn, seed):
    problem, state = drawn
    rotation = np.linalg.qr(np.random.default_rng(seed).normal(size=(problem.space.dimension,) * 2))[0]
    rotated = with_target(problem, padded_modes(problem) @ rotation)
    means, weights, scales = rates(problem, state)
    turned = rates(
        *with_proposal(rotated, state, np.array(state.means) @ rotation, state.proposal.weights, state.proposal.scales)
    )
    np.testing.assert_allclose(turned[0], means @ rotation, rtol=0, atol=SAME)
    np.testing.assert_allclose(turned[1], weights, rtol=0, atol=SAME)
    np.testing.assert_allclose(turned[2], scales, rtol=0, atol=SAME)


@examples(4)
@given(problems(), st.randoms(use_true_random=False))
def test_other_labels_permute_the_velocity(drawn, random):
    problem, state = drawn
    modes, components = list(range(len(problem.target.weights))), list(range(len(state.proposal.weights)))
    random.shuffle(modes)
    random.shuffle(components)
    parts = (np.array(part)[components] for part in (state.means, state.proposal.weights, state.proposal.scales))
    relabelled = rates(*with_proposal(with_target(problem, padded_modes(problem), modes), state, *parts))
    for plain, permuted in zip(rates(problem, state), relabelled, strict=True):
        np.testing.assert_allclose(permuted, plain[components], rtol=0, atol=SAME)


@examples(5)
@given(problems(most=2, spare=1), st.randoms(use_true_random=False))
def test_half_a_component_moves_at_half_its_speed(drawn, random):
    halves_are_as_fast_together(drawn, random)


@pytest.mark.slow
@examples(3)
@given(problems(dimensions=(2,), most=2, spare=1, costly=True), st.randoms(use_true_random=False))
def test_half_a_component_of_learned_scale_moves_at_half_its_speed(drawn, random):
    halves_are_as_fast_together(drawn, random)


def halves_are_as_fast_together(drawn, random):
    """Two halves of a component together have the velocity of the whole.

    The split leaves q unchanged, so the two halves have equal gradients whose sum is the gradient of the whole, in
    means, logits and log scales.
    """
    problem, state = drawn
    halved = random.randrange(len(state.proposal.weights))
    twice = [*range(len(state.proposal.weights)), halved]
    weights = np.array(state.proposal.weights)
    weights[halved] /= 2
    parts = np.array(state.means)[twice], weights[twice], np.array(state.proposal.scales)[twice]
    share = np.where(np.array(twice) == halved, 0.5, 1.0)
    whole, halves = rates(problem, state), rates(*with_proposal(problem, state, *parts))
    np.testing.assert_allclose(halves[0], share[:, None] * whole[0][twice], rtol=0, atol=SAME)
    np.testing.assert_allclose(halves[2], share * whole[2][twice], rtol=0, atol=SAME)
    logits = logit_rates(state.proposal.weights, whole[1])
    np.testing.assert_allclose(
        logit_rates(weights[twice], halves[1]), share * logits[twice], rtol=0, atol=SAME / min(weights)
    )


@examples(6)
@given(problems(dimensions=(1, 2)))
def test_the_objective_falls_along_the_flow(drawn):
    """The objective's slope along the flow is minus the squared length of the velocity.

    A short step in means, log scales and logits realises at least half of that decrease.
    """
    problem, state = drawn
    means, weights, scales = rates(problem, state)
    logits, log_scales = logit_rates(state.proposal.weights, weights), scales / np.array(state.proposal.scales)
    gradient = velocity_by_grid(problem, state).gradient
    slope = np.sum(gradient.means * means) + gradient.logits @ logits + gradient.log_scales @ log_scales
    squared_length = np.sum(means**2) + logits @ logits + log_scales @ log_scales
    assert slope == pytest.approx(-squared_length, rel=1e-8, abs=1e-9)

    proposal, target = mixtures(problem, state)
    step, moved = 1e-3, np.array(state.means) + 1e-3 * means
    if problem.flow.manifold == "sphere":
        moved *= (np.linalg.norm(state.means, axis=1) / np.linalg.norm(moved, axis=1))[:, None]
    shares = np.array(state.proposal.weights) * np.exp(step * logits)
    after = Mixture(moved, shares / shares.sum(), np.array(state.proposal.scales) * np.exp(step * log_scales))
    (before, before_error), (later, later_error) = (objective(q, target, state.beta, 1e-11) for q in (proposal, after))
    assert before - later >= step * squared_length / 2 - before_error - later_error


@pytest.mark.parametrize(
    "problem",
    [
        Problem(
            "sphere",
            Target((0.5, 0.2, 0.3), ((2.0, 0.5), (-1.5, 1.0), (0.0, -1.8)), (1.0, 1.0, 1.0)),
            Proposal((0.3, 0.7), (0.9, 0.9), (1.5, 2.0)),
            Flow(learn=("means", "weights")),
            ScheduleSpec("constant", 2.0),
            Space(2),
        ),
        Problem(
            "everything moves",
            Target((0.6, 0.4), ((1.5, 0.5), (-1.0, 1.0)), (1.2, 0.8)),
            Proposal((0.4, 0.6), (0.8, 1.1), 1.5),
            Flow("euclidean", LEARNABLE),
            ScheduleSpec("constant", 1.5),
            Space(2),
        ),
    ],
    ids=lambda problem: problem.name,
)
def test_the_objective_falls_along_integrated_paths(problem):
    session = annealvi.open_session(problem)
    means = np.array(problem.proposal.radii)[:, None] * np.array([[0.28, 0.96], [-0.8, 0.6]])
    path = annealvi.integrate(
        session, session.states_of_vectors(means[None]), t_end=8.0, points=9, device="cpu"
    ).values[0]
    basis = session.modes()[list(session.symbolic.independent_modes)]
    size = len(means)
    learned = path[:, session.overlap_count :]
    values = []
    for overlaps, extra in zip(path[:, : 2 * size].reshape(-1, size, 2), learned, strict=True):
        weights = extra[:size] if "weights" in problem.flow.learn else np.array(problem.proposal.weights)
        scales = extra[-size:] if "scales" in problem.flow.learn else np.array(problem.proposal.scales)
        q = Mixture(np.linalg.solve(basis, overlaps.T).T, weights / weights.sum(), scales)
        values.append(
            objective(
                q, Mixture(session.modes(), problem.target.weights, problem.target.scales), 1 / problem.schedule.T0
            )[0]
        )
    assert np.diff(values).max() < 1e-9
    assert values[-1] < values[0] - 0.1


@examples(4)
@given(problems(dimensions=(2,)))
def test_the_compiled_system_is_the_velocity_of_the_overlaps(drawn):
    """The compiled rates of the overlaps follow from the velocity of the vectors.

    The random problems have dependent modes, a radius for each component, unequal and learned scales, and learned
    weights.
    """
    problem, state = drawn
    session = annealvi.open_session(problem)
    found = velocity(problem, state)
    wanted = session.states_of_overlaps(np.array(found.M), np.array(found.Q), found.parameters)
    kernel = session.compile("cpu", expectations="quadrature")  # a few rates need no tables
    states = session.states_of_vectors(np.array([state.means]))
    factor = max(1.0, np.abs(wanted).max(), *(1 / np.array(problem.proposal.radii) ** 2))
    np.testing.assert_allclose(kernel.rhs_at_beta(state.beta, states)[0], wanted, rtol=0, atol=1e-10 * factor)
