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

Uniform = Callable[[float, float], mpmath.mpf]


def point_in_span(
    derivation: Derivation,
    dimension: int,
    in_geometry: bool,
    scalars: dict[sp.Symbol, mpmath.mpf],
    uniform: Uniform,
    lengths: tuple[float, float],
    scales: tuple[float, float],
    fixed: Mapping[sp.Symbol, float],
) -> Point:
    """Complete the scalars with coordinates, covariances and lengths, and draw the vectors outside the span.

    dimension: that outside the span, where modes have no part. lengths: the interval of the lengths of whole means and
    modes. scales: the interval of scales, which also bounds how far covariances lie from the identity. fixed: numbers
    for parameters that are not random.
    """
    setting = derivation.setting
    r, spread = setting.coordinates, (scales[1] - scales[0]) / 2
    known = dict(derivation.geometry.lengths) if in_geometry else {}
    given = {s: mpmath.mpf(value) for s, value in fixed.items()}
    laws = [law for mixture in (setting.target, setting.proposal) for law in mixture.span]
    for law in laws:
        for n in range(r):
            for m in range(n, r):
                if law.covariance[n, m].is_Symbol:
                    # An entry near zero off the diagonal would hide a mistake in whatever has it as a factor.
                    across = uniform(spread / 2, spread) * (1 if uniform(-1, 1) > 0 else -1)
                    scalars.setdefault(law.covariance[n, m], 1 + uniform(-spread, spread) if n == m else across)
    for length in dict.fromkeys(known.values()):
        scalars[length] = uniform(*lengths)
    vectors: dict[VectorSymbol, tuple] = {}
    for mixture in (setting.target, setting.proposal):
        of_target = mixture == setting.target
        for v, law in zip(mixture.means, mixture.span, strict=True):
            whole = [uniform(-1, 1) for _ in range(r if of_target else r + dimension)]
            size = given.get(known[v], scalars[known[v]]) if v in known else uniform(*lengths)
            whole = [size * x / mpmath.norm(whole) for x in whole]
            scalars.update((x, number) for x, number in zip(law.mean, whole, strict=False) if x.is_Symbol)
            vectors[v] = tuple(whole[r:]) if not of_target else (mpmath.mpf(0),) * dimension
    scalars.update((s, value) for s, value in given.items() if s in scalars)
    for law in laws:
        _name(law, scalars)
    within = {
        a: [scalars[x] for x in law.mean] for a, law in zip(setting.proposal.means, setting.proposal.span, strict=True)
    }
    for inner, name in derivation.overlaps.names:
        if all(v in within for v in inner.args):
            u, v = inner.args
            scalars[name] = mpmath.fdot(vectors[u], vectors[v]) + mpmath.fdot(within[u], within[v])
    return Point(dimension, vectors, scalars, r)


def _name(law: SpanLaw, scalars: dict[sp.Symbol, mpmath.mpf]) -> None:
    """Add the numbers of the names in a law's factor, precision and determinant."""
    for symbol, value in names_in_law(law):
        plain = value.explicit() if hasattr(value, "explicit") else value
        symbols = sorted(plain.free_symbols, key=str)
        scalars[symbol] = mpmath.mpf(sp.lambdify(symbols, plain, "mpmath")(*(scalars[s] for s in symbols)))
