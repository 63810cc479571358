"""The derivation: its result against retyped equations, its inputs (objective, manifold), and its steps' checks."""

from __future__ import annotations

import dataclasses
import math
import os
import random
import subprocess
import sys

import mpmath
import numpy as np
import pytest
import sympy as sp
from settings_of_any_size import general_equations, own_steps, problem_of

from annealvi import equations, open_session, rate_function
from derive.checks import concrete, coordinate_numbers
from derive.checks.concrete import Meaning
from derive.checks.step_check import BOUND, check_derivation, check_step, sample_point
from derive.dynamics.derivation import derive
from derive.dynamics.general import apply_general_rules
from derive.dynamics.instances import Instance
from derive.dynamics.symbolic_problem import derive_problem, symbolise
from derive.objects.expectation import Expectation, StandardNormal
from derive.objects.indices import I, Index, VectorEntry
from derive.objects.mixtures import PROPOSAL, TARGET, LogDensity, Mixture, Sample
from derive.objects.objective import POINT, tempered_reverse_kl
from derive.objects.step import Equation, Step
from derive.objects.system import BETA
from derive.objects.vectors import Inner, Vector, VectorSymbol
from derive.problem.built_in import BUILT_IN
from derive.problem.specification import LEARNABLE, Flow, Problem, Proposal, Space, Target
from derive.rules.geometry import antipodal
from derive.rules.gradient_rules import gradient
from derive.writing.rendering import as_latex, as_markdown, as_text, final_equations

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
    """The bimodal system, typed from the theory page: F with tanh, G_1 and G_2 each with its own sigmoid."""
    h, gap = sp.log(v1 / v2) / 2, R**2 * (1 - s)
    F = {m: Expectation(sp.tanh(R**2 * m + h + R * z), z) for m in (m1, m2)}
    G1 = Expectation(1 / (1 + sp.exp(gap + sp.sqrt(2 * gap) * z + sp.log(w1 / w2))), z)
    G2 = Expectation(1 / (1 + sp.exp(gap + sp.sqrt(2 * gap) * z + sp.log(w2 / w1))), z)
    return {
        m1: w1 * (BETA * F[m1] * (1 - m1**2) - G1 * (m2 - s * m1)),
        m2: w2 * (BETA * F[m2] * (1 - m2**2) - G2 * (m1 - s * m2)),
        s: w1 * (BETA * F[m1] * (m2 - s * m1) - G1 * (1 - s**2))
        + w2 * (BETA * F[m2] * (m1 - s * m2) - G2 * (1 - s**2)),
    }


@pytest.mark.quick
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
    imports = (
        "from derive.problem.specification import Problem; from derive.dynamics.symbolic_problem import derive_problem"
    )
    code = f"{imports}; print(derive_problem(Problem()).system)"
    outputs = {
        subprocess.run(
            [sys.executable, "-c", code],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for seed in ("0", "1", "2")
    }
    assert len(outputs) == 1
    assert "m_1, m_2, s" in outputs.pop()


EUCLIDEAN = Flow("euclidean")
UNEQUAL = {"scales": (1.0, 0.5)}
STEP_CASES = {
    "bimodal": Problem(),
    "common scales, Euclidean": Problem(
        target=Target(scales=(0.5, 0.5)), proposal=Proposal(scales=(2.0, 2.0)), flow=EUCLIDEAN
    ),
    "unequal target scales": Problem(target=Target(**UNEQUAL), flow=EUCLIDEAN),
    "unequal proposal scales": Problem(proposal=Proposal(**UNEQUAL), flow=EUCLIDEAN),
    "unequal scales on a line": Problem(
        target=Target(**UNEQUAL), proposal=Proposal(**UNEQUAL), flow=EUCLIDEAN, space=Space(1)
    ),
    "learned weights": Problem(flow=Flow("euclidean", ("means", "weights"))),
    "all learned, Euclidean": Problem(flow=Flow("euclidean", LEARNABLE)),
}
SLOW_STEP_CASES = {
    "three modes on a plane, three components": Problem(
        target=Target((0.5, 0.3, 0.2), ((3.0, 0.0), (0.0, 2.0), (-1.0, 1.0)), (1.5,) * 3),
        proposal=Proposal((0.2, 0.3, 0.5), (0.7,) * 3),
    ),
    "irrational dependence, two radii": Problem(
        target=Target((0.5, 0.3, 0.2), ((3.0, 0.0), (0.0, 2.0), (-math.sqrt(2), 1.0)), (1.0,) * 3),
        proposal=Proposal(radius=(1.0, 2.0)),
    ),
}


SLOW_STEP_CASES |= {
    "more modes of unequal scale than dimensions": Problem(
        target=Target((0.2, 0.3, 0.5), ((2.0,), (-1.0,), (0.5,)), (1.0, 0.8, 1.2)),
        proposal=Proposal((1.0,), (1.0,)),
        flow=EUCLIDEAN,
        space=Space(1),
    ),
    "more components of unequal scale than dimensions": Problem(
        target=Target((1.0,), ((0.0,),), (1.0,)),
        proposal=Proposal((0.2, 0.3, 0.5), (1.0, 0.9, 1.1)),
        flow=EUCLIDEAN,
        space=Space(1),
    ),
}


def broken_steps(problem, dimension=None):
    """The rules of the steps whose two sides differ at a random point.

    The number of checks must equal the number of steps, so that no step goes unchecked. The bimodal problem's general
    steps are checked here, in the plane, and those for all parameters learned on a line in test_general_steps.py. No
    other problem has a general equation of its own.
    """
    derivation = derive_problem(problem)
    steps = derivation.written_out
    if problem != Problem():
        everything_learned = problem_of(2, 2, "euclidean", LEARNABLE, (1.25, 0.75), (0.8, 1.3))
        assert general_equations(problem) <= general_equations(everything_learned) | general_equations(Problem())
        steps = own_steps(derivation)
    checks = list(check_derivation(derivation, 1, dimension, steps))
    assert [c.rule for c in checks] == [step.rule for step in steps]
    assert all(c.compared > 0 for c in checks)
    return [c.rule for c in checks if not c.passed]


@pytest.mark.parametrize("name", STEP_CASES)
def test_every_step_holds_to_30_digits(name):
    problem = STEP_CASES[name]
    dimension = 1 if problem.flow.manifold == "euclidean" else 2  # on a line, no mean on the sphere can move
    assert broken_steps(problem, dimension) == []


@pytest.mark.slow
@pytest.mark.parametrize("name", SLOW_STEP_CASES)
def test_every_step_holds_to_30_digits_for_dependent_modes(name):
    assert broken_steps(SLOW_STEP_CASES[name]) == []


@pytest.mark.slow
def test_every_step_holds_to_30_digits_for_unequal_scales_on_a_circle():
    """In the plane each average keeps a χ² variable beside its normal one.

    The flow on the sphere needs at least the plane: on a line no mean on the sphere can move.
    """
    assert broken_steps(Problem(target=Target(**UNEQUAL)), dimension=2) == []


def test_steins_lemma_of_unequal_scales_needs_the_two_further_coordinates(monkeypatch):
    """Stein's lemma with averages over the sample itself fails the step's check.

    These averages are right for equal scales only.
    """
    derivation = derive_problem(STEP_CASES["unequal target scales"])
    setting = derivation.setting
    objective = setting.objective.xreplace({setting.proposal: PROPOSAL, setting.target: TARGET})

    def check_of_stein():
        general = apply_general_rules.__wrapped__(objective, setting.manifold, setting.learn)
        (step,) = (step for step in Instance(setting, general).steps() if step.rule == "Stein's lemma")
        return check_step(step, [Meaning(sample_point(derivation, 1, 0, False))])

    assert check_of_stein().passed
    monkeypatch.setattr(Sample, "lifted", lambda self: self)
    assert check_of_stein().difference > 1e6 * BOUND


@pytest.mark.quick
def test_a_wrong_step_is_caught(bimodal):
    """A doubled, a sign-flipped and a mean-swapped version of a right step each fail the step's check."""
    step = next(step for step in bimodal.written_out if step.rule == "Stein's lemma")
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
    """The values in a step do not change when the lattice is made for 50 digits instead of 30."""

    point = sample_point(bimodal, 2, 0, False)
    value = next(step for step in bimodal.written_out if step.rule == "Stein's lemma").before[0].value
    coarse = Meaning(point).evaluate(value)
    for module in (concrete, coordinate_numbers):
        monkeypatch.setattr(module, "DIGITS", 50)
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


def test_problems_that_differ_in_numbers_alone_share_their_steps_and_others_do_not(bimodal):
    other = Problem("other", Target((0.6, 0.4), ((2.0,), (-2.0,))), Proposal(radius=2.0))
    assert derive_problem(other).steps is bimodal.steps
    assert derive_problem(other).system.label == "other"
    for changed in (
        {"target": Target(scales=(0.9, 0.9))},
        {"proposal": Proposal(radius=2.0)},
        {"space": Space(3)},
        {"flow": Flow(learn=("means", "weights"))},
        {"flow": Flow("euclidean")},
    ):
        problem = Problem(**changed)
        assert derive_problem(problem).steps is not bimodal.steps
        assert derive_problem(problem).steps is derive_problem(problem).steps


@pytest.mark.quick
def test_the_sphere_keeps_every_length(bimodal):
    """So it is before the lengths are put in: in the closed rates, of which no overlap is fixed yet."""
    rates = {e.label: e.value for e in bimodal.steps[0].before}
    assert rates["dQ_12"] != 0
    assert sp.simplify(rates["dQ_11"]) == 0
    assert sp.simplify(rates["dQ_22"]) == 0


def test_gradients_of_inner_products():
    other = Index("j", I.size)
    a, b, nu = VectorEntry("a", I), VectorEntry("a", other), VectorEntry("nu", I)
    assert gradient(Inner(a, a), a) == 2 * a
    assert gradient(Inner(a, nu) ** 3, a) == 3 * Inner(a, nu) ** 2 * nu
    assert gradient(Inner(a, b), a) == b + sp.KroneckerDelta(I, other) * a
    assert gradient(Inner(nu, nu), a) == 0


@pytest.mark.quick
def test_equation_labels_are_unique_and_rendered(bimodal):
    labels = [e.label for e in final_equations(bimodal)]
    assert labels == ["h_star", "F_1", "F_2", "lambda_q", "g", "dm_1", "dm_2", "ds"]
    for render in (as_text, as_markdown, as_latex):
        text = render(bimodal)
        assert "Dummy" not in text
        assert all(step.rule in text for step in (*bimodal.general.steps, *bimodal.steps))


def test_parameter_values_follow_the_problem(bimodal):
    values = symbolise(Problem()).parameter_values(bimodal.system)
    assert {k.name: v for k, v in values.items()} == {
        "R": 3.0,
        "w_1": 0.5,
        "w_2": 0.5,
        "w_star_1": 0.8,
        "w_star_2": 0.2,
    }


def symbolise_modes(modes):
    return symbolise(Problem(target=Target((1 / len(modes),) * len(modes), modes, (1.0,) * len(modes))))


def independent_and_images(modes):
    """The indices of the independent modes, and the coordinates of every dependent mode's image by index."""
    symbolic = symbolise_modes(modes)
    vectors = dict(zip(symbolic.setting.target.means, np.array(modes), strict=True))
    index = {v: k for k, v in enumerate(vectors)}
    images = {
        index[v]: sum(
            (float(c.xreplace(dict(symbolic.values))) * vectors[u] for u, c in image), np.zeros(len(modes[0]))
        )
        for v, image in symbolic.geometry.images
    }
    return symbolic.independent_modes, images


@pytest.mark.parametrize("far", [1e6, 1e13, 1e50])
@pytest.mark.parametrize("near", [(0.0, 1e-7), (1e-7, 0.0), (3e-7, 1e-50), (0.0, 0.0)])
def test_a_short_mode_beside_a_long_one_is_not_the_origin(far, near):
    """The tolerance for dependence is relative to the mode's own length, not to the longest mode."""
    modes = ((far, 0.0), near)
    independent, images = independent_and_images(modes)
    assert independent == ((0, 1) if near[1] > 1e-12 * near[0] else (0,))
    for k, image in images.items():
        assert np.abs(image - modes[k]).max() <= 1e-12 * np.linalg.norm(modes[k])


@pytest.mark.parametrize(("space", "digits"), [(2, 3), (2, 12), (4, 14), (4, 17)])
@pytest.mark.parametrize("lengths", [(3.0, 3.0, 3.0), (3.0, 3e-6, 3e5)])
def test_modes_in_a_plane_are_dependent_though_they_are_rounded(space, digits, lengths):
    """Modes given to a few digits still count as lying in one plane.

    In four coordinates the plane is tilted, so that rounding moves the third mode out of the span of the others.
    """
    plane, _ = np.linalg.qr(np.random.default_rng(5).normal(size=(space, 2)))
    angles = np.array([0.3, 2.5, 4.1])
    exact = np.array(lengths)[:, None] * np.stack([np.cos(angles), np.sin(angles)], axis=1) @ plane.T
    modes = tuple(tuple(float(f"{x:.{digits - 1}e}") for x in row) for row in exact)
    independent, images = independent_and_images(modes)
    assert independent == (0, 1)
    assert np.abs(images[2] - modes[2]).max() <= 2e-12 * lengths[2]


@pytest.mark.parametrize("tilt", [1e-3, 1e-6, 1e-9, 1e-13])
def test_nearly_parallel_modes_write_no_others(tilt):
    modes = ((3.0, 0.0), (3.0, 3 * tilt), (0.0, 3.0))
    independent, images = independent_and_images(modes)
    assert independent == (0, 2)
    assert np.abs(images[1] - modes[1]).max() <= 3e-12
    assert independent_and_images(modes[:2])[0] == ((0, 1) if tilt > 1e-12 else (0,))


def test_modes_on_a_circle_with_twelve_decimals_are_written_by_whole_numbers():
    symbolic = symbolise_modes(((3.0, 0.0), (-1.5, 2.598076211353), (-1.5, -2.598076211353)))
    assert symbolic.independent_modes == (0, 1)
    assert [c for _, image in symbolic.geometry.images for _, c in image] == [-1, -1]


LIMIT_STATES = np.array([[0.4, -0.3, 0.2], [0.8, 0.5, 0.3]])


@pytest.mark.parametrize("unequal", [("target",), ("target", "proposal")], ids="-".join)
def test_the_limit_of_many_dimensions_is_approached_like_one_over_their_root(unequal):
    """The rates differ from those of the limit by a term of order d^(−1/2).

    With scales 1 and 1 − 1/(2√d), ‖x‖² matters at every d. The limit leaves out the skewness of its law, which is of
    order d^(−1/2).
    """

    def difference(dimension):
        scales = {"scales": (1.0, 1 - 0.5 / math.sqrt(dimension))}
        parts = {"target": Target(**scales), "proposal": Proposal(**scales)}
        problem = dataclasses.replace(
            BUILT_IN["two-scales"], space=Space(dimension), **{"proposal": Proposal(), **{p: parts[p] for p in unequal}}
        )
        exact, limit = (
            open_session(problem, large).compile("cpu", 1e-9, "quadrature").rhs_at_beta(0.7, LIMIT_STATES)
            for large in (False, True)
        )
        return np.abs(exact - limit).max()

    few, more, most = map(difference, (10**2, 10**4, 10**6))
    assert few < 5e-3
    assert math.log(few / more, 100) > 0.45
    assert 0.45 < math.log(more / most, 100) < 0.6


def test_scales_that_close_still_change_the_rates():
    """The comparison with the limit has power: equal scales change the rates by far more than the limit does."""
    plain, unequal = (
        open_session(Problem(target=Target(scales=(1.0, scale)), space=Space(10**4)))
        .compile("cpu", 1e-9, "quadrature")
        .rhs_at_beta(0.7, LIMIT_STATES)
        for scale in (1.0, 1 - 0.5 / 100)
    )
    assert np.abs(plain - unequal).max() > 5e-3


def test_the_compiled_rates_of_the_limit_are_the_values_of_its_equations():
    problem = Problem(target=Target(scales=(1.0, 0.95)), space=Space(100))
    found, state = equations(problem, large_dimension=True), LIMIT_STATES[0]
    numbers = {**open_session(problem, large_dimension=True).values, **dict(zip(found, state, strict=True)), BETA: 0.4}
    wanted = [
        float(rate.xreplace({s: sp.Float(v, 20) for s, v in numbers.items()}).evalf(17)) for rate in found.values()
    ]
    limit, exact = (rate_function(problem, "cpu", large_dimension=large)(0.4, state) for large in (True, False))
    np.testing.assert_allclose(limit, wanted, rtol=0, atol=1e-11)
    assert np.abs(limit - exact).max() > 1e-4
