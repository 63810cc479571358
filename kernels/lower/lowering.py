"""Named rewrites from the expressions of the derivation to expressions that a kernel can evaluate without overflow.

Every rewrite keeps the value of an expression, and a test holds it to that. The rewrites do not touch averages: each
average has a function of its own, and the rewrites act on its integrand.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp

from derive.rules.reduction import AtLargest, CholeskyRoot

ROUNDING = 1e-15
"""About five roundings of float64; see `guarded_cholesky_root`."""


def stable_log_sum_exp(expression: sp.Expr) -> sp.Expr:
    """log Σ exp(a_i) = m + log Σ exp(a_i − m) with m the largest a_i.

    No exponential overflows, and one of the exponentials is exp(0).
    """

    def is_log_sum_exp(e: sp.Expr) -> bool:
        return isinstance(e, sp.log) and _is_sum_of_exponentials(e.args[0])

    def rewritten(e: sp.Expr) -> sp.Expr:
        largest, shifted = _shifted(_exponents(e.args[0]))
        return largest + sp.log(shifted)

    return expression.replace(is_log_sum_exp, rewritten)


def stable_softmax(expression: sp.Expr) -> sp.Expr:
    """exp(b)/(Σ exp(a_i))^n = exp(b − n m)/(Σ exp(a_i − m))^n with m the largest a_i.

    The sigmoid is the case of two terms.
    """

    def is_inverse_sum(e: sp.Expr) -> bool:
        return e.is_Pow and e.exp.is_Integer and e.exp.is_negative and _is_sum_of_exponentials(e.base)

    def shifted(e: sp.Expr) -> sp.Expr:
        largest, total = _shifted(_exponents(e.base))
        return sp.exp(e.exp * largest) * total**e.exp

    # exp(b) exp(−n m) may be infinity times zero; exp(b − n m) is finite.
    return expression.replace(is_inverse_sum, shifted).replace(lambda e: e.is_Mul, _with_one_exponential)


def _is_sum_of_exponentials(total: sp.Expr) -> bool:
    """Whether an expression is Σ c_i exp(a_i) with positive c_i and at least one exponential; some a_i may be zero."""
    if not total.is_Add or not any(isinstance(f, sp.exp) for term in total.args for f in sp.Mul.make_args(term)):
        return False
    return all(f.is_positive or isinstance(f, sp.exp) for term in total.args for f in sp.Mul.make_args(term))


def _exponents(total: sp.Expr) -> list[sp.Expr]:
    """The exponents a_i + log c_i of Σ c_i exp(a_i)."""
    exponents = []
    for term in total.args:
        factors = sp.Mul.make_args(term)
        coefficient = sp.Mul(*(f for f in factors if not isinstance(f, sp.exp)))
        exponents.append(sp.Add(*(f.args[0] for f in factors if isinstance(f, sp.exp)), sp.log(coefficient)))
    return exponents


def _shifted(exponents: list[sp.Expr]) -> tuple[sp.Expr, sp.Expr]:
    """The largest exponent m, and Σ exp(a_i − m)."""
    largest = sp.Max(*exponents)
    return largest, sp.Add(*(sp.exp(a - largest) for a in exponents))


def _with_one_exponential(product: sp.Expr) -> sp.Expr:
    exponents = [f.args[0] for f in product.args if isinstance(f, sp.exp)]
    if len(exponents) < 2:
        return product
    return sp.Mul(*(f for f in product.args if not isinstance(f, sp.exp))) * sp.exp(sp.Add(*exponents))


def stable_sech(expression: sp.Expr) -> sp.Expr:
    """sech x = 2 e^{−|x|}/(1 + e^{−2|x|}), also where the expression contains 1/cosh x."""

    def rewritten(x: sp.Expr) -> sp.Expr:
        decay = sp.exp(-sp.Abs(x))
        return 2 * decay / (1 + decay**2)

    def is_inverse_cosh(e: sp.Expr) -> bool:
        return e.is_Pow and isinstance(e.base, sp.cosh) and e.exp.is_negative

    return expression.replace(is_inverse_cosh, lambda e: sp.sech(e.base.args[0]) ** -e.exp).replace(sp.sech, rewritten)


def stable_log_cosh(expression: sp.Expr) -> sp.Expr:
    """log cosh x = |x| − log 2 + log(1 + e^{−2|x|})."""
    return expression.replace(
        lambda e: isinstance(e, sp.log) and isinstance(e.args[0], sp.cosh),
        lambda e: sp.Abs(e.args[0].args[0]) - sp.log(2) + sp.log(1 + sp.exp(-2 * sp.Abs(e.args[0].args[0]))),
    )


def guarded_sqrt(expression: sp.Expr) -> sp.Expr:
    """√x = √max(x, 0).

    The argument of a root is a squared distance, which rounding can make negative where vectors coincide. The
    integrator rejects a state whose Gram matrix is negative beyond its tolerance, so the guard hides only negative
    values that are smaller than the tolerance.
    """
    return expression.replace(
        lambda e: e.is_Pow and e.exp == sp.S.Half and not e.base.is_nonnegative, lambda e: sp.sqrt(sp.Max(e.base, 0))
    )


def guarded_cholesky_root(expression: sp.Expr) -> sp.Expr:
    """CholeskyRoot(remainder, own) = √max(remainder, ROUNDING · (own + 1)), with `own` the matrix's diagonal entry.

    Where vectors are dependent, the remainder is a rounding error of either sign, and later entries of the factor are
    divided by its root. The floor moves the matrix by no more than rounding has moved it already, so the factor is
    exact for a neighbouring matrix. `own` itself vanishes where means coincide. The matrix holds variances of logits,
    so the scale is then one.
    """

    def floored(root: sp.Expr) -> sp.Expr:
        remainder, own = root.args
        return sp.sqrt(sp.Max(remainder, sp.Float(ROUNDING) * (own + 1)))

    return expression.replace(lambda e: isinstance(e, CholeskyRoot), floored)


def written_out_choice(expression: sp.Expr) -> sp.Expr:
    """AtLargest, written as comparisons of every key with the largest key.

    The keys are symbols, so that the comparison meets the very numbers from which the largest key was taken.
    """
    return expression.replace(lambda e: isinstance(e, AtLargest), lambda e: e.explicit())


REWRITES: tuple[Callable[[sp.Expr], sp.Expr], ...] = (
    stable_log_sum_exp,
    stable_softmax,
    stable_sech,
    stable_log_cosh,
    guarded_sqrt,
    guarded_cholesky_root,
    written_out_choice,
)


def lower(expression: sp.Expr) -> sp.Expr:
    """The expression after every rewrite, in order."""
    for rewrite in REWRITES:
        expression = rewrite(expression)
    return expression


def hoisted(expression: sp.Expr, bound: set[sp.Symbol]) -> tuple[list[tuple[sp.Symbol, sp.Expr]], sp.Expr]:
    """Names for the largest parts that do not depend on the bound variables, and the expression in these names.

    A loop over the nodes of the bound variables then computes those parts only once.
    """
    named: dict[sp.Expr, sp.Symbol] = {}

    def visit(e: sp.Expr) -> sp.Expr:
        if not e.free_symbols & bound:
            if e.is_Atom:
                return e
            return named.setdefault(e, sp.Symbol(f"constant_{len(named)}", real=True))
        if e.is_Add or e.is_Mul:
            free, dependent = e.as_independent(*bound, as_Add=e.is_Add)
            parts = [visit(a) for a in (dependent.args if dependent.func is e.func else (dependent,))]
            return e.func(visit(free), *parts) if free != e.identity else e.func(*parts)
        return e.func(*map(visit, e.args)) if e.args else e

    inside = visit(expression)
    return [(symbol, definition) for definition, symbol in named.items()], inside


def share(expressions: list[sp.Expr]) -> tuple[list[tuple[sp.Symbol, sp.Expr]], list[sp.Expr]]:
    """Names for common subexpressions, and the expressions in terms of these names.

    The names and their order are deterministic.
    """
    return sp.cse(expressions, symbols=(sp.Symbol(f"shared_{n}") for n in range(10**6)), order="canonical")
