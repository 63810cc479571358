"""Long equations in LaTeX that fit on a page: equations are broken between terms, and wide terms within brackets."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING

import sympy as sp

from derive.objects.notation import ordered_terms, tex
from derive.objects.vectors import Vector

if TYPE_CHECKING:
    from derive.objects.step import Equation

LINE = 105
"""Number of symbols that fit on one line of a landscape page in footnote size."""


def terms_tex(equation: Equation, line: int = LINE) -> list[str]:
    """Return the terms of the right-hand side.

    In a wide term the fraction is taken apart, so that its long part stands on the line.
    """
    value = equation.value
    if isinstance(value, sp.Expr):
        written = [tex(term) for term in ordered_terms(value)]
        wide = [tex(term, long_frac_ratio=2) for term in ordered_terms(value)]
        return _with_signs([w if _symbols(t) > line else t for t, w in zip(written, wide, strict=True)])
    if isinstance(value, Vector) and len(value):
        units = [(sp.Dummy("unit", commutative=True), atom, coefficient) for atom, coefficient in value]
        return _with_signs([tex(coefficient * unit, {unit: tex(atom)}) for unit, atom, coefficient in units])
    return equation.right_terms()


def _with_signs(terms: Sequence[str]) -> list[str]:
    return [term if term.startswith("-") or not n else f"+ {term}" for n, term in enumerate(terms)]


def align(rows: Sequence[Sequence[str]], environment: str = "align*") -> str:
    """Set lines in an aligned display."""
    return (
        f"\\begin{{{environment}}}\n"
        + " \\\\\n".join(f"  {line}" for row in rows for line in row)
        + f"\n\\end{{{environment}}}"
    )


def markdown_display(left: str, terms: Sequence[str]) -> str:
    """Set an equation as a Markdown display, broken into lines where it is long."""
    lines = broken(left, terms)
    if len(lines) == 1:
        return f"$${lines[0].replace('&=', '=')}$$"
    return "$$\\begin{aligned}\n" + " \\\\\n".join(lines) + "\n\\end{aligned}$$"


def broken(left: str, terms: Sequence[str], line: int = LINE) -> list[str]:
    """Return the lines of an aligned equation.

    The equation is broken between terms, and before signs within terms wider than `line` symbols.
    """
    lines, width = [f"{left} &="], _symbols(left)
    for piece in (p for term in terms for p in _pieces(term, line)):
        width += _symbols(piece)
        if width > line and not lines[-1].endswith(("&=", r"&\quad")):
            lines.append(r"&\quad")
            width = _symbols(piece)
        lines[-1] += f" {piece}"
    return lines


_TOKEN = re.compile(r"\\(?:left|right)\\?.|\\[a-zA-Z]+|\\.| [+-] |.", re.DOTALL)


def _pieces(term: str, line: int) -> list[str]:
    """Cut a term wider than `line` before every sign within its brackets, which then get a fixed size."""
    if _symbols(term) <= line or r"\begin" in term:
        return [term]
    pieces, depth = [""], 0
    for token in _TOKEN.findall(term):
        depth += (token == "{") - (token == "}")
        if depth == 0 and token.startswith((r"\left", r"\right")) and len(token) <= 8:
            token = token.replace(r"\left", r"\Bigl").replace(r"\right", r"\Bigr")
        if depth == 0 and token in (" + ", " - "):
            pieces.append("")
        pieces[-1] += token.lstrip() if not pieces[-1] else token
    return pieces


def terms_of(latex: str) -> list[str]:
    """Cut a formula before every sign and after every quad space outside brackets."""
    terms, depth = [""], 0
    for token in _TOKEN.findall(latex):
        opening = token in "{([" or token.startswith(r"\left")
        depth += opening - (token in "})]" or token.startswith(r"\right"))
        if depth == 0 and token in (" + ", " - ") and terms[-1]:
            terms.append("")
            token = token.lstrip()
        terms[-1] += token
        if depth == 0 and token == r"\quad":
            terms.append("")
    return [term.strip() for term in terms if term.strip()]


def _symbols(latex: str) -> int:
    """Estimate how many symbols a piece of LaTeX prints on its main line."""
    without_layout = re.sub(
        r"\\(left|right|Bigl|Bigr|biggl|biggr|frac|mathbb|bar|dot|hat|operatorname|quad)|[{}_^\s]", "", latex
    )
    return len(re.sub(r"\\[a-zA-Z]+", "x", without_layout))
