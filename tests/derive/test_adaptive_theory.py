"""AdaAnn as a flow: its variance against quadrature and samples, and its path against particles under the rule.

The reference values are computed here from the two densities alone. Seeds are fixed.
"""

from __future__ import annotations

import dataclasses
import json

import numpy as np
import pytest
from scipy.special import logsumexp

import annealvi
from annealvi.cli.program import main
from derive.checks.concrete import Meaning
from derive.checks.step_check import check_dimension, check_step, sample_point
from derive.dynamics.adaptive_schedule import general_variance, variance_steps, with_adaann
from derive.dynamics.instances import Instance
from kernels.particles.adaptive_schedules import AdaAnn, simulate_adaptively
from kernels.particles.initial_means import uniform_sphere_means

RULE = ["schedule.kind=adaann", "schedule.T0=20", "schedule.t0=1", "schedule.tau=0.05"]

SETTINGS = {
    "bimodal": ["target.means=[[1.4], [-1.4]]", "proposal.radius=1.4"],
    "one scale": [
        "target.means=[[1.4], [-1.4]]",
        "target.scales=[0.8, 0.8]",
        "proposal.scales=[1.3, 1.3]",
        "proposal.radius=1.1",
    ],
    "two scales": [
        "target.means=[[1.4], [-1.0]]",
        "target.scales=[0.7, 1.2]",
        "proposal.scales=[1.3, 0.9]",
        "proposal.radius=[1.4, 1.1]",
    ],
    "one mode": ["target.weights=[1]", "target.means=[[1.4]]", "target.scales=[0.8]", "proposal.radius=1.1"],
    "one component": [
        "target.means=[[1.4], [-1.0]]",
        "target.scales=[0.7, 1.2]",
        "proposal.weights=[1]",
        "proposal.scales=[1.3]",
    ],
}
PLANE = {
    **SETTINGS,
    "three modes": [
        "target.weights=[0.5, 0.3, 0.2]",
        "target.means=[[1.4, 0], [-0.7, 1.2], [-0.7, -1.2]]",
        "target.scales=[1, 1, 1]",
    ],
    "three scales": [
        "target.weights=[0.5, 0.3, 0.2]",
        "target.means=[[1.4, 0], [-0.7, 1], [0, -1]]",
        "target.scales=[1, 0.8, 1.1]",
    ],
}


def session_of(changes, dimension):
    return annealvi.open_session(annealvi.load_problem("bimodal", [*changes, f"space.dimension={dimension}", *RULE]))


def random_means(session, seed):
    """Random means (L, d) whose lengths are the problem's radii."""
    radii = np.array(session.problem.proposal.radii)
    means = np.random.default_rng(seed).normal(size=(len(radii), session.problem.space.dimension))
    return radii[:, None] * means / np.linalg.norm(means, axis=1, keepdims=True)


def derived_variance(session, means):
    """Var_q[log p*] at means (L, d), recovered from the derived rate tau/(t0 sqrt(V)). One rate needs no tables."""
    state = np.append(session.states_of_vectors(means[None])[0], 0.1)
    rate = session.compile_with_rule("cpu", 1e-12, "quadrature").rhs_at_beta(1.0, state[None])[0, -1]
    return (session.rule.strength / session.rule.interval / rate) ** 2


def log_mixture(x, weights, means, scales):
    """The logarithm of a mixture's density at x (..., d)."""
    d = x.shape[-1]
    squares = ((x[..., None, :] - means) ** 2).sum(-1)
    return logsumexp(
        np.log(weights) - squares / (2 * scales**2) - d * np.log(scales) - d / 2 * np.log(2 * np.pi), axis=-1
    )


def densities(session, means):
    target, proposal = session.problem.target, session.problem.proposal
    star = np.array(target.weights), session.modes(means.shape[1]), np.array(target.scales)
    return (np.array(proposal.weights), means, np.array(proposal.scales)), star


@pytest.mark.parametrize(("name", "dimension"), [*((name, 1) for name in SETTINGS), *((name, 2) for name in PLANE)])
def test_the_variance_is_that_of_a_quadrature_over_the_densities(name, dimension):
    """The derived variance equals the one of the trapezoidal rule on a wide grid.

    The rule is exact to rounding for densities of width one.
    """
    session = session_of(PLANE[name], dimension)
    means = random_means(session, 5)
    proposal, target = densities(session, means)
    line = np.arange(-16, 16, 0.05)
    x = np.stack(np.meshgrid(*[line] * dimension, indexing="ij"), axis=-1)
    mass = np.exp(log_mixture(x, *proposal)) * 0.05**dimension
    log_target = log_mixture(x, *target)
    assert mass.sum() == pytest.approx(1, abs=1e-12)
    wanted = (mass * (log_target - (mass * log_target).sum()) ** 2).sum()
    assert derived_variance(session, means) == pytest.approx(wanted, rel=1e-9)


@pytest.mark.parametrize("name", ["bimodal", "two scales", "three scales"])
def test_the_variance_is_that_of_samples_in_many_dimensions(name):
    session = session_of(PLANE[name], 24)
    means = random_means(session, 6)
    (weights, _, scales), target = densities(session, means)
    rng = np.random.default_rng(7)
    batches = []
    for _ in range(40):
        chosen = rng.choice(len(weights), size=20_000, p=weights)
        x = means[chosen] + scales[chosen, None] * rng.normal(size=(len(chosen), 24))
        batches.append(log_mixture(x, *target).var(ddof=1))
    error = np.std(batches, ddof=1) / np.sqrt(len(batches))
    assert abs(derived_variance(session, means) - np.mean(batches)) < 4.5 * error
    assert error < 2e-3 * np.mean(batches)


@pytest.mark.parametrize("name", ["bimodal", "two scales", "one mode", "one component"])
def test_every_step_to_the_variance_holds_to_thirty_digits(name):
    derivation = session_of(SETTINGS[name], 64).derivation
    setting = derivation.setting
    own = variance_steps(setting, derivation.geometry, derivation.overlaps)
    steps = (*Instance(setting, general_variance()).steps(), *own)
    place = check_dimension(derivation)
    meaning = {flag: [Meaning(sample_point(derivation, place, 3, flag))] for flag in (False, True)}
    checks = [check_step(step, meaning[step.in_geometry]) for step in steps]
    assert len(checks) == 8
    assert all(check.passed for check in checks), checks


def test_learned_weights_share_their_averages_with_the_variance():
    derivation = annealvi.derive_problem(annealvi.load_problem("learned-weights", RULE))
    system = with_adaann(derivation).system
    names = [s.name for s, _ in system.subexpressions]
    assert len(set(names)) == len(names)
    assert names.count("ell_star_1") == 1
    assert [s.name for s in system.states][-1] == "b"
    assert [s.name for s in system.parameters][-2:] == ["tau", "t0"]


def test_beta_rises_to_one_and_rests_there():
    session = session_of(["target.means=[[2], [-2]]", "proposal.radius=2"], 16)
    paths = annealvi.integrate(session, n=6, points=41, device="cpu")
    assert paths.beta.shape == (6, len(paths.t)) == paths.values.shape[:2]
    assert paths.states == ("m_1", "m_2", "s")
    np.testing.assert_allclose(paths.beta[:, 0], 0.05)
    assert (np.diff(paths.beta, axis=1) >= 0).all()
    assert (paths.beta[:, -1] == 1).all()
    cold = paths.t[(paths.beta < 1).any(axis=0)].max()
    assert 45 < paths.t[-1] - cold < 60
    rest = annealvi.rate_function(session.problem, "cpu")(1.0, paths.values[:, -1])
    assert np.abs(rest).max() < 1e-2


def test_the_flow_is_that_of_the_schedule_it_traces():
    """An ordinary schedule made of the betas that the adaptive flow found leads to the same overlaps.

    The two must agree because beta enters the other rates only as min(b, 1).
    """
    session = session_of(["target.means=[[2], [-2]]", "proposal.radius=2"], 16)
    start = session.random_states(1, 3)
    path = annealvi.integrate(session, start, t_end=120.0, points=241, device="cpu")
    rising = path.beta[0] < 1
    points = [*zip(path.t[rising], 1 / path.beta[0, rising], strict=True), (path.t[rising][-1] + 0.5, 1.0)]
    assert 10 < len(points) < 200
    problem = dataclasses.replace(
        session.problem, schedule=annealvi.ScheduleSpec("table", points=points[::4] + points[-1:])
    )
    same = annealvi.integrate(annealvi.open_session(problem), start, t_end=120.0, points=241, device="cpu")
    np.testing.assert_allclose(same.values, path.values, rtol=0, atol=2e-3)


def particles_under_the_rule(session, means, tau, interval, dt, t_end):
    rule = AdaAnn(tau, round(interval / dt), session.rule.start_beta, 256)
    return simulate_adaptively(
        means,
        *session.mixtures(),
        rule,
        dt,
        steps=round(t_end / dt),
        particles=256,
        seed=11,
        record_every=round(4 / dt),
        device="cpu",
    )


@pytest.mark.parametrize("tau", [0.1, 0.05])
def test_particles_under_the_rule_follow_the_flow(tau):
    """Particles and flow start from the same means, replica by replica, and their betas agree.

    Both values of tau have the same tau/t0 and hence the same flow. The allowed bias has two parts. The first is
    tau/2 · max|1/√V(t) − 1/√V(0)| < tau/30, because the rule sums where the flow integrates. The second is 0.2 % of
    beta, because the particles average 1/√V̂ over estimates of the variance from 512 particles.
    """
    interval = tau / 0.05
    changes = ["schedule.T0=20", f"schedule.tau={tau}", f"schedule.t0={interval}", "space.dimension=32"]
    session = annealvi.open_session(annealvi.load_problem("bimodal", ["schedule.kind=adaann", *changes]))
    means = uniform_sphere_means(48, 2, 32, 3.0, seed=4)
    run = particles_under_the_rule(session, means, tau, interval, 0.1, 80.0)
    paths = annealvi.integrate(session, session.states_of_vectors(means), t_end=80.0, points=len(run.t), device="cpu")
    np.testing.assert_allclose(paths.t, run.t)
    difference = (run.beta.T - paths.beta)[:, :-1]  # the last record holds the beta of the preceding step
    mean, error = difference.mean(0), difference.std(0, ddof=1) / np.sqrt(len(means))
    assert (np.abs(mean) <= 4.5 * error + tau / 30 + 2e-3 * paths.beta[:, :-1].mean(0)).all()
    assert error.max() < 0.01


def test_simulate_runs_until_every_replica_is_cold(capsys):
    words = ["--set", "space.dimension=8", "--replicas", "3", "--particles", "32", "--points", "9", "--json", "-"]
    for kind in ("adaann", "ess"):
        sets = [
            word
            for change in (f"schedule.kind={kind}", "schedule.t0=0.5", "schedule.T0=5")
            for word in ("--set", change)
        ]
        assert main(["simulate", *sets, *words]) == 0
        out, err = capsys.readouterr()
        result = json.loads(out)
        beta, cost = np.array(result["beta"]), result["cost"]
        assert beta.shape == (3, len(result["t"]))
        assert (beta[:, -1] == 1).all()
        assert (np.diff(beta, axis=1) >= 0).all()
        assert max(cost["time_to_one"]) + 50 <= result["t"][-1] <= max(cost["time_to_one"]) + 70
        assert [n * 2 * 32 for n in cost["updates"]] == cost["rule_evaluations"]
        assert cost["gradient_evaluations"] == [round(result["t"][-1] / 0.1) * 2 * 32] * 3
        assert "beta = 1 at t =" in err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["integrate", "--set", "schedule.kind=ess"], ("schedule.kind", "ess", "simulate it")),
        (["simulate", "--set", "schedule.kind=adaann", "--extrapolate"], ("--extrapolate", "adaptive")),
        (["simulate", "--set", "schedule.kind=adaann"], ("--max-cost", "schedule.t0")),
        (["simulate", "--set", "schedule.kind=adaann", "--set", "schedule.t0=1e30"], ("steps", "schedule.t0")),
        (["simulate", "--set", "schedule.kind=ess", "--particles", "1"], ("--particles",)),
        (["integrate", "--set", "schedule.kind=adaann", "--set", "schedule.t0=1e30"], ("--t-end",)),
        (
            ["derive", "two-scales", "--large-dimension", "--set", "schedule.kind=adaann"],
            ("schedule.kind", "limit", "--large-dimension"),
        ),
        (["derive", "--set", "schedule.tau=0.1"], ("schedule.tau", 'schedule.kind = "adaann"')),
        (
            ["derive", "--set", "schedule.kind=adaann", "--set", "schedule.level=0.5"],
            ("schedule.level", 'schedule.kind = "ess"'),
        ),
        (["derive", "--set", "schedule.kind=adaann", "--set", "schedule.tau=0"], ("schedule.tau", "not positive")),
        (["derive", "--set", "schedule.kind=ess", "--set", "schedule.level=1"], ("schedule.level", "between 0 and 1")),
        (
            ["derive", "--set", "schedule.kind=ess", "--set", "schedule.points=[[0, 2], [1, 1]]"],
            ("schedule.points", "table"),
        ),
    ],
)
def test_a_wrong_adaptive_schedule_is_one_line(arguments, words, capsys):
    assert main(arguments) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    for word in words:
        assert word in err


def test_derive_ends_with_the_flow_of_beta(capsys):
    assert main(["derive", "--set", "schedule.kind=adaann", "--json", "-"]) == 0
    result = json.loads(capsys.readouterr().out)
    assert result["states"] == ["m_1", "m_2", "s", "b"]
    assert "tau" in result["equations"]["b"]["expression"]
    assert {"V", "V_1", "U_1", "F_1"} <= set(result["definitions"])


def test_an_adaptive_problem_survives_its_own_file(tmp_path):
    from derive.problem.problem_file import problem_to_toml

    for change in ("schedule.kind=adaann", "schedule.kind=ess"):
        problem = annealvi.load_problem("bimodal", [change])
        path = tmp_path / "problem.toml"
        path.write_text(problem_to_toml(problem))
        assert annealvi.load_problem(path) == problem
        assert annealvi.load_problem(path, ["schedule.kind=linear"]).schedule == annealvi.ScheduleSpec("linear")
    assert annealvi.ScheduleSpec("adaann").tau == 0.05
    assert annealvi.ScheduleSpec("ess").level == 0.9
