"""The derived right-hand sides, and their one-term mutants, against the gradient of the KL on a grid."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
import sympy as sp

from annealvi.verification.check import Check
from annealvi.verification.evaluator import Evaluator
from derive.checks.mutations import Mutant, one_term_mutations
from derive.checks.step_check import sample_point
from derive.dynamics.derivation import Derivation
from derive.dynamics.learned import parameters_in
from derive.dynamics.symbolic_problem import FORWARD_SHARE, REFERENCE_SCALE, derive_in_dimension, symbolise
from derive.objects.expectation import Expectation
from derive.objects.mixtures import DIMENSION, Mixture
from derive.objects.objective import Setting
from derive.objects.parameters import parameters_of
from derive.objects.short_repr import short_repr
from derive.objects.system import BETA, OdeSystem
from derive.problem.specification import COVARIANCES, Problem
from derive.rules.geometry import axes
from derive.rules.reduction import holds_in, least_outside
from kernels.particles import kl_grid
from kernels.particles.objective import Objective

TOLERANCE = {1: 1e-11, 2: 1e-11, 3: 1e-9}
"""Tolerance of the grid in each dimension; a rate sums fewer than ten of its entries with factors of order one."""
LENGTHS = {1: (0.8, 2.5), 2: (0.8, 2.5), 3: (0.8, 1.8)}
SCALES = (0.8, 1.25)
MUTANTS = "negative controls: surviving one-term mutants"
TOO_MANY = "not run, since the problem's own equations hold in more dimensions than it has"


@dataclass(frozen=True)
class Reference:
    """A random state with its rates from the gradient of the KL on a grid.

    Attributes
    ----------
    dimension : int
        The dimension d of the grid.
    numbers : dict from sympy.Symbol to sympy.Float
        The value of every symbol, β included.
    rates : ndarray
        The rates of the states by the grid, (states,).
    bound : float
        The largest error that right rates may have.
    """

    dimension: int
    numbers: dict[sp.Symbol, sp.Float]
    rates: np.ndarray
    bound: float

    __repr__ = short_repr


def reference(
    derivation: Derivation, dimension: int, seed: int, fixed: Mapping[sp.Symbol, float] | None = None
) -> Reference:
    """A random state in R^dimension with its rates by the grid. Parameters are random, except for the fixed ones."""
    setting = derivation.setting
    outside = dimension - setting.coordinates
    point = sample_point(derivation, outside, seed, True, LENGTHS[dimension], SCALES, fixed)
    exact = {symbol: sp.Float(value, 30) for symbol, value in point.scalars.items()} | {
        DIMENSION: sp.Integer(dimension)
    }

    def mixture(source: Mixture) -> kl_grid.Mixture:
        means = np.array([[float(x) for x in point.vectors[v]] for v in source.means])
        within = [[float(x.xreplace(exact)) for x in law.mean] for law in source.span]
        covariances = [[float(x.xreplace(exact)) for x in law.covariance] for law in source.span]
        size = setting.coordinates
        if source.span:
            means = np.concatenate([within, means], axis=1)
        numbers = {name: [float(e.xreplace(exact)) for e in part] for name, part in parameters_of(source).items()}
        own = np.reshape(covariances, (-1, size, size)) if source.span else None
        return kl_grid.Mixture(means, **{name: np.array(part) for name, part in numbers.items()}, covariances=own)

    q, p, beta = mixture(setting.proposal), mixture(setting.target), float(exact[BETA])
    gradient = kl_grid.kl_gradient(q, p, beta, TOLERANCE[dimension], _objective(setting, exact))
    velocity = _velocity_by_grid(setting, np.asarray(q.means, float), gradient)
    M, half = (velocity @ np.asarray(mixture.means).T for mixture in (p, q))
    Q = half + half.T
    means, modes = list(setting.proposal.means), list(setting.target.means)
    if setting.spanned:
        modes, M = axes(setting.coordinates), velocity
    rates = []
    for _, inner, unit in derivation.overlaps.moving:
        inside = [means.index(a) for a in inner.args if a in means]
        rate = (
            Q[inside[0], inside[-1]]
            if len(inside) == 2
            else M[inside[0], next(modes.index(a) for a in inner.args if a in modes)]
        )
        rates.append(rate / float(unit.xreplace(exact)))
    of_parameters = kl_grid.rates(q, gradient, setting.metric)
    for parameter in parameters_in(setting.learn):
        rates += [*of_parameters[parameter.name]]
    if COVARIANCES in setting.learn:
        upper = np.triu_indices(setting.coordinates)
        rates += [*of_parameters[COVARIANCES][:, upper[0], upper[1]].ravel()]
    return Reference(dimension, exact, np.array(rates), 10 * TOLERANCE[dimension])


def _objective(setting: Setting, numbers: Mapping[sp.Symbol, sp.Float]) -> Objective:
    """The setting's objective with the numbers of its parameters."""
    scale = float(numbers.get(REFERENCE_SCALE, np.inf))
    if setting.integrand == 0:
        return Objective(1.0, scale)
    return Objective(0.0 if setting.under_target == 0 else float(numbers[FORWARD_SHARE]), scale)


def _velocity_by_grid(setting: Setting, means: np.ndarray, gradient: kl_grid.KlGradient) -> np.ndarray:
    """da/dt (L, d) of the setting's flow, from the gradient of the KL on a grid."""
    moved = -gradient.means if "means" in setting.learn else np.zeros_like(means)
    if setting.manifold == "sphere":
        moved = moved - means * np.sum(means * moved, axis=1, keepdims=True) / np.sum(means**2, axis=1, keepdims=True)
    return moved


LOW_DIMENSIONS = (2, 3)
"""Dimensions of the grids; a sphere in R¹ does not move."""


def grids_of(setting: Setting) -> tuple[int, ...]:
    """The dimensions, up to three, in which the setting has equations: with covariances it needs those of the span."""
    r = setting.coordinates
    return tuple(d for d in (1, *LOW_DIMENSIONS) if not setting.spanned or d == r or d >= r + least_outside(setting))


def references(problem: Problem, dimensions: tuple[int, ...] = LOW_DIMENSIONS, points: int = 3) -> list[Reference]:
    """Compute rates at random states from the gradient of the KL on grids.

    Parameters
    ----------
    problem : Problem
        The problem; its parameters are random, only its numbers of modes and components and its flow matter.
    dimensions : tuple of int, optional
        Dimensions of the grids, up to three. Those in which a problem with covariances has no equations are left out.
    points : int, optional
        Number of states in one and two dimensions; there is one state in three, unless covariances stand in a span,
        whose own equations may hold in no fewer.

    Returns
    -------
    list of Reference
        Each with its `dimension`, the `numbers` of all symbols, the `rates` (states,) and their error `bound`.

    Examples
    --------
    >>> import annealvi
    >>> found = annealvi.references(annealvi.load_problem("bimodal"), (2,), 1)  # doctest: +SKIP
    >>> found[0].rates.shape  # doctest: +SKIP
    (3,)
    """
    setting = symbolise(problem).setting
    possible = grids_of(setting)
    return [
        reference(derive_in_dimension(problem, d), d, seed)
        for d in dimensions
        if d in possible
        for seed in range(points if d < 3 or setting.spanned else 1)
    ]


def grid_checks(
    problem: Problem, derivation: Derivation, grid: list[Reference], values: Mapping[sp.Symbol, float]
) -> Iterator[Check | str]:
    """Compare a derivation's right-hand sides with the gradient of the KL on grids, in R¹, R² and R³.

    The system is compared at random parameters, and in the lower one of R² and R³ at the problem's own values too. If
    the derivation does not hold in so few dimensions, the problem's equations are derived anew there; on a sphere, R¹
    gets the equations of the Euclidean flow, since a sphere in R¹ does not move. The names of these checks say so: they
    judge how the problem is derived, and not the given system. Where covariances stand in a span, grids have its
    dimensions at least.

    Parameters
    ----------
    problem : Problem
        The problem that was derived.
    derivation : Derivation
        Its derivation, such as `session.derivation`.
    grid : list of Reference
        States in R² and R³ with their rates, from `annealvi.references`.
    values : mapping from sympy.Symbol to float
        The problem's own parameters, such as `session.values`.

    Yields
    ------
    Check or str
        One for each comparison, with the largest error of a rate; infinite if there was no state to compare. A line
        says in which dimensions there are no equations to compare.

    Examples
    --------
    >>> import annealvi
    >>> session = annealvi.open_session(annealvi.load_problem("bimodal"))
    >>> grid = annealvi.references(session.problem)  # doctest: +SKIP
    >>> checks = annealvi.grid_checks(session.problem, session.derivation, grid, session.values)  # doctest: +SKIP
    >>> all(check.passed for check in checks)  # doctest: +SKIP
    True
    """
    setting = derivation.setting
    own = {symbol: value for symbol, value in values.items() if symbol != DIMENSION}
    compared: list[tuple[str, OdeSystem, list[Reference], int]] = []
    possible = grids_of(setting)
    if 1 in possible:
        given = setting.manifold == "euclidean" and holds_in(setting, derivation.geometry, 1)
        line = derivation if given else derive_in_dimension(problem, 1, "euclidean")
        what = "euclidean" if given else "Euclidean twin, derived anew"
        compared.append((what, line.system, [reference(line, 1, seed) for seed in range(2)], 1))
    planes = [d for d in LOW_DIMENSIONS if d in possible]
    for d in planes:
        given = holds_in(setting, derivation.geometry, d)
        here, anew = (derivation, "") if given else (derive_in_dimension(problem, d), ", derived anew")
        compared.append((f"{setting.manifold}{anew}", here.system, [r for r in grid if r.dimension == d], d))
        if d == planes[0]:
            compared.append(
                (f"own parameters{anew}", here.system, [reference(here, d, seed, own) for seed in range(2)], d)
            )
    for what, system, states, d in compared:
        yield _grid_check(f"right-hand side against the KL on a grid, d = {d}, {what}", system, states)
    missing = [d for d in (1, *LOW_DIMENSIONS) if d not in possible]
    if missing:
        yield (
            f"right-hand side against the KL on a grid: not compared in d = {', '.join(map(str, missing))}, where a "
            f"span of {setting.coordinates} coordinates has no equations"
        )


def _grid_check(name: str, system: OdeSystem, states: list[Reference]) -> Check:
    """Compare a system's rates at the states with the grid's; without a state the statistic is infinite."""
    evaluator, bound = Evaluator(), 0.0
    worst = 0.0 if states else np.inf
    for r in states:
        difference = np.abs(evaluator.rates_or_nan(system, r.numbers) - r.rates).max()
        worst = float(np.maximum(worst, difference))  # np.maximum keeps a NaN
        bound = max(bound, r.bound + evaluator.uncertainty)
    sampled = ", and what quasi-random averages may be off" if any(bound > r.bound for r in states) else ""
    return Check(name, "numeric", worst, bound, f"{len(states)} random states; ten times the grid's tolerance{sampled}")


def mutant_check(derivation: Derivation, grid: list[Reference]) -> tuple[Check | str, list[Mutant]]:
    """Check that the grid rejects every one-term mutant; returns the check and the surviving mutants.

    A mutant is rejected if its rates exceed, at one state at least, the bound that the true system meets. The check
    fails without a state or a mutant. A line instead of a check says why no grid can judge: the equations hold only in
    more dimensions than a grid has.
    """
    holding = [d for d in LOW_DIMENSIONS if holds_in(derivation.setting, derivation.geometry, d)]
    if not holding:
        return f"negative controls on a grid: {TOO_MANY}", []
    grid = [r for r in grid if r.dimension in holding]
    evaluator = Evaluator()
    mutants = one_term_mutations(derivation.system, most_mutants(derivation))
    if not grid or not mutants:
        return Check(
            MUTANTS, "numeric", np.inf, 0.0, f"{len(mutants)} mutants at {len(grid)} states: nothing was compared"
        ), []
    if any(_rejects(r, derivation.system, evaluator) for r in grid):
        return Check(MUTANTS, "numeric", np.inf, 0.0, "the true system is rejected too"), []
    survivors = [mutant for mutant in mutants if not any(_rejects(r, mutant.system, evaluator) for r in grid)]
    note = f"{len(mutants) - len(survivors)} of {len(mutants)} mutants rejected by the grid"
    return Check(MUTANTS, "numeric", float(len(survivors)), 0.0, note), survivors


def most_mutants(derivation: Derivation) -> int:
    """The number of mutants to try: a sample, if averages over several variables make each of them costly."""
    widest = max(
        (len(a.variables) for _, e in derivation.system.subexpressions for a in e.atoms(Expectation)), default=0
    )
    return {0: 1000, 1: 1000, 2: 400, 3: 100}.get(widest, 40)


def _rejects(state: Reference, system: OdeSystem, evaluator: Evaluator) -> bool:
    difference = np.abs(evaluator.rates_or_nan(system, state.numbers) - state.rates).max()
    return not difference <= state.bound + evaluator.uncertainty  # True for a NaN
