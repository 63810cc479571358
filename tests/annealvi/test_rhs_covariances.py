"""`annealvi rhs` with covariances: against the gradient of the KL divergence on a grid, closed forms, and refusals."""

from __future__ import annotations

import json

import numpy as np
import pytest

import annealvi
from annealvi import Flow, Problem, Proposal, Space, Target, load_problem, open_session
from annealvi.cli.program import main
from annealvi.runs.velocity import parse_state, result
from kernels.particles.kl_grid import Mixture, kl_gradient, rates

GIVEN = {1: [[[0.8]], [[1.3]]], 2: [[[1.2, 0.4], [0.4, 0.7]], [[0.9, -0.3], [-0.3, 1.1]]]}
STATES = {1: [[[1.1]], [[0.7]]], 2: [[[0.9, 0.2], [0.2, 1.2]], [[1.0, -0.3], [-0.3, 0.8]]]}
MODES = {1: [[1.4], [-0.9]], 2: [[1.2, 0.1], [-0.8, -0.4]]}
MEANS = [[1.0, 0.3, -0.4], [-0.6, 0.9, 0.5]]


def problem_of(
    d: int, r: int, manifold: str, learn: tuple[str, ...], metric: str = "log", **changes: object
) -> Problem:
    target = {"means": MODES[r], "covariances": GIVEN[r], **changes.get("target", {})}
    proposal = changes.get("proposal", {})
    return Problem("test", Target(**target), Proposal(**proposal), Flow(manifold, learn, metric), space=Space(d))


def on_grid(problem: Problem, state: dict) -> tuple[dict, float]:
    """The rates of means, weights, scales and covariances from the grid, and the largest error of an entry of ∇𝓛."""
    d, target, proposal = problem.space.dimension, problem.target, problem.proposal
    modes = np.zeros((len(problem.modes), d))
    modes[:, : problem.coordinates] = problem.modes
    means = np.array(state["means"])
    weights, scales = (np.array(state.get(key, getattr(proposal, key))) for key in ("weights", "scales"))
    covariances = state.get("covariances", problem.component_covariances)
    q = Mixture(means, weights, scales, covariances)
    p = Mixture(modes, target.weights, target.scales, problem.mode_covariances)
    gradient = kl_gradient(q, p, state.get("beta", 1.0), 1e-7)
    moved = -gradient.means
    if problem.flow.manifold == "sphere":
        moved -= (moved * means).sum(1, keepdims=True) / (means**2).sum(1, keepdims=True) * means
    found = {"means": moved, **rates(q, gradient, problem.flow.metric)}
    return {key: value if key in problem.flow.learn else 0 * value for key, value in found.items()}, gradient.error


BOTH = ("means", "covariances")
WEIGHTS = ("means", "weights", "covariances")


@pytest.mark.parametrize(
    ("d", "r", "manifold", "learn", "metric", "changes"),
    [
        (1, 1, "sphere", ("weights", "covariances"), "log", {}),
        (1, 1, "euclidean", WEIGHTS, "bures-wasserstein", {}),
        (2, 1, "sphere", BOTH, "log", {}),
        (2, 1, "euclidean", ("means",), "log", {"proposal": {"covariances": GIVEN[1]}}),
        (2, 1, "euclidean", BOTH, "bures-wasserstein", {"target": {"covariances": ()}}),
        (2, 1, "sphere", ("means",), "log", {"proposal": {"covariances": [[[0.8]], [[0.8]]], "scales": (0.9, 0.9)}}),
        (2, 2, "sphere", ("means",), "log", {}),
        (2, 2, "euclidean", WEIGHTS, "bures-wasserstein", {}),
        (2, 2, "sphere", BOTH, "log", {"target": {"covariances": [GIVEN[2][0]] * 2}}),
        (2, 2, "euclidean", BOTH, "log", {"target": {"scales": (1.0, 0.8)}, "proposal": {"scales": (1.0, 0.7)}}),
        (2, 2, "euclidean", ("means",), "log", {"target": {"covariances": ()}, "proposal": {"covariances": GIVEN[2]}}),
        (3, 1, "euclidean", BOTH, "log", {}),
        (3, 2, "sphere", BOTH, "bures-wasserstein", {}),
        (3, 2, "euclidean", BOTH, "log", {}),
    ],
)
def test_velocity_is_that_of_the_gradient_on_a_grid(d, r, manifold, learn, metric, changes):
    problem = problem_of(d, r, manifold, learn, metric, **changes)
    state = {"means": [row[:d] for row in MEANS], "weights": [0.35, 0.65], "beta": 0.6}
    if "covariances" in learn or problem.proposal.covariances:
        state["covariances"] = STATES[r]
    wanted, error = on_grid(problem, state)
    found = annealvi.velocity(problem, state)
    # A rate is a sum of at most a dozen products of an entry of the gradient and numbers below two.
    close = {"rtol": 0, "atol": 50 * error}
    for key, value in {"means": found.means, **found.parameters, "covariances": found.covariances}.items():
        np.testing.assert_allclose(value, wanted[key], **close, err_msg=key)
    modes = np.zeros((2, d))
    modes[:, :r] = problem.modes
    velocity, means = np.array(found.means), np.array(state["means"])
    np.testing.assert_allclose(found.M, velocity @ modes.T, atol=1e-14)
    np.testing.assert_allclose(found.Q, velocity @ means.T + means @ velocity.T, atol=1e-14)


@pytest.mark.parametrize(("manifold", "metric"), [("sphere", "log"), ("euclidean", "bures-wasserstein")])
def test_learned_scales_outside_against_the_grid(manifold, metric):
    """The χ² variable outside needs more dimensions there than there are forms: three in all for one component."""
    one = {"weights": (1.0,), "scales": (1.0,), "covariances": GIVEN[1][:1]}
    learn = ("means", "scales", "covariances")
    problem = problem_of(3, 1, manifold, learn, metric, proposal=one, target={"scales": (1.1, 0.8)})
    state = {"means": MEANS[:1], "covariances": STATES[1][:1], "scales": [1.2], "beta": 0.8}
    wanted, error = on_grid(problem, state)
    found = annealvi.velocity(problem, state)
    for key, value in {"means": found.means, **found.parameters, "covariances": found.covariances}.items():
        np.testing.assert_allclose(value, wanted[key], rtol=0, atol=50 * error, err_msg=key)


@pytest.mark.parametrize("metric", ["log", "bures-wasserstein"])
@pytest.mark.parametrize("r", [2, 3])
def test_one_component_and_one_mode_in_closed_form(metric, r):
    """∇_C 𝓛 = ½ (β S⁻¹ − C⁻¹) and ∇_a 𝓛 = β S⁻¹ (a − ν) in the span, β (a − ν)/σ*² outside."""
    generator = np.random.default_rng(r)
    S, C = (a @ a.T / r + np.eye(r) / 2 for a in generator.normal(size=(2, r, r)))
    nu, a, beta = generator.normal(size=r), generator.normal(size=r + 2), 0.35
    problem = Problem(
        "one",
        Target((1.0,), (nu,), (1.4,), covariances=(S,)),
        Proposal((1.0,), (1.4,)),
        Flow("euclidean", ("means", "scales", "covariances"), metric),
        space=Space(50),
    )
    found = annealvi.velocity(problem, {"means": [a.tolist()], "covariances": [C.tolist()], "beta": beta})
    inverse = beta * np.linalg.inv(S)
    slope = (inverse - np.linalg.inv(C)) / 2
    wanted = -4 * C @ slope @ C if metric == "log" else -2 * (C @ slope + slope @ C)
    np.testing.assert_allclose(found.covariances[0], wanted, rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.means[0][:r], inverse @ (nu - a[:r]), rtol=0, atol=1e-13)
    np.testing.assert_allclose(found.means[0][r:], -beta * a[r:] / 1.4**2, rtol=0, atol=1e-13)
    assert found.parameters["scales"][0] == pytest.approx((50 - r) * (1 - beta) * 1.4, abs=1e-12)


def test_turning_the_target_turns_the_velocity():
    """Off the diagonal, with averages over three variables: errors of two runs are those of rounding, not of a rule."""
    turn = np.linalg.qr(np.random.default_rng(0).normal(size=(2, 2)))[0]
    whole = np.eye(3)
    whole[:2, :2] = turn
    here = problem_of(3, 2, "euclidean", BOTH)
    there = problem_of(
        3,
        2,
        "euclidean",
        BOTH,
        target={"means": np.array(MODES[2]) @ turn.T, "covariances": turn @ np.array(GIVEN[2]) @ turn.T},
    )
    covariances = turn @ np.array(STATES[2]) @ turn.T
    one = annealvi.velocity(here, {"means": MEANS, "covariances": STATES[2], "beta": 0.9})
    other = annealvi.velocity(
        there, {"means": (np.array(MEANS) @ whole.T).tolist(), "covariances": covariances.tolist(), "beta": 0.9}
    )
    np.testing.assert_allclose(other.means, np.array(one.means) @ whole.T, rtol=0, atol=1e-11)
    np.testing.assert_allclose(other.covariances, turn @ np.array(one.covariances) @ turn.T, rtol=0, atol=1e-11)


@pytest.mark.parametrize("name", ["full-covariance", "elongated", "cross"])
def test_a_state_by_its_names_has_the_rates_of_its_means(name):
    problem = load_problem(name)
    r = problem.coordinates
    session = open_session(problem)
    learned = {"covariances": STATES[r]} if "covariances" in problem.flow.learn else {}
    means = 3 * np.array(MEANS) / np.linalg.norm(MEANS, axis=1, keepdims=True)
    state = session.states_of_overlaps(means[:, :r], means @ means.T, learned)
    by_means = result(problem, parse_state({"means": means.tolist(), **learned, "beta": 0.4}, problem))
    named = dict(zip(session.state_names, state.tolist(), strict=True))
    by_states = result(problem, parse_state({"states": named, "beta": 0.4}, problem))
    velocity = np.array(by_means["means"])
    wanted = session.states_of_overlaps(velocity[:, :r], np.array(by_means["overlaps"]["Q"]), by_means)
    assert list(by_states["states"].values()) == pytest.approx(wanted.tolist(), abs=1e-10)
    np.testing.assert_allclose(by_states["covariances"], by_means["covariances"], atol=1e-10)
    if name == "full-covariance":
        overlaps = {"M": (means[:, :1] @ np.array(problem.modes).T).tolist(), "Q": (means @ means.T).tolist()}
        by_overlaps = result(problem, parse_state({"overlaps": overlaps, **learned, "beta": 0.4}, problem))
        assert list(by_overlaps["states"].values()) == pytest.approx(wanted.tolist(), abs=1e-10)


def test_covariances_are_the_problems_own_where_none_are_given():
    own = load_problem("full-covariance", ["proposal.covariances=[[[2.0]], [[0.5]]]"])
    means = [[1.0, 2.0], [-2.0, 1.0]]
    given = annealvi.velocity(own, {"means": means, "covariances": [[[2.0]], [[0.5]]]})
    assert annealvi.velocity(own, {"means": means}) == given
    plain = load_problem("full-covariance")
    isotropic = {"means": means, "scales": [1.5, 1.5], "covariances": [[[2.25]], [[2.25]]]}
    assert annealvi.velocity(plain, {"means": means, "scales": [1.5, 1.5]}) == annealvi.velocity(plain, isotropic)


def test_people_see_the_rates_of_learned_covariances(capsys, tmp_path):
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"means": [[1.0, 2.0], [-2.0, 0.5]], "beta": 0.5}))
    assert main(["rhs", "full-covariance", "--state", str(path), "--json", "-"]) == 0
    out, err = capsys.readouterr()
    rows = dict(line.split(" = ") for line in err.splitlines() if " = " in line)
    shown = {label.strip(): row for label, row in rows.items()}
    rates_of = json.loads(out)["covariances"]
    assert np.allclose([json.loads(shown[f"dC_{i}/dt"]) for i in (1, 2)], rates_of, rtol=1e-11)
    assert main(["rhs", "elongated", "--state", str(path), "--json", "-"]) == 0
    out, err = capsys.readouterr()
    assert "dC_1" not in err
    assert json.loads(out)["covariances"] == np.zeros((2, 2, 2)).tolist()


TWO = [[1.0, 2.0], [-2.0, 0.5]]


@pytest.mark.parametrize(
    ("name", "state", "words"),
    [
        ("bimodal", {"means": TWO, "covariances": STATES[1]}, ["covariances", "neither gives nor learns"]),
        ("cross", {"means": TWO, "covariances": STATES[1]}, ["covariances[0]", "1 x 1", "give 2 x 2"]),
        ("cross", {"means": TWO, "covariances": STATES[2][:1]}, ["covariances", "1 entries", "give 2"]),
        ("cross", {"means": TWO, "covariances": []}, ["covariances", "0 entries", "give 2"]),
        ("cross", {"means": TWO, "covariances": None}, ["covariances", "None is not a list"]),
        (
            "cross",
            {"means": TWO, "covariances": [[[1, 2], [2, 1]]] * 2},
            ["covariances[0]", "smallest eigenvalue is -1.0"],
        ),
        ("cross", {"means": TWO, "covariances": [[[1, 0.5], [0.4, 1]]] * 2}, ["covariances[0]", "not symmetric"]),
        ("cross", {"means": [[1], [2]]}, ["means", "lists of 1 coordinates", "at least"]),
        ("cross", {"overlaps": {"M": [[0, 0], [0, 0]], "Q": [[9, 0], [0, 9]]}}, ["span 0 of the 2", '"means"']),
        ("elongated", {"overlaps": {"M": [[9, -9]] * 2, "Q": [[9, 9], [9, 9]]}}, ["overlaps", "span 1 of the 2"]),
        ("full-covariance", {"overlaps": {"M": [[1, 1]] * 2, "Q": [[9, 0], [0, 9]]}}, ["overlaps.M[0][0]"]),
        (
            "full-covariance",
            {"states": {"X_11": 1, "X_21": 1, "Q_12": 0, "Sigma_1_11": 1, "Sigma_2_11": -2}},
            ["covariance of component 2", "eigenvalue -2"],
        ),
        ("full-covariance", {"states": {"X_11": 1}}, ["X_11, X_21, Q_12, Sigma_1_11, Sigma_2_11"]),
        (
            "full-covariance",
            {"states": {"X_11": 3, "X_21": 3, "Q_12": 0, "Sigma_1_11": 1, "Sigma_2_11": 2}},
            ["no vectors"],
        ),
    ],
)
def test_a_broken_state_is_one_line_that_names_file_and_key(name, state, words, capsys, tmp_path):
    path = tmp_path / "state.json"
    path.write_text(json.dumps(state))
    assert main(["rhs", name, "--state", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "state.json" in err
    assert all(word in err for word in words)
