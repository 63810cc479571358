"""Equations and verdicts in LaTeX, as they can be read again and as a referee attaches them."""

from __future__ import annotations

import re

import sympy as sp
from sympy.printing.latex import greek_letters_set, other_symbols

import annealvi
from annealvi.comparison.compare import Comparison, EquationVerdict
from annealvi.comparison.theirs import Theirs
from annealvi.comparison.writing import sentences
from derive.objects.line_breaking import align, broken
from derive.objects.notation import ordered_terms, read_name, symbol_tex, tex

_LETTERS = {*greek_letters_set, *other_symbols, "ell"}
LINE = 60
"""Number of symbols on a line of a portrait page."""


def name_tex(theirs: Theirs, name: str) -> str:
    """LaTeX of a name in somebody's equations, as they wrote it or as it is read again."""
    if name in theirs.tex:
        return theirs.tex[name]
    own = read_name(name)
    if own is not None and (own.star or own.groups) and _is_letter(own.head):
        return symbol_tex(sp.Symbol(name))
    head, _, index = name.partition("_")
    letters, digits = re.fullmatch(r"(.*?)([0-9]*)", head).groups()  # type: ignore[union-attr]
    indices = [i if len(i) == 1 or i.isdigit() else rf"\mathrm{{{i}}}" for i in [digits, *index.split("_")] if i]
    return _letter(letters) + (f"_{{{','.join(indices)}}}" if indices else "")


def _is_letter(head: str) -> bool:
    return len(head) == 1 or head in _LETTERS


def _letter(head: str) -> str:
    if head in _LETTERS:
        return rf"\{head}"
    return head if len(head) == 1 else rf"\mathrm{{{head}}}"


def _defined_tex(theirs: Theirs, name: str) -> str:
    """LaTeX of a definition's name with its arguments, such as F(u)."""
    head, _, arguments = name.partition("(")
    inside = ", ".join(name_tex(theirs, a.strip()) for a in arguments.rstrip(")").split(",") if a)
    return name_tex(theirs, head) + (f"({inside})" if inside else "")


def formula_tex(theirs: Theirs, expression: sp.Expr) -> str:
    """LaTeX of an expression in their names."""
    return tex(expression, _symbols(theirs))


def _symbols(theirs: Theirs) -> dict[sp.Symbol, str]:
    """LaTeX of the symbols that have another one than the derived system's."""
    found = {s: name_tex(theirs, name) for s, name in theirs.names.items()}
    for definition in theirs.definitions:
        name = name_tex(theirs, definition.name.partition("(")[0])
        found |= {argument: name_tex(theirs, argument.name) for argument in definition.arguments}
        for symbol, arguments in definition.applications.items():
            behind = ", ".join(tex(a, found) for a in arguments)
            found[symbol] = rf"{name}\left({behind}\right)" if arguments else name
    return found


def tex_of(theirs: Theirs) -> str:
    """The equations as a display that can be read again: names, definitions and rates."""
    extra = _symbols(theirs)
    rows = [[f"{name_tex(theirs, name)} &= {symbol_tex(s)}"] for s, name in theirs.names.items()]
    for d in theirs.definitions:
        rows.append(_row(_defined_tex(theirs, d.name), d.formula, extra))
    for state, rate in theirs.rates.items():
        rows.append(_row(rf"\frac{{d{extra.get(state) or symbol_tex(state)}}}{{dt}}", rate, extra))
    return align(rows) + "\n"


def _row(left: str, value: sp.Expr, extra: dict[sp.Symbol, str]) -> list[str]:
    written = [tex(term, extra) for term in ordered_terms(value)]
    return broken(
        left, [term if term.startswith("-") or not n else f"+ {term}" for n, term in enumerate(written)], LINE
    )


def report(found: Comparison, problem: str) -> str:
    """A LaTeX fragment that can be attached to a review: a table of the equations and the repaired ones."""
    theirs = found.theirs
    lines = [
        f"% annealvi {annealvi.__version__}: {_text(theirs.source)} and the equations derived for {_text(problem)}",
        f"% {found.verdict}; {found.points} points, seed {found.seed}, to 1e-8 of each rate's largest value",
        r"\begin{tabular}{llrrp{0.45\linewidth}}",
        r"  rate & verdict & theirs & derived & what is wrong \\ \hline",
        *(f"  {_table_row(found, v)} \\\\" for v in found.equations),
        r"\end{tabular}",
    ]
    if found.repaired is not None:
        lines += ["", "With the first repair of each, the equations are right:", tex_of(found.repaired).rstrip()]
    return "\n".join(lines) + "\n"


def _table_row(found: Comparison, v: EquationVerdict) -> str:
    rate = rf"$\frac{{d{formula_tex(found.theirs, v.state)}}}{{dt}}$"
    values = ("", "") if v.worst is None else (f"${v.worst['theirs']:.5g}$", f"${v.worst['ours']:.5g}$")
    theirs = found.theirs
    told = sentences(
        v, lambda e: f"${formula_tex(theirs, e)}$", lambda d: f"${_defined_tex(theirs, d)}$", alternative=""
    )
    wrong = "; or: ".join(told)
    return " & ".join((rate, v.verdict, *values, wrong))


def _text(words: str) -> str:
    """Text of a comment, on one line."""
    return "".join(c if c.isprintable() else " " for c in words)
