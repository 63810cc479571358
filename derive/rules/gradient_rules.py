"""The rules that lead from the objective to averaged responsibilities, in index notation.

Each rule is a function from an expression to an expression of the same value, for any number of components and modes.
A vector is an expression that is linear in vector atoms: entries such as a_j, samples, deviations and gradients.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp

from derive.objects.indices import (
    COORDINATES,
    Entry,
    I,
    Index,
    Sum,
    VectorEntry,
    fresh,
    multiplied_out,
    products,
    total,
)
from derive.objects.mixtures import (
    PROPOSAL,
    TARGET,
    Average,
    Deviation,
    IndexedMixture,
    LogDensity,
    Responsibility,
    Sample,
    dimension_outside,
    require_softmax_calculus,
)
from derive.objects.spans import SpanLogDensity, SpanScore
from derive.objects.vectors import Gradient, Inner, RadialSlope, SquaredDeviation

VECTOR_ATOMS = VectorEntry | Sample | Deviation | Gradient


class RuleDoesNotApplyError(ValueError):
    """A rule met an expression outside its hypotheses; the message names the hypothesis."""


def map_atoms(vector: sp.Expr, image: Callable[[sp.Expr], sp.Expr]) -> sp.Expr:
    """The image of a vector under a linear map, which is given on vector atoms; averages stay outside of it."""
    if isinstance(vector, VECTOR_ATOMS):
        return image(vector)
    if vector.is_Add:
        return sp.Add(*(map_atoms(term, image) for term in vector.args))
    if vector.is_Mul:
        return sp.Mul(*(map_atoms(f, image) if has_vectors(f) else f for f in vector.args))
    if isinstance(vector, Sum):
        return Sum(map_atoms(vector.term, image), vector.index)
    if isinstance(vector, Average):
        return Average(map_atoms(vector.integrand, image), vector.sample)
    if vector == 0:
        return vector
    raise RuleDoesNotApplyError(f"{vector} is no vector")


def has_vectors(factor: sp.Expr) -> bool:
    """Whether a factor is a vector and not a scalar."""
    if isinstance(factor, Sum | Average) or factor.is_Add or factor.is_Mul:
        parts = factor.args[:1] if isinstance(factor, Sum | Average) else factor.args
        return any(has_vectors(part) for part in parts)
    return isinstance(factor, VECTOR_ATOMS)


def inner(u: sp.Expr, v: sp.Expr) -> sp.Expr:
    """The inner product of two vectors by bilinearity."""
    for node in v.atoms(Sum):  # the sums of the two vectors must have indices of their own
        if node.index in u.atoms(Index):
            v = v.xreplace({node: _renamed(node, u, v)})
    return map_atoms(u, lambda a: map_atoms(v, lambda b: Inner(a, b)))


def _renamed(node: Sum, *others: sp.Expr) -> Sum:
    index = fresh(node.index.size, node, *others)
    return Sum(node.term.xreplace({node.index: index}), index)


def gradient(scalar: sp.Expr, v: sp.Expr) -> sp.Expr:
    """The gradient of a scalar by a vector, by the chain rule over the scalar's nodes in which vectors stand."""
    nodes = sorted(scalar.atoms(LogDensity, Responsibility), key=sp.default_sort_key)
    hidden = {node: sp.Dummy(positive=True) for node in nodes}
    plain = scalar.xreplace(hidden)
    hidden |= {node: sp.Dummy(real=True) for node in sorted(plain.atoms(Inner), key=sp.default_sort_key)}
    plain = scalar.xreplace(hidden)
    back = {dummy: node for node, dummy in hidden.items()}
    parts = [sp.diff(plain, dummy).xreplace(back) * _node_gradient(node, v) for node, dummy in hidden.items()]
    return sp.factor_terms(sp.Add(*parts))


def _node_gradient(node: sp.Expr, v: sp.Expr) -> sp.Expr:
    if isinstance(node, Inner):
        first, second = node.args
        return _same(first, v) * second + _same(second, v) * first
    require_softmax_calculus()
    if isinstance(node, LogDensity):  # Σ_j ∂log q/∂logit_j ∇logit_j
        mixture, x = node.args
        j = fresh(mixture.size, x, v)
        slope = gradient(mixture.logit(j, x), v)
        rho = Responsibility(mixture, j, x)
        return total(rho * slope, j) if slope.has(sp.KroneckerDelta) else Sum(rho * slope, j)
    # Σ_l ρ_j (δ_jl − ρ_l) ∇logit_l, where ρ_j = Σ_l ρ_j ρ_l
    mixture, j, x = node.args
    l = fresh(mixture.size, node, v)
    slopes = gradient(mixture.logit(j, x), v) - gradient(mixture.logit(l, x), v)
    return Sum(node * Responsibility(mixture, l, x) * slopes, l)


def _same(u: sp.Expr, v: sp.Expr) -> sp.Expr:
    """1 for two names of one vector, 0 for two vectors, and a Kronecker delta for members of one family."""
    if isinstance(u, VectorEntry) and isinstance(v, VectorEntry) and u.family == v.family:
        return sp.Mul(*(sp.KroneckerDelta(a, b) for a, b in zip(u.indices, v.indices, strict=True)))
    return sp.Integer(int(u == v))


def scores(expression: sp.Expr) -> sp.Expr:
    """The expression with all gradients of log densities carried out, as averages of the components' scores."""

    def carried_out(node: sp.Expr) -> sp.Expr:
        scalar, v = node.args
        if isinstance(node, Gradient):
            return gradient(scalar, v)
        return inner(gradient(scalar, v), Deviation(v))

    return expression.replace(lambda e: isinstance(e, Gradient | RadialSlope), carried_out)


def split(expression: sp.Expr) -> sp.Expr:
    """The expression with every average split, by linearity, into averages of single products under their sums."""

    def parts(integrand: sp.Expr, x: Sample) -> sp.Expr:
        found = []
        for product, bound in products(integrand):
            part = Average(product, x)
            for index in reversed(bound):
                part = Sum(part, index)
            found.append(part)
        return sp.Add(*found)

    return _at_averages(expression, parts)


def _at_averages(expression: sp.Expr, rule: Callable[[sp.Expr, Sample], sp.Expr]) -> sp.Expr:
    """The expression with each average E_x[f] replaced by `rule(f, x)`."""
    if isinstance(expression, Average):
        return rule(*expression.args)
    if not expression.has(Average):
        return expression
    arguments = [_at_averages(a, rule) for a in expression.args[: 1 if isinstance(expression, Sum) else None]]
    if isinstance(expression, Sum):
        return total(arguments[0], expression.index)
    return multiplied_out(expression.func(*arguments))


def exchange_responsibilities(expression: sp.Expr, mixture: IndexedMixture) -> sp.Expr:
    """Σ_j w_j E_{x_j}[ρ_i(x_j) f(x_j)] = w_i E_{x_i}[f(x_i)], since ρ_i q = w_i N_i pointwise; f does not depend on j.

    Terms of another form stay as they are.
    """

    def exchanged(term: sp.Expr) -> sp.Expr:
        constant, sums = term.as_independent(Sum, as_Add=False)
        if not isinstance(sums, Sum):
            return term
        weight, average = sums.term.as_independent(Average, as_Add=False)
        if not isinstance(average, Average):
            return term
        x = average.sample
        if x != Sample(mixture, sums.index, spanned=x.spanned):
            return term
        own = [f for f in sp.Mul.make_args(average.integrand) if isinstance(f, Responsibility) and f.mixture == mixture]
        if len(own) != 1:
            return term
        i = own[0].component
        if i.has(sums.index):
            return term
        rest = average.integrand / own[0] * weight / mixture.weight(sums.index)
        own_sample = x.of_component(i)
        moved = rest.xreplace({x: own_sample})
        if moved.has(sums.index):
            return term
        return constant * mixture.weight(i) * Average(moved, own_sample)

    return sp.Add(*(exchanged(term) for term in sp.Add.make_args(split(expression))))


def sums_to_one(expression: sp.Expr) -> sp.Expr:
    """The expression with Σ_j E[ρ_j] = 1 and Σ_j w_j = 1."""

    def complete(node: sp.Expr) -> bool:
        if not isinstance(node, Sum):
            return False
        term, j = node.args
        if isinstance(term, Average):
            rho = term.integrand
            return isinstance(rho, Responsibility) and rho.component == j
        return term in (PROPOSAL.weight(j), TARGET.weight(j))

    return expression.replace(complete, lambda node: sp.S.One)


def without_responsibilities(expression: sp.Expr) -> sp.Expr:
    """The expression with the averages that contain no responsibility carried out."""
    terms = sp.Add.make_args(split(expression))
    plain = [term for term in terms if not term.atoms(Responsibility)]
    return stein(in_deviations(sp.Add(*plain))) + sp.Add(*(term for term in terms if term not in plain))


def logs_of_responsibilities(expression: sp.Expr) -> sp.Expr:
    """The expression with log p(x) = log(w_c N_c(x)) − log ρ_c(x) in every average.

    The component c is the sample's own for a sample of the mixture, and the last one otherwise.
    """

    def taken_apart(f: sp.Expr, x: Sample) -> sp.Expr:
        def log_of_one(node: LogDensity) -> sp.Expr:
            mixture = node.args[0]
            c = x.component if mixture == x.mixture else mixture.size
            return mixture.logit(c, x) - sp.log(Responsibility(mixture, c, x))

        logs = {node: log_of_one(node) for node in f.atoms(LogDensity)}
        return split(Average(multiplied_out(f.xreplace(logs)), x))

    return _at_averages(expression, taken_apart)


def in_deviations(expression: sp.Expr) -> sp.Expr:
    """The expression with x = a_i + (x − a_i) in every average over x ~ N(a_i, σ_i² I).

    What the deviation multiplies is written in the slopes of the logits at a_i: a_j = a_i + σ_j² u_ij.
    """

    def rewritten(f: sp.Expr, x: Sample) -> sp.Expr:
        deviation = Deviation(x)

        def at_sample(atom: sp.Expr) -> sp.Expr:
            return x.mean + deviation if atom == x else atom

        def in_slopes(atom: sp.Expr) -> sp.Expr:
            return x.mean + deviation if atom == x else by_slope(atom, x)

        def product(node: Inner) -> sp.Expr:
            image = in_slopes if deviation in node.args else at_sample
            u, v = (image(a) for a in node.args)
            return inner(u, v).xreplace({Inner(deviation, deviation): x.scale**2 * SquaredDeviation(x)})

        seen = {node: product(node) for node in f.atoms(Inner) if x in node.args or deviation in node.args}
        changed = f.xreplace(seen)
        changed = map_atoms(changed, in_slopes) if has_vectors(changed) else changed
        return split(Average(multiplied_out(changed), x))

    return _at_averages(expression, rewritten)


def by_slope(atom: sp.Expr, x: Sample) -> sp.Expr:
    """The mean of a component j in its slope at the mean of a sample: a_i + σ_j² u_ij; other vectors stay."""
    for mixture in (PROPOSAL, TARGET):
        if isinstance(atom, VectorEntry) and atom.family == mixture.mean(I).family:
            return x.mean + mixture.scale(atom.indices[0]) ** 2 * slope_at_mean(mixture, atom.indices[0], x)
    return atom


def slope_at_mean(mixture: IndexedMixture, j: sp.Expr, x: Sample) -> sp.Expr:
    """u_ij, the slope of logit j at a sample's mean a_i, or v_kj at a mode; zero for the sample's own component."""
    own = x.mixture == mixture and x.component == j
    letter = "v" if x.mixture == TARGET else "u"
    return sp.S.Zero if own else VectorEntry(f"{letter}{mixture.star}", x.component, j)


def slopes_written_out(expression: sp.Expr) -> sp.Expr:
    """The expression with u_ij = (a_j − a_i)/σ_j² and v_kj = (a_j − ν_k)/σ_j²."""

    def apart(v: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
        """A slope's difference of means and its squared scale; any other vector stays."""
        if not isinstance(v, VectorEntry) or len(v.indices) < 2:
            return v, sp.S.One
        mixture = TARGET if v.family.endswith("_star") else PROPOSAL
        i, j = v.indices
        origin = (TARGET if v.family.startswith("v") else PROPOSAL).mean(i)
        return mixture.mean(j) - origin, mixture.scale(j) ** 2

    written: dict[sp.Expr, sp.Expr] = {}
    for node in expression.atoms(Inner):
        (u, over), (v, by) = (apart(a) for a in node.args)
        written[node] = inner(u, v) / (over * by)
    for node in expression.atoms(VectorEntry):
        difference, square = apart(node)
        written[node] = difference / square
    return expression.xreplace({old: new for old, new in written.items() if old != new})


def stein(expression: sp.Expr) -> sp.Expr:
    """E[f (x − a)] = σ² E_{x⁺}[∇f without the multiples of x − a], applied to every average linear in the deviation.

    f is a product of responsibilities or the logarithm of one. With unequal scales f depends on x = a + σz through
    linear forms u_l·z and through s = ‖z‖². Stein's lemma then gives E[f z] = Σ_l E[∂_l f] u_l + 2 E[∂_s f z], whose
    last term has the form of the left-hand side. Repeated use gives E[f z] = Σ_l E[(1 − 2∂_s)^{−1} ∂_l f] u_l. Since
    (1 − 2∂_s)^{−1} g(s) is the average of g(s + c) over c ~ χ²_2, the result is one average in two dimensions more,
    over x⁺. With equal scales f does not depend on s, and the average over x⁺ is the one over x.
    """

    def lemma(f: sp.Expr, x: Sample) -> sp.Expr:
        deviation = Deviation(x)
        if not f.atoms(Responsibility):
            return _moment(f, x)
        linear = [g for g in sp.Mul.make_args(f) if g == deviation or (isinstance(g, Inner) and deviation in g.args)]
        if not linear:
            return Average(f, x)
        if len(linear) > 1:
            raise RuleDoesNotApplyError(f"Stein's lemma needs one factor in the deviation, not those of {f}")
        (factor,) = linear
        slope = lifted_slope(f / factor, x)
        if factor != deviation:
            slope = inner(slope, next(a for a in factor.args if a != deviation))
        return multiplied_out(x.scale**2 * slope)

    return _at_averages(split(expression), lemma)


def _moment(f: sp.Expr, x: Sample) -> sp.Expr:
    """The average of a product of at most two linear forms of the deviation, or of powers of its square up to two.

    In a span, f may be the log density of a component, or a product of at most two of the sample's own scores.
    """
    if f.atoms(SpanLogDensity, SpanScore):
        return _moment_in_span(f, x)
    deviation, squared, dimension = Deviation(x), SquaredDeviation(x), dimension_outside(x)
    powers = _powers(f)
    factors = [base for base, power in powers for _ in range(int(power) if power.is_Integer else 1)]
    forms = [g for g in factors if g == deviation or (isinstance(g, Inner) and deviation in g.args)]
    squares = factors.count(squared)
    if len(forms) + squares < len(factors) or squares > 2 or len(forms) > 2 or (len(forms) == 2 and squares):
        raise RuleDoesNotApplyError(f"no moment of {f}")
    if len(forms) % 2:
        return sp.S.Zero
    if forms:
        u, v = (next(a for a in g.args if a != deviation) for g in forms)
        return x.scale**2 * inner(u, v)
    return (sp.S.One, dimension, dimension * (dimension + 2))[squares]


def _moment_in_span(f: sp.Expr, x: Sample) -> sp.Expr:
    """E[s_n] = 0 and E[s_n s_m] = Λ_nm of the own score, and

    −2 E[log N(x; X_j, Σ_j)] = log det 2πΣ_j + Σ_no Λ_jno (Σ_ino + (X_i − X_j)_n (X_i − X_j)_o).
    """
    i, factors = x.component, [base for base, power in _powers(f) for _ in range(int(power))]
    if len(factors) == 1 and isinstance(factors[0], SpanLogDensity):
        mixture, j, _ = factors[0].args
        o, p = (Index(name, COORDINATES) for name in ("o", "p"))
        same = (mixture, j) == (x.mixture, i)
        apart = [Entry(f"X{x.mixture.star}", i, n) - Entry(f"X{mixture.star}", j, n) for n in (o, p)]
        second = Entry(f"Sigma{x.mixture.star}", i, o, p) + sp.Mul(*apart)
        inside = COORDINATES if same else total(total(Entry(f"Lambda{mixture.star}", j, o, p) * second, p), o)
        return -(Entry(f"logdet{mixture.star}", j) + COORDINATES * sp.log(2 * sp.pi) + inside) / 2
    scores = [g.args[3] for g in factors if isinstance(g, SpanScore) and g.args[:2] == (x.mixture, i)]
    if len(scores) < len(factors) or len(scores) > 2:
        raise RuleDoesNotApplyError(f"no moment of {f}")
    return sp.S.Zero if len(scores) == 1 else Entry(f"Lambda{x.mixture.star}", i, *scores)


def _powers(f: sp.Expr) -> list[tuple[sp.Expr, sp.Expr]]:
    return [factor.as_base_exp() for factor in sp.Mul.make_args(f) if factor != 1]


def lifted_slope(f: sp.Expr, x: Sample) -> sp.Expr:
    """E_{x⁺}[∇f without the multiples of x − a], for a product of responsibilities or the logarithm of one."""
    slope = gradient(f, x)
    if slope == 0:
        return slope
    at_mean = multiplied_out(map_atoms(slope, lambda atom: x.mean if atom == x else by_slope(atom, x)))
    return split(Average(at_mean.xreplace({x: x.lifted()}), x.lifted()))


def gathered(expression: sp.Expr) -> tuple[sp.Expr, sp.Expr]:
    """A combination of slopes u_ij, with bound indices renamed such that each family has one sum, Σ_j (…) u_ij.

    Returns this combination, and the terms in other vectors as they are.
    """
    groups: dict[tuple[str, Index], sp.Expr] = {}
    others = sp.S.Zero
    for product, bound in products(expression):
        (u,) = (factor for factor in sp.Mul.make_args(product) if has_vectors(factor))
        if not (isinstance(u, VectorEntry) and u.family.startswith("u")):
            for index in reversed(bound):
                product = Sum(product, index)
            others += product
            continue
        j, rest = u.indices[-1], tuple(index for index in bound if index != u.indices[-1])
        first = fresh(j.size)
        names = {j: first}
        for index in rest:
            names[index] = fresh(index.size, *names.values())
        apart = {old: sp.Dummy() for old in names}
        renamed = (product / u).xreplace(apart).xreplace({apart[old]: new for old, new in names.items()})
        for index in rest:
            renamed = Sum(renamed, names[index])
        key = (u.family, first)
        groups[key] = groups.get(key, sp.S.Zero) + renamed
    sums = (Sum(collected(share) * VectorEntry(family, I, j), j) for (family, j), share in groups.items())
    return sp.Add(*sums), others


def collected(expression: sp.Expr) -> sp.Expr:
    """The expression with sums over one index put together, and with common factors before them."""
    by_index: dict[Index | None, sp.Expr] = {}
    for term in sp.Add.make_args(expression):
        constant, node = term.as_independent(Sum, as_Add=False)
        if isinstance(node, Sum):
            by_index[node.index] = by_index.get(node.index, sp.S.Zero) + constant * node.term
        else:
            by_index[None] = by_index.get(None, sp.S.Zero) + term
    return sp.Add(*(term if index is None else Sum(sp.factor_terms(term), index) for index, term in by_index.items()))
