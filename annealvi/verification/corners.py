"""The printed linearisation and determinant at each corner of the overlaps, against the derived rates nearby."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import sympy as sp

from annealvi.verification.check import Check
from annealvi.verification.limit_numbers import DIGITS, SCALES, STEP, Averages, identity
from derive.asymptotics.linear_stability import BimodalStability, Linearisation
from derive.objects.system import BETA, OdeSystem

PARAMETERS = {
    "R": sp.Rational(3, 2),
    "w_1": sp.Rational(2, 5),
    "w_2": sp.Rational(3, 5),
    "w_star_1": sp.Rational(7, 10),
    "w_star_2": sp.Rational(3, 10),
    "beta": sp.Rational(3, 10),
    **SCALES,
}
"""Weights are unequal, so that an exchange of two weights shows."""

MOVES = sp.Matrix([[1, 1], [2, -1]]) * STEP
"""Two displacements of the two means, as columns."""


def corner_checks(system: OdeSystem, stability: BimodalStability) -> Iterator[tuple[str, Check]]:
    """Yield CORNER-matrix, CORNER-determinant and, if the theory concludes signs, CORNER-spectrum with their checks.

    Two means are moved off the modes' line by x_i in one direction. Then m_i = ±√(1 − x_i²) and s = m_1 m_2 + x_1 x_2;
    the rate of m_i gives the rate of x_i, which must be J x for the linearisation J.
    """
    averages = Averages()
    for corner in (stability.collapsed, stability.mixed, stability.separated):
        measured = _measured(system, corner, averages)
        values = {**_values(system), **dict(corner.averages)}
        matrix, determinant = (
            [averages.number(_at(entry, values)) for entry in printed]
            for printed in (corner.matrix, [corner.determinant])
        )
        name = f"the {corner.name} state"
        yield f"{corner.name}-matrix", identity(f"linearisation at {name}", list(zip(matrix, measured, strict=True)))
        yield f"{corner.name}-determinant", identity(f"determinant at {name}", [(determinant[0], measured.det())])
        if corner.is_saddle or corner.is_stable:
            yield f"{corner.name}-spectrum", _spectrum(f"signs of the spectrum at {name}", corner, measured)


def _spectrum(name: str, corner: Linearisation, measured: sp.Matrix) -> Check:
    """Count how many of two conclusions, saddle and stable, differ from those that the measured matrix gives."""
    trace, determinant = measured.trace(), measured.det()
    found = {"saddle": bool(determinant < 0), "stable": bool(trace < 0 < determinant)}
    wrong = (corner.is_saddle != found["saddle"]) + (corner.is_stable != found["stable"])
    return Check(name, "numeric", float(wrong), 0.0, corner.conclusion)


def _measured(system: OdeSystem, corner: Linearisation, averages: Averages) -> sp.Matrix:
    """The linearisation J, measured from the rates at two displacements."""
    signs = [value for _, value in corner.state[:2]]
    rates = [rate.subs(_values(system)) for rate in system.expanded_rhs()[:2]]
    images = []
    for x in (MOVES[:, 0], MOVES[:, 1]):
        m = [sign * sp.sqrt(1 - y**2) for sign, y in zip(signs, x, strict=True)]
        state = dict(zip(system.states, (*m, m[0] * m[1] + x[0] * x[1]), strict=True))
        images.append([averages.number(-rate.subs(state) * m[i] / x[i]) for i, rate in enumerate(rates)])
    return (sp.Matrix(images).T * MOVES.inv()).evalf(DIGITS)


def _values(system: OdeSystem) -> dict[sp.Expr, sp.Expr]:
    return {symbol: PARAMETERS[symbol.name] for symbol in (*system.parameters, BETA)}


def _at(expression: sp.Expr, values: Mapping[sp.Expr, sp.Expr]) -> sp.Expr:
    """Replace symbols by averages first, then the averages' own parameters by numbers."""
    return expression.xreplace(dict(values)).xreplace(dict(values))
