"""From expectations over vectors to expectations over the fewest independent scalars.

A responsibility depends on its sample x = a + σ z, z ~ N(0, I), only through the linear forms in its relative logits,
and with unequal scales also through ‖z‖². The forms are jointly Gaussian, so a Cholesky factor of their Gram matrix
writes them in independent standard normals z_1 … z_r, where r is the number of linearly independent forms: at most
K − 1 for the target and L − 1 for the proposal. The rest ‖z‖² − z_1² − … − z_r² is an independent χ² variable with
d − r degrees of freedom. Both statements are exact in every dimension d ≥ r.

Where there are more forms than dimensions, z_1 … z_d are the sample's coordinates in a frame of R^d (see `frame`), and
no χ² variable is left.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import sympy as sp
from sympy.printing.codeprinter import CodePrinter
from sympy.printing.latex import LatexPrinter
from sympy.printing.str import StrPrinter

from derive.objects.expectation import ChiSquared, Expectation, StandardNormal
from derive.objects.lambdified import Coded
from derive.objects.mixtures import DIMENSION, Mixture, Responsibility
from derive.objects.notation import indexed_name
from derive.objects.objective import POINT, Setting
from derive.objects.softmax import Softmax
from derive.objects.vectors import GaussianVector, Inner, SquaredDeviation, Vector, VectorSymbol
from derive.rules.flow import close, gram_symbols
from derive.rules.geometry import Geometry


class CholeskyRoot(Coded, sp.Function):
    """√remainder, a diagonal entry of a Cholesky factor; the second argument is the Gram matrix's own diagonal entry.

    In numbers the remainder is kept above the rounding error of that entry plus one, so that dependent or coincident
    vectors do not lead to a division by zero. A small root in place of zero changes the averages by its square.
    """

    nargs = 2
    is_real = True

    def explicit(self) -> sp.Expr:
        return sp.sqrt(self.args[0])

    def _eval_evalf(self, prec: int) -> sp.Expr:
        digits = int(prec / 3.32) + 1
        remainder, whole = (argument.evalf(digits) for argument in self.args)
        if remainder.is_Float and whole.is_Float:
            return sp.sqrt(max(remainder, (whole + 1) * sp.Float(10) ** (-(2 * digits) // 3)))
        return self.explicit().evalf(digits)

    def _code(self, printer: CodePrinter, name: Callable[[str], str]) -> str:
        call = printer._module_format("derive.objects.lambdified.cholesky_root")
        return f"{call}({', '.join(map(printer.doprint, self.args))}, {name('sqrt')}, {name('maximum')})"

    def _latex(self, printer: LatexPrinter, exp: str | None = None) -> str:
        root = rf"\sqrt{{{printer.doprint(self.args[0])}}}"
        return root if exp is None else rf"{{{root}}}^{{{exp}}}"

    def _sympystr(self, printer: StrPrinter) -> str:
        return f"sqrt({printer.doprint(self.args[0])})"


class AtLargest(sp.Function):
    """AtLargest(k_1, …, k_n, v_1, …, v_n) is the v that belongs to the largest k, the first one in a tie."""

    is_real = True

    @classmethod
    def eval(cls, *args: sp.Expr) -> sp.Expr | None:
        keys, values = args[: len(args) // 2], args[len(args) // 2 :]
        return (
            values[max(range(len(keys)), key=lambda n: (keys[n], -n))] if all(key.is_number for key in keys) else None
        )

    @property
    def keys(self) -> tuple[sp.Expr, ...]:
        return self.args[: len(self.args) // 2]

    @property
    def values(self) -> tuple[sp.Expr, ...]:
        return self.args[len(self.args) // 2 :]

    def explicit(self) -> sp.Expr:
        largest = sp.Max(*self.keys)
        branches = [
            (v, sp.Ge(k, largest, evaluate=False)) for k, v in zip(self.keys[:-1], self.values[:-1], strict=True)
        ]
        return sp.Piecewise(*branches, (self.values[-1], True), evaluate=False)

    def _latex(self, printer: LatexPrinter, exp: str | None = None) -> str:
        keys, values = (",".join(map(printer.doprint, part)) for part in (self.keys, self.values))
        return rf"\operatorname{{pick}}\left({keys};\ {values}\right)" + (f"^{{{exp}}}" if exp else "")

    def _sympystr(self, printer: StrPrinter) -> str:
        keys, values = (", ".join(map(printer.doprint, part)) for part in (self.keys, self.values))
        return f"pick({keys}; {values})"


@dataclass(frozen=True, eq=False)
class Surroundings:
    """What the reduction of an average needs to know beside the average.

    Attributes
    ----------
    images : mapping of VectorSymbol to Vector
        The dependent vectors, as combinations of others.
    dimension : int or None
        The dimension d where it is a known number, else None.
    modes, means : tuple of VectorSymbol
        All independent modes, and all means.
    apart : bool
        Whether the indices in names stand apart.
    large_dimension : bool
        Whether to replace ‖z‖² by its Gaussian limit N(d, 2d). The limit is exact as d → ∞, also where scales differ by
        O(d^{−1/2}).
    names : dict of Inner to sympy.Symbol
        The symbols of all inner products.
    coordinates : int
        The number r of coordinates in a span; the vectors are then those of the d − r dimensions outside, and the
        dimension is known where there are none.
    """

    images: Mapping[VectorSymbol, Vector]
    dimension: int | None
    modes: tuple[VectorSymbol, ...]
    means: tuple[VectorSymbol, ...]
    apart: bool = False
    large_dimension: bool = False
    names: dict[Inner, sp.Symbol] = field(default_factory=dict)
    coordinates: int = 0

    @classmethod
    def of(cls, setting: Setting, geometry: Geometry, large_dimension: bool = False) -> Surroundings:
        images = dict(geometry.images)
        modes = tuple(nu for nu in setting.target.means if nu not in images)
        names = gram_symbols(tuple(setting.target.means), tuple(setting.proposal.means))
        means = tuple(setting.proposal.means)
        dimension = geometry.dimension
        if setting.spanned:  # the overlaps are those of whole means
            names = _names_outside(setting, names)
            # Outside a span, vectors that are dependent are no exception: a Cholesky factor serves them, too.
            dimension = 0 if geometry.dimension == setting.coordinates else None
        return cls(images, dimension, modes, means, setting.apart, large_dimension, names, setting.coordinates)


def _names_outside(setting: Setting, names: Mapping[Inner, sp.Symbol]) -> dict[Inner, sp.Expr]:
    """The inner products outside a span in overlaps of whole means, Q_ij − Σ_n X_in X_jn."""
    place = {a: law.mean for a, law in zip(setting.proposal.means, setting.proposal.span, strict=True)}

    def outside(inner: Inner, name: sp.Symbol) -> sp.Expr:
        u, v = inner.args
        if u not in place or v not in place:
            return sp.S.Zero
        return name - sp.Add(*(x * y for x, y in zip(place[u], place[v], strict=True)))

    return {inner: outside(inner, name) for inner, name in names.items()}


@dataclass(frozen=True)
class Reduced:
    """An average over scalars, and the entries of the Cholesky factor in it.

    Attributes
    ----------
    average : sympy.Expr
        The average, whose logits contain the symbols of the factor's entries.
    factor : tuple of (sympy.Symbol, sympy.Expr)
        The value of each entry, in which only earlier symbols occur. The tuple is empty for a single form, whose length
        is written out in the logits.
    """

    average: sp.Expr
    factor: tuple[tuple[sp.Symbol, sp.Expr], ...]


@dataclass(frozen=True)
class FactorNames:
    """The names of a Cholesky factor's entries.

    Attributes
    ----------
    head : str
        The letters with which the names begin.
    component : tuple of int
        The component whose samples the factor belongs to; empty where all components share the factor.
    apart : bool
        Whether the indices stand apart.
    """

    head: str
    component: tuple[int, ...] = ()
    apart: bool = False

    def __call__(self, row: int, column: int) -> sp.Symbol:
        return sp.Symbol(indexed_name(self.head, self.component, (row, column), apart=self.apart), real=True)


RADIAL = VectorSymbol("radial")
"""The direction that stands for ‖z‖² − d in the limit d → ∞, where ‖z‖² is Gaussian and independent of every linear
form."""


def reduce_to_scalars(average: Expectation, surroundings: Surroundings, names: FactorNames | None = None) -> Reduced:
    """The average over independent scalars that equals an average over a vector sample, closed in the overlaps.

    The integrand is a polynomial in the responsibilities of one mixture, their logarithms and ‖x − a‖²/σ². names: the
    names of the Cholesky factor's entries.
    """
    (x,) = average.variables
    if x.span is not None:
        from derive.rules.span_reduction import reduce_in_span

        return reduce_in_span(average, surroundings, names or FactorNames("C"))
    (mixture,) = {rho.mixture for rho in average.integrand.atoms(Responsibility)}
    found = logits_outside(mixture, x, surroundings, names or FactorNames("C"))
    scalar_nodes = {rho: Softmax(rho.component + 1, *found.logits) for rho in average.integrand.atoms(Responsibility)}
    scalar_nodes |= dict.fromkeys(average.integrand.atoms(SquaredDeviation), found.squared)
    return Reduced(Expectation(average.integrand.xreplace(scalar_nodes), *found.variables), found.factor)


class Logits(NamedTuple):
    """A mixture's logits at a sample, and `squared` = ‖x − a‖²/σ², both in scalar `variables`.

    Of a sample with coordinates in a span, both concern the part outside.
    """

    logits: tuple[sp.Expr, ...]
    squared: sp.Expr
    variables: tuple[sp.Symbol, ...]
    factor: tuple[tuple[sp.Symbol, sp.Expr], ...]


@lru_cache(maxsize=256)
def logits_outside(mixture: Mixture, x: GaussianVector, surroundings: Surroundings, names: FactorNames) -> Logits:
    """The logits of a mixture at a sample in scalars, cached, since many averages are over the same sample."""
    parts = _quadratic_forms(mixture, x, surroundings)
    lines, normals, entries = _in_normals(tuple(part.linear for part in parts), x.scale, surroundings, names)
    squared, rest = _squared_length(x, normals, surroundings)
    typical = DIMENSION if surroundings.large_dimension else squared
    logits = tuple(
        close(part.constant, surroundings.names) + line + x.scale**2 * part.curvature * typical
        for part, line in zip(parts, lines, strict=True)
    )
    return Logits(logits, squared, (*normals, *rest), entries)


def outside_forms(
    mixture: Mixture, x: GaussianVector, surroundings: Surroundings
) -> tuple[list[sp.Expr], list[Vector]]:
    """The constants and the linear forms of a mixture's relative logits outside a span, for equal scales."""
    parts = _quadratic_forms(mixture, x, surroundings)
    return [close(part.constant, surroundings.names) for part in parts], [part.linear for part in parts]


@lru_cache(maxsize=64)
def _in_normals(
    forms: tuple[Vector, ...], scale: sp.Expr, surroundings: Surroundings, names: FactorNames
) -> tuple[tuple[sp.Expr, ...], tuple[StandardNormal, ...], tuple[tuple[sp.Symbol, sp.Expr], ...]]:
    """Linear forms of σ z in independent normal variables, these variables, and the entries of the factor."""
    basis = _independent(forms)
    if surroundings.dimension is not None and more_than_fit(len(basis), surroundings):
        normals = standard_normals(surroundings.dimension)
        coordinates, entries = frame(surroundings, surroundings.dimension)
        entries = tuple((symbol, close(value, surroundings.names)) for symbol, value in entries)
        return tuple(scale * _along(form, coordinates, normals) for form in forms), normals, entries
    normals = standard_normals(len(basis))
    lengths = {Inner(RADIAL, RADIAL): 2 * DIMENSION * scale**2}

    def inner(u: Vector, v: Vector) -> sp.Expr:
        return close(_without_radial(u.dot(v).xreplace(lengths)), surroundings.names)

    factor, entries = cholesky([[inner(u, v) for v in basis[: i + 1]] for i, u in enumerate(basis)], names)
    scalars = [scale * sp.Add(*(c * z for c, z in zip(row, normals, strict=False))) for row in factor]
    found = (zip(_coordinates(form, basis), scalars, strict=True) for form in forms)
    return tuple(sp.Add(*(c * y for c, y in terms)) for terms in found), normals, entries


def more_than_fit(forms: int, surroundings: Surroundings) -> bool:
    """Whether there are more linear forms than the space has dimensions."""
    return surroundings.dimension is not None and forms > surroundings.dimension and not surroundings.large_dimension


def count_forms(mixture: Mixture, x: GaussianVector, surroundings: Surroundings) -> int:
    """How many linearly independent forms of a sample the logits of a mixture contain."""
    return len(_independent([part.linear for part in _quadratic_forms(mixture, x, surroundings)]))


def holds_in(setting: Setting, geometry: Geometry, dimension: int) -> bool:
    """Whether the equations of this geometry's own dimension hold in R^dimension too.

    For equal scales they do, unless the equations use a frame of their own dimension. For unequal scales the dimension
    must exceed the number of forms, so that the χ² variable exists. With covariances in a span, all of this concerns
    the dimensions outside, and a span that is the whole space has equations of its own.
    """
    if setting.spanned:
        outside = dimension - setting.coordinates
        return outside == 0 if geometry.dimension == setting.coordinates else outside >= least_outside(setting)
    own = Surroundings.of(setting, geometry)
    for mixture in (setting.proposal, setting.target):
        forms = max(count_forms(mixture, x, own) for seen, x in setting.averaged() if seen == mixture)
        fits = not more_than_fit(forms, own)
        if len(set(mixture.scales)) > 1:
            fits = fits and forms != own.dimension and forms < dimension
        if not fits and dimension != own.dimension:
            return False
    return True


def least_outside(setting: Setting) -> int:
    """The least number of dimensions outside a span, if there are any, that the equations take.

    With unequal scales the means outside, L vectors, must leave a dimension for the χ² variable.
    """
    unequal = any(len(set(mixture.scales)) > 1 for mixture in (setting.proposal, setting.target))
    return setting.proposal.size + 1 if unequal else 1


def most_forms(setting: Setting, geometry: Geometry) -> int:
    """The largest number of independent forms in the logits of a mixture of unequal scales, at most the dimension.

    The number is 0 if both mixtures have equal scales.
    """
    own = Surroundings.of(setting, geometry)
    unequal = [mixture for mixture in (setting.proposal, setting.target) if len(set(mixture.scales)) > 1]
    most = max((count_forms(mixture, x, own) for mixture, x in setting.averaged() if mixture in unequal), default=0)
    return most if own.dimension is None else min(most, own.dimension)


def _quadratic_forms(mixture: Mixture, x: GaussianVector, surroundings: Surroundings) -> list[_QuadraticForm]:
    means = list(mixture.means)
    reference = means.index(x.mean) if x.mean in means else mixture.size - 1
    logits = _expanded_logits(mixture, surroundings.coordinates)
    return [_QuadraticForm.of(logit - logits[reference], x.mean, surroundings) for logit in logits]


@lru_cache(maxsize=16)
def _expanded_logits(mixture: Mixture, coordinates: int) -> tuple[sp.Expr, ...]:
    """The logits at POINT; the dimension is that outside a span."""
    outside = {DIMENSION: DIMENSION - coordinates}
    return tuple(sp.expand(mixture.logit(c, POINT).xreplace(outside)) for c in range(mixture.size))


def _along(
    form: Vector, coordinates: Mapping[VectorSymbol, Sequence[sp.Expr]], normals: Sequence[sp.Symbol]
) -> sp.Expr:
    return sp.Add(*(sp.Add(*(c * coordinates[v][n] for v, c in form)) * z for n, z in enumerate(normals)))


@dataclass(frozen=True)
class _QuadraticForm:
    """A relative logit at x = a + y: constant + linear·y + curvature ‖y‖²."""

    constant: sp.Expr
    linear: Vector
    curvature: sp.Expr

    @classmethod
    def of(cls, logit: sp.Expr, a: VectorSymbol, surroundings: Surroundings) -> _QuadraticForm:
        """The form of an expanded relative logit at POINT."""
        slopes: dict[VectorSymbol, sp.Expr] = defaultdict(lambda: sp.S.Zero)
        at_a: dict[Inner, Inner] = {}
        for term in sp.Add.make_args(logit):
            for node in sp.Mul.make_args(term):
                if isinstance(node, Inner) and POINT in node.args:
                    other = node.args[1] if node.args[0] == POINT else node.args[0]
                    slopes[other] += term / node
                    at_a[node] = Inner(a, a if other == POINT else other)
        curvature = slopes.pop(POINT, sp.S.Zero)
        slopes[a] += 2 * curvature
        if surroundings.large_dimension:
            slopes[RADIAL] = curvature
        linear = _in_independent_vectors(Vector(slopes), surroundings.images)
        return cls(logit.xreplace(at_a), linear, sp.factor(curvature))


def _in_independent_vectors(form: Vector, images: Mapping[VectorSymbol, Vector]) -> Vector:
    total = Vector()
    for symbol, coefficient in form:
        total += coefficient * images[symbol] if symbol in images else Vector({symbol: coefficient})
    return total.map(_cancelled)


def _cancelled(coefficient: sp.Expr) -> sp.Expr:
    return coefficient if coefficient.is_Rational else sp.cancel(coefficient)


def _without_radial(inner_products: sp.Expr) -> sp.Expr:
    """The expression with zero for every inner product with RADIAL, which is orthogonal to every vector."""
    return inner_products.xreplace({node: sp.S.Zero for node in inner_products.atoms(Inner) if RADIAL in node.args})


def _squared_length(
    x: GaussianVector, normals: tuple[StandardNormal, ...], surroundings: Surroundings
) -> tuple[sp.Expr, tuple[ChiSquared, ...]]:
    """‖x − a‖²/σ² in the scalars, and the χ² variable that it contains unless the normal variables fill the space."""
    along = sp.Add(*(z**2 for z in normals))
    if surroundings.dimension == len(normals) and not x.extra:
        return along, ()
    rest = ChiSquared("c", DIMENSION - surroundings.coordinates - len(normals) + x.extra)
    return along + rest, (rest,)


def standard_normals(count: int) -> tuple[StandardNormal, ...]:
    return (StandardNormal("z"),) if count == 1 else tuple(StandardNormal(f"z_{n + 1}") for n in range(count))


def _independent(forms: Sequence[Vector]) -> list[Vector]:
    """A basis among the forms.

    A numeric leading coefficient is made positive, so that u and −u give the same scalar.
    """
    symbols = sorted({s for form in forms for s, _ in form}, key=sp.default_sort_key)
    basis: list[Vector] = []
    eliminated: list[tuple[VectorSymbol, Vector]] = []
    for form in sorted(forms, key=lambda f: [sp.default_sort_key(f.coefficient(s)) for s in symbols]):
        leading = next((form.coefficient(s) for s in symbols if form.coefficient(s) != 0), sp.S.Zero)
        rest = form
        for pivot, row in eliminated:
            if coefficient := rest.coefficient(pivot):
                rest = (rest - coefficient * row).map(_cancelled)
        if len(rest):
            pivot, coefficient = next(iter(rest))
            eliminated.append((pivot, (rest * (1 / coefficient)).map(_cancelled)))
            basis.append(-form if leading.is_negative else form)
    return basis


def _coordinates(form: Vector, basis: list[Vector]) -> list[sp.Expr]:
    """The coefficients of a form in the basis; a form outside the basis's span is an error."""
    for n, u in enumerate(basis):
        for sign, same in ((1, u), (-1, -u)):
            if form == same:
                return [sp.Integer(sign * (m == n)) for m in range(len(basis))]
    symbols = sorted({s for f in [*basis, form] for s, _ in f}, key=sp.default_sort_key)
    if not len(form):
        return [sp.S.Zero] * len(basis)
    columns = sp.Matrix(len(symbols), len(basis), lambda r, c: basis[c].coefficient(symbols[r]))
    wanted = sp.Matrix([form.coefficient(s) for s in symbols])
    solution = (columns.T * columns).LUsolve(columns.T * wanted).applyfunc(sp.cancel)
    if (columns * solution - wanted).applyfunc(sp.cancel) != sp.zeros(len(symbols), 1):
        raise ArithmeticError("a linear form is outside the span of its own basis")
    return list(solution)


def cholesky(
    gram: list[list[sp.Expr]], names: Callable[[int, int], sp.Symbol]
) -> tuple[list[list[sp.Expr]], tuple[tuple[sp.Symbol, sp.Expr], ...]]:
    """The lower triangular factor of a symbolic Gram matrix, with named entries, and the values of the names.

    Of both matrices the rows up to the diagonal are given. The root of a single form is written out without a name. The
    factor's formulas need no proof from SymPy that the matrix is positive.
    """
    if len(gram) <= 1:
        return [[sp.sqrt(sp.expand(e)) for e in row] for row in gram], ()
    factor: list[list[sp.Expr]] = []
    entries = []
    for i, row in enumerate(gram):
        factor.append([])
        for j, entry in enumerate(row):
            known = sp.expand(entry)
            remainder = sp.Add(known, *(-a * b for a, b in zip(factor[i], factor[j][:j], strict=True)))
            name = names(i + 1, j + 1)
            entries.append((name, CholeskyRoot(remainder, known) if i == j else remainder / factor[j][j]))
            factor[i].append(name)
    return factor, tuple(entries)


@lru_cache(maxsize=64)
def frame(
    surroundings: Surroundings, d: int
) -> tuple[dict[VectorSymbol, tuple[sp.Expr, ...]], tuple[tuple[sp.Symbol, sp.Expr], ...]]:
    """Every vector's coordinates in orthonormal directions of R^d, as names, and the names' values in order of use.

    The directions follow from the Gram–Schmidt process on the modes; the coordinates are X_star_kn and X_in. Where the
    modes span less than R^d, each further direction is that of the mean with the largest remainder P_in outside the
    span so far. This mean may differ from state to state, so a mean within the span, such as one that has reached a
    mode, never has to give a direction. The averages do not depend on the frame.
    """
    modes, means = surroundings.modes, surroundings.means
    values: dict[sp.Symbol, sp.Expr] = {}
    coordinates: dict[VectorSymbol, list[sp.Symbol]] = {v: [] for v in (*modes, *means)}

    def named(head: str, *indices: int) -> sp.Symbol:
        return sp.Symbol(indexed_name(head, indices, apart=surroundings.apart), real=True)

    def left(u: VectorSymbol, v: VectorSymbol) -> sp.Expr:
        """The inner product of the parts of u and v outside the span of the directions so far."""
        return Inner(u, v) - sp.Add(*(x * y for x, y in zip(coordinates[u], coordinates[v], strict=False)))

    def give(v: VectorSymbol, symbol: sp.Symbol, value: sp.Expr) -> None:
        values[symbol] = value
        coordinates[v].append(symbol)

    for n, axis in enumerate(modes[:d], 1):
        own = named("X_star", n, n)
        remainder = left(axis, axis)
        give(axis, own, CholeskyRoot(remainder, Inner(axis, axis)) if n > 1 else sp.sqrt(remainder))
        for k, nu in enumerate(modes[n:], n + 1):
            give(nu, named("X_star", k, n), left(nu, axis) / own)
        for i, a in enumerate(means, 1):
            give(a, named("X", i, n), left(a, axis) / own)
    for n in range(len(modes[:d]) + 1, d + 1):
        keys = [named("P", i, n) for i in range(1, len(means) + 1)]
        values.update({key: left(a, a) for key, a in zip(keys, means, strict=True)})
        own = named("N", n)
        values[own] = CholeskyRoot(sp.Max(*keys), sp.Add(*(Inner(a, a) for a in means)))
        found = [AtLargest(*keys, *(left(a, b) for b in means)) / own for a in means]
        for i, (a, value) in enumerate(zip(means, found, strict=True), 1):
            give(a, named("X", i, n), value)
    padded = {v: (*found, *[sp.S.Zero] * (d - len(found))) for v, found in coordinates.items()}
    return padded, tuple(values.items())
