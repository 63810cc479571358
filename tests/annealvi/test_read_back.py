"""The printed formulas, read from their LaTeX alone, state what was derived.

Those of limits, corners and holds equal the expressions in SymPy. Those for any K and L give the gradient of the
divergence, which is differentiated here from the two densities. Symbols and left-hand sides are typed here from the
page; the exporter's table of names is not used.
"""

from __future__ import annotations

import re
from dataclasses import replace
from functools import cache

import numpy as np
import pytest
import sympy as sp
from derived_limits import limits
from latex_numbers import Formula, IndexReader, MixtureNumbers, Reader, equations_in, formulas_in

import annealvi
from annealvi.paper.build import with_all_learned
from annealvi.paper.exported_equations import (
    PaperEquation,
    general_equations,
    hold_equations,
    limit_equations,
    stability_equations,
)
from annealvi.verification.check import Check
from derive.asymptotics.equal_weights import PULL, REPULSION
from derive.asymptotics.hold_and_quench import SUM, protected_pair
from derive.asymptotics.linear_stability import bimodal_stability
from derive.dynamics.symbolic_problem import derive_problem
from derive.objects.expectation import Expectation
from derive.objects.system import BETA

PRINTED = {
    r"\beta": ("beta", 0.35),
    "m": ("m", 0.4),
    "m_0": ("m_0", 0.45),
    "m_1": ("m_1", 0.3),
    "m_2": ("m_2", -0.2),
    "s": ("s", -0.6),
    "b": ("b", 0.7),
    "a": ("a", 0.15),
    "u_1": ("u_1", 0.25),
    "u_2": ("u_2", 0.55),
    "v_1": ("v_1", 0.2),
    "v_2": ("v_2", 0.5),
    r"\theta": ("theta", 0.9),
    r"\theta_0": ("theta0", 0.7),
    "T_0": ("T0", 300.0),
    "T_c": ("T_c", 40.0),
    "t_0": ("t0", 7.0),
    "F'(0)": ("F'(0)", None),
    "R": ("R", 1.7),
    r"h^\star": ("h_star", 0.8),
    r"\Delta": ("Delta", 2.5),
    "x": ("x", 0.7),
    r"\epsilon": ("epsilon", 0.1),
    r"\delta": ("delta", 1.4),
    "B'": ("B'", 0.6),
    "C": ("C", 0.8),
    "d": ("d", 100.0),
    "p": ("p", 0.05),
    "p_1": ("p_1", 0.9),
    "p_2": ("p_2", 0.75),
    "g": ("g", 0.05),
    "w_1": ("w_1", 0.4),
    "w_2": ("w_2", 0.6),
    r"w^\star_1": ("w_star_1", 0.7),
    r"w^\star_2": ("w_star_2", 0.3),
}
"""For each LaTeX symbol without spaces, the name of the SymPy symbol and a number."""

t = sp.Symbol("t")
SHAPES = {"F": sp.sin(t / 2) + t / 3 + sp.Rational(1, 5), "G": sp.exp(t / 2) + sp.Rational(1, 4)}
"""Functions in place of F and G; any functions would do."""
FUNCTIONS = {
    name + "'" * n: sp.lambdify(t, sp.diff(shape, t, n), "numpy") for name, shape in SHAPES.items() for n in range(3)
}
AT_POINTS = {
    "F_0": FUNCTIONS["F"](0.0),
    "F_0'": FUNCTIONS["F'"](0.0),
    "F'(0)": FUNCTIONS["F'"](0.0),
    "G": FUNCTIONS["G"](-1.0),
}
"""Symbols that stand for the value of a function at a point and are printed as symbols."""

NUMBERS = {name: AT_POINTS.get(name, value) for name, value in PRINTED.values()} | AT_POINTS


def expected(expression: sp.Expr) -> float:
    concrete = (
        expression.replace(PULL, lambda x: SHAPES["F"].subs(t, x))
        .replace(REPULSION, lambda x: SHAPES["G"].subs(t, x))
        .doit(integrals=False)
    )
    values = {symbol: sp.Float(NUMBERS[symbol.name], 25) for symbol in concrete.free_symbols}
    concrete = concrete.subs(values)
    return float(concrete.xreplace({e: e.evalf(20) for e in concrete.atoms(Expectation, sp.Integral)}).evalf(20))


def reader() -> Reader:
    return Reader({}, {latex: NUMBERS[name] for latex, (name, _) in PRINTED.items() if name != "F'(0)"}, FUNCTIONS)


LEFT = {
    "repulsion-of-distant-components": "G(s)",
    "repulsion-of-the-antipodal-pair": "G(-1)",
    "slope-of-the-pull-at-the-origin": "F'(0)",
    "pull-near-the-edge": "F(x/R)",
    "critical-inverse-temperature": r"\beta_c",
    "critical-temperature": "T_c",
    "dm_1-dt-at-small-overlaps": r"\dotm_1",
    "dm_2-dt-at-small-overlaps": r"\dotm_2",
    "ds-dt-at-small-overlaps": r"\dots",
    "repulsion-of-near-components": "G(s)",
    "dm-dt-of-near-components": r"\dotm",
    "db-dt-of-near-components": r"\dotb",
    "d-1-s-dt-of-near-components": r"-\dots",
    "u_1-along-the-relaxation": r"u_1(\theta)",
    "u_2-along-the-relaxation": r"u_2(\theta)",
    "m-under-a-slow-schedule": "m(t)",
    "s-under-a-slow-schedule": "s(t)",
}

Meaning = list[tuple[str, tuple[sp.Expr, ...], tuple[sp.Expr, sp.Expr] | None]]
"""For each formula its left-hand side, the cells of its right-hand side, and the scale and argument of its
remainder."""


@cache
def meanings() -> dict[str, Meaning]:
    path, hot, slow, pair = limits().path, limits().hot, limits().slow, protected_pair(limits().path)
    found: dict[str, Meaning] = {
        "overlap-on-the-symmetric-path": [(r"\dotm", (path.velocity[0],), None)],
        "similarity-on-the-symmetric-path": [(r"\dots", (path.velocity[1],), None)],
        "transverse-growth": [(r"\lambda", (path.transverse,), None)],
        "longitudinal-growth": [(r"\lambda_\parallel", (path.longitudinal,), None)],
        "onset-of-tearing": [(r"\beta_c", (path.critical_beta,), None)],
        "conserved-u_1": [("u_1", (hot.conserved[0],), None)],
        "conserved-u_2": [("u_2", (hot.conserved[1],), None)],
        "relaxation-of-the-angle": [(r"\dot\theta", (hot.relaxation,), (sp.S.One, BETA))],
        "drift-of-u_1": [(r"\dotu_1", (BETA * hot.drift[0],), None)],
        "drift-of-u_2": [(r"\dotu_2", (BETA * hot.drift[1],), None)],
        "quasi-static-path": [("s_0", (slow.similarity,), None), (r"\beta", (slow.beta,), None)],
        "growth-on-it": [(r"\lambda", (slow.growth,), None)],
        "its-Jacobian": [("J", tuple(slow.jacobian), None)],
        "protected-sum": [(r"\dota", (pair.drift + pair.damping * SUM,), None)],
        "protected-difference": [(r"\dotb/b", (pair.growth,), None)],
        "switching-slope": [(r"\dotS\,\big/\,\tfrac{\psi'}{\psi}e^{\int\kappa}", (pair.switching_slope(),), None)],
    }
    for growth in limits().growth:
        crossing, exponent = ("t_c", (growth.crossing,), None), (r"\Lambda_\mathrm{hot}", (growth.exponent,), None)
        found[f"hot-growth-{growth.kind}"] = [crossing, exponent]
    for e in limits().expansions:
        name = re.sub(r"[^A-Za-z0-9_]+", "-", e.name)
        left = "t_0" if e.name.endswith("small probability") else LEFT[name]
        found[name] = [(left, (e.expression,), (e.scale, e.variable**e.order))]
    for corner in (stability().collapsed, stability().mixed, stability().separated):
        found[f"{corner.name}-matrix"] = [("J", tuple(corner.matrix), None)]
        found[f"{corner.name}-determinant"] = [(r"\detJ", (corner.determinant,), None)]
        names = {"p_1": "p_{1}", "p_2": "p_{2}", "g": "g"}
        found[f"{corner.name}-averages"] = [(names[symbol.name], (value,), None) for symbol, value in corner.averages]
    return found


@cache
def stability():
    return bimodal_stability(derive_problem(annealvi.load_problem("bimodal")))


@cache
def exported() -> dict[str, PaperEquation]:
    check = Check("none", "numeric", 0.0, 0.0)
    corners = {
        f"{corner}-{part}": check
        for corner in ("collapsed", "mixed", "separated")
        for part in ("matrix", "determinant")
    }
    holds = dict.fromkeys(("protected-sum", "protected-difference", "switching-slope"), check)
    equations = (
        *limit_equations("bimodal", limits(), {}),
        *stability_equations("bimodal", stability(), corners),
        *hold_equations("bimodal", protected_pair(limits().path), holds),
    )
    return {e.label.removeprefix("bimodal:"): e for e in equations}


def differences(equation: PaperEquation, meaning: Meaning) -> float:
    """The largest relative difference; infinite where a left-hand side or the number of formulas differs."""
    formulas: list[Formula] = formulas_in(equation.as_file())
    if [f.left for f in formulas] != [left for left, _, _ in meaning]:
        return np.inf
    worst = 0.0
    for formula, (_, cells, left_out) in zip(formulas, meaning, strict=True):
        assert (formula.left_out is None) == (left_out is None)
        printed = (*formula.right, *(formula.left_out or ()))
        for latex, expression in zip(printed, (*cells, *(left_out or ())), strict=True):
            value = expected(expression)
            worst = max(worst, abs(reader().evaluate(latex, {}) - value) / abs(value))
    return worst


def test_every_equation_is_read_back():
    """No exported equation is left out."""
    assert set(meanings()) == set(exported())


def test_the_printed_equations_are_the_derived_ones():
    found = {name: differences(equation, meanings()[name]) for name, equation in exported().items()}
    assert {name: difference for name, difference in found.items() if not difference < 1e-10} == {}


@pytest.mark.parametrize(
    "name",
    ["its-Jacobian", "u_2-along-the-relaxation", "drift-of-u_1", "critical-temperature", "separated-determinant"],
)
def test_a_wrong_sign_in_a_file_is_found(name):
    """The test changes the first sign between two terms."""
    equation = exported()[name]
    text = "\n".join(equation.lines)
    sign = re.search(r" [+-] ", text)
    swapped = text[: sign.start()] + (" + " if "-" in sign[0] else " - ") + text[sign.end() :]
    assert differences(replace(equation, lines=tuple(swapped.split("\n"))), meanings()[name]) > 1e-6


WEIGHTS, MEANS = np.array([0.35, 0.65]), np.array([[0.9, -0.3], [0.2, 0.8]])
PROPOSAL = MixtureNumbers(WEIGHTS, MEANS, np.array([0.9, 1.15]))
TARGET = MixtureNumbers(
    np.array([0.5, 0.2, 0.3]), np.array([[0.8, 0.1], [-0.7, 0.4], [0.3, -0.9]]), np.array([1.0, 0.85, 1.2])
)
HOT = 0.4
"""The inverse temperature of the comparison. All scales differ, and K = 3 and L = 2 differ, too."""


@cache
def general() -> tuple[PaperEquation, ...]:
    return general_equations(with_all_learned(annealvi.Problem()), ())


def index_reader(equations: tuple[PaperEquation, ...]) -> IndexReader:
    definitions = {left: right for e in equations for left, (_, right) in equations_in(e.as_file()).items()}
    assert len(definitions) == len(equations)
    values = {r"\beta": HOT, "d": MEANS.shape[1]}
    for star, mean, mixture in (("", "a", PROPOSAL), (r"^\star", r"\nu", TARGET)):
        for n, numbers in enumerate(zip(mixture.weights, mixture.means, mixture.scales, strict=True), 1):
            values |= dict(zip((f"w{star}_{n}", f"{mean}_{n}", rf"\sigma{star}_{n}"), numbers, strict=True))
    for name, one, other in (("M", PROPOSAL, TARGET), ("Q", PROPOSAL, PROPOSAL), (r"\Gamma", TARGET, TARGET)):
        gram = one.means @ other.means.T
        values |= {f"{name}_{i + 1}{j + 1}": x for (i, j), x in np.ndenumerate(gram)}
    return IndexReader(definitions, values, PROPOSAL, TARGET)


def printed_rates(equations: tuple[PaperEquation, ...]) -> np.ndarray:
    """The rates of means, overlaps, weights and scales that the files state, one after the other."""
    read, L, K = index_reader(equations), len(WEIGHTS), len(TARGET.weights)
    names = [rf"\dota_{i}" for i in range(1, L + 1)]
    names += [rf"\dotM_{i}{n}" for i in range(1, L + 1) for n in range(1, K + 1)]
    names += [rf"\dotQ_{i}{n}" for i in range(1, L + 1) for n in range(1, L + 1)]
    names += [f"{rate}_{i}" for rate in ("dw", r"d\sigma") for i in range(1, L + 1)]
    return np.concatenate([np.atleast_1d(read.look_up(name, {})) for name in names])


def divergence(means: np.ndarray, theta: np.ndarray, tau: np.ndarray) -> complex:
    """E_q[log q − β log p*] on a grid, for complex arguments."""
    weights, scales = np.exp(theta) / np.exp(theta).sum(), np.exp(tau)
    line = np.arange(-8, 8.1, 0.4)
    z = np.stack(np.meshgrid(line, line, indexing="ij"), -1).reshape(-1, 2)
    share = np.exp(-(z**2).sum(-1) / 2)

    def log_density(x: np.ndarray, w: np.ndarray, a: np.ndarray, s: np.ndarray) -> np.ndarray:
        squares = ((x[:, None] - a) ** 2).sum(-1)
        return np.log((w * np.exp(-squares / (2 * s**2)) / s**2).sum(-1))

    total = 0j
    for w, a, s in zip(weights, means, scales, strict=True):
        x = a + s * z
        target = log_density(x, TARGET.weights, TARGET.means, TARGET.scales)
        total += w * (share * (log_density(x, weights, means, scales) - HOT * target)).sum() / share.sum()
    return total


def rates_by_gradient() -> np.ndarray:
    """The same rates by complex steps of the divergence."""
    start = (MEANS.astype(complex), np.log(WEIGHTS).astype(complex), np.log(PROPOSAL.scales).astype(complex))
    slopes = [np.zeros(x.shape) for x in start]
    for n, x in enumerate(start):
        for place in np.ndindex(x.shape):
            moved = [y.copy() for y in start]
            moved[n][place] += 1e-30j
            slopes[n][place] = divergence(*moved).imag / 1e-30
    along = (slopes[0] * MEANS).sum(-1, keepdims=True) / (MEANS**2).sum(-1, keepdims=True)
    velocity = along * MEANS - slopes[0]
    pull = velocity @ MEANS.T
    weights = WEIGHTS * (WEIGHTS @ slopes[1] - slopes[1])
    rates = (velocity, velocity @ TARGET.means.T, pull + pull.T, weights, -PROPOSAL.scales * slopes[2])
    return np.concatenate([rate.ravel() for rate in rates])


def test_the_printed_general_equations_are_the_gradient_of_the_divergence():
    """Both sides are sums over grids, of which the step and the reach leave an error below 1e-9."""
    np.testing.assert_allclose(printed_rates(general()), rates_by_gradient(), rtol=0, atol=1e-8)


@pytest.mark.parametrize(
    "label", ["velocity_i", "dM_in", "D_in", "share_ij", "share_star_ik", "e_i", "dw_i", "dsigma_i"]
)
def test_a_wrong_sign_in_a_general_equation_is_found(label):
    spoiled = tuple(
        replace(e, lines=tuple("\n".join(e.lines).replace(" - ", " + ", 1).split("\n")))
        if e.label == f"general:{label}"
        else e
        for e in general()
    )
    assert spoiled != general()
    assert np.abs(printed_rates(spoiled) - rates_by_gradient()).max() > 1e-4
