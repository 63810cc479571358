"""How far states may leave the range that a problem's lengths and scales suggest, and which problems are refused as too
expensive."""

import json
import time

import numpy as np
import pytest
from lattice_probes import compiled, softmax_averages

import annealvi
from annealvi.cli.program import main
from annealvi.runs import costs
from annealvi.runs.velocity import State, velocity
from kernels.averages import lattice_rule


def session(*overrides, name="bimodal"):
    return annealvi.open_session(annealvi.load_problem(name, overrides))


def test_states_of_different_intervals_do_not_share_an_average():
    """With two collinear modes and means of different lengths, M_11 and M_21 have one average and two bounds."""
    here = session("target.means=[[1.0],[3.0]]", "proposal.radius=[1.0,2.0]", "space.dimension=4")
    means = np.array([[0.6, 0.8, 0.0, 0.0], [-1.2, 0.0, 1.6, 0.0]])
    wanted = velocity(here.problem, State(tuple(map(tuple, means)), here.problem.proposal, 0.4))
    rates = here.compile("cpu").rhs_at_beta(0.4, here.states_of_vectors(means[None]))[0]
    states = here.states_of_overlaps(np.array(wanted.M), np.array(wanted.Q), wanted.parameters)
    np.testing.assert_allclose(rates, states, rtol=0, atol=1e-10)


@pytest.mark.parametrize(
    "overrides",
    [
        ("target.means=[[0.0]]", "target.weights=[1.0]", "target.scales=[2.0]"),
        ("target.means=[[0.0],[0.0]]", "target.scales=[1.0,2.0]"),
    ],
)
def test_modes_at_the_origin_drive_the_means_apart(overrides):
    """With a target that is the same in all directions only the components' repulsion acts.

    It reduces the overlap of the means towards -r^2 = -9.
    """
    paths = annealvi.integrate(session("space.dimension=16", *overrides), n=3, t_end=100.0, points=5)
    assert (np.diff(paths.values[:, :, 0], axis=1) < 0).all()
    assert (paths.values[:, -1, 0] < -5).all()


def test_a_long_start_of_the_euclidean_flow_is_followed():
    here = session("flow.manifold='euclidean'", "proposal.radius=20.0")
    start = annealvi.integrate(here, n=2, t_end=1.0, points=2).values[:, 0]
    assert start[:, here.state_names.index("Q_11")] == pytest.approx([400.0, 400.0])


def test_learned_scales_reach_the_targets_and_the_starts():
    kernel = session("target.scales=[3.0,0.2]", "proposal.scales=[0.1,6.0]", name="learned-scales").compile("cpu", 1e-6)
    low, high = kernel.limits[-1]
    assert low <= 0.1 / 4
    assert high >= 4 * 6.0


def test_a_start_beyond_is_one_line_with_the_state_and_its_interval(tmp_path, capsys):
    file = tmp_path / "start.json"
    beyond = {"M_11": 0.0, "M_21": 0.0, "Q_11": 1e6, "Q_12": 0.0, "Q_22": 9.0}
    file.write_text(json.dumps({"states": {name: [value] for name, value in beyond.items()}}), encoding="utf-8")
    assert (
        main(["integrate", "bimodal", "--set", "flow.manifold='euclidean'", "--initial", str(file), "--t-end", "1"])
        == 2
    )
    message = capsys.readouterr().err.strip().splitlines()[-1]
    assert "Q_11 = 1e+06" in message
    assert "interval" in message


@pytest.mark.parametrize("radius", [3e4, 1e6])
def test_averages_of_too_many_nodes_are_refused_at_once(radius, capsys):
    x, y = radius / 2, 0.866 * radius
    changes = [f"target.means=[[{radius},0.0],[-{x},{y}],[-{x},-{y}]]", f"proposal.radius={radius}"]
    here = session(*changes, name="simplex")
    begun = time.process_time()
    with pytest.raises(annealvi.BadInput, match="nodes at a typical state"):
        here.compile("cpu", 1e-10)
    assert time.process_time() - begun < 10


def test_an_integrand_that_is_not_finite_is_refused(monkeypatch):
    averages, states = softmax_averages(4, None, 3)
    evaluate = lattice_rule.integrand_values

    def broken(*given):
        return lambda *at: [np.full_like(f, np.nan) for f in evaluate(*given)(*at)]

    monkeypatch.setattr(lattice_rule, "integrand_values", broken)
    with pytest.raises(ArithmeticError, match="not finite"):
        compiled(averages, states, 1e-2, 0.3, "cpu")


def test_a_rate_too_slow_for_a_pilot_gives_the_least_cost(monkeypatch):
    here = session()
    kernel, states, times = here.compile("cpu"), here.random_states(4, 0), np.linspace(0, 1, 11)
    monkeypatch.setattr(costs, "LONGEST_PILOT", 0.0)
    cost = costs.cost_of_integration(kernel, states, times, 1e-9, 1)
    assert "at least" in str(cost)
    assert f"{12 * len(times):.1e} rates per trajectory" in str(cost)
