"""The parts of `verify`: its checks can fail, and they can be built for every accepted problem."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

import annealvi
from annealvi.verification.against_particles import (
    MOST_SCATTER,
    REPLICAS,
    SETTINGS,
    compare_paths,
    compare_velocity,
    largest_z,
    path_checks,
    records_of_one_path,
    start,
    velocity_checks,
)
from annealvi.verification.check import Check
from annealvi.verification.kernel_numbers import order_check
from derive.dynamics.derivation import Derivation
from derive.dynamics.symbolic_problem import derive_problem
from derive.objects.vectors import Gradient
from derive.problem.specification import BadInput
from derive.rules.coordinates import ParameterRate, Slope
from derive.rules.flow import Descent, OverlapRate
from kernels.particles.runs import ParticleRun


def session(*overrides):
    return annealvi.open_session(annealvi.load_problem("bimodal", overrides))


def wrong(derivation: Derivation) -> Derivation:
    """The same derivation without the repulsion between the components in dm_1/dt."""
    system = derivation.system
    g = next(s for s, _ in system.subexpressions if s.name == "g")
    rhs = (system.rhs[0].subs(g, 0), *system.rhs[1:])
    return dataclasses.replace(derivation, system=dataclasses.replace(system, rhs=rhs))


@pytest.fixture(scope="module")
def study():
    return session("space.dimension=32")


def test_a_wrong_equation_fails_against_particles(study):
    comparison = compare_velocity(study, "cpu", 0)
    agreement, power = velocity_checks(study, comparison)
    assert agreement.passed
    assert power.passed
    missing = dataclasses.replace(study, derivation=wrong(study.derivation))
    assert not next(velocity_checks(missing, compare_velocity(missing, "cpu", 0))).passed


def test_a_wrong_equation_fails_along_a_path_and_a_right_one_passes(study):
    """The path has β = 1 and the start of the setting; only its first records are compared."""
    setting = dataclasses.replace(SETTINGS[0], t_end=1.44)
    right = compare_paths(study, setting, "cpu", 0)
    assert [c.passed for c in path_checks([right])] == [True]
    missing = dataclasses.replace(study, derivation=wrong(study.derivation))
    assert [c.passed for c in path_checks([compare_paths(missing, setting, "cpu", 0)])] == [False]
    assert [c.passed for c in path_checks([dataclasses.replace(right, z=right.z[:2])])] == [False]


def test_a_path_is_compared_until_the_replicas_scatter(study):
    means = start(study)
    quiet = np.zeros((5, REPLICAS, 2, 2))
    overlaps = np.broadcast_to(means @ study.modes().T, quiet.shape), np.broadcast_to(means @ means.T, quiet.shape)
    alternating = np.where(np.arange(REPLICAS) % 2, 1.0, -1.0)

    def records(scatter):
        """The number of records that are compared for a scatter, relative to |a||ν|, that grows from record to
        record."""
        moved = np.linspace(0, 1, 5)[:, None] * scatter * 9 * alternating
        M, still = overlaps[0] + moved[..., None, None], {"weights": quiet[..., 0], "scales": quiet[..., 0]}
        run = ParticleRun(np.arange(5.0), np.ones(5), M, overlaps[1], still, means, "", seed=0, dt=1.0, particles=1)
        return records_of_one_path(study, means, run)

    assert records(0.9 * MOST_SCATTER) == 5
    assert records(2.5 * MOST_SCATTER) == 2


def test_a_nan_never_passes():
    assert not Check("nothing", "numeric", float("nan"), 1.0).passed
    with pytest.raises(ValueError, match="kind"):
        Check("nothing", "guess", 0.0, 1.0)


def test_the_bound_of_many_comparisons_is_wider_than_of_one():
    assert largest_z(1, 30) < largest_z(36, 30) < largest_z(36, 10)


@pytest.mark.parametrize(
    "overrides",
    [
        ("target.means=[[0.0],[3.0]]",),
        ("space.dimension=2",),
        ("target.means=[[0,0,0,0,2],[1,0,0,0,-1]]", "space.dimension=5"),
        ("target.scales=[2.0,2.0]",),
        ("flow.manifold=euclidean", "space.dimension=3"),
        ("target.scales=[1.0,0.8]", "proposal.radius=[1.0,2.0]", "space.dimension=4"),
        ("flow.learn=['means','weights']", "space.dimension=4"),
    ],
)
def test_checks_are_built_for_every_accepted_geometry(overrides):
    here = session(*overrides)
    means = start(here)
    assert np.isfinite(means).all()
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), here.problem.proposal.radii)
    assert np.isfinite(here.states_of_vectors(means[None])).all()
    assert order_check(here).passed


def test_verify_in_one_dimension_is_refused():
    with pytest.raises(BadInput, match=r"space\.dimension"):
        annealvi.verify(session("space.dimension=1"))


def test_every_setting_of_the_path_check_ends_cold():
    for setting in SETTINGS:
        schedule = annealvi.make_schedule(setting.schedule)
        assert schedule.beta_at(setting.t_end) > 0.25


@pytest.mark.parametrize(
    "overrides",
    [
        (),
        ("flow.manifold=euclidean",),
        ("target.means=[[3.0,0.0],[-1.0,2.0]]",),
        ("flow.learn=['means','weights','scales']", "space.dimension=4"),
    ],
)
def test_every_equation_that_a_step_starts_from_was_derived_or_says_what_it_means(overrides):
    """A step may start only from what earlier steps derived.

    An equation before a step is either an equation after an earlier step or an unevaluated node whose ingredients are.
    """
    derivation = derive_problem(annealvi.load_problem("bimodal", overrides))
    known: dict[str, object] = {"objective": derivation.setting.objective}
    units = {f"d{state.name}": (str(inner), unit) for state, inner, unit in derivation.overlaps.moving}
    names = {f"d{name.name}": str(inner) for inner, name in derivation.overlaps.names}
    by_overlap = {names[label]: label for label in names}
    for step in derivation.written_out:
        for equation in step.before:
            value, label = equation.value, equation.label.removesuffix(" with constants")
            if known.get(label) == value or repr(known.get(label)) == repr(value):
                continue
            if isinstance(value, Descent):
                assert repr(value.gradient) == repr(known[f"gradient_{label[-1]}"])
            elif isinstance(value, OverlapRate):
                assert names[label] == str(value.overlap)
                for vector, velocity in value.velocity:
                    assert repr(velocity) == repr(known[f"velocity_{vector.name[-1]}"])
            elif isinstance(value, ParameterRate):
                assert label == f"d{value.symbols[value.component]}"
                for i, rate in enumerate(value.rates, 1):
                    assert rate == -known[f"slope_{value.slope.letter}_{i}"]
            elif isinstance(value, Slope):
                assert label == f"slope_{value.letter}_{value.args[2] + 1}"
                assert value.args[0] == known["objective"]
            elif label.startswith("gradient_"):
                ((atom, coefficient),) = value
                assert isinstance(atom, Gradient)
                assert (atom.args[0], coefficient) == (known["objective"], 1)
            else:
                overlap, unit = units[label]
                assert value == known[by_overlap[overlap]] / unit
        known.update({e.label: e.value for e in step.after})
