"""LaTeX documents as tokens: what TeX reads of the displays, with macros written out, each token with its place.

Comments and what stands behind the end are left out. A document without displays is one display whose rows are its
lines.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import NoReturn

from annealvi.comparison.reading.formulas import UnreadableFormula, excerpt
from annealvi.comparison.reading.latex_symbols import LatexToken
from derive.problem.expression_parser import Token
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


def displays(text: str, source: str) -> list[list[Token]]:
    """The tokens of each display of a document, with macros replaced by what they stand for.

    Raises BadInput with the place of a mistake, and where nothing is displayed.
    """
    plain, macros = _without_macros(_HIDDEN.sub(lambda m: m["shown"] or _blank(m[0]), text), source)
    parts = list(_displays(plain, text, source))
    if not parts and r"\begin{document}" in plain:
        raise BadInput("", "no displayed equation", r"write equations in \[ … \] or in an align environment", source)
    found = [_expanded(part, macros, text, source) for part in parts or [_rows(plain)]]
    for tokens in found:
        _require_pairs(tokens, text, source)
    return found


def place(text: str, position: int) -> tuple[int, int, str]:
    """The line and column, from one, of a position in a text, and an excerpt with a caret below it."""
    before = text[: position - 1]
    line, start = before.count("\n") + 1, before.rfind("\n") + 1
    column = position - start
    return line, column, excerpt(text[start:].partition("\n")[0], column)


def fail_at(text: str, source: str, token: Token, found: str, remedy: str) -> NoReturn:
    line, column, shown = place(text, token.column)
    raise UnreadableFormula("", f"line {line}, column {column}: {found}", remedy, source, shown)


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
            fail_at(text, source, LatexToken("sign", "", begin.start() + 1), "an open display", "close it")
        yield tokens_of(plain[position : closing.start()], position)
        position = closing.end()


def _require_pairs(tokens: Sequence[Token], text: str, source: str) -> None:
    """Fail at a brace without its partner."""
    open_braces: list[Token] = []
    for token in tokens:
        if token.text == "{":
            open_braces.append(token)
        elif token.text == "}" and not open_braces:
            fail_at(text, source, token, "a closing brace without an opening one", "leave it out")
        elif token.text == "}":
            open_braces.pop()
        if len(open_braces) > MOST_BRACES:
            fail_at(text, source, token, f"more than {MOST_BRACES} braces within each other", "simplify it")
    if open_braces:
        fail_at(text, source, open_braces[-1], "an open brace", "close it")


def tokens_of(text: str, offset: int) -> list[Token]:
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
        found += [*tokens_of(line, offset), LatexToken("sign", r"\\", offset + len(line))]
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
            fail_at(text, source, LatexToken("sign", "", match.start() + 1), "an open brace", "close it")
        name, body = match["name"] or match["def"] or match["operator"], text[match.end() : end]
        if match["operator"]:
            body = rf"\operatorname{{{body}}}"
        parts = (
            int(p[1:]) if re.fullmatch("#[1-9]", p) else tuple(tokens_of(p, 0)) for p in re.split("(#[1-9])", body)
        )
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
            fail_at(text, source, token, f"the macro {token.text} {macro.wrong}", "write out what it stands for")
        arguments = [_argument(waiting) for _ in range(macro.arguments)]
        for part in reversed(macro.body):
            if not isinstance(part, int):
                waiting += [LatexToken(t.kind, t.text, token.column) for t in reversed(part)]
                continue
            argument = arguments[part - 1] if part <= len(arguments) else None
            if argument is None:
                fail_at(text, source, token, f"the macro {token.text} without its argument {part}", "put it in braces")
            waiting += reversed(argument)
        if expansions > MOST_EXPANSIONS or len(waiting) + len(found) > 10 * MOST_EXPANSIONS + len(tokens):
            fail_at(text, source, token, f"the macro {token.text} has no end", "define it without itself")
    return found


def _argument(waiting: list[Token]) -> list[Token] | None:
    """Take the next argument of a macro from the end of the reversed tokens: the inside of a group, or one token."""
    taken: list[Token] = []
    depth = 0
    while waiting and (taken or waiting[-1].text != "}"):
        taken.append(waiting.pop())
        depth += {"{": 1, "}": -1}.get(taken[-1].text, 0)
        if depth == 0:
            return inside(taken)
    return None


def inside(tokens: Sequence[Token]) -> list[Token]:
    return list(tokens[1:-1]) if tokens and tokens[0].text == "{" else list(tokens)
