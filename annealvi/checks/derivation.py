"""The derivation's steps, each compared with its meaning in coordinates."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import sympy as sp

from annealvi.checks.check import Check
from derive.derivation import Derivation
from derive.expectation import ChiSquared, Expectation
from derive.step import Step
from derive.step_check import BOUND, check_derivation, check_dimension


def derivation_checks(derivation: Derivation) -> Iterator[Check | str]:
    """At two random points, or one where averages over three variables to 30 digits take minutes.

    A line that says so for the steps that lead to averages over more variables than 30 digits can be had of.
    """
    dimension = check_dimension(derivation)
    widest = max((len(a.variables) for _, e in derivation.system.subexpressions for a in e.atoms(Expectation)), default=0)
    points = 2 if widest <= 2 else 1
    checkable = next((n for n, step in enumerate(derivation.steps) if _out_of_reach(step)), len(derivation.steps))
    for step in check_derivation(replace(derivation, steps=derivation.steps[:checkable]), points, dimension):
        note = f"{step.compared} comparisons, points of R^{dimension}: {points}, 30 digits"
        yield Check(f"step: {step.rule}", "symbolic", step.difference, float(BOUND), note)
    if checkable < len(derivation.steps):
        left = ", ".join(step.rule for step in derivation.steps[checkable:])
        yield f"steps not compared to 30 digits, since their averages run over {MOST_VARIABLES + 1} variables and more: {left}"


MOST_VARIABLES = 3


def _out_of_reach(step: Step) -> bool:
    """Averages over normal variables alone are not: at a point of R² no more than two of those are left."""
    averages = set().union(*(e.value.atoms(Expectation) for e in step.after if isinstance(e.value, sp.Basic)))
    return any(len(a.variables) > MOST_VARIABLES and any(isinstance(v, ChiSquared) for v in a.variables) for a in averages)
