"""Each rewrite keeps the value to 30 digits where nothing overflows, and stays right where the original overflows."""

import math

import mpmath
import numpy as np
import pytest
import sympy as sp

from derive.objects.expectation import StandardNormal
from derive.rules.reduction import AtLargest, CholeskyRoot
from kernels.lower import lowering
from kernels.lower.lowering import (
    REWRITES,
    guarded_cholesky_root,
    guarded_sqrt,
    lower,
    share,
    stable_log_cosh,
    stable_log_sum_exp,
    stable_sech,
    stable_softmax,
    written_out_choice,
)

a, b, c = SYMBOLS = sp.symbols("a b c", real=True)
w = sp.Symbol("w", positive=True)
z = StandardNormal("z")


ORDINARY = [(0.3, -1.1, 2.0), (-7.5, 4.25, 0.0), (3.0, 2.0, 3.0), (0.0, 0.0, 0.0)]
EXTREME = [(800.0, 900.0, -5.0), (-800.0, -900.0, -1000.0), (0.0, 1500.0, -1500.0)]

CASES = {
    "log-sum-exp of two": (stable_log_sum_exp, sp.log(sp.exp(a) + sp.exp(b))),
    "log-sum-exp of three with weights": (stable_log_sum_exp, sp.log(2 * sp.exp(a) + w * sp.exp(b) + sp.exp(c) / 7)),
    "softplus": (stable_log_sum_exp, sp.log(1 + sp.exp(a))),
    "sigmoid": (stable_softmax, 1 / (1 + sp.exp(-a))),
    "sigmoid as a quotient": (stable_softmax, sp.exp(a) / (1 + sp.exp(a))),
    "softmax of three": (stable_softmax, sp.exp(b) / (sp.exp(a) + w * sp.exp(b) + sp.exp(c))),
    "squared softmax": (stable_softmax, sp.exp(a + b) / (sp.exp(a) + sp.exp(b)) ** 2),
    "sech": (stable_sech, sp.sech(a)),
    "power of sech": (stable_sech, sp.sech(a - b) ** 3),
    "inverse cosh": (stable_sech, 1 / sp.cosh(a)),
    "log cosh": (stable_log_cosh, sp.log(sp.cosh(a))),
    "guarded root": (guarded_sqrt, sp.sqrt(60 + a * b + c * w)),
    "root of a Cholesky factor": (guarded_cholesky_root, CholeskyRoot(60 + a * b + c * w, sp.Integer(90))),
    "value at the largest key": (written_out_choice, AtLargest(a, b, c, a - b, b * c, sp.Integer(5))),
}


@pytest.mark.parametrize("name", CASES)
def test_rewrite_keeps_the_value(name):
    rewrite, expression = CASES[name]
    rewritten = rewrite(expression)
    for point in ORDINARY:
        numbers = {s: sp.Rational(str(v)) for s, v in zip(SYMBOLS, point, strict=True)} | {w: sp.Rational(7, 10)}
        assert abs(sp.N(expression.subs(numbers) - rewritten.subs(numbers), 30, maxn=400)) < 1e-28


@pytest.mark.parametrize("name", [n for n in CASES if "root" not in n])
def test_rewrite_survives_where_the_original_overflows(name):
    """The rewrite in double precision agrees with mpmath, whose exponents have no bound."""
    _, expression = CASES[name]
    function = sp.lambdify((*SYMBOLS, w), lower(expression), "numpy")
    reference = sp.lambdify(
        (*SYMBOLS, w), expression.replace(AtLargest, lambda *args: AtLargest(*args).explicit()), "mpmath"
    )
    for point in EXTREME:
        with mpmath.workdps(30):
            exact = float(reference(*map(mpmath.mpf, point), mpmath.mpf("0.7")))
        with np.errstate(under="ignore", over="raise", invalid="raise"):
            assert function(*map(np.float64, point), np.float64(0.7)) == pytest.approx(exact, rel=1e-13, abs=1e-300)


@pytest.mark.quick
def test_log_sum_exp_of_three_and_two():
    """log(e³ + e²), which SymPy's own `logsumexp_2terms_opt` gets wrong, is right."""
    rewritten = stable_log_sum_exp(sp.log(sp.exp(a) + sp.exp(b)))
    assert float(rewritten.subs({a: 3, b: 2})) == pytest.approx(math.log(math.exp(3) + math.exp(2)), rel=1e-15)


def test_a_logarithm_with_a_negative_term_is_left_alone():
    expression = sp.log(sp.exp(a) - sp.exp(b))
    assert lower(expression) == expression
    unknown_sign = 1 / (1 + c * sp.exp(a))
    assert stable_softmax(unknown_sign) == unknown_sign


@pytest.mark.quick
def test_guarded_root_is_zero_at_rounding_below_zero():
    assert guarded_sqrt(sp.sqrt(1 - a)).subs(a, sp.Float(1 + 2**-52)) == 0
    assert guarded_sqrt(sp.sqrt(w)) == sp.sqrt(w)


def test_a_cholesky_root_stays_above_rounding():
    root = guarded_cholesky_root(CholeskyRoot(1 - a, sp.Integer(4)))
    assert root.subs(a, sp.Float(1 + 2**-52)) == pytest.approx(math.sqrt(5e-15))


def test_a_cholesky_root_of_coincident_vectors_divides():
    assert guarded_cholesky_root(CholeskyRoot(sp.Integer(0), sp.Integer(0))) == pytest.approx(math.sqrt(1e-15))


def test_every_rewrite_is_named_documented_and_tested():
    assert {rewrite for rewrite, _ in CASES.values()} == set(REWRITES)
    assert all(rewrite.__doc__ and getattr(lowering, rewrite.__name__) is rewrite for rewrite in REWRITES)


def test_shared_subexpressions_keep_the_value_and_have_fixed_names():
    expressions = [sp.tanh(a + b) * sp.exp(a * b), sp.tanh(a + b) + sp.sqrt(sp.exp(a * b)), c + a]
    shared, reduced = share(expressions)
    assert [s.name for s, _ in shared] == [f"shared_{n}" for n in range(len(shared))]
    assert share(expressions) == (shared, reduced)
    assert len(shared) >= 2
    for symbol, value in reversed(shared):
        reduced = [e.xreplace({symbol: value}) for e in reduced]
    assert all(sp.simplify(e - f) == 0 for e, f in zip(expressions, reduced, strict=True))
