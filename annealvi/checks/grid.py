"""The derived right-hand sides, and every mutant of them, against the gradient of the KL on a grid."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import sympy as sp

from annealvi.checks.check import Check
from derive.derivation import Derivation
from derive.expectation import Expectation, NotConvergedError
from derive.mutations import Mutant, one_term_mutations
from derive.problem import Flow, Problem
from derive.step_check import sample_point
from derive.symbolic_problem import derive_problem
from derive.system import BETA, OdeSystem
from kernels import kl_grid

TOLERANCE = {1: 1e-11, 2: 1e-11, 3: 1e-9}
"""Asked of the grid in each dimension; a rate sums fewer than ten of its entries with factors of order one."""
LENGTHS = {1: (0.8, 2.5), 2: (0.8, 2.5), 3: (0.8, 1.8)}
DIGITS = 20


@dataclass(frozen=True)
class Reference:
    """A state with the rates that the grid gives it. numbers: every symbol's value. rates, bound: (states,), scalar."""

    dimension: int
    numbers: dict[sp.Symbol, sp.Float]
    rates: np.ndarray
    bound: float


class Evaluator:
    """Right-hand sides in numbers, by mpmath; an average that occurs again is not integrated again."""

    def __init__(self) -> None:
        self._averages: dict[sp.Expr, sp.Float] = {}

    def rates(self, system: OdeSystem, numbers: dict[sp.Symbol, sp.Float]) -> np.ndarray:
        """The system's right-hand sides (states,) with all symbols, β included, given by number."""
        known = dict(numbers)
        for symbol, expression in system.subexpressions:
            known[symbol] = self._number(expression, known)
        values = [complex(self._number(rate, known)) for rate in system.rhs]
        return np.array([value.real if value.imag == 0 else np.nan for value in values])

    def rates_or_nan(self, system: OdeSystem, numbers: dict[sp.Symbol, sp.Float]) -> np.ndarray:
        """The same, or NaN where an average has poles on the real axis: a mutation made what stands under a root negative."""
        try:
            return self.rates(system, numbers)
        except NotConvergedError:
            return np.full(len(system.states), np.nan)

    def _number(self, expression: sp.Expr, known: dict[sp.Symbol, sp.Float]) -> sp.Float:
        concrete = expression.xreplace(known)
        for average in concrete.atoms(Expectation):
            if average not in self._averages:
                self._averages[average] = average.evalf(DIGITS)
        return concrete.xreplace(self._averages).evalf(DIGITS)


def reference(derivation: Derivation, dimension: int, seed: int, fixed: Mapping[sp.Symbol, float] | None = None) -> Reference:
    """A random state in R^dimension, random generic parameters but for the fixed ones, and its rates by the grid."""
    point = sample_point(derivation, dimension, seed, True, LENGTHS[dimension], fixed)
    setting = derivation.setting
    exact = {symbol: sp.Float(value, 30) for symbol, value in point.scalars.items()}

    def mixture(source) -> kl_grid.Mixture:
        means = np.array([[float(x) for x in point.vectors[v]] for v in source.means])
        return kl_grid.Mixture(means, *(np.array([float(e.xreplace(exact)) for e in part]) for part in (source.weights, source.scales)))

    tolerance = TOLERANCE[dimension]
    q, p, beta = mixture(setting.proposal), mixture(setting.target), float(exact[BETA])
    dM, dQ = kl_grid.overlap_velocity(q, p, beta, setting.manifold, tolerance)
    means, modes = list(setting.proposal.means), list(setting.target.means)
    rates = []
    for _, inner, unit in derivation.overlaps.moving:
        inside = [means.index(a) for a in inner.args if a in means]
        rate = dQ[inside[0], inside[-1]] if len(inside) == 2 else dM[inside[0], next(modes.index(a) for a in inner.args if a in modes)]
        rates.append(rate / float(unit.xreplace(exact)))
    return Reference(dimension, exact, np.array(rates), 10 * tolerance)


def references(derivation: Derivation, dimensions: tuple[int, ...], points: int) -> list[Reference]:
    return [reference(derivation, d, seed) for d in dimensions for seed in range(points if d < 3 else 1)]


def grid_checks(problem: Problem, derivation: Derivation, grid: list[Reference], values: Mapping[sp.Symbol, float]) -> Iterator[Check]:
    """The derived flow in R² and R³ at random parameters and at the problem's own `values`, and its Euclidean twin in R¹.

    A sphere in R¹ does not move, so there only the Euclidean flow of the same mixtures can be compared.
    """
    own = [reference(derivation, 2, seed, values) for seed in range(2)]
    line = derive_problem(dataclasses.replace(problem, flow=Flow("euclidean", problem.flow.learn)))
    for system, manifold, states in (
        (line.system, "Euclidean", [reference(line, 1, seed) for seed in range(2)]),
        (derivation.system, derivation.setting.manifold, [r for r in grid if r.dimension == 2]),
        (derivation.system, derivation.setting.manifold, [r for r in grid if r.dimension == 3]),
        (derivation.system, "own parameters", own),
    ):
        evaluator = Evaluator()
        worst = max(float(np.abs(evaluator.rates(system, r.numbers) - r.rates).max()) for r in states)
        name = f"right-hand side against the KL on a grid, d = {states[0].dimension}, {manifold}"
        yield Check(name, "numeric", worst, states[0].bound, f"{len(states)} random states; ten times the grid's tolerance")


def mutant_check(derivation: Derivation, grid: list[Reference]) -> tuple[Check, list[Mutant]]:
    """Every one-term mutant must differ from the grid, beyond the bound that the true system meets, at one state at least."""
    evaluator = Evaluator()
    mutants = one_term_mutations(derivation.system)
    if any(_rejects(r, derivation.system, evaluator) for r in grid):
        return Check("negative controls: surviving one-term mutants", "numeric", np.inf, 0.0, "the true system is rejected too"), []
    survivors = [mutant for mutant in mutants if not any(_rejects(r, mutant.system, evaluator) for r in grid)]
    note = f"{len(mutants) - len(survivors)} of {len(mutants)} mutants rejected by the grid"
    return Check("negative controls: surviving one-term mutants", "numeric", float(len(survivors)), 0.0, note), survivors


def _rejects(state: Reference, system: OdeSystem, evaluator: Evaluator) -> bool:
    return not np.abs(evaluator.rates_or_nan(system, state.numbers) - state.rates).max() <= state.bound  # True for a NaN
