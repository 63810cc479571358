"""Sessions of problems with covariances: states and vectors, nearest modes, ensembles and fixed points."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

import annealvi
from annealvi.collapse.outcome import nearest_modes
from derive.problem.built_in import BUILT_IN
from derive.problem.specification import BadInput, Flow, Problem, Space
from kernels.particles import kl_grid

IDENTITY = {1: (((1.0,),),), 2: (((1.0, 0.0), (0.0, 1.0)),)}


def stated_by_covariances(problem: Problem) -> Problem:
    """The same problem, with the target's isotropic unit covariances written out."""
    r = problem.target.coordinates
    return replace(problem, target=replace(problem.target, covariances=IDENTITY[r] * len(problem.target.weights)))


@pytest.mark.parametrize("name", ["bimodal", "simplex", "more-components", "learned-weights"])
def test_isotropic_covariances_give_the_isotropic_flow(name: str) -> None:
    """The coordinates' rates, which come from another derivation, are those of the overlaps with the modes."""
    plain = replace(BUILT_IN[name], space=Space(12))
    sessions = [annealvi.open_session(p) for p in (plain, stated_by_covariances(plain))]
    rng = np.random.default_rng(1)
    means = rng.normal(size=(3, len(plain.proposal.weights), 12))
    means *= 3 / np.linalg.norm(means, axis=-1, keepdims=True)
    rates = [s.compile("cpu", 1e-12).rhs_at_beta(0.4, s.states_of_vectors(means)) for s in sessions]
    modes = np.array(plain.modes)
    lengths = 3.0 if name != "simplex" else 1.0  # opposite modes have cosines for states
    L, r = means.shape[1], modes.shape[1]
    within = rates[1][:, : L * r].reshape(-1, L, r)
    towards = within @ modes[list(sessions[0].symbolic.independent_modes)].T
    overlaps = len(sessions[0].derivation.overlaps.moving)
    own = rates[0][:, : towards[0].size].reshape(towards.shape) * lengths**2
    np.testing.assert_allclose(towards, own, atol=1e-10)
    np.testing.assert_allclose(
        rates[1][:, L * r : L * r + L * (L - 1) // 2], rates[0][:, towards[0].size : overlaps] * lengths**2, atol=1e-10
    )
    np.testing.assert_allclose(rates[1][:, L * r + L * (L - 1) // 2 :], rates[0][:, overlaps:], atol=1e-10)


@pytest.mark.parametrize("name", ["elongated", "full-covariance", "cross"])
def test_states_lead_to_means_and_covariances_and_back(name: str) -> None:
    session = annealvi.open_session(BUILT_IN[name])
    states = session.random_states(5, seed=3)
    session.require_states(states, "states", "")
    for state in states:
        means = session.means_of_states(state, 7)
        np.testing.assert_allclose(session.states_of_vectors(means[None])[0], state, atol=1e-12)
        gram = session.gram_of_states(state)
        vectors = np.concatenate([session.modes(7), means])
        np.testing.assert_allclose(gram, vectors @ vectors.T, atol=1e-12)


def test_a_state_with_an_indefinite_covariance_is_refused() -> None:
    session = annealvi.open_session(BUILT_IN["cross"])
    state = session.random_states(1, seed=0)[0]
    state[session.state_names.index("Sigma_2_12")] = 5.0
    with pytest.raises(BadInput, match=r"covariance of component 2 has the eigenvalue -"):
        session.require_state(state, "state", "my.json")


def test_random_states_have_the_law_of_the_coordinates_of_uniform_means() -> None:
    """Of R u with u uniform in R^d, a coordinate has the variance R²/d, and an overlap R⁴/d; 4σ of 20 000 draws."""
    session = annealvi.open_session(annealvi.load_problem("elongated", ["space.dimension=16"]))
    states = session.random_states(20_000, seed=5)
    error = 4 * np.sqrt(2 / len(states))
    np.testing.assert_allclose(states[:, :4].var(axis=0), 9 / 16, rtol=error)
    np.testing.assert_allclose(states[:, 4].var(), 81 / 16, rtol=error)


def test_the_nearest_of_two_crossed_modes_is_told_by_the_covariance_alone() -> None:
    session = annealvi.open_session(BUILT_IN["cross"])
    names = session.state_names
    along, across = np.array(session.problem.mode_covariances)
    state = np.zeros(len(names))
    for i, matrix in ((1, across), (2, along)):
        for n, m in ((0, 0), (0, 1), (1, 1)):
            state[names.index(f"Sigma_{i}_{n + 1}{m + 1}")] = matrix[n, m]
    assert nearest_modes(session, state[None]).tolist() == [[1, 0]]
    assert not annealvi.outcomes_of_states(session, state[None]).collapsed[0]


def test_the_nearest_mode_is_the_one_with_the_smallest_divergence() -> None:
    """KL(N_i ‖ N_k) by its closed form, at random states."""
    session = annealvi.open_session(BUILT_IN["elongated"])
    states = session.random_states(50, seed=9)
    modes, shapes = np.array(session.problem.modes), np.array(session.problem.mode_covariances)
    for state, nearest in zip(states, nearest_modes(session, states), strict=True):
        for i in range(2):
            away = state[2 * i : 2 * i + 2] - modes
            kl = [
                (np.trace(np.linalg.inv(C)) + a @ np.linalg.solve(C, a) - 2 + np.linalg.slogdet(C)[1]) / 2
                for a, C in zip(away, shapes, strict=True)
            ]
            assert nearest[i] == np.argmin(kl)


def test_fixed_points_of_isotropic_covariances_are_those_of_the_isotropic_problem() -> None:
    plain = annealvi.find_fixed_points(annealvi.open_session(BUILT_IN["bimodal"]), [1.0]).points
    stated = annealvi.find_fixed_points(annealvi.open_session(stated_by_covariances(BUILT_IN["bimodal"])), [1.0]).points
    assert len(plain) == len(stated) == 12
    for one, other in zip(*(sorted(ps, key=lambda p: tuple(p.eigenvalues)) for ps in (plain, stated)), strict=True):
        np.testing.assert_allclose(one.eigenvalues, other.eigenvalues, atol=1e-8)
        assert one.stable == other.stable


def test_fixed_points_of_a_learned_variance_rest_on_the_grid() -> None:
    """The gradient of the KL on a grid in R² vanishes there, along the spheres and in the variances."""
    session = annealvi.open_session(BUILT_IN["full-covariance"])
    points = annealvi.find_fixed_points(session, [1.0]).points
    stable = [p for p in points if p.stable]
    assert len(stable) == 6
    target = kl_grid.Mixture([[3.0, 0.0], [-3.0, 0.0]], [0.8, 0.2], [1.0, 1.0], [[[1.0]], [[1.0]]])
    for point in stable[:3]:
        state = np.array([point.state[name] for name in session.state_names])
        means = session.means_of_states(state, 2)
        covariances = session.covariances_of_states(state)
        proposal = kl_grid.Mixture(means, [0.5, 0.5], [1.0, 1.0], covariances)
        gradient = kl_grid.kl_gradient(proposal, target, 1.0, 1e-11)
        tangent = gradient.means - means * np.sum(gradient.means * means, axis=1, keepdims=True) / 9
        assert np.abs(tangent).max() < 1e-9
        assert np.abs(gradient.covariances).max() < 1e-9


def test_fixed_points_of_learned_matrices_are_refused_in_a_line() -> None:
    with pytest.raises(BadInput, match=r"flow\.learn: fixed points are found for one learned variance"):
        annealvi.find_fixed_points(annealvi.open_session(BUILT_IN["cross"]), [1.0])


def test_crossed_components_find_the_crossed_modes() -> None:
    """At β = 1 both components end with the covariances of the modes, one each, from two random starts."""
    problem = annealvi.load_problem("cross", ["schedule.T0=5", "schedule.t0=5", "space.dimension=6"])
    session = annealvi.open_session(problem)
    paths = annealvi.integrate(session, n=2, seed=1, points=2, t_end=120.0, rtol=1e-6)
    ends = session.covariances_of_states(paths.values[:, -1])
    wanted = np.array(problem.mode_covariances)
    for found in ends:
        order = [0, 1] if found[0, 0, 1] > 0 else [1, 0]
        np.testing.assert_allclose(found, wanted[order], atol=1e-3)


def test_a_learned_covariance_changes_the_probability_of_collapse_as_particles_say() -> None:
    """Annealed from T = 20, a variance that learns along the modes' axis makes collapse more probable, not less.

    The particles, which know nothing of the equations, have the same P within three standard errors of the difference.
    """
    shares = {}
    for learn in (("means",), ("means", "covariances")):
        problem = replace(
            annealvi.load_problem("bimodal", ["schedule.T0=20", "schedule.t0=30", "space.dimension=8"]),
            flow=Flow(learn=learn),
        )
        session = annealvi.open_session(problem)
        shares[learn] = annealvi.collapse_by_ensemble(session, n=2000, seed=3).outcomes
        runs = annealvi.collapse_by_particles(session, replicas=200, particles=64, dt=0.1, seed=5).outcomes
        assert abs(runs.p - shares[learn].p) < 3 * np.hypot(runs.stderr, shares[learn].stderr)
    fixed, learned = shares.values()
    assert learned.p - fixed.p > 3 * np.hypot(learned.stderr, fixed.stderr)


def test_all_fixed_points_under_elongated_modes_are_found() -> None:
    """By the Poincaré-Hopf theorem their indices sum to one; modes that do not span their plane are no obstacle."""
    found = annealvi.find_fixed_points(annealvi.open_session(BUILT_IN["elongated"]), [1.0])
    assert sum(p.spectrum.index for p in found.points) == 1
    assert {tuple(np.sign(np.round([p.state["X_11"], p.state["X_21"]]))) for p in found.points if p.stable} >= {
        (1.0, -1.0),
        (-1.0, 1.0),
        (1.0, 1.0),
    }
