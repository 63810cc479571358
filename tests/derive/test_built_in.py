"""The built-in problems, the check of their equations in few and in many dimensions, and dependent modes."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import pytest
import sympy as sp
from by_grid import velocity_by_grid
from scipy import stats

import annealvi
from annealvi.runs.velocity import State, velocity
from derive.dynamics.symbolic_problem import derive_problem, symbolise
from derive.objects.expectation import ChiSquared, Expectation
from derive.objects.notation import families_of
from derive.objects.vectors import Inner, VectorSymbol
from derive.problem.built_in import BUILT_IN
from derive.problem.specification import BadInput, Flow, Problem, Proposal, Space, Target
from derive.rules.reduction import Surroundings, frame, most_forms
from kernels.lower.lowering import lower
from kernels.particles.simulation import estimate_velocity

SLIPS = [name for name in BUILT_IN if name.startswith("slips")]
SHAPED = [name for name, problem in BUILT_IN.items() if problem.has_covariances]
"""Problems with covariances, whose rates `test_covariance_equations` compares with grids."""
SMALL = [name for name in BUILT_IN if name not in (*SLIPS, *SHAPED)]
STATES = {
    "bimodal": "m_1 m_2 s",
    "simplex": "M_11 M_12 M_21 M_22 M_31 M_32 Q_12 Q_13 Q_23",
    "square": "M_11 M_12 M_21 M_22 M_31 M_32 M_41 M_42 Q_12 Q_13 Q_14 Q_23 Q_24 Q_34",
    "two-scales": "m_1 m_2 s",
    "learned-weights": "m_1 m_2 s w_1 w_2",
    "learned-scales": "m_1 m_2 s sigma_1 sigma_2",
    "more-components": "m_1 m_2 m_3 s_12 s_13 s_23",
    "one-component": "m_1",
    **dict.fromkeys(SLIPS, "M_11 M_21 Q_11 Q_12 Q_22"),
    "elongated": "X_11 X_12 X_21 X_22 Q_12",
    "full-covariance": "X_11 X_21 Q_12 Sigma_1_11 Sigma_2_11",
    "cross": "X_11 X_12 X_21 X_22 Q_11 Q_12 Q_22 Sigma_1_11 Sigma_1_12 Sigma_1_22 Sigma_2_11 Sigma_2_12 Sigma_2_22",
}


def in_dimension(name, dimension):
    return dataclasses.replace(BUILT_IN[name], space=Space(dimension))


def random_means(problem, seed):
    direction = np.random.default_rng(seed).normal(size=(len(problem.proposal.weights), problem.space.dimension))
    return np.array(problem.proposal.radii)[:, None] * direction / np.linalg.norm(direction, axis=1, keepdims=True)


def state_of(problem, means, beta):
    return State(tuple(map(tuple, means)), problem.proposal, beta)


def as_states(session, means, velocity):
    """The rates of the states that follow from the rates of means, weights and scales."""
    half = velocity.means @ means.T
    M = velocity.means @ session.modes(means.shape[1]).T
    return session.states_of_overlaps(M, half + half.T, {"weights": velocity.weights, "scales": velocity.scales})


def test_every_problem_that_has_a_name_is_one_of_these():
    assert list(BUILT_IN) == list(STATES)
    assert all(name == problem.name for name, problem in BUILT_IN.items())


@pytest.mark.parametrize("name", BUILT_IN)
def test_the_states_are_the_overlaps_with_independent_modes_and_what_is_learned(name):
    problem = BUILT_IN[name]
    system = derive_problem(problem).system
    assert " ".join(s.name for s in system.states) == STATES[name]
    used = set().union(
        *(expression.free_symbols for expression in (*system.rhs, *(value for _, value in system.subexpressions)))
    )
    assert {symbol for symbol, _ in system.subexpressions} <= used
    modes = np.array(problem.target.means)
    independent = 0 if name in SHAPED else np.linalg.matrix_rank(modes)
    assert len(symbolise(problem).independent_modes) == independent


def test_the_studys_own_case():
    problem = BUILT_IN["bimodal"]
    assert problem == Problem()
    assert problem.target == Target((0.8, 0.2), ((3.0,), (-3.0,)), (1.0, 1.0))
    assert problem.proposal == Proposal((0.5, 0.5), (1.0, 1.0), 3.0)
    assert (problem.flow, problem.space) == (Flow(), Space(128))


@pytest.mark.parametrize(("name", "count"), [("simplex", 3), ("square", 4)])
def test_modes_on_a_circle_have_equal_lengths_and_angles(name, count):
    target = BUILT_IN[name].target
    separations = np.subtract.outer(np.arange(count), np.arange(count))
    np.testing.assert_allclose(
        np.array(target.means) @ np.array(target.means).T, 9 * np.cos(2 * np.pi / count * separations), atol=1e-11
    )
    assert target.scales == (1.0,) * count
    assert sorted(target.weights, reverse=True) == list(target.weights)
    assert len(BUILT_IN[name].proposal.weights) == count


def test_each_variation_of_the_studys_case_changes_what_its_name_says():
    def changed(name):
        given, plain = dataclasses.asdict(BUILT_IN[name]), dataclasses.asdict(Problem(name))
        parts = ("target", "proposal", "flow", "schedule", "space")
        return {
            f"{part}.{key}": value for part in parts for key, value in given[part].items() if value != plain[part][key]
        }

    assert changed("two-scales") == {"target.scales": (1.0, 0.9), "proposal.scales": (1.0, 0.9)}
    assert changed("learned-weights") == {"flow.learn": ("means", "weights")}
    learned_scales = changed("learned-scales")
    assert learned_scales.pop("flow.learn") == ("means", "scales")
    assert learned_scales.pop("proposal.scales") == (1.2, 0.9)
    assert set(learned_scales) <= {
        "schedule.T0",
        "schedule.t0",
        "space.dimension",
    }  # these three keep the flow from being stiff
    assert changed("more-components") == {"proposal.weights": (0.4, 0.3, 0.3), "proposal.scales": (1.0,) * 3}
    assert changed("one-component") == {"proposal.weights": (1.0,), "proposal.scales": (1.0,)}


@pytest.mark.parametrize("name", SLIPS)
def test_the_slips_benchmark_is_its_sources_mixture(name):
    """The problem equals the mixture of its source, up to a rotation.

    The source has a = 1, means −a and a in every coordinate, both shifted by a/3, covariances 0.05 I and weights 2 : 1.
    """
    problem = BUILT_IN[name]
    d, a = int(name.removeprefix("slips-")), 1.0
    means = np.stack([-a * np.ones(d), a * np.ones(d)]) + a / 3 * np.ones(d)
    here = np.array(problem.target.means)
    assert problem.space.dimension == d
    np.testing.assert_allclose(here @ here.T, means @ means.T, rtol=1e-14)
    np.testing.assert_allclose(np.square(problem.target.scales), [0.05, 0.05], rtol=1e-14)
    np.testing.assert_allclose(problem.target.weights, [2 / 3, 1 / 3], rtol=1e-15)
    np.testing.assert_allclose(problem.target.weights @ means, 0, atol=1e-15)
    np.testing.assert_allclose(problem.proposal.radii, np.linalg.norm(means, axis=1).min(), rtol=1e-14)


@pytest.mark.parametrize("name", SMALL)
def test_the_compiled_system_is_the_kls_gradient_in_the_plane(name):
    problem = in_dimension(name, 2)
    session = annealvi.open_session(problem)
    kernel = session.compile("cpu")
    for seed, beta in enumerate((1.0, 0.2)):
        means = random_means(problem, seed)
        wanted = velocity_by_grid(problem, state_of(problem, means, beta))
        found = kernel.rhs_at_beta(beta, session.states_of_vectors(means[None]))[0]
        bound = (
            2 * 3 * wanted.bound + 1e-10
        )  # the rate of an overlap is a sum of two velocities, each times a vector of length 3
        np.testing.assert_allclose(found, as_states(session, means, wanted), rtol=0, atol=bound)


@pytest.mark.parametrize("name", SLIPS)
def test_the_compiled_slips_system_is_the_kls_gradient_on_a_line(name):
    """The compiled rates agree with the grid for modes that lie some hundred scales apart.

    Components stand between the modes, where the target's responsibilities change over, and beside a mode.
    """
    problem = in_dimension(name, 1)
    session = annealvi.open_session(problem)
    kernel = session.compile("cpu")
    (low,), (high,) = problem.target.means
    between = (low + high) / 2
    for means in ([[between + 0.03], [low + 0.2]], [[high - 0.1], [high + 0.3]], [[between - 0.1], [between]]):
        wanted = velocity_by_grid(problem, state_of(problem, means, 0.6), tolerance=1e-9)
        found = kernel.rhs_at_beta(0.6, session.states_of_vectors(np.array([means])))[0]
        bound = 2 * (high - low) * wanted.bound + 1e-11 * (high - low) ** 2 / 0.05
        np.testing.assert_allclose(found, as_states(session, np.array(means), wanted), rtol=0, atol=bound)


@pytest.mark.parametrize("name", SLIPS)
def test_far_apart_slips_components_move_as_single_gaussians(name):
    """A component at its own mode moves as if it were alone: da_i/dt = −w_i β (a_i − ν_i)/σ².

    The other mode, or component, has a relative logit with mean −D²/(2σ²) and standard deviation D/σ, where D ≈ 2 √d is
    the distance. Its responsibility exceeds e^{−40} with probability Φ(−(D/(2σ) − 40 σ/D)), which is below 1e-20 for
    D/σ > 24. Double precision cannot show such a contribution.
    """
    problem = BUILT_IN[name]
    session = annealvi.open_session(problem)
    modes = session.modes()
    means = modes + 0.01 * np.random.default_rng(1).normal(size=modes.shape)
    beta, variance = 0.35, 0.05
    velocity = -np.array(problem.proposal.weights)[:, None] * beta * (means - modes) / variance
    half = velocity @ means.T
    wanted = session.states_of_overlaps(velocity @ modes.T, half + half.T, {})
    found = session.compile("cpu").rhs_at_beta(beta, session.states_of_vectors(means[None]))[0]
    np.testing.assert_allclose(found, wanted, rtol=0, atol=1e-12 * np.abs(modes @ modes.T).max() / variance)


@pytest.mark.parametrize("name", [*SMALL, "slips-8"])
def test_the_compiled_system_agrees_with_particles_in_its_own_dimension(name):
    """The rates agree with one velocity of the particles, which is unbiased and needs no step size.

    The bound is Student's t at level 1e-3 for all states together.
    """
    problem, replicas, beta = BUILT_IN[name], 16, 0.3
    session = annealvi.open_session(problem)
    means = random_means(problem, 7)
    estimate = estimate_velocity(
        means,
        *session.mixtures(),
        beta,
        particles=1024,
        replicas=replicas,
        seed=5,
        manifold=problem.flow.manifold,
        learn=problem.flow.learn,
        device="cpu",
    )
    found = session.compile("cpu", 1e-7).rhs_at_beta(beta, session.states_of_vectors(means[None]))[0]
    wanted = session.states_of_overlaps(estimate.M, estimate.Q, estimate.parameters)
    error = np.abs(
        session.states_of_overlaps(
            estimate.M_standard_error,
            estimate.Q_standard_error,
            estimate.parameters_standard_error,
        )
    )
    bound = stats.t.isf(1e-3 / (2 * len(found)), replicas - 1)
    assert (error > 0).all()
    assert (np.abs(found - wanted) / error).max() < bound


def problem_with(modes, dimension=4, components=2, **parts):
    size = len(modes)
    target = Target((1 / size,) * size, modes, parts.pop("scales", (1.0,) * size))
    return Problem(
        "geometry",
        target,
        Proposal((1 / components,) * components, (1.0,) * components, 2.0),
        space=Space(dimension),
        **parts,
    )


@pytest.mark.parametrize(
    ("modes", "independent", "image"),
    [
        (((2.0, 0.0), (-1.0, 1.5), (-1.0, -1.5)), (0, 1), {"nu_1": -1, "nu_2": -1}),
        (((2.0, 1.0), (4.0, 2.0), (0.0, 1.0)), (0, 2), {"nu_1": 2}),
        (((2.0, 0.0), (0.0, 1.0), (0.0, 0.0)), (0, 1), {}),
        (((0.0, 2.0), (0.0, -1.0)), (0,), {"nu_1": -0.5}),
        (((0.0, 0.0, 2.0), (0.0, 0.0, 0.0)), (0,), {}),
        (((0.0, 0.0), (1.0, 2.0)), (1,), {}),
        (((1.0, 0.0), (0.0, 1.0), (math.sqrt(2), math.pi)), (0, 1), {"nu_1": math.sqrt(2), "nu_2": math.pi}),
        (((0.0, 3.0, 0.0), (0.0, 0.0, 2.0), (0.0, 1.0, 1.0)), (0, 1), {"nu_1": 1 / 3, "nu_2": 0.5}),
    ],
    ids=[
        "sum-zero",
        "collinear",
        "origin-last",
        "second-axis",
        "origin-third-axis",
        "origin-first",
        "irrational",
        "plane-in-space",
    ],
)
def test_dependent_modes_are_written_by_the_independent_ones(modes, independent, image):
    symbolic = symbolise(problem_with(modes))
    assert symbolic.independent_modes == independent
    ((_, vector),) = symbolic.geometry.images
    found = {atom.name: float(c.xreplace(dict(symbolic.values))) for atom, c in vector}
    assert found == pytest.approx(image, abs=1e-12)


def test_an_irrational_dependence_is_a_parameter_and_a_rational_one_is_not():
    irrational = symbolise(problem_with(((1.0, 0.0), (0.0, 1.0), (math.sqrt(2), 0.5))))
    rational = symbolise(problem_with(((1.0, 0.0), (0.0, 1.0), (1.25, 0.5))))
    assert {s.name for s in irrational.values if s.name.startswith("c_")} == {"c_31"}
    assert not {s.name for s in rational.values if s.name.startswith("c_")}


@pytest.mark.parametrize("manifold", ["sphere", "euclidean"])
@pytest.mark.parametrize(
    "modes", [((2.0, 0.0), (-1.0, 1.5), (-1.0, -1.5)), ((1.0, 2.0), (2.0, 4.0), (-0.5, -1.0)), ((2.0, 0.0), (0.0, 1.0))]
)
def test_there_are_no_more_states_than_the_spans_rank_asks_for(modes, manifold):
    L, rank = 3, np.linalg.matrix_rank(modes)
    states = derive_problem(problem_with(modes, components=L, flow=Flow(manifold))).system.states
    assert len(states) == L * rank + L * (L - 1) // 2 + (L if manifold == "euclidean" else 0)


@pytest.mark.parametrize(
    ("modes", "scales"),
    [
        (((2.0, 0.0), (-1.0, 1.5), (-1.0, -1.5)), (1.0, 1.0, 1.0)),
        (((2.0, 1.0), (4.0, 2.0)), (1.0, 0.8)),
        (((0.0, 1.5), (0.0, 0.0)), (1.0, 1.2)),
        (((1.0, 0.0), (0.0, 1.0), (math.sqrt(2), 0.7)), (1.0, 1.0, 1.0)),
    ],
    ids=["sum-zero", "collinear", "origin", "irrational"],
)
def test_dependent_modes_in_a_space_that_they_fill(modes, scales):
    """The space has as many dimensions as the modes have coordinates; the compiled system agrees with the grid."""
    problem = problem_with(modes, dimension=2, scales=scales)
    session = annealvi.open_session(problem)
    means = random_means(problem, 3)
    wanted = velocity_by_grid(problem, state_of(problem, means, 0.7))
    found = session.compile("cpu", expectations="quadrature").rhs_at_beta(0.7, session.states_of_vectors(means[None]))[
        0
    ]
    np.testing.assert_allclose(found, as_states(session, means, wanted), rtol=0, atol=2 * 4.5 * wanted.bound + 1e-10)


def test_a_space_smaller_than_the_span_is_refused():
    with pytest.raises(BadInput, match=r"space\.dimension"):
        problem_with(((1.0, 0.0, 0.0), (0.0, 0.0, 1.0)), dimension=2)


FOUR_MODES = Target((0.1, 0.2, 0.3, 0.4), ((2.0, 0.0), (0.0, 1.5), (-1.0, -1.0), (0.5, -1.0)), (1.0, 0.9, 1.1, 0.8))


def test_modes_of_unequal_scale_beyond_the_dimensions_compile_to_the_kls_gradient():
    """Two modes and the mean give three linear forms in the plane.

    The forms fill the plane, so the only χ² variable left is the one of Stein's lemma.
    """
    problem = Problem("four modes", FOUR_MODES, Proposal((1.0,), (1.0,), 1.5), space=Space(2))
    session = annealvi.open_session(problem)
    variables = {a.variables for _, e in session.derivation.system.subexpressions for a in e.atoms(Expectation)}
    assert sorted(len([v for v in found if not isinstance(v, ChiSquared)]) for found in variables) == [2, 2]
    means = random_means(problem, 1)
    wanted = velocity_by_grid(problem, state_of(problem, means, 0.6))
    found = session.compile("cpu", expectations="quadrature").rhs_at_beta(0.6, session.states_of_vectors(means[None]))[
        0
    ]
    np.testing.assert_allclose(found, as_states(session, means, wanted), rtol=0, atol=2 * 2 * wanted.bound + 1e-10)


def test_the_rank_of_the_forms_is_that_of_the_modes_given():
    """Many modes of unequal scale in a plane have min(d, 3) forms, in few and in many dimensions."""
    modes = tuple((float(i), float(j)) for i in range(-1, 2) for j in range(-1, 2))
    scales = tuple(1 + 0.01 * n for n in range(9))
    for d in (2, 3, 50):
        problem = problem_with(modes, dimension=d, components=1, scales=scales)
        symbolic = symbolise(problem)
        assert most_forms(symbolic.setting, symbolic.geometry) == min(d, 3)


@pytest.mark.parametrize("radius", [0.0, -1.0, (3.0,), (3.0, 2.0, 1.0), (3.0, 0.0), float("nan"), "3"])
def test_radii_are_positive_and_one_for_all_or_one_each(radius):
    with pytest.raises(BadInput, match=r"proposal\.radius"):
        Proposal(radius=radius)


def test_each_component_may_have_its_own_radius():
    session = annealvi.open_session(
        Problem(proposal=Proposal(radius=(1.5, 2.5)), target=Target(means=((3.0, 0.0), (0.0, 3.0))))
    )
    gram = session.gram_of_states(session.random_states(1, 0)[0])
    np.testing.assert_allclose(np.diag(gram)[2:], [1.5**2, 2.5**2], rtol=1e-12)


@pytest.mark.parametrize("rank", [0, 1, 2])
@pytest.mark.parametrize("means", ["random", "at modes", "coincident"])
def test_a_frames_coordinates_have_the_vectors_inner_products(rank, means):
    """The coordinates of the frame reproduce every inner product in three dimensions.

    The modes span a part of the space. The means give the other directions; some of the means cannot, because they lie
    at a mode or coincide.
    """
    rng = np.random.default_rng(rank)
    modes, vectors = rng.normal(size=(rank, 3)), rng.normal(size=(6, 3))
    if means == "at modes":
        vectors[:rank] = modes
    elif means == "coincident":
        vectors[:4] = vectors[0]
    nus, means_of_q = (
        tuple(VectorSymbol(f"{name}_{n}") for n in range(1, len(rows) + 1))
        for name, rows in (("nu", modes), ("a", vectors))
    )
    coordinates, entries = frame(Surroundings({}, 3, nus, means_of_q), 3)
    place = dict(zip((*nus, *means_of_q), np.concatenate([modes, vectors]), strict=True))
    numbers = {}
    for symbol, value in entries:
        inner = {node: sp.Float(float(place[node.args[0]] @ place[node.args[1]]), 17) for node in value.atoms(Inner)}
        numbers[symbol] = lower(value.xreplace(inner | numbers)).evalf(17)
    found = np.array([[float(sp.sympify(x).xreplace(numbers)) for x in coordinates[v]] for v in place])
    wanted = np.array(list(place.values()))
    np.testing.assert_allclose(found @ found.T, wanted @ wanted.T, rtol=0, atol=1e-13)


def test_components_of_unequal_scale_beyond_the_dimensions_move_by_the_kls_gradient():
    """The only mode on the line is the origin and gives no direction, so one of the means gives it."""
    proposal = Proposal((0.2, 0.3, 0.5), (1.0, 0.9, 1.1), (0.4, 1.0, 1.2))
    problem = Problem("three on a line", Target((1.0,), ((0.0,),), (1.0,)), proposal, Flow("euclidean"), space=Space(1))
    for means in (((0.4,), (-1.0,), (1.2,)), ((0.0,), (0.0,), (1.2,))):
        state = State(means, proposal, 0.5)
        wanted = velocity_by_grid(problem, state)
        assert np.abs(np.array(velocity(problem, state).means) - wanted.means).max() <= wanted.bound


TEN = tuple((math.cos(n), math.sin(n)) for n in range(10))


@pytest.fixture(scope="module")
def ten_modes():
    """Ten modes in the plane and two components, with Euclidean means."""
    shares = np.arange(1.0, 11.0) / 55
    target = Target(tuple(shares), tuple((2 * x, 2 * y) for x, y in TEN), (1.0,) * 10)
    return annealvi.open_session(Problem("ten-modes", target, flow=Flow("euclidean"), space=Space(2)))


def test_ten_modes_have_names_with_their_indices_apart(ten_modes):
    system = ten_modes.derivation.system
    assert [s.name for s in system.states] == ["M_1_1", "M_1_2", "M_2_1", "M_2_2", "Q_1_1", "Q_1_2", "Q_2_2"]
    named = [s.name for s, _ in system.subexpressions]
    assert {"rho_star_1_2", "rho_star_2_10"} <= set(named)
    assert len(set(named)) == len(named)
    for symbol in (*system.states, *system.parameters, *(s for s, _ in system.subexpressions)):
        assert families_of([symbol.name, "M_1_1"]) or symbol.name == "lambda_q", symbol


def test_ten_modes_compile_to_the_kls_gradient(ten_modes):
    problem, means = ten_modes.problem, np.array([[1.0, 0.5], [-0.4, 1.3]])
    wanted = velocity_by_grid(problem, state_of(problem, means, 0.6))
    kernel = ten_modes.compile("cpu")
    found = kernel.rhs_at_beta(0.6, ten_modes.states_of_vectors(means[None]))[0]
    np.testing.assert_allclose(found, as_states(ten_modes, means, wanted), rtol=0, atol=2 * 2 * wanted.bound + 1e-10)


@pytest.mark.slow
def test_ten_components_on_a_line_have_averages_over_one_variable():
    proposal = Proposal((0.1,) * 10, (1.0,) * 10, tuple(0.5 + 0.1 * n for n in range(10)))
    problem = Problem(
        "ten", Target((0.7, 0.3), ((1.5,), (-1.0,)), (1.0, 1.0)), proposal, Flow("euclidean"), space=Space(1)
    )
    state = State(tuple((0.3 * n - 1.2,) for n in range(10)), proposal, 0.5)
    wanted = velocity_by_grid(problem, state)
    assert np.abs(np.array(velocity(problem, state).means) - wanted.means).max() <= wanted.bound


def test_modes_all_at_the_origin_move_no_single_component():
    target = Target((0.5, 0.5), ((0.0,), (0.0,)), (1.0, 2.0))
    alone = Proposal((1.0,), (1.0,))
    with pytest.raises(BadInput, match="nothing moves"):
        derive_problem(Problem(target=target, proposal=alone))
    moving = derive_problem(Problem(target=target, proposal=alone, flow=Flow(learn=("scales",)))).system
    assert [s.name for s in moving.states] == ["sigma_1"]
