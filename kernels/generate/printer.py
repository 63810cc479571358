"""The one scalar printer: it prints SymPy expressions as Python text that Numba compiles for the CPU and for CUDA."""

from __future__ import annotations

import sympy as sp
from sympy.functions.elementary.piecewise import ExprCondPair
from sympy.printing.codeprinter import CodePrinter
from sympy.printing.precedence import PRECEDENCE

from derive.problem.scaled_form import Kept

# SymPy finds a printing method by its name, which ends in the name of a class; hence the capitals.
# ruff: noqa: N815

PRECISIONS = ("float64", "float32")

_FUNCTIONS = {
    "exp": "exp",
    "log": "log",
    "sin": "math.sin",
    "cos": "math.cos",
    "tan": "math.tan",
    "tanh": "tanh",
    "sinh": "math.sinh",
    "cosh": "math.cosh",
    "atan": "math.atan",
    "asin": "math.asin",
    "acos": "math.acos",
    "erf": "math.erf",
    "Abs": "abs",
}
"""The functions' names in a generated module, where `exp`, `log` and `tanh` come from `vector_math` or `math`."""
_STRUCTURE = (sp.Symbol, sp.NumberSymbol, sp.Add, sp.Mul, sp.Pow, sp.Max, sp.Min, sp.Piecewise, ExprCondPair)
_CONDITIONS = (sp.Rel, sp.And, sp.Or, sp.Not, sp.logic.boolalg.BooleanAtom)


class ScalarPrinter(CodePrinter):
    """Prints scalar expressions with every literal in the working precision.

    A literal of another precision would promote everything that it meets. precision: "float64" or "float32".
    """

    printmethod = "_numba"
    language = "Python"
    _default_settings = {**CodePrinter._default_settings, "precision": 17, "user_functions": {}, "contract": False}  # noqa: RUF012

    def __init__(self, precision: str = "float64") -> None:
        if precision not in PRECISIONS:
            raise ValueError(f"precision is one of {', '.join(PRECISIONS)}, not {precision!r}")
        super().__init__()
        self.precision = precision

    def literal(self, value: sp.Expr) -> str:
        """A number as a literal in the working precision."""
        text = repr(float(value))
        return text if self.precision == "float64" else f"float32({text})"

    def _print_Number(self, node: sp.Number) -> str:
        return self.literal(node)

    _print_Integer = _print_Rational = _print_Float = _print_Half = _print_One = _print_Zero = _print_NegativeOne = (
        _print_Number
    )
    _print_NumberSymbol = _print_Pi = _print_Exp1 = _print_Number

    def _print_Symbol(self, node: sp.Symbol) -> str:
        return node.name

    _print_Dummy = _print_Symbol

    def _print_Function(self, node: sp.Function) -> str:
        return f"{_FUNCTIONS[type(node).__name__]}({self._print(node.args[0])})"

    _print_Abs = _print_exp = _print_log = _print_Function

    def _print_Pow(self, node: sp.Pow, **kwargs: object) -> str:
        base, exponent = node.args
        if exponent == sp.S.Half:
            return f"math.sqrt({self._print(base)})"
        if exponent == -sp.S.Half:
            return f"{self.literal(sp.S.One)} / math.sqrt({self._print(base)})"
        if exponent.is_Integer and 0 < abs(int(exponent)) <= 8:
            factor = self.parenthesize(base, PRECEDENCE["Pow"])
            product = " * ".join([factor] * abs(int(exponent)))
            return f"({product})" if exponent > 0 else f"({self.literal(sp.S.One)} / ({product}))"
        return f"math.pow({self._print(base)}, {self._print(exponent)})"

    def _print_Mul(self, node: sp.Mul) -> str:
        numerator: list[sp.Expr] = []
        denominator: list[sp.Expr] = []
        for factor in node.as_ordered_factors():
            inverse = factor.is_Pow and factor.exp.is_Number and factor.exp.is_negative
            (denominator if inverse else numerator).append(1 / factor if inverse else factor)
        above = " * ".join(self.parenthesize(f, PRECEDENCE["Mul"]) for f in numerator) or self.literal(sp.S.One)
        if not denominator:
            return above
        below = " * ".join(self.parenthesize(f, PRECEDENCE["Mul"]) for f in denominator)
        return f"{above} / ({below})"

    def _print_floor(self, node: sp.floor) -> str:
        # Numba's floor returns an integer, which would promote a float that it meets.
        return f"real(math.floor({self._print(node.args[0])}))"

    def _print_Max(self, node: sp.Max) -> str:
        return self._fold("max", node)

    def _print_Min(self, node: sp.Min) -> str:
        return self._fold("min", node)

    def _fold(self, name: str, node: sp.Expr) -> str:
        """Nested calls of two arguments each, in a fixed order. Numba on CUDA takes no more than two arguments."""
        first, *others = sorted(node.args, key=sp.default_sort_key)
        text = self._print(first)
        for other in others:
            text = f"{name}({text}, {self._print(other)})"
        return text

    def _print_Piecewise(self, node: sp.Piecewise) -> str:
        *branches, (last, condition) = node.args
        if condition != sp.true:
            raise TypeError("a piecewise expression needs a last branch that always holds")
        text = self._print(last)
        for value, holds in reversed(branches):
            text = f"({self._print(value)} if {self._print(holds)} else {text})"
        return text

    def _print_Relational(self, node: sp.Rel) -> str:
        return f"({self._print(node.lhs)} {node.rel_op} {self._print(node.rhs)})"

    def _print_And(self, node: sp.And) -> str:
        return self._joined(" and ", node)

    def _print_Or(self, node: sp.Or) -> str:
        return self._joined(" or ", node)

    def _joined(self, word: str, node: sp.logic.boolalg.BooleanFunction) -> str:
        return "(" + word.join(self._print(a) for a in sorted(node.args, key=sp.default_sort_key)) + ")"

    def _print_Not(self, node: sp.Not) -> str:
        return f"(not {self._print(node.args[0])})"

    def text(self, expression: sp.Expr) -> str:
        """The expression as Python text. Raises TypeError that names the first node without a kernel form."""
        expression = sp.sympify(expression, strict=True)
        for node in sp.preorder_traversal(expression):
            if not _has_kernel_form(node):
                raise TypeError(f"no kernel form for {type(node).__name__}: {node}")
        return self._print(expression)


def _has_kernel_form(node: sp.Basic) -> bool:
    if isinstance(node, sp.Number):
        return bool(node.is_finite)
    if isinstance(node, Kept):
        return True
    if isinstance(node, sp.Function) and not isinstance(node, (sp.Max, sp.Min, sp.Piecewise)):
        return type(node).__name__ in _FUNCTIONS
    return isinstance(node, (*_STRUCTURE, *_CONDITIONS))
