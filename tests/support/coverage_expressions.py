"""A list of expressions that contains every kind of node that a kernel may contain.

Each target of the printer must evaluate each expression correctly at each point.
"""

import mpmath
import sympy as sp

x, y = SYMBOLS = sp.symbols("x y", real=True)
POINTS = ((0.3, 1.7), (-1.25, 0.6), (2.5, 2.5), (-40.0, 0.01))

EXPRESSIONS = {
    "integer": sp.Integer(3) + 0 * x,
    "rational": x / 3 + sp.Rational(1, 7),
    "pi": sp.pi * x,
    "e": sp.E * y,
    "difference": x - y - (y - 2 * x),
    "negative product": -x * (-y) * (x - y),
    "quotient": x / (y * (1 + x**2)),
    "quotient of quotients": (x / y) / (y / (1 + x**2)),
    "square": (x + y) ** 2,
    "cube of a negative": (-x) ** 3,
    "ninth power": (x / 8) ** 9,
    "inverse square": (1 + x**2 + y) ** -2,
    "square root": sp.sqrt(y),
    "inverse square root": x / sp.sqrt(1 + y),
    "three halves": y ** sp.Rational(-3, 2),
    "real power": y ** sp.Float("0.3"),
    "variable exponent": y ** (-x / 10),
    "base two": 2**x,
    "exp": sp.exp(-x / 4),
    "log": sp.log(y),
    "sin": sp.sin(x),
    "cos": sp.cos(x * y),
    "tan": sp.tan(x / 40),
    "atan": sp.atan(x * y),
    "asin": sp.asin(x / 50),
    "acos": sp.acos(x / 50),
    "erf": sp.erf(x),
    "tanh": sp.tanh(x),
    "sinh": sp.sinh(x / 8),
    "cosh": sp.cosh(x / 8),
    "sech": sp.sech(x),
    "sech far out": sp.sech(1000 * y + 5 * x),
    "inverse cosh": 1 / sp.cosh(x) ** 2,
    "log cosh": sp.log(sp.cosh(30 * x)),
    "sigmoid": 1 / (1 + sp.exp(-x)),
    "sigmoid as a quotient": sp.exp(30 * x) / (1 + sp.exp(30 * x)),
    "softmax": sp.exp(40 * x) / (sp.exp(40 * x) + 3 * sp.exp(50 * y) + 2),
    "softplus": sp.log(1 + sp.exp(30 * x)),
    "log-sum-exp": sp.log(sp.exp(40 * x) + sp.exp(-40 * x) + (1 + y**2) * sp.exp(900 * y)),
    "abs": sp.Abs(x - y),
    "max": sp.Max(x, y, sp.Rational(1, 2)),
    "min": sp.Min(x, y, 1),
    "piecewise": sp.Piecewise((x, x < 0), (x**2, x <= 1), (y, True)),
    "conditions": sp.Piecewise(
        (x, sp.Or(x < -2, sp.And(y > 1, x < 1))), (y, sp.Not(sp.Eq(x, y))), (sp.Integer(7), True)
    ),
}


def exact(expression, point):
    """The value of an expression at a point, to 30 digits."""
    return mpmath.mpf(sp.N(expression.subs(dict(zip(SYMBOLS, map(sp.Rational, map(str, point)), strict=True))), 30))
