"""From expectations over a sample with coordinates in a span to expectations over the fewest independent scalars.

Within the span x − X_i = A_i z with A_i A_iᵀ = Σ_i, so that the logits of components with several covariances are
quadratic in the r normal variables z_1 … z_r. Outside the span the reduction is that of isotropic components: linear
forms, and with unequal scales a χ² variable. Where all components of a mixture have one covariance and one scale, the
quadratic parts cancel, and the logits' L − 1 linear forms are all that a responsibility sees, unless the span has fewer
coordinates.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

import sympy as sp

from derive.objects.expectation import Expectation, StandardNormal
from derive.objects.mixtures import Mixture, Responsibility
from derive.objects.notation import indexed_name
from derive.objects.softmax import Softmax
from derive.objects.spans import SpanDeviation, SpanLaw
from derive.objects.vectors import GaussianVector, SquaredDeviation
from derive.rules.flow import close
from derive.rules.reduction import (
    FactorNames,
    Logits,
    Reduced,
    Surroundings,
    cholesky,
    logits_outside,
    outside_forms,
    standard_normals,
)


def reduce_in_span(average: Expectation, surroundings: Surroundings, names: FactorNames) -> Reduced:
    """The average over independent scalars that equals an average over a sample with coordinates in a span."""
    (x,) = average.variables
    (mixture,) = {rho.mixture for rho in average.integrand.atoms(Responsibility)}
    deviations = average.integrand.atoms(SpanDeviation)
    own_covariances = len({law.covariance for law in mixture.span}) > 1 or len(set(mixture.scales)) > 1
    fewer = mixture.size - 1 < x.span.size or not all(mean in surroundings.images for mean in mixture.means)
    if own_covariances or deviations or not fewer:
        found, within = _in_coordinates(mixture, x, surroundings, names)
        nodes = {node: within[int(node.args[1]) - 1] for node in deviations}
    else:
        found, nodes = _in_linear_forms(mixture, x, surroundings, names), {}
    nodes |= {rho: Softmax(rho.component + 1, *found.logits) for rho in average.integrand.atoms(Responsibility)}
    nodes |= dict.fromkeys(average.integrand.atoms(SquaredDeviation), found.squared)
    return Reduced(Expectation(average.integrand.xreplace(nodes), *found.variables), found.factor)


@lru_cache(maxsize=256)
def _in_coordinates(
    mixture: Mixture, x: GaussianVector, surroundings: Surroundings, names: FactorNames
) -> tuple[Logits, tuple[sp.Expr, ...]]:
    """The logits in the coordinates z_1 … z_r and the scalars outside, and the deviation x − X in these coordinates."""
    outside, law = logits_outside(mixture, x, surroundings, names), x.span
    beyond = [v for v in outside.variables if isinstance(v, StandardNormal)]
    normals = standard_normals(law.size + len(beyond))
    renamed = dict(zip(beyond, normals[law.size :], strict=True))
    within = tuple(sp.Add(*(law.factor[n, m] * normals[m] for m in range(n + 1))) for n in range(law.size))
    reference = _reference(mixture, x)
    quadratic = [_log_density(other, law, within, normals) for other in mixture.span]
    logits = tuple(
        sp.expand(logit.xreplace(renamed) + own - quadratic[reference])
        for logit, own in zip(outside.logits, quadratic, strict=True)
    )
    rest = tuple(v for v in outside.variables if v not in renamed)
    found = Logits(logits, outside.squared.xreplace(renamed), (*normals, *rest), outside.factor)
    return found, within


def _log_density(
    other: SpanLaw, law: SpanLaw, within: tuple[sp.Expr, ...], normals: tuple[StandardNormal, ...]
) -> sp.Expr:
    """log N(x; X_j, Σ_j) up to a common constant, at x = X_i + A z; for the sample's own covariance Aᵀ Λ A = 1."""
    away = [a - b for a, b in zip(law.mean, other.mean, strict=True)]
    if other.covariance == law.covariance:
        square = sp.Add(*(z**2 for z in normals[: law.size]))
    else:
        square = _form(other, within, within)
    return -(square + 2 * _form(other, within, away) + _form(other, away, away) + other.log_determinant) / 2


def _form(law: SpanLaw, u: Sequence[sp.Expr], v: Sequence[sp.Expr]) -> sp.Expr:
    """uᵀ Λ v."""
    places = range(law.size)
    return sp.Add(*(law.precision[n, m] * u[n] * v[m] for n in places for m in places))


@lru_cache(maxsize=256)
def _in_linear_forms(mixture: Mixture, x: GaussianVector, surroundings: Surroundings, names: FactorNames) -> Logits:
    """The logits of components with one covariance and one scale, in as many normal variables as there are others."""
    constants, outside = outside_forms(mixture, x, surroundings)
    law, reference = x.span, _reference(mixture, x)
    precision = mixture.span[0].precision

    def away(j: int) -> sp.Matrix:
        return sp.Matrix([a - b for a, b in zip(law.mean, mixture.span[j].mean, strict=True)])

    def half_square(j: int) -> sp.Expr:
        return (away(j).T * precision * away(j))[0] / 2

    pulls = {j: precision * (away(reference) - away(j)) for j in range(mixture.size) if j != reference}

    def inner(j: int, l: int) -> sp.Expr:
        in_span = (pulls[j].T * law.covariance * pulls[l])[0]
        return sp.expand(in_span) + close(x.scale**2 * outside[j].dot(outside[l]), surroundings.names)

    order = list(pulls)
    normals = standard_normals(len(order))
    factor, entries = cholesky([[inner(j, l) for l in order[: n + 1]] for n, j in enumerate(order)], names)
    lines = {
        j: sp.Add(*(c * z for c, z in zip(row, normals, strict=False))) for j, row in zip(order, factor, strict=True)
    }
    logits = tuple(
        sp.expand(constants[j] - half_square(j) + half_square(reference)) + lines.get(j, sp.S.Zero)
        for j in range(mixture.size)
    )
    return Logits(logits, sp.S.Zero, normals, entries)


def _reference(mixture: Mixture, x: GaussianVector) -> int:
    means = list(mixture.means)
    return means.index(x.mean) if x.mean in means else mixture.size - 1


def span_law(
    mean: Sequence[sp.Expr], covariance: Sequence[Sequence[sp.Expr]], star: str, number: int, apart: bool
) -> SpanLaw:
    """A component's law in the span, with names for the entries of its precision and of its factor.

    A diagonal covariance needs no names. number: that of the first component with this covariance.
    """
    sigma = sp.ImmutableMatrix(covariance)
    if sigma.is_diagonal():
        diagonal = list(sigma.diagonal())
        precision, factor = (sp.diag(*map(f, diagonal)) for f in (lambda x: 1 / x, sp.sqrt))
        log_determinant = sp.Add(*map(sp.log, diagonal))
    else:

        def named(head: str, *index: int) -> sp.Symbol:
            return sp.Symbol(indexed_name(head + star, (number,), index, apart=apart), real=True)

        size = len(mean)
        precision = sp.Matrix(size, size, lambda n, m: named("Lambda", min(n, m) + 1, max(n, m) + 1))
        factor = sp.Matrix(size, size, lambda n, m: named("A", n + 1, m + 1) if m <= n else 0)
        log_determinant = named("logdet")
    parts = (sp.ImmutableMatrix(precision), log_determinant, sp.ImmutableMatrix(factor))
    return SpanLaw(sp.Tuple(*mean), sigma, *parts)


def names_in_law(law: SpanLaw) -> tuple[tuple[sp.Symbol, sp.Expr], ...]:
    """The names in a law's factor, precision and determinant, with their values in the covariance."""
    sigma, places = law.covariance, range(law.size)
    if sigma.is_diagonal():
        return ()
    gram = [[sigma[n, m] for m in range(n + 1)] for n in places]
    entries = cholesky(gram, lambda row, column: law.factor[row - 1, column - 1])[1]
    determinant, adjugate = sigma.det(), sigma.adjugate()
    inverse = {law.precision[n, m]: adjugate[n, m] / determinant for n in places for m in range(n, law.size)}
    return (*entries, *inverse.items(), (law.log_determinant, sp.log(determinant)))
