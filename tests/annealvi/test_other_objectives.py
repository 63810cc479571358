"""Other objectives than the tempered reverse KL: what follows them, and what refuses them in one line."""

from __future__ import annotations

import numpy as np
import pytest

import annealvi
from annealvi.cli.program import main
from annealvi.collapse.formula_coverage import is_covered, is_quick
from annealvi.collapse.separatrix import Separatrix, covers
from annealvi.collapse.trapping import decided_sets, is_pair_on_a_line
from annealvi.session.particle_objective import objective_of_particles
from annealvi.verification.against_particles import SETTINGS, settings_of
from derive.problem.objective_scope import key_of_another_objective
from derive.problem.specification import BadInput
from kernels.particles.objective import TEMPERED_REVERSE_KL, Objective
from kernels.particles.simulation import simulate_particles

FORWARD = ("objective.kind=forward-kl", "schedule.kind=constant", "schedule.T0=1")
MIXED = ("objective.kind=mixed", "objective.weight=0.25", "schedule.T0=30", "schedule.t0=10")
PATH = ("target.reference_scale=2", "schedule.T0=30", "schedule.t0=10")
CHANGES = {"forward": FORWARD, "mixed": MIXED, "path": PATH}
KEYS = {"forward": "objective.kind", "mixed": "objective.kind", "path": "target.reference_scale"}
of_every_kind = pytest.mark.parametrize("kind", CHANGES)


def problem(kind: str, *changes: str) -> annealvi.Problem:
    return annealvi.load_problem("bimodal", [*CHANGES[kind], "space.dimension=6", *changes])


def test_the_particles_objective_is_the_problems():
    assert objective_of_particles(annealvi.Problem()) == TEMPERED_REVERSE_KL
    assert objective_of_particles(problem("forward")) == Objective(1.0)
    assert objective_of_particles(problem("mixed")) == Objective(0.25)
    assert objective_of_particles(problem("mixed", "target.reference_scale=2")) == Objective(0.25, 2.0)
    assert objective_of_particles(problem("path")) == Objective(reference_scale=2.0)


@of_every_kind
def test_simulations_follow_the_objective(kind):
    """The run of a session is that of the particles under the problem's objective, and no other."""
    session = annealvi.open_session(problem(kind))
    rng = np.random.default_rng(1)
    means = rng.normal(size=(2, 2, 6))
    means *= 3 / np.linalg.norm(means, axis=-1, keepdims=True)
    run = annealvi.simulate(session, means, particles=8, dt=0.1, t_end=0.5, points=2, seed=3, device="cpu")
    arguments = means, *session.mixtures(), np.array([session.schedule.beta_at(0.1 * n) for n in range(5)]), 0.1
    own, plain = (
        simulate_particles(*arguments, particles=8, seed=3, device="cpu", objective=objective)
        for objective in (objective_of_particles(session.problem), TEMPERED_REVERSE_KL)
    )
    np.testing.assert_array_equal(run.values[:, -1], session.states_of_overlaps(own.M, own.Q, own.parameters)[-1])
    assert np.abs(own.M[-1] - plain.M[-1]).min() > 1e-4


REFUSALS = {
    "fixed points": lambda p: annealvi.find_fixed_points(annealvi.open_session(p)),
    "branches": lambda p: annealvi.continue_branches(annealvi.open_session(p)),
    "recommendation": lambda p: annealvi.recommend(p, 0.1),
    "family": annealvi.Family.of,
    "limits": annealvi.asymptotics,
    "stability": annealvi.linear_stability,
    "optimal schedule": lambda p: annealvi.optimal_schedule(p, 100.0),
    "best hold": lambda p: annealvi.best_hold(p, 100.0),
    "ultimate hold": annealvi.ultimate_hold,
    "scaling": annealvi.scaling_law,
    "projected particles": lambda p: annealvi.simulate(annealvi.open_session(p), projected=True),
    "formula": lambda p: annealvi.collapse_probability(annealvi.open_session(p), ("formula",)),
}


@of_every_kind
@pytest.mark.parametrize("what", REFUSALS)
def test_what_knows_the_reverse_kl_alone_says_so_in_one_line(what, kind):
    with pytest.raises(BadInput) as refused:
        REFUSALS[what](problem(kind))
    line = str(refused.value)
    assert line.isprintable()
    assert "tempered reverse KL" in line
    assert KEYS[kind] in line or what == "formula"


@of_every_kind
def test_flows_are_not_trained_on_other_objectives(kind):
    pytest.importorskip("jax")
    from annealvi.realnvp.schedule_sweep import FlowMap, Training

    line = "RealNVP flows are trained on the tempered reverse KL"
    with pytest.raises(BadInput, match=line):
        annealvi.train_flow(problem(kind), steps=1)
    axes = annealvi.Axis("space.dimension", 4, 8, 2), annealvi.Axis("w_star", 0.5, 0.8, 2)
    with pytest.raises(BadInput, match=line):
        FlowMap(problem(kind), Training(), *axes).check()


@of_every_kind
def test_no_closed_form_of_the_pair_is_used(kind):
    """The same states and mixtures under the tempered reverse KL are the pair for which closed forms hold."""
    session = annealvi.open_session(problem(kind))
    assert key_of_another_objective(session.problem) == KEYS[kind]
    assert not covers(session)
    assert not is_pair_on_a_line(session)
    assert not is_covered(session.problem)
    assert not is_quick(session.problem)
    kernel = session.compile("cpu")
    assert len(decided_sets(session, kernel)) == 0
    with pytest.raises(BadInput, match="under the tempered reverse KL"):
        Separatrix.of(session, kernel)
    plain = annealvi.open_session(annealvi.load_problem("bimodal", ["space.dimension=6"]))
    assert covers(plain)
    assert is_pair_on_a_line(plain)
    assert key_of_another_objective(plain.problem) is None


def test_paths_are_compared_at_temperatures_that_have_a_meaning():
    assert [s.name for s in settings_of(problem("forward"))] == [SETTINGS[0].name]
    assert settings_of(problem("mixed")) == settings_of(annealvi.Problem()) == SETTINGS
    for kind in CHANGES:
        for setting in settings_of(problem(kind)):
            assert annealvi.Problem(schedule=setting.schedule, objective=problem(kind).objective)


def test_a_reference_must_fit_into_single_precision(capfd):
    settings = ("--set", "target.reference_scale=1e60", "--set", "space.dimension=6")
    assert main(["simulate", "--precision", "float32", *settings]) == 2
    line = capfd.readouterr().err
    assert "1e+60 do not fit into float32" in line
    assert line.count("\n") == 1


@pytest.mark.parametrize("command", ["recommend", "fixed-points", "phase", "collapse"])
def test_commands_end_with_status_two_and_one_line(command, capfd, tmp_path):
    options = {
        "recommend": ["--p-max", "0.1"],
        "fixed-points": [],
        "phase": ["--x", "w_star=0.5:0.8:2", "--y", "R=2:3:2", "--result", "p", "--out", str(tmp_path)],
        "collapse": ["--method", "formula"],
    }[command]
    settings = [part for change in (*MIXED, "space.dimension=6") for part in ("--set", change)]
    assert main([command, *options, *settings]) == 2
    out, err = capfd.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert "tempered reverse KL" in err
    assert list(tmp_path.iterdir()) == []
