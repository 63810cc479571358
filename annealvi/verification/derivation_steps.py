"""The steps of a derivation, checked in coordinates, and the comparison of its system with the last step."""

from __future__ import annotations

import math
from collections.abc import Iterator
from itertools import zip_longest

import sympy as sp

from annealvi.verification.check import Check
from derive.checks.step_check import BOUND, check_derivation, check_dimension
from derive.dynamics.derivation import Derivation, in_order_of_use
from derive.objects.expectation import ChiSquared, Expectation
from derive.objects.step import Step, definitions


def derivation_checks(derivation: Derivation) -> Iterator[Check | str]:
    """Check every step of a derivation: both sides must agree to 30 digits at random points.

    Vectors get coordinates, expectations become sums over nodes, and gradients become complex-step derivatives; no rule
    of the derivation is used. There are two points, or one if averages run over three variables, which take minutes, as
    those over points of R³ do.

    Parameters
    ----------
    derivation : Derivation
        The derivation to check, such as `session.derivation`.

    Yields
    ------
    Check or str
        A check for each step, with the largest relative difference and the bound 1e-30; a line that names the steps
        that are left out, since their averages run over four variables and more. A derivation without steps yields one
        check that fails.

    Examples
    --------
    >>> import annealvi
    >>> session = annealvi.open_session(annealvi.load_problem("bimodal"))
    >>> all(check.passed for check in annealvi.derivation_checks(session.derivation))  # doctest: +SKIP
    True
    """
    steps = derivation.written_out
    if not steps:
        yield Check("step: none", "symbolic", math.inf, float(BOUND), "a derivation without steps")
    dimension = check_dimension(derivation)
    whole = dimension + derivation.setting.coordinates
    points = 2 if max(derivation.system.widest_average, whole) <= 2 else 1
    checkable = next((n for n, step in enumerate(steps) if _out_of_reach(step)), len(steps))
    for step in check_derivation(derivation, points, dimension, steps[:checkable]):
        note = f"{step.compared} comparisons, points of R^{whole}: {points}, 30 digits"
        yield Check(f"step: {step.rule}", "symbolic", step.difference, float(BOUND), note)
    if checkable < len(steps):
        left = ", ".join(step.rule for step in steps[checkable:])
        yield (
            f"steps not compared to 30 digits, since their averages run over "
            f"{MOST_VARIABLES + 1} variables and more: {left}"
        )


def system_check(derivation: Derivation) -> Check:
    """Compare the system, from which kernels are generated, with the end of the last step.

    The statistic is the number of rates and named averages that differ.
    """
    system, final = derivation.system, derivation.steps[-1].after if derivation.steps else ()
    found = {f"d{state.name}": rate for state, rate in zip(system.states, system.rhs, strict=True)}
    expected = {e.label: e.value for e in final if e.symbol is None}
    named = in_order_of_use(tuple((e.symbol, e.value) for e in definitions(final)))
    differing = sum(found.get(label) != expected.get(label) for label in {*found, *expected})
    differing += sum(one != other for one, other in zip_longest(system.subexpressions, named))
    note = f"{len(found)} rates and {len(system.subexpressions)} definitions, as expressions; how many differ"
    return Check("system: what the last step ends with", "symbolic", differing if found else math.inf, 0.0, note)


MOST_VARIABLES = 3


def _out_of_reach(step: Step) -> bool:
    """Whether a step leads to averages over too many variables for 30 digits.

    Averages over normal variables alone are within reach: at a point of R² no more than two of these are left.
    """
    averages = set().union(*(e.value.atoms(Expectation) for e in step.after if isinstance(e.value, sp.Basic)))
    return any(
        len(a.variables) > MOST_VARIABLES and any(isinstance(v, ChiSquared) for v in a.variables) for a in averages
    )
