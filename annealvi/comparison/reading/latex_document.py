"""The displayed equations of a LaTeX document: rates, definitions and names, as tokens with their places in the file.

Comments, labels, spacing and sizes of brackets are left out, macros are replaced by what they stand for, and rows of a
display are joined into equations. A document without displays is taken as one display whose rows are its lines.
Equations that are neither the rate of a state nor the definition of a symbol are left aside and told, and so are
definitions of symbols that have a meaning already.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn

import sympy as sp

from annealvi.comparison.reading.formulas import NORMAL, Definition, Scope, UnreadableFormula, excerpt
from annealvi.comparison.reading.latex_formulas import (
    BRACKETS,
    OPERATORS,
    LatexFormula,
    LatexToken,
    comma_separated,
    spelled,
    written,
)
from derive.objects.notation import symbol_tex
from derive.problem.expression_parser import FUNCTIONS, Token
from derive.problem.field_checks import BadInput

MOST_EXPANSIONS = 10_000
MOST_BRACES = 100
"""How many groups may stand within each other."""
ENVIRONMENTS = r"equation|align|x?alignat|flalign|gather|multline|eqnarray|IEEEeqnarray|displaymath|math|dmath"
_DISPLAY = re.compile(
    rf"\\begin\s*\{{\s*(?P<name>(?:{ENVIRONMENTS})\*?)\s*\}}(?:\s*\{{(?:[0-9]+|[rclRCL]+)\}})?"
    r"|(?P<square>\\\[)|(?P<dollars>\$\$)|\\[\\$]|\$(?:\\.|[^$\\])+\$",
    re.DOTALL,
)
"""The beginning of a display, or a line break, a dollar or a formula within the text, which begin none."""
_PART = re.compile(
    r"(?P<number>[0-9]+(?:\.[0-9]+)?|\.[0-9]+)|(?P<name>\\[A-Za-z]+|[A-Za-z])|(?P<sign>\\.|'+|:=|[^\sA-Za-z0-9])|\s+",
    re.DOTALL,
)
_HIDDEN = re.compile(
    r"(?P<shown>\\[^A-Za-z])|%[^\n]*|\\iffalse(?![A-Za-z]).*?(?:\\fi(?![A-Za-z])|\Z)|\\end\s*\{document\}.*"
    r"|\\begin\s*\{(?P<unread>comment|verbatim|lstlisting)\}.*?(?:\\end\s*\{(?P=unread)\}|\Z)",
    re.DOTALL,
)
"""What TeX does not read: comments, and what stands behind the end."""
_SIZES = {rf"\{size}{side}" for size in ("big", "Big", "bigg", "Bigg") for side in ("", "l", "r", "m")}
_SIZES |= {r"\left", r"\right", r"\middle"}
_IGNORED = {r"\,", r"\;", r"\:", r"\!", "\\ ", r"\>", "~", "$", r"\thinspace", r"\hfill", r"\allowbreak"}
_IGNORED |= {r"\displaystyle", r"\textstyle", r"\limits", r"\nolimits", r"\nonumber", r"\notag"}
_WITH_AN_ARGUMENT = {r"\label", r"\tag", r"\vspace", r"\hspace", r"\phantom", r"\vphantom", r"\hphantom"}
_ALIGNMENTS = re.compile(r"aligned|alignedat|split|gathered|multlined|subequations")
_SYSTEMS = {"cases", "dcases", "array"}
"""Environments that are equations where a display begins with them."""
_TEXTS = {r"\text", r"\mbox", r"\textrm", r"\intertext", r"\shortintertext"}
_ROW = r"\\"
_SPACES = (r"\quad", r"\qquad", "&")
_EQUALS = {"=", ":=", r"\coloneqq", r"\equiv", r"\triangleq", r"\eqqcolon", r"\doteq", r"\defeq"}
_OTHER_RELATIONS = {r"\approx", r"\simeq", r"\sim", r"\propto", r"\to", r"\le", r"\leq", r"\ge", r"\geq", r"\neq"}
_OTHER_RELATIONS |= {"<", ">"}
_LENGTH = re.compile(r"\[ (?:- )?[0-9.]+ (?:[a-z] [a-z]|\\[a-z]+) \]")
"""The distance of the next row, behind a double backslash."""
_RATE_OF = {"d", r"\partial"}


@dataclass(frozen=True)
class Statement:
    """An equation, or another relation: the tokens of its two sides, without punctuation."""

    left: tuple[Token, ...]
    relation: Token
    right: tuple[Token, ...]


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
        return lambda found, remedy: _fail(self.text, self.source, token, found, remedy)

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
    statements, left_aside = _statements(text, source)
    scope.letters = frozenset(t.text for s in statements for t in (*s.left, *s.right))
    rates: list[Rate] = []
    definitions: dict[str, Definition] = {}
    names: dict[str, str] = {}
    for s in statements:
        state = _state_of_rate(s.left)
        if state and s.relation.text not in _EQUALS:
            _fail(text, source, s.relation, f"{s.relation.text} in the place of =", "write =; limits are found")
        if not s.right:
            _fail(text, source, s.relation, f"nothing behind {s.relation.text}", "write the right-hand side there")
        if state:
            rates.append((_name_of(state, scope), state, s.right))
            continue
        named = _defined(s.left, scope) if s.relation.text in _EQUALS else None
        name, arguments = named or ("", ())
        ours = "" if arguments else _name_of(s.right, scope)
        if not name or name in symbols or name in FUNCTIONS or NORMAL.fullmatch(name):
            line, _, _ = place(text, s.relation.column)
            left_aside.append(f"line {line} ({written(s.left)} {s.relation.text} …)")
        elif name in definitions or name in names:
            _fail(text, source, s.left[0], f"a second definition of {written(s.left)}", "leave one out")
        elif ours in symbols:
            names[name] = symbols[ours].name
        else:
            definitions[name] = Definition(arguments, s.right)
        if name not in symbols:
            scope.tex.setdefault(name, written(_before_bracket(s.left)))
    scope.symbols = {**symbols, **{name: known[ours] for name, ours in names.items()}}
    scope.definitions = definitions
    return Document(scope, tuple(rates), names, tuple(left_aside))


def place(text: str, position: int) -> tuple[int, int, str]:
    """The line and column, from one, of a position in a text, and an excerpt with a caret below it."""
    before = text[: position - 1]
    line, start = before.count("\n") + 1, before.rfind("\n") + 1
    column = position - start
    return line, column, excerpt(text[start:].partition("\n")[0], column)


def _fail(text: str, source: str, token: Token, found: str, remedy: str) -> NoReturn:
    line, column, shown = place(text, token.column)
    raise UnreadableFormula("", f"line {line}, column {column}: {found}", remedy, source, shown)


def _symbols(known: Mapping[str, sp.Symbol], source: str) -> tuple[dict[str, sp.Symbol], dict[str, str]]:
    """The symbols by the names that their LaTeX makes, and by their own; and the LaTeX of each name."""
    symbols, tex = dict(known), {}
    for name, symbol in known.items():
        written = symbol_tex(symbol)
        tex[name] = written
        canonical = _name_of(_tokens(written, 0), LatexScope({}, {}, source, text=written))
        symbols.setdefault(canonical, symbol)
        pair = re.fullmatch(r"(\w+_)(\d)(\d)", canonical)
        if pair:
            symbols.setdefault(f"{pair[1]}{pair[2]}_{pair[3]}", symbol)
    return symbols, tex


# From the text to statements


def _statements(text: str, source: str) -> tuple[list[Statement], list[str]]:
    """The equations in the displays of a document, and the pieces behind commas that belong to none."""
    plain, macros = _without_macros(_HIDDEN.sub(lambda m: m["shown"] or _blank(m[0]), text), source)
    parts = list(_displays(plain, text, source))
    if not parts and r"\begin{document}" in plain:
        raise BadInput("", "no displayed equation", r"write equations in \[ … \] or in an align environment", source)
    parts = parts or [_rows(plain)]
    statements: list[Statement] = []
    stray: list[str] = []
    for part in parts:
        tokens = _expanded(part, macros, text, source)
        _require_pairs(tokens, text, source)
        for piece in _pieces(_plain(tokens)):
            relation = _first_relation(piece)
            if relation:
                right = piece[relation + 1 :]
                while right and right[-1].text in (".", ",", ";"):
                    right = right[:-1]
                left = _without_time(piece[:relation], right)
                statements.append(Statement(tuple(left), piece[relation], tuple(right)))
            else:
                stray.append(f"line {place(text, piece[0].column)[0]} ({written(piece)})")
    return statements, stray


def _blank(text: str) -> str:
    """A text of the same lines without characters."""
    return re.sub(r"[^\n]", " ", text)


def _displays(plain: str, text: str, source: str) -> Iterator[list[Token]]:
    """The tokens of each display."""
    position = 0
    while begin := _DISPLAY.search(plain, position):
        position = begin.end()
        if begin.lastgroup is None:
            continue
        name = re.escape(begin["name"] or "")
        ending = {"square": r"\\\]", "dollars": r"\$\$"}.get(begin.lastgroup, rf"\\end\s*\{{\s*{name}\s*\}}")
        end = re.compile(rf"\\\\|(?P<end>{ending})").finditer(plain, position)
        closing = next((m for m in end if m["end"]), None)
        if closing is None:
            _fail(text, source, LatexToken("sign", "", begin.start() + 1), "an open display", "close it")
        yield _tokens(plain[position : closing.start()], position)
        position = closing.end()


def _require_pairs(tokens: Sequence[Token], text: str, source: str) -> None:
    """Fail at a brace without its partner."""
    open_braces: list[Token] = []
    for token in tokens:
        if token.text == "{":
            open_braces.append(token)
        elif token.text == "}" and not open_braces:
            _fail(text, source, token, "a closing brace without an opening one", "leave it out")
        elif token.text == "}":
            open_braces.pop()
        if len(open_braces) > MOST_BRACES:
            _fail(text, source, token, f"more than {MOST_BRACES} braces within each other", "simplify it")
    if open_braces:
        _fail(text, source, open_braces[-1], "an open brace", "close it")


def _tokens(text: str, offset: int) -> list[Token]:
    """The tokens of a text; the column of a token is its place in the document, from one."""
    found: list[Token] = []
    for match in _PART.finditer(text):
        if match.lastgroup:
            found.append(LatexToken(match.lastgroup, match.group(), offset + match.start() + 1))
    return found


def _rows(text: str) -> list[Token]:
    """The tokens of a text whose lines are rows of a display."""
    found: list[Token] = []
    offset = 0
    for line in text.splitlines(keepends=True):
        found += [*_tokens(line, offset), LatexToken("sign", r"\\", offset + len(line))]
        offset += len(line)
    return found


_MACRO = re.compile(
    r"\\(?P<command>new|renew|provide)command\*?\s*\{?\s*(?P<name>\\[A-Za-z]+)\s*\}?"
    r"\s*(?:\[(?P<count>[0-9])\])?\s*(?P<default>\[[^\]]*\])?\s*\{"
    r"|\\def\s*(?P<def>\\[A-Za-z]+)\s*(?P<parameters>(?:#[0-9])*)\s*\{"
    r"|\\DeclareMathOperator\*?\s*\{?\s*(?P<operator>\\[A-Za-z]+)\s*\}?\s*\{"
)


@dataclass(frozen=True)
class _Macro:
    """What a macro stands for: tokens, and numbers of its arguments; `wrong` tells why it cannot be used."""

    body: tuple[int | tuple[Token, ...], ...]
    arguments: int = 0
    wrong: str = ""


def _without_macros(text: str, source: str) -> tuple[str, dict[str, _Macro]]:
    """The text without definitions of macros, which become blanks, and the macros."""
    macros: dict[str, _Macro] = {}
    while match := _MACRO.search(text):
        end = _closing_brace(text, match.end())
        if end is None:
            _fail(text, source, LatexToken("sign", "", match.start() + 1), "an open brace", "close it")
        name, body = match["name"] or match["def"] or match["operator"], text[match.end() : end]
        if match["operator"]:
            body = rf"\operatorname{{{body}}}"
        parts = (int(p[1:]) if re.fullmatch("#[1-9]", p) else tuple(_tokens(p, 0)) for p in re.split("(#[1-9])", body))
        count = int(match["count"] or (match["parameters"] or "")[-1:] or 0)
        macro = _Macro(tuple(parts), count, "has an argument with a default" if match["default"] else "")
        earlier = macros.get(name)
        if earlier is None or match["command"] != "provide":
            macros[name] = macro if earlier in (None, macro) else _Macro((), 0, "is defined twice")
        text = text[: match.start()] + _blank(text[match.start() : end + 1]) + text[end + 1 :]
    return text, macros


def _closing_brace(text: str, start: int) -> int | None:
    """Where the group whose inside begins at `start` ends."""
    depth = 1
    for match in re.compile(r"\\.|[{}]", re.DOTALL).finditer(text, start):
        depth += {"{": 1, "}": -1}.get(match[0], 0)
        if depth == 0:
            return match.start()
    return None


def _expanded(tokens: Sequence[Token], macros: Mapping[str, _Macro], text: str, source: str) -> list[Token]:
    """The tokens with macros replaced; what a macro stands for has the place at which the macro is used."""
    found: list[Token] = []
    waiting, expansions = list(reversed(tokens)), 0
    while waiting:
        token = waiting.pop()
        macro = macros.get(token.text)
        if macro is None:
            found.append(token)
            continue
        expansions += 1
        if macro.wrong:
            _fail(text, source, token, f"the macro {token.text} {macro.wrong}", "write out what it stands for")
        arguments = [_argument(waiting) for _ in range(macro.arguments)]
        for part in reversed(macro.body):
            if not isinstance(part, int):
                waiting += [LatexToken(t.kind, t.text, token.column) for t in reversed(part)]
                continue
            argument = arguments[part - 1] if part <= len(arguments) else None
            if argument is None:
                _fail(text, source, token, f"the macro {token.text} without its argument {part}", "put it in braces")
            waiting += reversed(argument)
        if expansions > MOST_EXPANSIONS or len(waiting) + len(found) > 10 * MOST_EXPANSIONS + len(tokens):
            _fail(text, source, token, f"the macro {token.text} has no end", "define it without itself")
    return found


def _argument(waiting: list[Token]) -> list[Token] | None:
    """Take the next argument of a macro from the end of the reversed tokens: the inside of a group, or one token."""
    taken: list[Token] = []
    depth = 0
    while waiting and (taken or waiting[-1].text != "}"):
        taken.append(waiting.pop())
        depth += {"{": 1, "}": -1}.get(taken[-1].text, 0)
        if depth == 0:
            return _inside(taken)
    return None


def _plain(tokens: Sequence[Token]) -> list[Token]:
    """The tokens without what only a typesetter needs."""
    found: list[Token] = []
    systems: set[str] = set()
    n = 0
    while n < len(tokens):
        text = tokens[n].text
        ahead = tokens[n + 1].text if n + 1 < len(tokens) else ""
        if text in _SIZES:
            if ahead in ("|", r"\vert") and text[-1] in "tlr":  # of \left, \right, \bigl, …
                side = "r" if text == r"\right" or text.endswith("gr") else "l"
                found.append(LatexToken("name", rf"\{side}vert", tokens[n + 1].column))
                n += 2
                continue
            before_system = not found and [t.text for t in tokens[n + 1 : n + 3]] == [r"\{", r"\begin"]
            n += 1 + (ahead == "." or before_system)
            continue
        if text in (r"\begin", r"\end"):
            end = _behind_group(tokens, n + 1)
            name = "".join(t.text for t in _inside(tokens[n + 1 : end]))
            if text == r"\begin" and not found and name in _SYSTEMS:
                systems.add(name)
            if name in systems or _ALIGNMENTS.fullmatch(name):
                n = end
                if text == r"\begin" and [t.text for t in tokens[n : n + 3 : 2]] == ["[", "]"]:
                    n += 3
                if text == r"\begin" and name in ("array", "alignedat"):
                    n = _behind_group(tokens, n)
                continue
        if text == "{" and ahead == "}" and not (found and re.fullmatch(r"\\[A-Za-z]+|[_^}]", found[-1].text)):
            n += 2
            continue
        if text in _WITH_AN_ARGUMENT:
            n = _behind_group(tokens, n + 1 + (ahead == "*"))
            continue
        if text == r"\\":
            found.append(tokens[n])
            n += 1 + (ahead == "*")
            length = _LENGTH.match(" ".join(t.text for t in tokens[n : n + 8]))
            n += len(length[0].split(" ")) if length else 0
            continue
        if text not in _IGNORED:
            found.append(tokens[n])
        n += 1
    return found


def _behind_group(tokens: Sequence[Token], start: int) -> int:
    """The place behind the group in braces that begins at `start`, or behind the one token there."""
    if start >= len(tokens) or tokens[start].text != "{":
        return start + 1
    depth = 0
    for n in range(start, len(tokens)):
        depth += {"{": 1, "}": -1}.get(tokens[n].text, 0)
        if depth == 0:
            return n + 1
    return len(tokens)


_OPENING = {*BRACKETS, "{", r"\langle", r"\lvert"}
_CLOSING = {*BRACKETS.values(), "}", r"\rangle", r"\rvert"}


def _outermost(tokens: Sequence[Token]) -> Iterator[tuple[int, Token]]:
    """The tokens outside of all brackets, with their numbers."""
    depth = 0
    for n, token in enumerate(tokens):
        if token.text in _OPENING:
            depth += 1
        elif token.text in _CLOSING:
            depth = max(depth - 1, 0)
        elif depth == 0:
            yield n, token


def _first_relation(tokens: Sequence[Token]) -> int | None:
    """The number of the first relation outside of brackets."""
    return next((n for n, t in _outermost(tokens) if t.text in {*_EQUALS, *_OTHER_RELATIONS}), None)


def _pieces(tokens: Sequence[Token]) -> Iterator[list[Token]]:
    """The equations of a display, with their rows joined, and what stands behind a comma and is none."""
    piece: list[Token] = []
    related = False  # whether the piece has a relation
    begun, cut = 0, _ROW
    for n in [*_cuts(tokens), len(tokens)]:
        text = tokens[n].text if n < len(tokens) else _ROW
        part = [t for t in tokens[begun:n] if t.text not in (_ROW, *_SPACES)]  # those within brackets
        relation = _first_relation(part)
        if part and piece and not _continues(piece, related, cut, part, relation):
            yield piece
            piece, related = [], False
        piece += part
        related = related or relation is not None
        if part or text not in (_ROW, *_SPACES):
            cut = text
        elif text == _ROW:
            cut = _ROW if cut in (_ROW, *_SPACES) else "text"
        begun = _behind_group(tokens, n + 1) if text in _TEXTS else n + 1
    if piece:
        yield piece


def _cuts(tokens: Sequence[Token]) -> Iterator[int]:
    """Where an equation may end. The columns of one equation are no such places."""
    related = False
    for n, token in _outermost(tokens):
        related = related or token.text in {*_EQUALS, *_OTHER_RELATIONS}
        if token.text in _TEXTS:
            of_symbol = n > 0 and tokens[n - 1].text in ("_", "^")
            cut = not of_symbol and spelled(tokens[n + 1 : _behind_group(tokens, n + 1)]) not in FUNCTIONS
        else:
            cut = token.text in (_ROW, *_SPACES, ",", ";") and (related or token.text != "&")
        if cut:
            related = False
            yield n


def _continues(piece: Sequence[Token], related: bool, cut: str, part: Sequence[Token], relation: int | None) -> bool:
    """Whether what stands behind a cut belongs to the equation before it.

    A row does, and what has an operator at the cut; but not so behind a comma in a row.
    """
    if relation is not None:
        return relation == 0 and not related
    if cut in (",", ";"):
        return False
    operators = {"+", "-", r"\cdot", r"\times"}
    at_sign = part[0].text in operators
    if cut in _SPACES:
        return at_sign or piece[-1].text in {*operators, *_EQUALS} or not related
    return at_sign or cut == _ROW


# Left-hand sides


def _without_time(left: Sequence[Token], right: Sequence[Token]) -> Sequence[Token]:
    """A left-hand side x(t) as x, unless t is an argument that the right-hand side uses outside of x(t)."""
    texts, used = [t.text for t in left], ["", "", *(t.text for t in right), ""]
    applied = {rf"\{name}" for name in (*FUNCTIONS, *OPERATORS)}
    for n in [n for n, text in enumerate(used) if text == "t"]:
        if (used[n - 1], used[n + 1]) != ("(", ")") or used[n - 2] in applied:
            return left
    kept = list(left)
    for n in range(len(texts) - 3, 0, -1):
        if texts[n : n + 3] == ["(", "t", ")"]:
            del kept[n : n + 3]
    return kept


def _state_of_rate(left: Sequence[Token]) -> tuple[Token, ...]:
    """The symbol whose rate a left-hand side is; empty where it is none."""
    tokens = list(left)
    texts = [t.text for t in tokens]
    if not texts:
        return ()
    if texts[0] == r"\dot":
        end = _behind_group(tokens, 1)
        return (*_inside(tokens[1:end]), *tokens[end:])
    if texts[0] in (r"\frac", r"\dfrac", r"\tfrac"):
        middle = _behind_group(tokens, 1)
        end = _behind_group(tokens, middle)
        above, below = (_upright(_inside(part)) for part in (tokens[1:middle], tokens[middle:end]))
        if [t.text for t in below] in (["d", "t"], [r"\partial", "t"]) and above and above[0].text in _RATE_OF:
            return (*above[1:], *tokens[end:])
        return ()
    if texts[0] == r"\dv":
        middle = _behind_group(tokens, 1)
        end = _behind_group(tokens, middle)
        return (*_inside(tokens[1:middle]), *tokens[end:]) if texts[middle:end] == ["{", "t", "}"] else ()
    if texts[:3] == [r"\partial", "_", "t"]:
        return tuple(tokens[3:])
    plain = _upright(tokens)
    if len(plain) > 4 and plain[0].text == "d" and [t.text for t in plain[-3:]] == ["/", "d", "t"]:
        return tuple(plain[1:-3])
    return ()


def _inside(tokens: Sequence[Token]) -> list[Token]:
    return list(tokens[1:-1]) if tokens and tokens[0].text == "{" else list(tokens)


def _upright(tokens: Sequence[Token]) -> list[Token]:
    r"""The tokens with d in the place of \mathrm{d}."""
    found: list[Token] = []
    n = 0
    while n < len(tokens):
        if tokens[n].text in (r"\mathrm", r"\operatorname", r"\text"):
            end = _behind_group(tokens, n + 1)
            if [t.text for t in _inside(tokens[n + 1 : end])] == ["d"]:
                found += [t for t in tokens[n + 1 : end] if t.text == "d"]
                n = end
                continue
        found.append(tokens[n])
        n += 1
    return found


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
    return (name, tuple(arguments)) if arguments and all(arguments) and left[-1].text in _CLOSING else None


def _before_bracket(left: Sequence[Token]) -> Sequence[Token]:
    cut = next((n for n, t in enumerate(left) if t.text in BRACKETS), len(left))
    return left[:cut]
