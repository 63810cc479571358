"""Objectives other than the study's: their steps to 30 digits, their rates on a grid, and what relates them."""

from __future__ import annotations

from dataclasses import replace

import pytest
import sympy as sp
from settings_of_any_size import general_equations, own_steps

import annealvi
from annealvi.verification.kl_gradient import mutant_check
from derive.checks.step_check import check_derivation
from derive.dynamics.symbolic_problem import REFERENCE_SCALE
from derive.objects.system import BETA
from derive.problem.specification import Flow, Objective, Problem, Proposal, ScheduleSpec, Target

AT_ONE = ScheduleSpec(kind="constant", T0=1.0)
FORWARD = Problem(objective=Objective("forward-kl"), schedule=AT_ONE)
MIXED = Problem(objective=Objective("mixed", 0.25))
PATH = Problem(target=Target(reference_scale=2.0))
ALL = ("means", "weights", "scales")
CASES = {
    "path": PATH,
    "path, Euclidean, weights": replace(PATH, flow=Flow("euclidean", ("means", "weights"))),
    "forward": FORWARD,
    "forward, Euclidean, all learned": replace(FORWARD, flow=Flow("euclidean", ALL)),
    "mixed path, weights": replace(MIXED, target=PATH.target, flow=Flow("sphere", ("means", "weights"))),
}
SLOW = {
    "path, Euclidean, all learned": replace(PATH, flow=Flow("euclidean", ALL)),
    "forward, three of each": Problem(
        target=Target((0.5, 0.3, 0.2), ((3.0, 0.0), (0.0, 2.0), (-1.0, 1.0)), (1.5,) * 3),
        proposal=Proposal((0.2, 0.3, 0.5), (0.7,) * 3),
        objective=FORWARD.objective,
        schedule=AT_ONE,
    ),
}


GENERAL_STEPS_OF = {
    "path, Euclidean, weights": "path, Euclidean, all learned",
    "forward, three of each": "forward",
}
"""The cases without a general equation of their own, each with the one whose check holds for it too."""


def system_of(problem: Problem) -> annealvi.Session:
    return annealvi.derive_problem(problem).system


@pytest.mark.parametrize("name", [*CASES, *(pytest.param(name, marks=pytest.mark.slow) for name in SLOW)], ids=str)
def test_every_step_holds_to_30_digits(name):
    problems = {**CASES, **SLOW}
    derivation = annealvi.derive_problem(problems[name])
    steps = derivation.written_out
    if checked := GENERAL_STEPS_OF.get(name):
        assert general_equations(problems[name]) <= general_equations(problems[checked])
        steps = own_steps(derivation)
    checks = list(check_derivation(derivation, points=1, steps=steps))
    assert [check.rule for check in checks] == [step.rule for step in steps]
    assert [check.rule for check in checks if not check.passed] == []


@pytest.mark.parametrize(
    "problem", [CASES["path, Euclidean, weights"], FORWARD, MIXED], ids=["path", "forward", "mixed"]
)
def test_the_rates_are_those_of_the_grid_and_every_mutant_is_rejected(problem):
    session = annealvi.open_session(problem)
    grid = annealvi.references(session.problem, (2,), 1)
    checks = [
        check
        for check in annealvi.grid_checks(session.problem, session.derivation, grid, session.values)
        if "d = 3" not in check.name
    ]
    assert len(checks) >= 3
    assert [check.name for check in checks if not check.passed] == []
    check, survivors = mutant_check(session.derivation, grid)
    assert survivors == []
    assert check.passed


def test_the_mixed_rates_are_the_weighted_sum():
    mixed, reverse, forward = (system_of(problem) for problem in (MIXED, Problem(), FORWARD))
    share = sp.Symbol("v", positive=True)
    assert mixed.states == reverse.states == forward.states
    for all_of_it, one, other in zip(*(s.expanded_rhs() for s in (mixed, reverse, forward)), strict=True):
        assert sp.expand(all_of_it - (1 - share) * one - share * other) == 0


def test_on_the_sphere_a_reference_moves_no_mean():
    """Its pull is along the mean itself."""
    assert system_of(PATH).rhs == system_of(Problem()).rhs


def test_in_euclidean_space_a_reference_pulls_every_mean_to_the_origin():
    flow = Flow("euclidean")
    with_it, without = (system_of(replace(problem, flow=flow)) for problem in (PATH, Problem()))
    weights = dict(zip(("1", "2"), sp.symbols("w_1 w_2", positive=True), strict=True))
    for state, rate, plain in zip(with_it.states, with_it.expanded_rhs(), without.expanded_rhs(), strict=True):
        pull = (
            sp.Add(*(weights[i] for i in state.name.removeprefix("M_")[:1]))
            if state.name[0] == "M"
            else sp.Add(*(weights[i] for i in state.name.removeprefix("Q_")))
        )
        assert sp.expand(rate - plain + (1 - BETA) * pull * state / REFERENCE_SCALE**2) == 0


def test_beta_does_not_enter_the_forward_kl():
    system = system_of(FORWARD)
    assert not any(BETA in rate.free_symbols for rate in system.expanded_rhs())


def test_the_general_steps_do_not_depend_on_the_reference_or_the_share():
    """The same rules serve every objective, and no more of them."""
    counts = {name: len(annealvi.derivation(problem).steps) for name, problem in CASES.items()}
    assert max(counts.values()) <= 16
