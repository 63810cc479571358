"""`annealvi rhs`, compared with the gradient of the KL divergence on a grid and with the integrated equations."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.integrate import quad

import annealvi
from annealvi import integrate, load_problem, open_session
from annealvi.cli.program import main
from annealvi.runs.velocity import parse_state, result
from kernels.particles.kl_grid import Mixture, kl_gradient


def run(capsys, tmp_path, state, *changes):
    path = tmp_path / "state.json"
    path.write_text(json.dumps(state))
    arguments = ["rhs", "--state", str(path), "--json", "-"]
    assert main([*arguments, *(word for change in changes for word in ("--set", change))]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("manifold", ["sphere", "euclidean"])
@pytest.mark.parametrize(
    ("state", "modes"),
    [
        ({"means": [[1.2, 0.7], [-0.4, 1.5]], "weights": [0.3, 0.7], "beta": 0.4}, [[1.5, 0.0], [-1.5, 0.0]]),
        ({"means": [[1.2, 0.7], [-0.4, 1.5]], "beta": 0}, [[1.5, 0.0], [-1.5, 0.0]]),
        ({"means": [[1.2, 0.7], [-0.4, 1.5]], "beta": 2.5}, [[1.5, 0.0], [-1.5, 0.0]]),
        ({"means": [[1.2, 0.7, 0.1], [-0.4, 1.5, 0.6]]}, [[1.5, 0.0, 0.0], [0.5, 1.2, 0.0]]),
    ],
)
def test_velocity_is_minus_the_gradient_of_the_kl(state, modes, manifold, capsys, tmp_path):
    result = run(capsys, tmp_path, state, f"flow.manifold={manifold}", f"target.means={modes}")
    means, nu = np.array(state["means"]), np.array(modes)
    gradient = kl_gradient(
        Mixture(means, state.get("weights", [0.5, 0.5]), [1, 1]),
        Mixture(nu, [0.8, 0.2], [1, 1]),
        state.get("beta", 1.0),
        1e-8,
    )
    wanted = -gradient.means
    if manifold == "sphere":
        wanted -= (wanted * means).sum(1, keepdims=True) / (means**2).sum(1, keepdims=True) * means
    velocity = np.array(result["means"])
    assert velocity.shape == means.shape
    assert np.abs(velocity - wanted).max() < 1e-7
    assert np.allclose(result["overlaps"]["M"], velocity @ nu.T, atol=1e-12)
    assert np.allclose(result["overlaps"]["Q"], velocity @ means.T + means @ velocity.T, atol=1e-12)
    assert result["weights"] == result["scales"] == [0.0, 0.0]


@pytest.mark.parametrize("learn", [("means",), ("weights",), ("means", "weights", "scales")])
def test_people_see_the_rates_of_what_is_learned(learn, capsys, tmp_path):
    path = tmp_path / "state.json"
    path.write_text(json.dumps({"means": [[1.0, 2.0], [-2.0, 0.5]], "beta": 0.5}))
    assert main(["rhs", "--state", str(path), "--set", f"flow.learn={list(learn)}", "--json", "-"]) == 0
    out, err = capsys.readouterr()
    rows = dict(line.split(" = ") for line in err.splitlines())
    assert len({line.index(" = ") for line in err.splitlines()}) == 1
    for name, key in (("dw/dt", "weights"), ("dsigma/dt", "scales")):
        shown = {label.strip(): row for label, row in rows.items()}.get(name)
        assert (shown is not None) == (key in learn)
        if shown is not None:
            assert np.allclose(json.loads(shown), json.loads(out)[key], rtol=1e-11)


def test_padding_a_state_with_zeros_changes_nothing(capsys, tmp_path):
    short = run(capsys, tmp_path, {"means": [[1.0, 2.0], [-2.0, 0.5]]})
    long = run(capsys, tmp_path, {"means": [[1.0, 2.0, 0.0], [-2.0, 0.5, 0.0]]})
    assert np.allclose(short["means"], np.array(long["means"])[:, :2], atol=1e-14)
    unequal = run(capsys, tmp_path, {"means": [[1.0], [-2.0, 0.5]]})
    assert unequal == run(capsys, tmp_path, {"means": [[1.0, 0.0], [-2.0, 0.5]]})


@pytest.mark.parametrize("manifold", ["sphere", "euclidean"])
def test_velocity_is_the_derivative_of_integrated_paths(manifold, capsys, tmp_path):
    changes = [
        f"flow.manifold={manifold}",
        "schedule.kind=constant",
        "schedule.T0=2",
        "target.means=[[3.0, 0.0], [0.0, 3.0]]",
    ]
    session = open_session(load_problem("bimodal", changes))
    means = 3 * np.array([[0.6, 0.8, 0.0], [-0.6, 0.0, 0.8]])
    rates = run(capsys, tmp_path, {"means": means.tolist(), "beta": 0.5}, *changes)
    h = 1e-3
    path = integrate(session, session.states_of_vectors(means[None]), t_end=2 * h, points=3, rtol=1e-12).values[0]
    derivative = (-3 * path[0] + 4 * path[1] - path[2]) / (2 * h)
    M, Q = (np.array(rates["overlaps"][name]) for name in "MQ")
    wanted = session.states_of_overlaps(M, Q, rates)
    assert np.allclose(derivative, wanted, atol=1e-5)


@pytest.mark.parametrize("name", ["bimodal", "learned-weights", "simplex"])
def test_a_state_by_its_overlaps_has_the_rates_of_its_means(name):
    problem = load_problem(name, ["space.dimension=1000000"])
    session = open_session(problem)
    gram = session.gram_of_states(session.random_states(1, seed=3)[0])
    state = dict(zip(session.state_names, session.random_states(1, seed=3)[0].tolist(), strict=True))
    count = len(problem.target.weights)
    overlaps = {"M": gram[count:, :count].tolist(), "Q": gram[count:, count:].tolist()}
    by_states, by_overlaps = (
        result(problem, parse_state({**given, "beta": 0.4}, problem))
        for given in ({"states": state}, {"overlaps": overlaps})
    )
    wanted = session.compile().rhs_at_beta(0.4, np.array([list(state.values())]))[0]
    for rates in (by_states, by_overlaps):
        assert list(rates["states"].values()) == pytest.approx(wanted, abs=1e-10)
        assert "means" not in rates
    assert np.array(annealvi.velocity(problem, {"states": state, "beta": 0.4}).M) == pytest.approx(
        np.array(by_states["overlaps"]["M"])
    )


def test_people_see_the_rates_of_states(capsys, tmp_path):
    rates = run(capsys, tmp_path, {"states": {"m_1": 0.6, "m_2": -0.2, "s": 0.1}, "beta": 0.5})
    F = [
        quad(
            lambda z, m=m: np.tanh(9 * m + np.log(4) / 2 + 3 * z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi),
            -9,
            9,
            epsabs=1e-12,
        )[0]
        for m in (0.6, -0.2)
    ]
    delta = 9 * 0.9
    G = quad(
        lambda z: np.exp(-z * z / 2) / np.sqrt(2 * np.pi) / (1 + np.exp(delta + np.sqrt(2 * delta) * z)),
        -9,
        9,
        epsabs=1e-12,
    )[0]
    assert rates["states"]["m_1"] == pytest.approx(0.5 * (0.5 * F[0] * (1 - 0.36) - G * (-0.2 - 0.1 * 0.6)), abs=1e-9)


@pytest.mark.parametrize(
    ("state", "word"),
    [
        ({"states": {"m_1": 0.1}}, "m_1, m_2, s"),
        ({"states": {"m_1": 1, "m_2": 1, "s": -1}}, "no vectors"),
        ({"states": {"m_1": "x", "m_2": 1, "s": -1}}, "states.m_1"),
        ({"states": {}, "means": [[1], [2]]}, "one of them"),
        ({"overlaps": {"M": [[1, -1], [1, -1]]}}, "M and Q"),
        ({"overlaps": {"M": [[1, -1], [1]], "Q": [[9, 0], [0, 9]]}}, "overlaps.M"),
        ({"overlaps": {"M": [[1, 2], [1, -1]], "Q": [[9, 0], [0, 9]]}}, "overlaps.M[0][1]"),
        ({"overlaps": {"M": [[1, -1], [1, -1]], "Q": [[4, 0], [0, 9]]}}, "overlaps.Q[0][0]"),
        ("", "not JSON"),
        ("[" * 100_000, "not JSON"),
        ("[]", "not a JSON object"),
        ("{}", "means"),
        ({"means": [[1]]}, "means"),
        ({"means": [[1], []]}, "means[1]"),
        ({"means": [[0], [1]]}, "means[0]"),
        ({"means": [["a"], [1]]}, "means[0]"),
        ({"means": [[1e101], [1]]}, "means[0]"),
        ({"means": [[0] * 200] * 2}, "space.dimension"),
        ({"means": [[1], [2]], "foo": 1}, "foo"),
        ({"means": [[1], [2]], "beta": -2}, "negative"),
        ({"means": [[1], [2]], "beta": None}, "beta"),
        ({"means": [[1], [2]], "weights": [0.5, 0.6]}, "weights: the weights sum"),
        ({"means": [[1], [2]], "weights": [1]}, "weights"),
        ({"means": [[1], [2]], "scales": [1, -1]}, "scales[1]"),
        ('{"means": [[NaN], [1]]}', "means[0]"),
    ],
)
def test_a_broken_state_is_one_line_that_names_file_and_key(state, word, capsys, tmp_path):
    path = tmp_path / "state.json"
    path.write_text(state if isinstance(state, str) else json.dumps(state))
    assert main(["rhs", "--state", str(path)]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "state.json" in err
    assert word in err


@pytest.mark.parametrize("name", ["more-components", "simplex", "square", "learned-scales"])
def test_means_that_coincide_have_the_rates_of_means_that_almost_do(name):
    """Coincident means have the rates of nearby means.

    Rates are Lipschitz continuous in the means: at a distance of 1e-5 they differ by at most 1e-4.
    """
    session = open_session(load_problem(name))
    means = session.means_of_states(session.random_states(1, seed=4)[0])
    means[1] = means[0] * np.linalg.norm(means[1]) / np.linalg.norm(means[0])
    near = means.copy()
    near[1, -1] += 1e-5
    kernel = session.compile()
    together, apart = (kernel.rhs_at_beta(0.7, session.states_of_vectors(a[None])) for a in (means, near))
    assert np.isfinite(together).all()
    assert together == pytest.approx(apart, abs=1e-4)
