"""What a LaTeX document states in its displays: rates, definitions, and names for symbols of the derived system.

Equations that are neither the rate of a state nor the definition of a symbol are left aside and told, and so are
definitions of symbols that have a meaning already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import sympy as sp

from annealvi.comparison.reading.formulas import NORMAL, Definition, Scope, UnreadableFormula
from annealvi.comparison.reading.latex_formulas import LatexFormula
from annealvi.comparison.reading.latex_source import fail_at, place, tokens_of
from annealvi.comparison.reading.latex_statements import CLOSING, EQUALS, state_of_rate, statements_in
from annealvi.comparison.reading.latex_symbols import BRACKETS, comma_separated, written
from derive.objects.notation import symbol_tex
from derive.problem.expression_parser import FUNCTIONS, Token
from derive.problem.field_checks import BadInput


@dataclass
class LatexScope(Scope):
    """The scope of formulas in a LaTeX document, which knows where they stand.

    text: the document. tex: the LaTeX of names, as it was written first. letters: all tokens of the equations.
    """

    text: str = ""
    tex: dict[str, str] = field(default_factory=dict)
    letters: frozenset[str] = frozenset()

    def read(self, text: str | tuple[Token, ...], key: str) -> sp.Expr:
        """The formula that tokens state, or that of the definition which a text names."""
        if isinstance(text, str):
            return self.body(text)[1]
        try:
            return super().read(text, key)
        except UnreadableFormula:
            raise
        except BadInput as error:  # of the formula as a whole
            self.failing(text[0])(error.found, error.remedy.replace("E[...]", r"\mathbb{E}_z[…]"))

    def place(self, position: int) -> tuple[int, int, str]:
        """The line and column, from one, of a token, and an excerpt with a caret below it."""
        return place(self.text, position)

    def failing(self, token: Token) -> Callable[[str, str], NoReturn]:
        """What raises BadInput with the place of a token."""
        return lambda found, remedy: fail_at(self.text, self.source, token, found, remedy)

    def spelled(self, name: str) -> str:
        """The LaTeX of a name."""
        return self.tex.get(name) or symbol_tex(sp.Symbol(name))


Rate = tuple[str, tuple[Token, ...], tuple[Token, ...]]


@dataclass(frozen=True)
class Document:
    """What a document states.

    Attributes
    ----------
    scope : LatexScope
        Its names and definitions.
    rates : tuple of Rate
        The name of each state, its tokens, and those of its rate, in the order of the document.
    names : mapping of str to str
        Names for symbols of the derived system, as x = m_1 gives them.
    left_aside : tuple of str
        Lines of the document with equations that were not used.
    """

    scope: LatexScope
    rates: tuple[Rate, ...]
    names: Mapping[str, str]
    left_aside: tuple[str, ...]


def read_document(text: str, known: Mapping[str, sp.Symbol], source: str) -> Document:
    """The rates, definitions and names that a document states in displays.

    known: the symbols of the derived system by name. Raises BadInput with the place of a mistake.
    """
    symbols, tex = _symbols(known, source)
    scope = LatexScope(symbols, {}, source, grammar=LatexFormula, text=text, tex=tex)
    statements, left_aside = statements_in(text, source)
    scope.letters = frozenset(t.text for s in statements for t in (*s.left, *s.right))
    rates: list[Rate] = []
    definitions: dict[str, Definition] = {}
    names: dict[str, str] = {}
    for s in statements:
        state = state_of_rate(s.left)
        if state and s.relation.text not in EQUALS:
            fail_at(text, source, s.relation, f"{s.relation.text} in the place of =", "write =; limits are found")
        if not s.right:
            fail_at(text, source, s.relation, f"nothing behind {s.relation.text}", "write the right-hand side there")
        if state:
            rates.append((_name_of(state, scope), state, s.right))
            continue
        named = _defined(s.left, scope) if s.relation.text in EQUALS else None
        name, arguments = named or ("", ())
        ours = "" if arguments else _name_of(s.right, scope)
        if not name or name in symbols or name in FUNCTIONS or NORMAL.fullmatch(name):
            line, _, _ = place(text, s.relation.column)
            left_aside.append(f"line {line} ({written(s.left)} {s.relation.text} …)")
        elif name in definitions or name in names:
            fail_at(text, source, s.left[0], f"a second definition of {written(s.left)}", "leave one out")
        elif ours in symbols:
            names[name] = symbols[ours].name
        else:
            definitions[name] = Definition(arguments, s.right)
        if name not in symbols:
            scope.tex.setdefault(name, written(_before_bracket(s.left)))
    scope.symbols = {**symbols, **{name: known[ours] for name, ours in names.items()}}
    scope.definitions = definitions
    return Document(scope, tuple(rates), names, tuple(left_aside))


def _symbols(known: Mapping[str, sp.Symbol], source: str) -> tuple[dict[str, sp.Symbol], dict[str, str]]:
    """The symbols by the names that their LaTeX makes, and by their own; and the LaTeX of each name."""
    symbols, tex = dict(known), {}
    for name, symbol in known.items():
        written = symbol_tex(symbol)
        tex[name] = written
        canonical = _name_of(tokens_of(written, 0), LatexScope({}, {}, source, text=written))
        symbols.setdefault(canonical, symbol)
        pair = re.fullmatch(r"(\w+_)(\d)(\d)", canonical)
        if pair:
            symbols.setdefault(f"{pair[1]}{pair[2]}_{pair[3]}", symbol)
    return symbols, tex


def _name_of(tokens: Sequence[Token], scope: LatexScope) -> str:
    """The name that tokens make if they are one symbol; empty if they are not."""
    if not tokens:
        return ""
    reader = LatexFormula(tuple(tokens), scope, {}, "")
    try:
        name, power = reader.symbol()
    except UnreadableFormula:
        return ""
    return name if reader.ahead.kind == "end" and power is None else ""


def _defined(left: Sequence[Token], scope: LatexScope) -> tuple[str, tuple[str, ...]] | None:
    """The name and the arguments of a definition whose left-hand side this is."""
    head = _before_bracket(left)
    name = _name_of(head, scope)
    if not name:
        return None
    inside = list(left[len(head) + 1 : -1])
    if not left[len(head) :]:
        return name, ()
    arguments = [_name_of(part, scope) for part in comma_separated(inside)]
    return (name, tuple(arguments)) if arguments and all(arguments) and left[-1].text in CLOSING else None


def _before_bracket(left: Sequence[Token]) -> Sequence[Token]:
    cut = next((n for n, t in enumerate(left) if t.text in BRACKETS), len(left))
    return left[:cut]
