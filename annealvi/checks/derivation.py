"""The derivation's steps, each compared with its meaning in coordinates."""

from __future__ import annotations

from collections.abc import Iterator

from annealvi.checks.check import Check
from derive.derivation import Derivation
from derive.step_check import BOUND, check_derivation, check_dimension

POINTS = 2


def derivation_checks(derivation: Derivation) -> Iterator[Check]:
    dimension = check_dimension(derivation)
    for step in check_derivation(derivation, POINTS, dimension):
        note = f"{step.compared} comparisons at {POINTS} points of R^{dimension}, 30 digits"
        yield Check(f"step: {step.rule}", "symbolic", step.difference, float(BOUND), note)
