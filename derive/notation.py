"""The LaTeX of every scalar symbol, in one place; vector symbols carry their own."""

from __future__ import annotations

import re
from collections.abc import Mapping

import sympy as sp

_HEADS = {
    "rho_star": r"\bar{\rho}^{\star}",
    "rho": r"\bar{\rho}",
    "w_star": r"w^{\star}",
    "sigma_star": r"\sigma^{\star}",
    "h_star": r"h^{\star}",
    "lambda_q": r"\lambda",
    "log_Z": r"\log Z(\beta)",
    "T0": r"T_0",
    "t0": r"t_0",
}
_INDEXED = re.compile(r"(?P<head>.*?)(?:_(?P<index>[0-9]+))?")


def symbol_tex(symbol: sp.Symbol) -> str:
    """LaTeX of a scalar symbol: its head by the table above (SymPy's own rule otherwise), then its index."""
    match = _INDEXED.fullmatch(symbol.name)
    if match is None or match["head"] not in _HEADS:
        return sp.latex(symbol)
    index = match["index"]
    return _HEADS[match["head"]] + (f"_{{{index}}}" if index else "")


def tex(expression: sp.Basic, extra: Mapping[sp.Symbol, str] | None = None) -> str:
    """LaTeX of an expression in this package's notation; `extra` adds names for some of its symbols."""
    names = {s: symbol_tex(s) for s in expression.atoms(sp.Symbol) if type(s) is sp.Symbol}
    return sp.latex(expression, symbol_names={**names, **(extra or {})})
