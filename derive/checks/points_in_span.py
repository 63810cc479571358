"""Random points at which a derivation with covariances in a span is checked."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import mpmath
import sympy as sp

from derive.checks.coordinate_numbers import Point
from derive.dynamics.derivation import Derivation
from derive.objects.spans import SpanLaw
from derive.objects.vectors import VectorSymbol
from derive.rules.span_reduction import names_in_law

SPREAD = 0.002
"""How far covariances lie from the identity: nearly equal ones, like nearly equal scales, keep 30 digits cheap."""


def point_in_span(
    derivation: Derivation,
    dimension: int,
    in_geometry: bool,
    scalars: dict[sp.Symbol, mpmath.mpf],
    uniform: Callable[[float, float], mpmath.mpf],
    lengths: tuple[float, float],
    fixed: Mapping[sp.Symbol, float] | None,
) -> Point:
    """Complete the scalars with coordinates, covariances and lengths, and draw the vectors outside the span.

    dimension: that outside the span, where modes have no part. In the geometry a mean's part has the length that its
    sphere leaves.
    """
    setting, overlaps = derivation.setting, derivation.overlaps
    low = high = lengths[0] / 2
    laws = [law for mixture in (setting.target, setting.proposal) for law in mixture.span]
    for law in laws:
        scalars.update((x, uniform(-low, high)) for x in law.mean if x.is_Symbol)
        for n in range(law.size):
            for m in range(n, law.size):
                entry = law.covariance[n, m]
                if entry.is_Symbol:
                    scalars.setdefault(entry, uniform(-SPREAD, SPREAD) + int(n == m))
    scalars.update((s, mpmath.mpf(value)) for s, value in (fixed or {}).items() if s in scalars)
    for law in laws:
        _name(law, scalars)
    known = dict(derivation.geometry.lengths) if in_geometry else {}
    scalars.update((radius, uniform(*lengths)) for radius in dict.fromkeys(known.values()))
    nothing = {v for v, image in derivation.geometry.images if in_geometry or v in setting.target.means}
    within = {
        a: [scalars[x] for x in law.mean] for a, law in zip(setting.proposal.means, setting.proposal.span, strict=True)
    }
    vectors: dict[VectorSymbol, tuple] = {}
    for v in (*setting.target.means, *setting.proposal.means):
        direction = [uniform(-1, 1) for _ in range(dimension)]
        size = uniform(*lengths)
        if v in known:
            rest = scalars[known[v]] ** 2 - mpmath.fdot(within[v], within[v])
            size = mpmath.sqrt(rest) if rest > 0 else mpmath.mpf(0)
        if v in nothing:
            size = mpmath.mpf(0)
        vectors[v] = tuple(size * x / mpmath.norm(direction) for x in direction)
    for inner, name in overlaps.names:
        if all(v in within for v in inner.args):
            u, v = inner.args
            scalars[name] = mpmath.fdot(vectors[u], vectors[v]) + mpmath.fdot(within[u], within[v])
    return Point(dimension, vectors, scalars, setting.coordinates)


def _name(law: SpanLaw, scalars: dict[sp.Symbol, mpmath.mpf]) -> None:
    """Add the numbers of the names in a law's factor, precision and determinant."""
    for symbol, value in names_in_law(law):
        plain = value.explicit() if hasattr(value, "explicit") else value
        scalars[symbol] = _number(plain, scalars)


def _number(expression: sp.Expr, scalars: Mapping[sp.Symbol, mpmath.mpf]) -> mpmath.mpf:
    symbols = sorted(expression.free_symbols, key=str)
    return mpmath.mpf(sp.lambdify(symbols, expression, "mpmath")(*(scalars[s] for s in symbols)))
