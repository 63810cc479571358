"""The equations in displayed LaTeX: rows joined and cut apart, and the rates among the left-hand sides."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from annealvi.comparison.reading.latex_source import displays, inside, place
from annealvi.comparison.reading.latex_symbols import BRACKETS, OPERATORS, LatexToken, spelled, written
from derive.problem.expression_parser import FUNCTIONS, Token

_SIZES = {rf"\{size}{side}" for size in ("big", "Big", "bigg", "Bigg") for side in ("", "l", "r", "m")}
_SIZES |= {r"\left", r"\right", r"\middle"}
_IGNORED = {r"\,", r"\;", r"\:", r"\!", "\\ ", r"\>", "~", "$", r"\thinspace", r"\hfill", r"\allowbreak"}
_IGNORED |= {r"\displaystyle", r"\textstyle", r"\limits", r"\nolimits", r"\nonumber", r"\notag"}
_WITH_AN_ARGUMENT = {r"\label", r"\tag", r"\vspace", r"\hspace", r"\phantom", r"\vphantom", r"\hphantom"}
_BRACES = {r"\underbrace", r"\overbrace", r"\boxed"}
_ALIGNMENTS = re.compile(r"aligned|alignedat|split|gathered|multlined|subequations")
_SYSTEMS = {"cases", "dcases", "array"}
"""Environments that are equations where a display begins with them."""
_TEXTS = {r"\text", r"\mbox", r"\textrm", r"\intertext", r"\shortintertext"}
_ROW = r"\\"
_SPACES = (r"\quad", r"\qquad", "&")
EQUALS = {"=", ":=", r"\coloneqq", r"\equiv", r"\triangleq", r"\eqqcolon", r"\doteq", r"\defeq"}
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


def statements_in(text: str, source: str) -> tuple[list[Statement], list[str]]:
    """The equations in the displays of a document, and the pieces behind commas that belong to none."""
    statements: list[Statement] = []
    stray: list[str] = []
    for tokens in displays(text, source):
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
            name = "".join(t.text for t in inside(tokens[n + 1 : end]))
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
        if text in _BRACES:  # the group stays, what is written at the brace goes
            end = _behind_group(tokens, n + 1)
            found += _plain(tokens[n + 1 : end])
            n = _behind_group(tokens, end + 1) if end < len(tokens) and tokens[end].text in "_^" else end
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


OPENING = {*BRACKETS, "{", r"\langle", r"\lvert"}


CLOSING = {*BRACKETS.values(), "}", r"\rangle", r"\rvert"}


def _outermost(tokens: Sequence[Token]) -> Iterator[tuple[int, Token]]:
    """The tokens outside of all brackets, with their numbers."""
    depth = 0
    for n, token in enumerate(tokens):
        if token.text in OPENING:
            depth += 1
        elif token.text in CLOSING:
            depth = max(depth - 1, 0)
        elif depth == 0:
            yield n, token


def _first_relation(tokens: Sequence[Token]) -> int | None:
    """The number of the first relation outside of brackets."""
    return next((n for n, t in _outermost(tokens) if t.text in {*EQUALS, *_OTHER_RELATIONS}), None)


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
        related = related or token.text in {*EQUALS, *_OTHER_RELATIONS}
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
        return at_sign or piece[-1].text in {*operators, *EQUALS} or not related
    return at_sign or cut == _ROW


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


def state_of_rate(left: Sequence[Token]) -> tuple[Token, ...]:
    """The symbol whose rate a left-hand side is; empty where it is none."""
    tokens = list(left)
    texts = [t.text for t in tokens]
    if not texts:
        return ()
    if texts[0] == r"\dot":
        end = _behind_group(tokens, 1)
        return (*inside(tokens[1:end]), *tokens[end:])
    if texts[0] in (r"\frac", r"\dfrac", r"\tfrac"):
        middle = _behind_group(tokens, 1)
        end = _behind_group(tokens, middle)
        above, below = (_upright(inside(part)) for part in (tokens[1:middle], tokens[middle:end]))
        if [t.text for t in below] in (["d", "t"], [r"\partial", "t"]) and above and above[0].text in _RATE_OF:
            return (*above[1:], *tokens[end:])
        return ()
    if texts[0] == r"\dv":
        middle = _behind_group(tokens, 1)
        end = _behind_group(tokens, middle)
        return (*inside(tokens[1:middle]), *tokens[end:]) if texts[middle:end] == ["{", "t", "}"] else ()
    if texts[:3] == [r"\partial", "_", "t"]:
        return tuple(tokens[3:])
    plain = _upright(tokens)
    if len(plain) > 4 and plain[0].text == "d" and [t.text for t in plain[-3:]] == ["/", "d", "t"]:
        return tuple(plain[1:-3])
    return ()


def _upright(tokens: Sequence[Token]) -> list[Token]:
    r"""The tokens with d in the place of \mathrm{d}."""
    found: list[Token] = []
    n = 0
    while n < len(tokens):
        if tokens[n].text in (r"\mathrm", r"\operatorname", r"\text"):
            end = _behind_group(tokens, n + 1)
            if [t.text for t in inside(tokens[n + 1 : end])] == ["d"]:
                found += [t for t in tokens[n + 1 : end] if t.text == "d"]
                n = end
                continue
        found.append(tokens[n])
        n += 1
    return found
