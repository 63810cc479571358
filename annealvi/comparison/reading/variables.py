"""Rates of somebody's own variables, such as M = R**2*m_1 or a = (m_1 + m_2)/2, in place of those of states."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import NoReturn

import numpy as np
import sympy as sp

from annealvi.comparison.reading.formulas import Scope
from derive.objects.expectation import Expectation
from derive.objects.system import OdeSystem

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
        if value.free_symbols & set(system.states) and not value.has(Expectation):
            return value
    states = ", ".join(scope.spelled(s.name) for s in system.states)
    fail("this is the rate of no state", f"the states are {states}; or define the variable by states")


def states_of(variables: Sequence[sp.Expr], states: Sequence[sp.Symbol]) -> list[sp.Symbol] | None:
    """A state for each variable that contains it, all different; None where there are no such states."""
    own = [[v] if v in states else [s for s in states if s in v.free_symbols] for v in variables]
    found = next((c for c in itertools.islice(itertools.product(*own), 10_000) if len(set(c)) == len(c)), None)
    return None if found is None or not _independent(variables, states) else list(found)


def _independent(variables: Sequence[sp.Expr], states: Sequence[sp.Symbol]) -> bool:
    """Whether no variable is a function of the others, by their derivatives at a random state."""
    slopes = sp.Matrix([[sp.diff(v, s) for s in states] for v in variables])
    rng = np.random.default_rng(0)
    numbers = {s: sp.Float(rng.uniform(0.2, 0.8)) for s in sorted(slopes.free_symbols, key=str)}
    return int(np.linalg.matrix_rank(np.array(slopes.xreplace(numbers).evalf(), float))) == len(variables)


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
