"""The flow's velocity at one concrete state: the derived vector equations with numbers put in, to double precision and beyond.

The step before the overlaps (projected flow) gives each da_i/dt as a combination of means and modes. Its coefficients are
averages over standard normals, which mpmath evaluates; no grid, no kernel.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import mpmath
import sympy as sp

from derive.derivation import Derivation
from derive.expectation import Expectation
from derive.flow import close
from derive.reduction import reduce_to_scalars
from derive.system import BETA
from derive.vectors import Vector, VectorSymbol

DIGITS = 17
Vectors = Sequence[Sequence[float]]


@dataclass(frozen=True)
class Velocity:
    """means: da_i/dt, L lists of coordinates. M: d(a_i·ν_k)/dt, L lists of K. Q: d(a_i·a_j)/dt, L lists of L."""

    means: tuple[tuple[float, ...], ...]
    M: tuple[tuple[float, ...], ...]
    Q: tuple[tuple[float, ...], ...]


def velocity_at(derivation: Derivation, means: Vectors, modes: Vectors, parameters: dict[sp.Symbol, float], beta: float) -> Velocity:
    """da_i/dt at the given means, with the overlaps' rates.

    means, modes: L and K lists of equally many coordinates. parameters: values of the weights' and scales' symbols.
    The means may have any lengths; on the sphere none may be zero.
    """
    setting = derivation.setting
    names = dict(derivation.overlaps.names)
    coordinates: dict[VectorSymbol, list[mpmath.mpf]] = {}
    for symbol, vector in zip((*setting.proposal.means, *setting.target.means), (*means, *modes), strict=True):
        coordinates[symbol] = [mpmath.mpf(x) for x in vector]
    with mpmath.workdps(DIGITS + 13):
        numbers: dict[sp.Symbol, mpmath.mpf] = {BETA: mpmath.mpf(beta), **{s: mpmath.mpf(v) for s, v in parameters.items()}}
        for inner, name in names.items():
            u, v = (coordinates[a] for a in inner.args)
            numbers[name] = mpmath.fdot(u, v)
        exact = {s: sp.Float(v, DIGITS + 13) for s, v in numbers.items()}

        def number(coefficient: sp.Expr) -> mpmath.mpf:
            averages = coefficient.atoms(Expectation)
            known = {a: close(reduce_to_scalars(a), names).xreplace(exact).evalf(DIGITS) for a in averages}
            return mpmath.mpf(close(coefficient.xreplace(known), names).xreplace(exact).evalf(DIGITS + 3)._to_mpmath(mpmath.mp.prec))

        velocities = [_combine(_velocity(derivation, i), coordinates, number) for i in range(1, len(means) + 1)]
        positions = [coordinates[a] for a in setting.proposal.means]
        targets = [coordinates[nu] for nu in setting.target.means]
        M = [[mpmath.fdot(v, nu) for nu in targets] for v in velocities]
        Q = [
            [mpmath.fdot(vi, aj) + mpmath.fdot(ai, vj) for vj, aj in zip(velocities, positions, strict=True)]
            for vi, ai in zip(velocities, positions, strict=True)
        ]
    return Velocity(*(tuple(tuple(float(x) for x in row) for row in rows) for rows in (velocities, M, Q)))


def _velocity(derivation: Derivation, i: int) -> Vector:
    return next(e.value for step in derivation.steps for e in step.after if e.label == f"velocity_{i}")


def _combine(vector: Vector, coordinates: dict, number) -> list:
    terms = [(number(coefficient), coordinates[atom]) for atom, coefficient in vector]
    length = len(next(iter(coordinates.values())))
    return [mpmath.fsum(c * v[n] for c, v in terms) for n in range(length)]
