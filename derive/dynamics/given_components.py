"""General values at given K and L: nodes in index notation become nodes of a setting's own mixtures, vectors, samples.

The nodes keep their meaning. Sums are written out, and entries become symbols. A value is translated at the numbers of
its free indices.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import sympy as sp

from derive.objects.expectation import Expectation
from derive.objects.indices import COMPONENTS, COORDINATES, FIRST, MODES, SECOND, Entry, I, Sum
from derive.objects.mixtures import (
    TARGET,
    Average,
    Deviation,
    IndexedMixture,
    LogDensity,
    Mixture,
    Responsibility,
    Sample,
)
from derive.objects.objective import MixtureExpectation, Setting
from derive.objects.parameters import PARAMETERS
from derive.objects.spans import SpanDeviation, SpanLogDensity, SpanScore, SpanSlope
from derive.objects.vectors import (
    ExpectedVector,
    GaussianVector,
    Gradient,
    Inner,
    RadialSlope,
    SquaredDeviation,
    Vector,
    VectorSymbol,
)
from derive.rules.coordinates import ParameterRate, Slope
from derive.rules.flow import Descent, OverlapRate, SpannedDescent
from derive.rules.gradient_rules import has_vectors, slopes_written_out
from derive.rules.spans import CovarianceRate, CovarianceSlope, SpanMeanSlope

OF_SPAN = {"X": "mean", "Sigma": "covariance", "Lambda": "precision", "logdet": "log_determinant"}
"""The families of entries that a component's law in the span has."""

Numbers = dict[sp.Symbol, int]
"""The numbers of the free indices, counted from 1."""


class GivenComponents:
    """The translation of general values for one setting."""

    def __init__(self, setting: Setting) -> None:
        self.setting = setting
        self.sizes = {COMPONENTS: setting.proposal.size, MODES: setting.target.size, COORDINATES: setting.coordinates}

    def value(self, value: Any, at: Numbers, is_vector: bool) -> Any:
        """A value of an equation. is_vector: tells what a zero is."""
        proposal = self.setting.proposal
        if isinstance(value, Descent):
            return Descent(self.vector(value.gradient, at), self._atom(value.mean, at), value.manifold)
        if isinstance(value, OverlapRate):
            numbered = enumerate(proposal.means, 1) if value.velocity != 0 else ()
            moving = tuple((a, self.vector(value.velocity, {I: n})) for n, a in numbered)
            overlap = self.scalar(value.overlap, at)
            return OverlapRate(overlap, moving, None if value.within is None else self._pair_within(value, at))
        if isinstance(value, ParameterRate):
            rates = tuple(self.scalar(value.rates, {I: n}) for n in range(1, proposal.size + 1))
            component = self.number(value.component, at) - 1
            return ParameterRate(value.slope, component, rates, tuple(value.slope.symbols(proposal)))
        if isinstance(value, SpannedDescent):
            return self._spanned_descent(value, at)
        if isinstance(value, CovarianceRate):
            return self._covariance_rate(value, at)
        return self.vector(value, at) if is_vector else self.scalar(value, at)

    def scalar(self, expression: sp.Expr, at: Numbers) -> sp.Expr:
        if isinstance(expression, Entry):
            return self.entry(expression.family, tuple(self.number(index, at) for index in expression.indices))
        if expression.is_Mul:  # the entries last: an average with the factor 1/σ_j² − 1/σ_l² = 0 is not needed
            factors: list[sp.Expr] = []
            for factor in sorted(expression.args, key=lambda e: isinstance(e, Entry)):
                factors.append(self.scalar(factor, at))
                if factors[-1] == 0:
                    return sp.S.Zero
            return sp.Mul(*factors)
        if isinstance(expression, Sum):
            return sp.Add(*(self.scalar(term, here) for term, here in self.terms(expression, at)))
        if isinstance(expression, Average):
            integrand, x = self._seen(expression)
            return Expectation(self.scalar(integrand, at), self.sample(x, at))
        if isinstance(expression, Inner):
            u, v = (self.vector(a, at) for a in expression.args)
            return u.dot(v)
        if isinstance(expression, Responsibility):
            mixture, j, x = expression.args
            return Responsibility(self.mixture(mixture), self.number(j, at) - 1, self.sample(x, at))
        if isinstance(expression, LogDensity):
            mixture, x = expression.args
            return LogDensity(self.mixture(mixture), self.sample(x, at))
        if isinstance(expression, MixtureExpectation):
            integrand, x, mixture = expression.args
            return MixtureExpectation(self.scalar(integrand, at), x, self.mixture(mixture))
        if isinstance(expression, SpanLogDensity | SpanScore):
            mixture, j, x, *rest = expression.args
            numbers = (self.number(n, at) for n in rest)
            return expression.func(self.mixture(mixture), self.number(j, at) - 1, self.sample(x, at), *numbers)
        if isinstance(expression, SpanDeviation):
            return SpanDeviation(self.sample(expression.args[0], at), self.number(expression.args[1], at))
        if isinstance(expression, SpanSlope):
            f, x, n = expression.args
            return SpanSlope(self.scalar(f, at), self.sample(x, at), self.number(n, at))
        if isinstance(expression, SpanMeanSlope | CovarianceSlope):
            functional, mixture, *indices = expression.args
            numbers = (self.number(index, at) for index in indices)
            return expression.func(self.scalar(functional, at), self.mixture(mixture), *numbers)
        if isinstance(expression, SquaredDeviation):
            return SquaredDeviation(self.sample(expression.args[0], at))
        if isinstance(expression, RadialSlope):
            return RadialSlope(self.scalar(expression.args[0], at), self.sample(expression.args[1], at))
        if isinstance(expression, Slope):
            functional, mixture, i = expression.args
            return expression.func(self.scalar(functional, at), self.mixture(mixture), self.number(i, at) - 1)
        if not expression.args:
            return sp.Integer(self.sizes[expression]) if expression in self.sizes else expression
        return expression.func(*(self.scalar(argument, at) for argument in expression.args))

    def vector(self, expression: sp.Expr, at: Numbers) -> Vector:
        """A vector in index notation as a combination of atoms."""
        if expression == 0:
            return Vector()
        if expression.is_Add:
            return sum((self.vector(term, at) for term in expression.args), Vector())
        if expression.is_Mul:
            (factor,) = (f for f in expression.args if has_vectors(f))
            return self.scalar(expression / factor, at) * self.vector(factor, at)
        if isinstance(expression, Sum):
            return sum((self.vector(term, here) for term, here in self.terms(expression, at)), Vector())
        if isinstance(expression, Average):
            integrand, x = self._seen(expression)
            return _expected(self.vector(integrand, at), self.sample(x, at))
        if isinstance(expression, Gradient):
            functional, v = expression.args
            return Vector({Gradient(self.scalar(functional, at), self._atom(v, at)): sp.S.One})
        if isinstance(expression, Deviation):
            x = self.sample(expression.args[0], at)
            return Vector({x: sp.S.One, x.mean: sp.S.NegativeOne})
        written = slopes_written_out(expression)
        return self.vector(written, at) if written != expression else Vector({self._atom(written, at): sp.S.One})

    def terms(self, node: Sum, at: Numbers) -> Iterable[tuple[sp.Expr, Numbers]]:
        """The terms of a sum, each with the numbers of its indices."""
        return ((node.term, {**at, node.index: n}) for n in range(1, self.sizes[node.index.size] + 1))

    def entry(self, family: str, numbers: tuple[int, ...]) -> sp.Expr:
        return self.symbol(Entry(family, *numbers))

    def symbol(self, entry: Entry) -> sp.Symbol:
        """The setting's own symbol for an entry, of which the indices are numbers."""
        mixture = self.mixture_of(entry)
        family = entry.family.removesuffix("_star")
        for parameter in PARAMETERS:
            if family == parameter.letter:
                return getattr(mixture, parameter.name)[int(entry.indices[0]) - 1]
        if mixture.span and family in OF_SPAN:
            j, *place = (int(index) - 1 for index in entry.indices)
            found = getattr(mixture.span[j], OF_SPAN[family])
            return found[tuple(place) if len(place) == 2 else place[0]] if place else found
        return sp.Symbol(entry.named(self.setting.apart), real=True)

    def mixture_of(self, entry: Entry) -> Mixture:
        """The mixture whose family an entry belongs to."""
        return self.setting.target if entry.family.endswith("_star") else self.setting.proposal

    def number(self, index: sp.Expr, at: Numbers) -> int:
        return at[index] if index in at else int(self.sizes.get(index, index))

    def mixture(self, general: IndexedMixture) -> Mixture:
        return self.setting.target if general.star else self.setting.proposal

    def sample(self, x: Any, at: Numbers) -> GaussianVector | VectorSymbol:
        if not isinstance(x, Sample):
            return x
        samples = self.setting.target_samples if x.mixture == TARGET else self.setting.samples
        sample = samples[self.number(x.component, at) - 1]
        return sample.lifted() if x.extra else sample

    def _seen(self, average: Average) -> tuple[sp.Expr, Sample]:
        """The integrand and the sample, without further dimensions if equal scales keep the integrand from them."""
        f, x = average.args
        if x.extra and all(coincide(self.mixture(rho.mixture)) for rho in f.atoms(Responsibility)):
            plain = x.plain()
            return f.xreplace({x: plain}), plain
        return f, x

    def _spanned_descent(self, value: SpannedDescent, at: Numbers) -> SpannedDescent:
        i, n = self.number(value.component, at), value.coordinate
        within = tuple(self.scalar(value.within, {I: i, FIRST: m}) for m in range(1, self.setting.coordinates + 1))
        return SpannedDescent(
            self.vector(value.outside, {I: i}),
            within,
            i,
            None if n is None else self.number(n, at),
            value.manifold,
            self.setting.proposal.means[i - 1],
            tuple(self.setting.proposal.span[i - 1].mean),
        )

    def _pair_within(self, value: OverlapRate, at: Numbers) -> tuple:
        """The coordinates and their velocities of the two means of an overlap."""
        found, places = [], range(1, self.setting.coordinates + 1)
        for mean in value.overlap.args:
            i = self.number(mean.indices[0], at)
            rates = tuple(self.scalar(value.within, {I: i, FIRST: n}) for n in places)
            found.append((tuple(self.setting.proposal.span[i - 1].mean), rates))
        return tuple(found)

    def _covariance_rate(self, value: CovarianceRate, at: Numbers) -> CovarianceRate:
        i, n, m = (self.number(index, at) for index in (value.component, value.row, value.column))
        places = range(1, self.setting.coordinates + 1)
        slopes = tuple(tuple(self.scalar(value.slopes, {I: i, FIRST: a, SECOND: b}) for b in places) for a in places)
        covariance = self.setting.proposal.span[i - 1].covariance
        return CovarianceRate(value.metric, i, n, m, slopes, tuple(map(tuple, covariance.tolist())))

    def _atom(self, atom: sp.Expr, at: Numbers) -> VectorSymbol:
        if isinstance(atom, Sample | VectorSymbol):
            return self.sample(atom, at)
        mixture = self.setting.target if atom.family == "nu" else self.setting.proposal
        return mixture.means[self.number(atom.indices[0], at) - 1]


def coincide(mixture: Mixture) -> bool:
    """Whether all scales of the mixture are one symbol."""
    return len(set(mixture.scales)) == 1


def alike(mixture: Mixture) -> bool:
    """Whether all components have one scale and, in a span, one covariance: their log densities differ linearly."""
    return coincide(mixture) and len({law.covariance for law in mixture.span}) <= 1


def _expected(vector: Vector, x: GaussianVector) -> Vector:
    """E_x of a vector by linearity; atoms that do not depend on x leave the expectation."""
    total = Vector()
    for atom, coefficient in vector:
        if x not in atom.free_symbols:
            total += Vector({atom: Expectation(coefficient, x)})
        else:
            constant, factor = coefficient.as_independent(x, as_Add=False)
            total += Vector({ExpectedVector(factor, atom, x): constant})
    return total
