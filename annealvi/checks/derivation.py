"""The derivation's steps, each compared with its meaning in coordinates."""

from __future__ import annotations

from collections.abc import Iterator

from annealvi.checks.check import Check
from derive.derivation import Derivation
from derive.expectation import Expectation
from derive.step_check import BOUND, check_derivation, check_dimension


def derivation_checks(derivation: Derivation) -> Iterator[Check]:
    """At two random points, or one where averages over three variables to 30 digits take minutes."""
    dimension = check_dimension(derivation)
    widest = max((len(a.variables) for _, e in derivation.system.subexpressions for a in e.atoms(Expectation)), default=0)
    points = 2 if widest <= 2 else 1
    for step in check_derivation(derivation, points, dimension):
        note = f"{step.compared} comparisons, points of R^{dimension}: {points}, 30 digits"
        yield Check(f"step: {step.rule}", "symbolic", step.difference, float(BOUND), note)
