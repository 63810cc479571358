"""Named rewrites from the derivation's expressions to what a kernel evaluates. Each keeps the value; each is tested for that.

Averages are not rewritten here: `codegen` gives every distinct `Expectation` a function of its own, evaluated by quadrature or by a
proxy, and these rewrites act on its integrand.
"""

from __future__ import annotations

from collections.abc import Callable

import sympy as sp


def stable_log_sum_exp(expression: sp.Expr) -> sp.Expr:
    """log Σ exp(a_i) = m + log Σ exp(a_i − m) with m the largest a_i: no exponential overflows, and one is exp(0)."""

    def is_log_sum_exp(e: sp.Expr) -> bool:
        return isinstance(e, sp.log) and isinstance(e.args[0], sp.Add) and all(_log_of_term(t) is not None for t in e.args[0].args)

    def rewritten(e: sp.Expr) -> sp.Expr:
        exponents = [_log_of_term(t) for t in e.args[0].args]
        largest = sp.Max(*exponents)
        return largest + sp.log(sp.Add(*(sp.exp(a - largest) for a in exponents)))

    return expression.replace(is_log_sum_exp, rewritten)


def _log_of_term(term: sp.Expr) -> sp.Expr | None:
    """a for exp(a), log c + a for c exp(a) with a positive number c; None for anything else."""
    factors = sp.Mul.make_args(term)
    exponents = [f.args[0] for f in factors if isinstance(f, sp.exp)]
    rest = sp.Mul(*(f for f in factors if not isinstance(f, sp.exp)))
    return sp.Add(*exponents, sp.log(rest)) if exponents and rest.is_positive else None


def stable_softmax(expression: sp.Expr) -> sp.Expr:
    """1/(1 + Σ c_i exp(a_i)) = exp(−m)/(exp(−m) + Σ exp(log c_i + a_i − m)) with m the largest of 0 and the exponents."""

    def is_softmax(e: sp.Expr) -> bool:
        if not (e.is_Pow and e.exp == -1 and isinstance(e.base, sp.Add)):
            return False
        rest = [t for t in e.base.args if t != 1]
        return len(rest) == len(e.base.args) - 1 and all(_log_of_term(t) is not None for t in rest)

    def rewritten(e: sp.Expr) -> sp.Expr:
        exponents = [_log_of_term(t) for t in e.base.args if t != 1]
        largest = sp.Max(0, *exponents)
        return sp.exp(-largest) / (sp.exp(-largest) + sp.Add(*(sp.exp(a - largest) for a in exponents)))

    return expression.replace(is_softmax, rewritten)


def stable_sech(expression: sp.Expr) -> sp.Expr:
    """sech x = 2 e^{−|x|}/(1 + e^{−2|x|}), and cosh x = 1/sech x only where SymPy's own form would overflow."""

    def rewritten(x: sp.Expr) -> sp.Expr:
        decay = sp.exp(-sp.Abs(x))
        return 2 * decay / (1 + decay**2)

    return expression.replace(sp.sech, rewritten)


def guarded_sqrt(expression: sp.Expr) -> sp.Expr:
    """√x = √max(x, 0).

    Under a root stands a squared distance, which rounding takes below zero at coincident vectors. The integrator rejects a state
    whose Gram matrix is negative beyond its tolerance, so what this hides is smaller than that.
    """
    return expression.replace(
        lambda e: e.is_Pow and e.exp == sp.S.Half and not e.base.is_nonnegative, lambda e: sp.sqrt(sp.Max(e.base, 0))
    )


REWRITES: tuple[Callable[[sp.Expr], sp.Expr], ...] = (stable_log_sum_exp, stable_softmax, stable_sech, guarded_sqrt)


def lower(expression: sp.Expr) -> sp.Expr:
    """Every rewrite, in order."""
    for rewrite in REWRITES:
        expression = rewrite(expression)
    return expression


def share(expressions: list[sp.Expr]) -> tuple[list[tuple[sp.Symbol, sp.Expr]], list[sp.Expr]]:
    """Common subexpressions by name, and the expressions in terms of them; the names and their order are deterministic."""
    return sp.cse(expressions, symbols=(sp.Symbol(f"shared_{n}") for n in range(10**6)), order="canonical")
