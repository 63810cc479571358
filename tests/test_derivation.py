"""The derivation: its result against retyped equations, its dependence on the objective and the manifold, its steps' checks."""

from __future__ import annotations

import dataclasses
import random
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import sympy as sp

from derive import concrete
from derive.concrete import Meaning
from derive.derivation import derive
from derive.expectation import Expectation, StandardNormal
from derive.geometry import antipodal, unrelated
from derive.gradient_rules import RuleDoesNotApplyError
from derive.mixtures import LogDensity, Mixture
from derive.objective import POINT, tempered_reverse_kl
from derive.problem import BadInput, Flow, Problem, Proposal, Target
from derive.rendering import as_latex, as_markdown, as_text, final_equations
from derive.step import Equation, Step
from derive.step_check import BOUND, check_derivation, check_step, sample_point
from derive.symbolic_problem import derive_problem, parameter_values, symbolise
from derive.system import BETA
from derive.vectors import Gradient, Inner, Vector, VectorSymbol, gradient
from derive.velocity import velocity_at
from kernels import kl_grid

R, z = sp.Symbol("R", positive=True), StandardNormal("z")
w1, w2, v1, v2 = (sp.Symbol(n, positive=True) for n in ("w_1", "w_2", "w_star_1", "w_star_2"))
m1, m2, s = (sp.Symbol(n, real=True) for n in ("m_1", "m_2", "s"))


def mixture(name: str, letter: str, weight: str, size: int, scales: list | None = None) -> Mixture:
    vectors = [VectorSymbol(f"{letter}_{j + 1}") for j in range(size)]
    weights = [sp.Symbol(f"{weight}_{j + 1}", positive=True) for j in range(size)]
    return Mixture(sp.Symbol(name), sp.Symbol(f"rho{name}"), weights, vectors, scales or [sp.S.One] * size)


@pytest.fixture(scope="module")
def bimodal():
    return derive_problem(Problem())


def retyped_rates() -> dict[sp.Symbol, sp.Expr]:
    """The bimodal system of the theory page, typed from it: F by tanh, G_1 and G_2 each by its own sigmoid."""
    h, gap = sp.log(v1 / v2) / 2, R**2 * (1 - s)
    F = {m: Expectation(sp.tanh(R**2 * m + h + R * z), z) for m in (m1, m2)}
    G1 = Expectation(1 / (1 + sp.exp(gap + sp.sqrt(2 * gap) * z + sp.log(w1 / w2))), z)
    G2 = Expectation(1 / (1 + sp.exp(gap + sp.sqrt(2 * gap) * z + sp.log(w2 / w1))), z)
    return {
        m1: w1 * (BETA * F[m1] * (1 - m1**2) - G1 * (m2 - s * m1)),
        m2: w2 * (BETA * F[m2] * (1 - m2**2) - G2 * (m1 - s * m2)),
        s: w1 * (BETA * F[m1] * (m2 - s * m1) - G1 * (1 - s**2)) + w2 * (BETA * F[m2] * (m1 - s * m2) - G2 * (1 - s**2)),
    }


@pytest.mark.parametrize("seed", range(4))
def test_the_bimodal_system_is_the_retyped_one_to_30_digits(bimodal, seed):
    rng = random.Random(seed)
    share, weight = rng.uniform(0.2, 0.8), rng.uniform(0.2, 0.8)
    point = {R: rng.uniform(0.5, 3.5), w1: weight, w2: 1 - weight, v1: share, v2: 1 - share, BETA: rng.uniform(0.01, 1)}
    point |= {m1: rng.uniform(-0.7, 0.7), m2: rng.uniform(-0.7, 0.7), s: rng.uniform(-0.7, 0.7)}
    exact = {k: sp.Float(v, 40) for k, v in point.items()}
    retyped = retyped_rates()
    for state, derived in zip(bimodal.system.states, bimodal.system.expanded_rhs(), strict=True):
        difference = (derived.xreplace(exact)).evalf(30) - (retyped[state].xreplace(exact)).evalf(30)
        assert abs(difference) < sp.Float("1e-28")


def test_order_of_states_and_parameters_does_not_depend_on_the_hash_seed():
    code = "from derive.problem import Problem; from derive.symbolic_problem import derive_problem; print(derive_problem(Problem()).system)"
    outputs = {
        subprocess.run([sys.executable, "-c", code], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1
    assert "m_1, m_2, s" in outputs.pop()


@pytest.mark.parametrize(
    "problem",
    [
        Problem(),
        Problem(flow=Flow("euclidean")),
        Problem(target=Target(scales=(0.5, 0.5)), proposal=Proposal(scales=(2.0, 2.0))),
        Problem(target=Target((0.5, 0.3, 0.2), ((3.0, 0.0), (0.0, 2.0), (-1.0, 1.0)), (1.5, 1.5, 1.5))),
        Problem(proposal=Proposal((0.2, 0.3, 0.5), (0.7, 0.7, 0.7), 1.0)),
    ],
    ids=["bimodal", "euclidean", "scales", "three-modes", "three-components"],
)
def test_every_step_holds_to_30_digits(problem):
    checks = list(check_derivation(derive_problem(problem), points=1))
    assert len(checks) >= 14
    assert [c.rule for c in checks if not c.passed] == []


def test_a_wrong_step_is_caught(bimodal):
    """A dropped factor, a wrong sign and a swapped mean in an otherwise right step: each must fail its check."""
    step = next(step for step in bimodal.steps if step.rule == "Stein's lemma")
    a1, a2 = bimodal.setting.proposal.means
    first = step.after[0]
    swapped = Vector({{a1: a2, a2: a1}.get(atom, atom): c for atom, c in first.value})
    meaning = Meaning(sample_point(bimodal, 2, 0, False))
    for wrong in (first.value * 2, -first.value, swapped):
        altered = Step(step.rule, step.statement, step.before, (Equation(first.label, first.left, wrong),))
        assert check_step(altered, [meaning]).difference > 1e6 * BOUND
    assert check_step(step, [meaning]).passed


def test_a_step_without_a_shared_equation_cannot_pass(bimodal):
    step = Step("nothing", "", (Equation("a", "a", sp.S.One),), (Equation("b", "b", sp.S.One),))
    with pytest.raises(ValueError, match="both sides"):
        check_step(step, [])


def test_the_lattice_sums_are_converged(bimodal, monkeypatch):
    """The step's values do not move when the lattice is made for 50 digits instead of 30."""

    point = sample_point(bimodal, 2, 0, False)
    value = bimodal.steps[6].before[0].value
    coarse = Meaning(point).evaluate(value)
    monkeypatch.setattr(concrete, "DIGITS", 50)
    fine = Meaning(point).evaluate(value)
    assert max(abs(a - b) for a, b in zip(coarse, fine, strict=True)) < mpmath.mpf(10) ** -31


def test_without_the_entropy_the_components_do_not_interact():
    q, p = mixture("q", "a", "w", 2), mixture("p", "nu", "w_star", 2)
    setting = dataclasses.replace(tempered_reverse_kl(q, p), integrand=-BETA * LogDensity(p, POINT))
    system = derive(setting, antipodal(setting), "no entropy").system
    final = system.expanded_rhs()[system.states.index(m1)]
    assert not final.has(m2)
    assert not final.has(s)
    assert final.has(BETA)


def test_without_the_target_only_the_repulsion_is_left():
    q, p = mixture("q", "a", "w", 2), mixture("p", "nu", "w_star", 2)
    setting = dataclasses.replace(tempered_reverse_kl(q, p), integrand=LogDensity(q, POINT))
    system = derive(setting, antipodal(setting), "entropy only").system
    assert not any(rate.has(BETA) for rate in system.expanded_rhs())
    assert system.rhs[2].has(s)


def test_the_euclidean_flow_lets_the_lengths_move():
    sphere, euclidean = derive_problem(Problem()).system, derive_problem(Problem(flow=Flow("euclidean"))).system
    assert [x.name for x in sphere.states] == ["m_1", "m_2", "s"]
    assert [x.name for x in euclidean.states] == ["M_11", "M_21", "Q_11", "Q_12", "Q_22"]


def test_the_sphere_keeps_every_length(bimodal):
    rates = {e.label: e.value for step in bimodal.steps if step.rule == "product rule" for e in step.after}
    assert sp.simplify(rates["dQ_11"]) == 0
    assert sp.simplify(rates["dQ_22"]) == 0


def test_unequal_scales_are_refused_by_name():
    q, p = mixture("q", "a", "w", 2, [sp.S.One, sp.Integer(2)]), mixture("p", "nu", "w_star", 2)
    setting = tempered_reverse_kl(q, p)
    with pytest.raises(RuleDoesNotApplyError, match="unequal scales"):
        derive(setting, unrelated(setting), "unequal")
    with pytest.raises(BadInput, match="scale"):
        derive_problem(Problem(proposal=Proposal(scales=(1.0, 2.0))))


def test_gradients_of_inner_products():
    a, b = VectorSymbol("a"), VectorSymbol("b")
    assert gradient(Inner(a, a), a).coefficient(a) == 2
    assert gradient(Inner(a, b) ** 3, a).coefficient(b) == 3 * Inner(a, b) ** 2
    assert len(gradient(Inner(b, b), a)) == 0
    assert len(Vector({Gradient(Inner(a, b), a): sp.S.One})) == 1


@pytest.mark.parametrize(("manifold", "dimension"), [("euclidean", 1), ("sphere", 2), ("euclidean", 2), ("sphere", 3)])
def test_velocity_against_the_kl_on_a_grid(manifold, dimension):
    """The grid route knows densities only; its own error estimate is below the bound used here."""
    rng = np.random.default_rng(dimension)
    modes = [[1.2, 0.4, -0.3][:dimension], [-0.5, 0.9, 0.6][:dimension]]
    means = rng.normal(size=(2, dimension))
    problem = Problem(
        target=Target((0.7, 0.3), tuple(map(tuple, modes)), (1.1, 1.1)),
        proposal=Proposal((0.35, 0.65), (0.9, 0.9), 1.0),
        flow=Flow(manifold),
    )
    symbolic = symbolise(problem)
    velocity = velocity_at(derive_problem(problem), means, modes, dict(symbolic.values), 0.37)
    wanted = kl_grid.flow_velocity(
        kl_grid.Mixture(means, [0.35, 0.65], [0.9, 0.9]),
        kl_grid.Mixture(modes, [0.7, 0.3], [1.1, 1.1]),
        0.37,
        manifold,
    )
    np.testing.assert_allclose(velocity.means, wanted, atol=1e-9)


def test_equation_labels_are_unique_and_rendered(bimodal):
    labels = [e.label for e in final_equations(bimodal)]
    assert labels == ["h_star", "F_1", "F_2", "lambda_q", "g", "dm_1", "dm_2", "ds"]
    for render in (as_text, as_markdown, as_latex):
        text = render(bimodal)
        assert "Dummy" not in text
        assert all(step.rule in text for step in bimodal.steps)


def test_parameter_values_follow_the_problem(bimodal):
    values = parameter_values(Problem(), bimodal)
    assert {k.name: v for k, v in values.items()} == {"R": 3.0, "w_1": 0.5, "w_2": 0.5, "w_star_1": 0.8, "w_star_2": 0.2}
