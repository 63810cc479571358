"""A user's formula in a form that overflows only where its value does.

The value 1/(1 + exp(u)) is an ordinary number even where exp(u) overflows in the working precision. A part that may
overflow or underflow is therefore computed as m · exp(k) with m of order one. In a sum of such parts the largest
exponent is set aside, so quotients, powers and logarithms act on k. A sum that is itself the result is added as it
stands.

The form covers every formula of the grammar whose value, whose parameters and whose trigonometric and min/max parts are
within the range of the working precision, for t up to 1e9. The form does not cover the difference of two terms that are
each out of range.

SymPy takes exponentials apart (exp(9 − t) may become 8103.08 exp(−t)) and joins them again; the nodes of this module
keep the arguments that they are given.
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, ClassVar

import sympy as sp

from derive.problem.interpolation import prec_to_digits


class Kept(sp.Function):
    """A function that SymPy evaluates and prints like `plain`, but never rewrites."""

    plain: ClassVar[Any]
    is_extended_real = True

    @classmethod
    def eval(cls, *_: sp.Expr) -> None:
        return None

    def written(self) -> sp.Expr:
        return self.plain(*self.args, evaluate=False)

    def _code(self, printer: Any, **_: object) -> str:
        return printer._print(self.written())

    _pythoncode = _mpmathcode = _numpycode = _jaxcode = _numba = _sympystr = _code

    def _latex(self, printer: Any, exp: Any = None) -> str:
        text = printer._print(self.written())
        return text if exp is None else rf"\left({text}\right)^{{{exp}}}"

    def _eval_evalf(self, prec: int) -> sp.Expr:
        return self.plain(*(a.evalf(prec_to_digits(prec)) for a in self.args))

    def _eval_derivative(self, symbol: sp.Symbol) -> sp.Expr:
        return self.plain(*self.args).diff(symbol)


class Exponential(Kept):
    plain = sp.exp
    is_extended_positive = True

    def _latex(self, printer: Any, exp: Any = None) -> str:
        text = rf"e^{{{printer._print(self.args[0])}}}"
        return text if exp is None else rf"\left({text}\right)^{{{exp}}}"


class Logarithm(Kept):
    plain = sp.log


class Largest(Kept):
    plain = sp.Max
    of_two = "maximum"
    choose: ClassVar[Any] = max

    def _eval_evalf(self, prec: int) -> sp.Expr:
        values = [a.evalf(prec_to_digits(prec)) for a in self.args]
        if not all(v.is_Float or v.is_Rational for v in values):
            return self.plain(*values)
        # By mpmath's numbers, because SymPy does not compare a zero of which it is not sure.
        return type(self).choose(values, key=lambda v: v._to_mpmath(prec))

    def _numpycode(self, printer: Any, **_: object) -> str:
        """Code that compares two arguments at a time, as arrays of different shapes need it."""
        first, *others = map(printer._print, self.args)
        for other in others:
            first = f"{printer._module_format(f'{printer._module}.{self.of_two}')}({first}, {other})"
        return first

    _jaxcode = _numpycode


class Smallest(Largest):
    plain = sp.Min
    of_two = "minimum"
    choose = min


class Floor(Kept):
    plain = sp.floor


class Tabulated(Kept):
    """Tabulated(time, end, table, f): a function f of time that is read from its table until `end`.

    The function is one node, because SymPy would carry the branches of a `Piecewise` into conditions.
    """

    @staticmethod
    def plain(time: sp.Expr, end: sp.Expr, table: sp.Expr, function: sp.Expr, evaluate: bool = True) -> sp.Expr:
        return sp.Piecewise((table, end > time), (function, True), evaluate=evaluate)


class Magnitude(Kept):
    plain = sp.Abs
    is_extended_nonnegative = True


Pair = tuple[sp.Expr, sp.Expr]
"""The pair (m, k) that stands for m · exp(k)."""

MOST_DEGREE = 4
"""The highest power of t that cannot overflow: at the latest time, 1e9, t^4 is 1e36, and float32 ends at 3e38."""
LARGE, SMALL = 1e15, 1e-15
FURTHEST = sp.Float(1e30)
"""Exponents are cut at this bound, infinite ones included, so that their differences are defined."""
LARGEST_FACTOR = sp.Integer(80)
"""The largest exponent of a term in a sum: exp(80) is 5e34, and a term that needs more is lost among the others."""


def without_overflow(formula: sp.Expr) -> sp.Expr:
    """An expression of the same value as the formula, which overflows only where the value does."""
    if not any(_is_wild(node) for node in sp.preorder_traversal(formula)):
        return formula
    if isinstance(formula, sp.log):
        m, k = _pair(formula.args[0])
        return sp.log(m) + k if k != 0 else sp.log(m)
    if _is_square_root_of_square(formula):
        return Magnitude(without_overflow(formula.base.base))
    if _is_wild(formula) and (formula.is_Mul or formula.is_Pow):
        m, k = _pair(formula)
        return m * Exponential(k) if k != 0 else m
    return formula.func(*map(without_overflow, formula.args)) if formula.args else formula


def inverse_without_overflow(formula: sp.Expr) -> sp.Expr:
    """An expression for 1/formula, which overflows only where its value does."""
    m, k = _pair(formula)
    return Exponential(-k) / m if k != 0 else 1 / m


@lru_cache(maxsize=4096)
def _is_wild(e: sp.Expr) -> bool:
    """Whether an expression may leave the range of numbers although its arguments are within the range.

    Only sums, products, powers and exponentials can do so; other functions are bounded, grow slowly, or choose among
    values.
    """
    if isinstance(e, sp.Number):
        return e != 0 and not SMALL <= abs(e) <= LARGE
    if isinstance(e, Exponential | sp.cosh | sp.sinh):
        return True
    if e.is_Pow:
        return not e.exp.is_number or _is_wild(e.base) or _degree(e) > MOST_DEGREE
    if (
        e.is_Add
        and any(isinstance(term, sp.Number) for term in e.args)
        and all(map(_is_bounded_beside_a_number, e.args))
    ):
        return False
    return bool(e.is_Add or e.is_Mul) and (_degree(e) > MOST_DEGREE or any(map(_is_wild, e.args)))


def _is_bounded_beside_a_number(term: sp.Expr) -> bool:
    """Whether a term cannot overflow, and does not matter beside a number where it underflows."""
    rest = [f for f in sp.Mul.make_args(term) if not (isinstance(f, Exponential) and f.args[0].is_nonpositive)]
    return not _is_wild(sp.Mul(*rest))


@lru_cache(maxsize=4096)
def _degree(e: sp.Expr) -> float:
    """The highest power of t with which e may grow, apart from its wild parts."""
    if e.is_Symbol:
        return 1.0
    if e.is_Pow and e.exp.is_number:
        return abs(float(e.exp)) * _degree(e.base)
    if e.is_Mul:
        return sum(map(_degree, e.args))
    return max(map(_degree, e.args), default=0.0) if e.is_Add or isinstance(e, sp.Max | sp.Min) else 0.0


def _is_square_root_of_square(e: sp.Expr) -> bool:
    return bool(e.is_Pow and e.exp == sp.S.Half and e.base.is_Pow and e.base.exp == 2)


def _pair(e: sp.Expr) -> Pair:
    if not _is_wild(e) or _is_square_root_of_square(e):
        return without_overflow(e), sp.S.Zero
    if isinstance(e, sp.Number):
        return sp.sign(e), sp.Float(math.log(abs(e)))
    if isinstance(e, Exponential):
        return sp.S.One, without_overflow(e.args[0])
    if isinstance(e, sp.cosh | sp.sinh):
        x = without_overflow(e.args[0])
        m = (1 + Exponential(-2 * Magnitude(x))) / 2
        return (m if isinstance(e, sp.cosh) else m * sp.tanh(x)), Magnitude(x)
    if e.is_Mul:
        # A plain factor goes into the exponent too, because an exponential beside it may nearly be out of range.
        pairs = [_signed(without_overflow(f)) if not _is_wild(f) and not f.is_number else _pair(f) for f in e.args]
        return sp.Mul(*(m for m, _ in pairs)), sp.Add(*(k for _, k in pairs))
    return _pair_of_power(e) if e.is_Pow else _pair_of_sum(e)


def _pair_of_power(e: sp.Pow) -> Pair:
    base, power = e.args
    if not power.is_number:
        return sp.S.One, without_overflow(power) * (sp.Float(math.log(base)) if base.is_number else sp.log(base))
    m, k = _pair(base)
    if abs(power) <= 2 and _degree(m) * abs(power) <= MOST_DEGREE:
        return m**power, k * power
    if not power.is_Integer:
        return sp.S.One, power * (k + Logarithm(m))  # undefined for a negative base, as a power is
    sign, log = _signed(m)
    return sign ** (power % 2), power * (k + log)


def _pair_of_sum(e: sp.Add) -> Pair:
    pairs = [_pair(term) for term in e.args]
    exponents = [k + _log_magnitude(m) for m, k in pairs]
    largest = Largest(-FURTHEST, Smallest(FURTHEST, Largest(*exponents)))
    terms = [m * Exponential(k - largest if m.is_number else Smallest(LARGEST_FACTOR, k - largest)) for m, k in pairs]
    return sp.Add(*terms), largest


def _signed(m: sp.Expr) -> Pair:
    return (sp.S.One if m.is_nonnegative else sp.Piecewise((-1, m < 0), (1, True))), _log_magnitude(m)


def _log_magnitude(m: sp.Expr) -> sp.Expr:
    if m.is_number:
        return sp.S.Zero if abs(m) == 1 else sp.Float(math.log(abs(m)))
    return Logarithm(m if m.is_nonnegative else Magnitude(m))
