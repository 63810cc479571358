"""The one-term mutants of a hand-typed bimodal system, and of a toy system whose mutants are counted by hand."""

from __future__ import annotations

import os
import subprocess
import sys
from collections import Counter
from functools import cache

import pytest
import sympy as sp

from derive.checks.mutations import Mutant, equivalent, one_term_mutations
from derive.objects.expectation import Expectation, StandardNormal
from derive.objects.states import StateKind, StateVariable
from derive.objects.system import BETA, OdeSystem

m_1, m_2, s = sp.symbols("m_1 m_2 s", real=True)
F_1, F_2, g = sp.symbols("F_1 F_2 g", real=True)
R, w_star, w_1 = sp.symbols("R w_star w_1", positive=True)
z, y = StandardNormal("z"), StandardNormal("y")


def bimodal() -> OdeSystem:
    w_2, delta, h = 1 - w_1, R**2 * (1 - s), sp.log(w_star / (1 - w_star)) / 2
    pull_1, pull_2 = (Expectation(sp.tanh(R**2 * m + h + R * z), z) for m in (m_1, m_2))
    secant = Expectation(sp.sech((sp.log(w_1 / w_2) + sp.sqrt(2 * delta) * z) / 2), z)
    exchange = sp.sqrt(w_1 * w_2) / 2 * sp.exp(-delta / 4) * secant
    rhs = (
        w_1 * BETA * F_1 * (1 - m_1**2) - g * (m_2 - s * m_1),
        w_2 * BETA * F_2 * (1 - m_2**2) - g * (m_1 - s * m_2),
        w_1 * BETA * F_1 * (m_2 - s * m_1) + w_2 * BETA * F_2 * (m_1 - s * m_2) - 2 * g * (1 - s**2),
    )
    gram = sp.ImmutableMatrix([[1, m_1, m_2], [m_1, 1, s], [m_2, s, 1]])
    named = ((F_1, pull_1), (F_2, pull_2), (g, exchange))
    return OdeSystem("bimodal", cosines(m_1, m_2, s), (R, w_star, w_1), named, rhs, gram)


def cosines(*states: sp.Symbol) -> tuple[StateVariable, ...]:
    return tuple(StateVariable(state, StateKind.MODE_OVERLAP, (0,), (-sp.S.One, sp.S.One)) for state in states)


def toy() -> OdeSystem:
    x_1, x_2, u, E_1 = sp.symbols("x_1 x_2 u E_1", real=True)
    c = sp.Symbol("c", positive=True)
    named = ((E_1, Expectation(sp.tanh(c * x_1 + z), z)),)
    return OdeSystem(
        "toy",
        cosines(x_1, x_2, u),
        (c,),
        named,
        (E_1 * x_2 - c, -x_2, x_1 * u),
        sp.ImmutableMatrix([[1]]),
    )


@cache
def bimodal_mutants() -> tuple[Mutant, ...]:
    return one_term_mutations(bimodal())


POINTS = tuple(
    dict(zip((m_1, m_2, s, R, w_star, w_1, BETA), map(sp.Rational, values), strict=True))
    for values in (
        ("0.31", "-0.47", "0.22", "1.3", "0.71", "0.37", "0.83"),
        ("-0.58", "0.13", "-0.35", "0.9", "0.64", "0.29", "0.56"),
    )
)


@cache
def mean_value(average: Expectation) -> sp.Float:
    return average.evalf(15)


def value(expression: sp.Expr, point: dict[sp.Symbol, sp.Expr]) -> sp.Expr:
    numeric = expression.xreplace(point)
    return numeric.xreplace({e: mean_value(e) for e in numeric.atoms(Expectation)}).evalf(15)


@pytest.mark.quick
def test_toy_system_has_the_mutants_counted_by_hand():
    """The list leaves out mutants that repeat another one or change nothing.

    Only dx_1/dt contains E_1, so scaling E_1 repeats scaling its term there. In the argument of the tanh, flipping the
    sign of z changes nothing. Flipping c x_1 there repeats flipping the term itself, and dropping c x_1 repeats
    dropping the term, because E tanh(z) = 0.
    """
    mutants = one_term_mutations(toy())
    assert Counter(m.kind for m in mutants) == {
        "sign": 2 + 1 + 1,
        "factor 2": 2 + 1 + 1 + 2,
        "dropped term": 2 + 1 + 1 + 1,
        "swapped index": 1 + 1 + 1 + 1,
        "swapped state": 1 + 1 + 2 + 1,
    }
    labels = [m.label for m in mutants]
    assert len(set(labels)) == len(labels)
    assert {"dx_2/dt: sign flipped", "du/dt: u → x_1", "E_1: tanh argument term 2 (c*x_1): x_1 → x_2"} <= set(labels)
    assert not any("(z): sign" in label for label in labels)


def test_every_bimodal_mutant_differs_somewhere():
    system = bimodal()
    original = system.expanded_rhs()
    for mutant in bimodal_mutants():
        pairs = [(new, old) for new, old in zip(mutant.system.expanded_rhs(), original, strict=True) if new != old]
        gaps = (abs(value(new, point) - value(old, point)) for new, old in pairs for point in POINTS)
        assert any(gap > 1e-6 for gap in gaps), mutant.label


def test_no_two_bimodal_mutants_are_one():
    """The values of all right-hand sides at two points tell every two mutants apart."""
    signatures = Counter(
        tuple(round(float(value(e, point)), 9) for point in POINTS for e in mutant.system.expanded_rhs())
        for mutant in bimodal_mutants()
    )
    assert max(signatures.values()) == 1
    assert len({m.label for m in bimodal_mutants()}) == len(bimodal_mutants())


def test_bimodal_exclusions_are_the_four_that_parity_allows():
    """Parity makes exactly four signs immaterial, and only these are left out.

    They are the sign of R z in F_1 and in F_2, and the sign of either term in the even sech of g.
    """
    labels = {m.label for m in bimodal_mutants()}
    flips = [label for label in labels if "argument" in label and label.endswith("sign flipped")]
    assert Counter(label.split(":")[0] for label in flips) == {"F_1": 2, "F_2": 2, "g": 2}
    assert not any("sech" in label for label in flips)
    # The right-hand sides have 4 + 6 + 8 terms; there are 3 subexpressions, 3 + 3 terms in tanh, 2 in sech, 2 in exp.
    terms = 18 + 3 + 6 + 2 + 2
    counts = Counter(m.kind for m in bimodal_mutants())
    assert (counts["sign"], counts["factor 2"], counts["dropped term"]) == (terms - 4, terms, terms)


def test_mutants_keep_everything_but_the_equations():
    system = bimodal()
    for mutant in bimodal_mutants():
        assert (mutant.system.variables, mutant.system.parameters, mutant.system.gram) == (
            system.variables,
            system.parameters,
            system.gram,
        )
        assert [symbol for symbol, _ in mutant.system.subexpressions] == [F_1, F_2, g]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Expectation(sp.tanh(w_1 + R * z), z), Expectation(sp.tanh(w_1 - R * z), z)),
        (Expectation(sp.tanh(w_1 + R * z), z), Expectation(sp.tanh(w_1 + R * y), y)),
        (Expectation(sp.tanh(w_1 + R * z), z), -Expectation(sp.tanh(R * z - w_1), z)),
        (Expectation(sp.sech(w_1 + R * z), z), Expectation(sp.sech(R * z - w_1), z)),
        (Expectation(sp.tanh(R * z), z), sp.S.Zero),
        (Expectation(z * sp.tanh(R * z) + z, z), -Expectation(z * sp.tanh(-R * z), z)),
        (Expectation(sp.exp(z + 2 * y - y**2 - z**2), z, y), Expectation(sp.exp(y - 2 * z - y**2 - z**2), z, y)),
        (
            Expectation(sp.tanh(sp.sqrt(2 * R**2 - 2 * R**2 * s) * z + 1), z),
            Expectation(sp.tanh(R * sp.sqrt(2 - 2 * s) * z + 1), z),
        ),
        ((w_1 + R) ** 2, w_1**2 + 2 * R * w_1 + R**2),
    ],
)
def test_equivalent_proves_the_laws_symmetries(first, second):
    assert equivalent(first, second)


@pytest.mark.parametrize(
    ("first", "second"),
    [
        (Expectation(sp.tanh(w_1 + R * z), z), Expectation(sp.tanh(R * z - w_1), z)),
        (Expectation(sp.tanh(w_1 + R * z), z), Expectation(sp.tanh(w_1 + 2 * R * z), z)),
        (Expectation(z * sp.tanh(w_1 + R * z), z), Expectation(z * sp.tanh(w_1 - R * z), z)),
        (Expectation(sp.exp(z + 2 * y), z, y), Expectation(sp.exp(z + 3 * y), z, y)),
        (w_1 * F_1, w_1 * F_2),
    ],
)
def test_equivalent_does_not_confuse_unequal_expressions(first, second):
    assert not equivalent(first, second)


def test_list_does_not_depend_on_the_hash_seed():
    script = (
        "import sympy as sp; from test_mutations import bimodal; from derive.checks.mutations "
        "import one_term_mutations\n"
        "for m in one_term_mutations(bimodal()): print(m.kind, m.label, sp.srepr(m.system.expanded_rhs()))"
    )
    outputs = []
    for seed in ("1", "4242"):
        path = os.pathsep.join(filter(None, sys.path))
        environment = {**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path, "PYTHONIOENCODING": "utf-8"}
        done = subprocess.run(
            [sys.executable, "-c", script],
            env=environment,
            capture_output=True,
            text=True,
            encoding="utf-8",
            check=True,
        )
        outputs.append(done.stdout)
    assert outputs[0] == outputs[1]
    assert outputs[0].count("\n") == len(bimodal_mutants())
