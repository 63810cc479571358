"""Each step of the derivation for any K and L, checked in coordinates at given K and L, with modes in general position.

On a line scales differ, so that no rule for equal ones helps. On a sphere only the steps from the projection on are
checked, since those before it are the Euclidean flow's; a mean on a sphere in one dimension cannot move.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
import sympy as sp
from settings_of_any_size import LEARN, MANIFOLDS, problem_of, up_to_closure

from derive.checks.concrete import Meaning
from derive.checks.step_check import BOUND, StepCheck, check_derivation, check_step, sample_point
from derive.dynamics.derivation import Derivation
from derive.dynamics.instances import Instance
from derive.dynamics.symbolic_problem import derivation, derive_problem
from derive.objects.mixtures import Average, Sample
from derive.objects.step import Step
from derive.problem.specification import Flow, Problem, Proposal, Target

ALL, MEANS = LEARN[-1], ("means",)
SCALES, SCALES_STAR = (1.25, 0.75, 1.1), (0.8, 1.3, 0.9)
SIZES = [(1, 1), (2, 1), (1, 2), (2, 2), (3, 2), (2, 3), pytest.param(3, 3, marks=pytest.mark.slow)]


def on_a_line(K: int, L: int, learn: tuple[str, ...]) -> Derivation:
    return up_to_closure(problem_of(K, L, "euclidean", learn, SCALES[:L], SCALES_STAR[:K]))


def assert_all_hold(checks: list[StepCheck], steps: tuple[Step, ...]) -> None:
    assert [check.rule for check in checks] == [step.rule for step in steps]
    assert [check.rule for check in checks if not check.passed or check.compared == 0] == []


@pytest.mark.parametrize(("K", "L"), SIZES)
def test_every_step_holds_for_all_parameters_learned(K, L):
    found = on_a_line(K, L, ALL)
    assert_all_hold(list(check_derivation(found, 1, 1)), found.written_out)


@pytest.mark.parametrize("learn", [MEANS, ("weights",), ("scales",)])
def test_every_step_holds_for_one_learned_parameter(learn):
    found = on_a_line(2, 2, learn)
    assert_all_hold(list(check_derivation(found, 1, 1)), found.written_out)


@pytest.mark.parametrize(("K", "L"), SIZES)
def test_every_step_holds_from_the_projection_on_the_sphere_on(K, L):
    euclidean = up_to_closure(problem_of(K, L, "euclidean"))
    sphere = up_to_closure(problem_of(K, L, "sphere"))
    rules = [step.rule for step in sphere.general.steps]
    first = rules.index("projected flow")
    assert sphere.general.steps[:first] == euclidean.general.steps[:first]
    steps = sphere.written_out[first:]
    assert_all_hold(list(check_derivation(sphere, 1, 2, steps)), steps)


def test_an_average_with_another_meaning_fails_the_closure():
    """The names of the averages are compared where their definitions are used, at unequal scales."""
    found = on_a_line(2, 2, ALL)
    meaning = Meaning(sample_point(found, 1, 0, False))
    *_, closure = found.general.steps
    assert closure.rule == "closure"
    names = []
    for n, equation in enumerate(closure.after):
        if isinstance(equation.value, Average):
            integrand, x = equation.value.args
            other = Sample(x.mixture, x.component, 0 if x.extra else 2)
            for value in (Average(integrand.xreplace({x: other}), other), 2 * equation.value):
                wrong = replace(equation, value=value)
                after = (*closure.after[:n], wrong, *closure.after[n + 1 :])
                general = replace(found.general, steps=(replace(closure, after=after),))
                (step, _) = Instance(found.setting, general).steps()
                assert check_step(step, [meaning]).difference > 1e6 * BOUND, wrong
            names.append(equation.symbol.family)
    families = {"rho", "S", "ell"}
    assert set(names) == families | {f"{family}_star" for family in families}


def test_problems_of_all_sizes_share_one_general_derivation():
    """So the number of steps and their length do not depend on K and L."""
    one = derive_problem(Problem())
    for other in (
        Problem("smaller", Target((1.0,), ((3.0,),), (1.0,)), Proposal((1.0,), (1.0,))),
        Problem("larger", proposal=Proposal((0.2, 0.3, 0.5), (1.0, 1.0, 1.0))),
        Problem("unequal scales", target=Target(scales=(1.0, 0.5))),
    ):
        assert derive_problem(other).general is one.general
    assert derivation() is one.general
    assert derive_problem(Problem(flow=Flow("euclidean"))).general is not one.general


@pytest.mark.parametrize("learn", LEARN)
@pytest.mark.parametrize("manifold", MANIFOLDS)
def test_the_steps_are_few_and_short(manifold, learn):
    steps = derivation(Problem(flow=Flow(manifold, learn=learn))).steps
    assert len(steps) <= (12 if learn == MEANS else 16)
    operations = [sum(sp.count_ops(e.value) for e in step.after if isinstance(e.value, sp.Basic)) for step in steps]
    assert max(operations) < 50 * (1 + len(learn))
