"""Commands and checks for problems with covariances: simulation, verification and its negative controls."""

from __future__ import annotations

import json

import numpy as np
import pytest

import annealvi
from annealvi.cli.program import main
from annealvi.verification.against_particles import natural_sizes
from annealvi.verification.evaluator import Evaluator
from annealvi.verification.kernel_numbers import with_random_covariances
from annealvi.verification.kl_gradient import grid_checks, mutant_check, references
from derive.checks.mutations import one_term_mutations
from derive.objects.states import StateKind
from derive.objects.system import OdeSystem
from kernels.particles.runs import ParticleRun

BURES = ["flow.metric='bures-wasserstein'", "flow.learn=['means','weights','covariances']"]
HERE = ["schedule.kind=constant", "schedule.T0=2"]


@pytest.mark.parametrize("extra", [[], [*BURES, "flow.manifold='euclidean'"]], ids=["log", "bures-wasserstein"])
def test_extrapolated_particles_follow_the_ode(extra):
    """Covariances are learned, in one case with weights; the step's bias is removed by extrapolation."""
    session = annealvi.open_session(annealvi.load_problem("full-covariance", [*HERE, "space.dimension=6", *extra]))
    means = np.random.default_rng(1).normal(size=(2, 6))
    means *= 3 / np.linalg.norm(means, axis=1, keepdims=True)
    cloud = annealvi.simulate(
        session, np.repeat(means[None], 48, axis=0), dt=0.1, t_end=2.4, points=4, particles=256, extrapolate=True
    )
    theory = annealvi.integrate(
        session, session.states_of_vectors(means[None]), t_end=2.4, points=4, rtol=1e-7, tolerance=1e-7
    ).values[0]
    z = (cloud.values.mean(0) - theory)[1:] / cloud.standard_error[1:]
    assert cloud.states == session.state_names
    assert np.abs(z).max() < 4.5  # Student's t with 47 degrees, at level 1e-3 for some 30 numbers
    assert np.abs(theory[-1] - theory[0])[session.positions_of(StateKind.COVARIANCE)].min() > 0.05


def test_the_command_simulates_covariances(capsys, tmp_path):
    arguments = ["simulate", "elongated", "--replicas", "2", "--particles", "16", "--t-end", "1", "--points", "3"]
    arguments += ["--set", "space.dimension=4", "--out", str(tmp_path)]
    assert main([*arguments, "--json", "-"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["states"] == ["X_11", "X_12", "X_21", "X_22", "Q_12"]
    assert np.shape(found["trajectories"]["Q_12"]) == (2, 3)
    assert (tmp_path / "paths.png").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--projected"], "projected particles are drawn for isotropic components alone"),
        (["--set", "schedule.kind=adaann"], "the rule 'adaann' covers isotropic components alone"),
        (["--set", "schedule.kind=ess"], "the rule 'ess' covers isotropic components alone"),
    ],
)
def test_what_does_not_apply_to_covariances_is_refused_in_one_line(arguments, words, capsys):
    assert main(["simulate", "full-covariance", *arguments]) == 2
    lines = [line for line in capsys.readouterr().err.splitlines() if line.startswith("annealvi")]
    assert len(lines) == 1
    assert words in lines[0]


def test_float32_is_refused_for_a_covariance_that_it_does_not_hold(capsys):
    wide = "target.covariances=[[[1e70]],[[1.0]]]"
    assert main(["simulate", "full-covariance", "--precision", "float32", "--set", wide]) == 2
    assert "do not fit into float32" in capsys.readouterr().err


@pytest.fixture(scope="module")
def elongated():
    return annealvi.open_session(annealvi.load_problem("elongated"))


def test_grids_have_the_dimensions_of_the_span_at_least(elongated):
    grid = references(elongated.problem, (1, 2, 3), 1)
    assert [state.dimension for state in grid] == [2, 3]
    *checks, line = grid_checks(elongated.problem, elongated.derivation, grid, elongated.values)
    assert [check.name.split("grid, ")[1] for check in checks] == [
        "d = 2, sphere, derived anew",
        "d = 2, own parameters, derived anew",
        "d = 3, sphere",
    ]
    assert all(check.passed for check in checks)
    assert "not compared in d = 1, where a span of 2 coordinates has no equations" in line


def test_unequal_scales_leave_the_grids_of_the_span_alone():
    """Outside it they need L + 1 dimensions, so that no grid judges the equations of the problem's own dimension."""
    problem = annealvi.load_problem("full-covariance", ["target.scales=[1.0,0.8]"])
    session = annealvi.open_session(problem)
    *checks, line = grid_checks(problem, session.derivation, references(problem), session.values)
    assert [check.passed for check in checks] == [True]
    assert "not compared in d = 2, 3, where" in line
    outcome, survivors = mutant_check(session.derivation, [])
    assert isinstance(outcome, str)
    assert survivors == []


@pytest.mark.parametrize(
    ("name", "dimension", "heads"),
    [
        ("elongated", 3, {"f", "mu", "rhoy_star", "rho_star", "Lambda_star", "dX", "dQ"}),
        ("full-covariance", 2, {"f", "mu", "B", "rhoy", "rhoyy", "dX", "dQ", "dSigma"}),
    ],
)
def test_the_grid_rejects_mutants_of_every_kind_of_definition_in_the_span(name, dimension, heads):
    """A sample of the mutants; a verification takes 400."""
    session = annealvi.open_session(annealvi.load_problem(name))
    grid, evaluator = references(session.problem, (dimension,)), Evaluator()
    mutants = one_term_mutations(session.derivation.system, 80)

    def rejected(system: OdeSystem) -> bool:
        differences = (np.abs(evaluator.rates_or_nan(system, state.numbers) - state.rates).max() for state in grid)
        return any(not found <= state.bound for found, state in zip(differences, grid, strict=True))

    assert not rejected(session.derivation.system)
    assert {mutant.label.split(":")[0].removesuffix("/dt").rstrip("_0123456789") for mutant in mutants} >= heads
    assert [mutant.label for mutant in mutants if not rejected(mutant.system)] == []


def test_kernels_are_compared_at_covariances_that_differ():
    session = annealvi.open_session(annealvi.load_problem("cross"))
    states = session.random_states(50, seed=1)
    found = session.coordinates.covariances_of_states(with_random_covariances(session, states, 2))
    assert np.linalg.eigvalsh(found).min() > 0.1
    assert np.ptp(found[:, 0, 0, 0]) > 0.5
    assert np.abs(found[:, :, 0, 1]).max() > 0.2
    np.testing.assert_array_equal(found, found.swapaxes(-2, -1))
    isotropic = annealvi.open_session(annealvi.load_problem("bimodal"))
    states = isotropic.random_states(3, seed=1)
    assert with_random_covariances(isotropic, states, 2) is states


def test_the_natural_size_of_a_covariance_grows_with_it():
    session = annealvi.open_session(annealvi.load_problem("cross", ["space.dimension=3", "flow.manifold='sphere'"]))
    means = np.array([[3.0, 0, 0], [0, 3.0, 0]])
    covariances = (
        np.array([[[4.0, 0], [0, 1.0]], [[1.0, 0], [0, 1.0]]]) * np.array([1.0, 9.0])[:, None, None, None, None]
    )
    run = ParticleRun(
        t=np.arange(2.0),
        beta=np.ones(2),
        M=np.zeros((2, 3, 2, 2)),
        Q=np.zeros((2, 3, 2, 2)),
        parameters={},
        final_means=np.repeat(means[None], 3, axis=0),
        device="cpu",
        seed=0,
        dt=1.0,
        particles=1,
        X=np.zeros((2, 3, 2, 2)),
        covariances=np.repeat(covariances, 3, axis=1),
    )
    first, second = natural_sizes(session, means, run)
    np.testing.assert_allclose(first, [3, 3, 3, 3, 9, 4, 2, 1, 1, 1, 1])
    np.testing.assert_allclose(second, [3, 3, 3, 3, 9, 36, 18, 9, 9, 9, 9])


@pytest.mark.slow
def test_every_check_holds_for_learned_covariances():
    verification = annealvi.verify(annealvi.open_session(annealvi.load_problem("full-covariance")), "cpu")
    assert [check.name for check in verification.checks if not check.passed] == []
    names = " ".join(check.name for check in verification.checks)
    for part in ("step: flow of the covariances", "d = 1", "d = 3", "kernel against", "path against", "negative"):
        assert part in names
    assert any(note.startswith("limits, symmetric states and holds: not compared") for note in verification.notes)
