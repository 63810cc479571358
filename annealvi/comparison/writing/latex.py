"""Somebody's equations in LaTeX, as they can be read again."""

from __future__ import annotations

import re

import sympy as sp

from annealvi.comparison.reading.formulas import AVERAGE, NORMAL
from annealvi.comparison.reading.theirs import Theirs
from derive.objects.line_breaking import align, broken
from derive.objects.notation import ordered_terms, symbol_tex, tex
from derive.objects.system import BETA
from derive.problem.expression_parser import CONSTANTS, FUNCTIONS

_LETTER = re.compile(
    r"[A-Za-z]|alpha|beta|gamma|delta|zeta|eta|iota|kappa|lambda|mu|nu|xi|tau|upsilon|chi|psi|omega|ell|hbar"
    r"|(?:var)?(?:epsilon|theta|pi|rho|sigma|phi)|Gamma|Delta|Theta|Lambda|Xi|Pi|Sigma|Upsilon|Phi|Psi|Omega"
)
_SYMBOL = re.compile(r"(?P<head>[A-Za-z]+)(?P<star>_star)?(?P<indices>(?:_(?!star)[A-Za-z0-9]+)*)")
LINE = 60
"""Number of symbols on a line of a portrait page."""


def name_tex(theirs: Theirs, name: str) -> str:
    """LaTeX of a name in somebody's equations: as they wrote it or, without another meaning, as it is read again."""
    if name in theirs.tex:
        return theirs.tex[name]
    plain = re.sub(r"__+", "_", name).strip("_")
    reserved = plain in {*FUNCTIONS, *CONSTANTS, *_derived_names(theirs)} or NORMAL.fullmatch(plain)
    if plain != name or reserved:
        return rf"\tilde{{{_upright(plain)}}}"
    match = _SYMBOL.fullmatch(name)
    if match is None or not _LETTER.fullmatch(match["head"]) or (match["head"] == AVERAGE and match["indices"]):
        return _upright(name)
    head = match["head"] if len(match["head"]) == 1 else rf"\{match['head']}"
    indices = [i if len(i) == 1 or i.isdigit() else _upright(i) for i in match["indices"].split("_")[1:]]
    return head + r"^{\star}" * bool(match["star"]) + (f"_{{{','.join(indices)}}}" if indices else "")


def _upright(name: str) -> str:
    written = name.replace("_", r"\_")
    return rf"\mathrm{{{written}}}"


def _derived_names(theirs: Theirs) -> set[str]:
    """The names of the derived system's symbols in the equations."""
    return {s.name for s in (*theirs.rates, *theirs.names, *theirs.used_symbols(), BETA)} - {
        s.name for s, _ in theirs.subexpressions
    }


def defined_tex(theirs: Theirs, name: str) -> str:
    """LaTeX of a definition's name with its arguments, such as F(u)."""
    head, _, arguments = name.partition("(")
    inside = ", ".join(name_tex(theirs, a.strip()) for a in arguments.rstrip(")").split(",") if a)
    return name_tex(theirs, head) + (f"({inside})" if inside else "")


def formula_tex(theirs: Theirs, expression: sp.Expr) -> str:
    """LaTeX of an expression in their names."""
    return tex(expression, _symbols(theirs))


def rate_tex(theirs: Theirs, state: sp.Symbol) -> str:
    """LaTeX of the rate that has the place of a state's."""
    if state not in theirs.variables and state not in theirs.names:
        return rf"\frac{{d{symbol_tex(state)}}}{{dt}}"
    return rf"\frac{{d{name_tex(theirs, str(theirs.variable(state)))}}}{{dt}}"


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
        rows.append(_row(rate_tex(theirs, state), rate, extra))
    return align(rows) + "\n"


def _row(left: str, value: sp.Expr, extra: dict[sp.Symbol, str]) -> list[str]:
    written = [tex(term, extra) for term in ordered_terms(value)]
    return broken(
        left, [term if term.startswith("-") or not n else f"+ {term}" for n, term in enumerate(written)], LINE
    )
