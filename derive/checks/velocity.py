"""The flow's velocity at one concrete state: the derived vector equations with numbers put in.

The step before the overlaps gives each da_i/dt as a combination of means and modes, and the flows of the parameters as
averages over samples. mpmath evaluates averages over one normal variable to 17 digits; the caller's rule evaluates
averages over several variables.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import mpmath
import sympy as sp

from derive.dynamics.derivation import Derivation
from derive.dynamics.instances import Instance
from derive.objects.expectation import Expectation, StandardNormal
from derive.objects.mixtures import Mixture
from derive.objects.parameters import parameters_of
from derive.objects.short_repr import short_repr
from derive.objects.step import Equation
from derive.objects.system import BETA
from derive.objects.vectors import Vector, VectorSymbol
from derive.problem.specification import COVARIANCES
from derive.rules.flow import close
from derive.rules.geometry import axes
from derive.rules.reduction import CholeskyRoot, Surroundings, reduce_to_scalars
from derive.rules.span_reduction import names_in_law

DIGITS = 17
Vectors = Sequence[Sequence[float]]
AverageRule = Callable[[Expectation], float]
"""The value of an average over several variables, or over a χ² variable."""
NumberRule = Callable[[sp.Expr], mpmath.mpf]
"""The number of a scalar expression at the state."""


@dataclass(frozen=True)
class Velocity:
    """The flow's velocity at one state.

    Attributes
    ----------
    means : tuple
        da_i/dt, L lists of coordinates.
    parameters : dict
        By the name of each parameter, such as "weights", the rates of its L numbers, zero where not learned.
    M : tuple
        d(a_i·ν_k)/dt, L lists of K numbers.
    Q : tuple
        d(a_i·a_j)/dt, L lists of L numbers.
    covariances : tuple
        dC_i/dt, L matrices in the r coordinates of the target's means, zero where not learned; empty where the problem
        has no covariances.
    """

    means: tuple[tuple[float, ...], ...]
    parameters: dict[str, tuple[float, ...]]
    M: tuple[tuple[float, ...], ...]
    Q: tuple[tuple[float, ...], ...]
    covariances: tuple[tuple[tuple[float, ...], ...], ...] = ()

    __repr__ = short_repr


def velocity_at(
    derivation: Derivation,
    means: Vectors,
    modes: Vectors,
    parameters: Mapping[sp.Symbol, float],
    beta: float,
    several: AverageRule,
) -> Velocity:
    """Return the velocity at the given means, with the rates of the overlaps.

    means: L lists of coordinates. modes: K lists of as many coordinates. parameters: the values of the symbols of
    the mixtures' parameters, of the entries of covariances, and the dimension. beta: the inverse temperature. several:
    the caller's rule, which returns the value of an average over several variables, or over a χ² variable, in which
    every symbol is a number. The means may have any lengths; on the sphere none may be zero.
    """
    setting, geometry = derivation.setting, derivation.geometry
    names = dict(derivation.overlaps.names)
    surroundings = Surroundings.of(setting, geometry, geometry.large_dimension)
    r, size = setting.coordinates, len(means[0])
    whole: dict[VectorSymbol, list[mpmath.mpf]] = {}
    for symbol, vector in zip((*setting.proposal.means, *setting.target.means), (*means, *modes), strict=True):
        whole[symbol] = [mpmath.mpf(x) for x in vector]
    outside = {symbol: vector[r:] for symbol, vector in whole.items()}
    whole |= {e: [mpmath.mpf(n == m) for m in range(size)] for n, e in enumerate(axes(r))}
    with mpmath.workdps(DIGITS + 13):
        numbers: dict[sp.Symbol, mpmath.mpf] = {
            BETA: mpmath.mpf(beta),
            **{s: mpmath.mpf(v) for s, v in parameters.items()},
        }
        for inner, name in names.items():
            u, v = (whole[a] for a in inner.args)
            numbers[name] = mpmath.fdot(u, v)
        exact = {s: sp.Float(v, DIGITS + 13) for s, v in numbers.items()}
        for law in (*setting.proposal.span, *setting.target.span):
            for symbol, entry in names_in_law(law):
                exact[symbol] = _cholesky_entry(entry, exact)
        known: dict[Expectation, sp.Expr] = {}

        def value(average: Expectation) -> sp.Expr:
            if average not in known:
                reduced = reduce_to_scalars(average, surroundings)
                at = dict(exact)
                for symbol, entry in reduced.factor:
                    at[symbol] = _cholesky_entry(close(entry, names), at)
                known[average] = _evaluated(close(reduced.average, names).xreplace(at), several)
            return known[average]

        def number(coefficient: sp.Expr) -> mpmath.mpf:
            written = coefficient
            while written.free_symbols & named.keys():
                written = written.xreplace(named)
            averages = sorted(written.atoms(Expectation), key=sp.default_sort_key)
            plain = close(written.xreplace({a: value(a) for a in averages}), names).xreplace(exact)
            return mpmath.mpf(plain.evalf(DIGITS + 3)._to_mpmath(mpmath.mp.prec))

        instance = Instance(setting, derivation.general)
        found = {e.label: e for e in (*instance.velocities(), *instance.closed())}
        named = {e.symbol: e.value for e in found.values() if e.symbol is not None}
        velocities = [
            [
                *(_rate_of(x, found, number, "means" in setting.learn) for x in coordinates),
                *_combine(found.get(f"velocity_{i}"), outside, number, size - r),
            ]
            for i, coordinates in enumerate(_coordinates(setting.proposal), 1)
        ]
        learned = {
            name: tuple(float(_rate_of(symbol, found, number, name in setting.learn)) for symbol in symbols)
            for name, symbols in parameters_of(setting.proposal).items()
        }
        covariances = tuple(
            tuple(
                tuple(float(_rate_of(entry, found, number, COVARIANCES in setting.learn)) for entry in row)
                for row in law.covariance.tolist()
            )
            for law in setting.proposal.span
        )
        positions = [whole[a] for a in setting.proposal.means]
        targets = [whole[nu] for nu in setting.target.means]
        M = [[mpmath.fdot(v, nu) for nu in targets] for v in velocities]
        Q = [
            [mpmath.fdot(vi, aj) + mpmath.fdot(ai, vj) for vj, aj in zip(velocities, positions, strict=True)]
            for vi, ai in zip(velocities, positions, strict=True)
        ]
    of_means, of_M, of_Q = (tuple(tuple(float(x) for x in row) for row in rows) for rows in (velocities, M, Q))
    return Velocity(of_means, learned, of_M, of_Q, covariances)


def _coordinates(mixture: Mixture) -> list[Sequence[sp.Expr]]:
    """The symbols of the coordinates of each mean in the span; none where there is no span."""
    return [law.mean for law in mixture.span] or [()] * mixture.size


def _evaluated(expression: sp.Expr, several: AverageRule) -> sp.Expr:
    def number(node: Expectation) -> sp.Float:
        one_normal = len(node.variables) == 1 and isinstance(node.variables[0], StandardNormal)
        return node.evalf(DIGITS) if one_normal else sp.Float(several(node), DIGITS)

    return expression.xreplace({node: number(node) for node in expression.atoms(Expectation)}).evalf(DIGITS)


def _cholesky_entry(entry: sp.Expr, at: dict[sp.Symbol, sp.Expr]) -> sp.Expr:
    """Return an entry of a Cholesky factor or of an inverse in numbers.

    Where forms are dependent, a remainder that rounding leaves near or below zero counts as zero, and so does a
    quotient by zero.
    """
    if isinstance(entry, CholeskyRoot):
        remainder, whole = (sp.Float(a.xreplace(at), DIGITS + 13) for a in entry.args)
        return sp.sqrt(remainder) if remainder > whole * sp.Float(10) ** -(DIGITS + 3) else sp.S.Zero
    numerator, denominator = sp.fraction(entry)
    divisor = denominator.xreplace(at)
    return sp.S.Zero if divisor == 0 else numerator.xreplace(at) / divisor


def _rate_of(symbol: sp.Expr, found: Mapping[str, Equation], number: NumberRule, learned: bool) -> mpmath.mpf:
    return number(found[f"d{symbol.name}"].value) if learned else mpmath.mpf(0)


def _combine(velocity: Equation | None, coordinates: Mapping, number: NumberRule, size: int) -> list:
    """Return the vector in coordinates outside the span; zero where the means are not learned."""
    terms = [(number(c), coordinates[atom]) for atom, c in (velocity.value if velocity is not None else Vector())]
    return [mpmath.fsum(c * v[n] for c, v in terms) for n in range(size)]
