"""Rates of somebody's own variables, such as M = R**2*m_1 or a = (m_1 + m_2)/2, in place of those of states."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

import numpy as np
import sympy as sp
from scipy.optimize import linear_sum_assignment

from annealvi.comparison.reading.formulas import Scope
from derive.objects.expectation import Expectation
from derive.objects.system import BETA, OdeSystem

Fail = Callable[[str, str], NoReturn]


def variable_named(scope: Scope, name: str, system: OdeSystem, fail: Fail) -> sp.Expr:
    """What the variable of a rate is, in states and parameters: a state, or a definition that contains states."""
    if scope.symbols.get(name) in system.states:
        return scope.symbols[name]
    definition = scope.definitions.get(name)
    if definition is not None and not definition.arguments:
        value: sp.Expr = scope.defined(name, (), fail)
        for symbol, formula in reversed(scope.named.items()):
            value = value.xreplace({symbol: formula})
        if BETA in value.free_symbols:
            fail("a variable that changes with beta itself", "define it by states and parameters alone")
        if value.free_symbols & set(system.states) and not value.has(Expectation):
            return value
    states = ", ".join(scope.spelled(s.name) for s in system.states)
    fail("this is the rate of no state", f"the states are {states}; or define the variable by states")


def states_of(variables: Sequence[sp.Expr], states: Sequence[sp.Symbol]) -> list[sp.Symbol] | None:
    """A state for each variable that contains it, all different.

    None where a variable follows from the others or is not real, by the derivatives at a random state.
    """
    slopes = sp.Matrix([[sp.diff(v, s) for s in states] for v in variables])
    rng = np.random.default_rng(0)
    numbers = {s: sp.Float(rng.uniform(0.2, 0.8)) for s in sorted(slopes.free_symbols, key=str)}
    values = np.array(slopes.xreplace(numbers).evalf(), complex)
    if np.abs(values.imag).max() > 0 or not np.isfinite(values).all():
        return None
    if int(np.linalg.matrix_rank(values.real)) < len(variables):
        return None
    _, chosen = linear_sum_assignment(values.real == 0)
    return [states[n] for n in chosen]


def in_variables(system: OdeSystem, variables: Mapping[sp.Symbol, tuple[str, sp.Expr]]) -> OdeSystem:
    """The system with the rate of a variable in the place of that of the state to which it belongs."""
    if not variables:
        return system
    rates = dict(zip(system.states, system.rhs, strict=True))
    changed = {
        state: sp.Add(*(sp.diff(value, s) * rates[s] for s in system.states if s in value.free_symbols))
        for state, (_, value) in variables.items()
    }
    return replace(system, rhs=tuple(changed.get(s, rates[s]) for s in system.states))
