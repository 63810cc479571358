"""Somebody's equations in LaTeX, as they can be read again."""

from __future__ import annotations

import re

import sympy as sp
from sympy.printing.latex import greek_letters_set, other_symbols

from annealvi.comparison.theirs import Theirs
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


def defined_tex(theirs: Theirs, name: str) -> str:
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
    for d in (d for d in theirs.definitions if d.applications):
        rows.append(_row(defined_tex(theirs, d.name), d.formula, extra))
    for state, rate in theirs.rates.items():
        rows.append(_row(rf"\frac{{d{extra.get(state) or symbol_tex(state)}}}{{dt}}", rate, extra))
    return align(rows) + "\n"


def _row(left: str, value: sp.Expr, extra: dict[sp.Symbol, str]) -> list[str]:
    written = [tex(term, extra) for term in ordered_terms(value)]
    return broken(
        left, [term if term.startswith("-") or not n else f"+ {term}" for n, term in enumerate(written)], LINE
    )
