"""A derivation for people: plain text, Markdown and LaTeX."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Callable

import sympy as sp

from derive.derivation import Derivation
from derive.step import Equation, Step


def final_equations(derivation: Derivation) -> tuple[Equation, ...]:
    """Definitions first, then the rates of the states, in the system's order; a duplicate label is an error."""
    equations = derivation.steps[-1].after
    labels = [e.label for e in equations]
    if len(set(labels)) < len(labels):
        raise ValueError(f"an equation's label occurs twice: {sorted(labels)}")
    return tuple(sorted(equations, key=lambda e: e.symbol is None))


def as_text(derivation: Derivation) -> str:
    """The derivation for a terminal: rules, statements and equations in SymPy's plain notation."""

    def block(step: Step, number: int) -> str:
        head = f"{number}. {step.rule}\n" + textwrap.fill(step.statement, 100, initial_indent="   ", subsequent_indent="   ")
        return head + "\n" + "\n".join(f"     {_plain(e)}" for e in step.after)

    return "\n\n".join([_headline(derivation), *_numbered(derivation, block), "The closed system", _system_text(derivation)]) + "\n"


def as_markdown(derivation: Derivation) -> str:
    """The derivation as Markdown with display mathematics."""

    def block(step: Step, number: int) -> str:
        return f"## {number}. {step.rule}\n\n{step.statement}\n\n" + "\n\n".join(f"$${e.latex()}$$" for e in step.after)

    body = "\n\n".join(_numbered(derivation, block))
    system = "\n\n".join(f"$${e.latex()}$$" for e in final_equations(derivation))
    return f"# {_headline(derivation)}\n\n{body}\n\n## The closed system\n\n{system}\n"


def as_latex(derivation: Derivation) -> str:
    """The derivation as a LaTeX fragment: one paragraph and one aligned display per step, every final equation labelled."""

    def block(step: Step, number: int) -> str:
        lines = " \\\\\n".join("  " + _broken(e) for e in step.after)
        return f"\\paragraph{{{number}. {step.rule}.}} {_in_tex(step.statement)}\n\\begin{{align*}}\n{lines}\n\\end{{align*}}"

    lines = " \\\\\n".join(f"  {_aligned(e)} \\label{{eq:{e.label}}}" for e in final_equations(derivation))
    system = f"\\paragraph{{The closed system.}}\n\\begin{{align}}\n{lines}\n\\end{{align}}"
    return "\n\n".join([f"% {_headline(derivation)}", *_numbered(derivation, block), system]) + "\n"


RENDERERS: dict[str, Callable[[Derivation], str]] = {"text": as_text, "markdown": as_markdown, "latex": as_latex}


def _numbered(derivation: Derivation, block: Callable[[Step, int], str]) -> list[str]:
    return [block(step, number) for number, step in enumerate(derivation.steps, 1)]


def _headline(derivation: Derivation) -> str:
    setting = derivation.setting
    flow = "spherical" if setting.manifold == "sphere" else "Euclidean"
    modes, components = setting.target.size, setting.proposal.size
    return f"{derivation.system.label}: {flow} gradient flow, target modes K = {modes}, proposal components L = {components}"


def _system_text(derivation: Derivation) -> str:
    return "\n".join(f"     {_plain(e)}" for e in final_equations(derivation))


def _plain(equation: Equation) -> str:
    left = equation.label
    if equation.symbol is None and left.startswith("d"):
        left = f"d{left[1:]}/dt"
    value = equation.value
    if isinstance(value, sp.Basic):
        return f"{left} = {value}"
    return f"{left} = {value!r}"


LINE = 105
"""Symbols that fit on one line of a landscape page in footnote size."""


def _broken(equation: Equation) -> str:
    """An aligned equation, broken between terms where it would be wider than LINE symbols."""
    lines, width = [f"{equation.left} &="], _symbols(equation.left)
    for term in equation.right_terms():
        width += _symbols(term)
        if width > LINE and not lines[-1].endswith(("&=", r"&\quad")):
            lines.append(r"&\quad")
            width = _symbols(term)
        lines[-1] += f" {term}"
    return " \\\\\n  ".join(lines)


def _symbols(latex: str) -> int:
    """About how many symbols a piece of LaTeX prints on its main line."""
    without_layout = re.sub(r"\\(left|right|frac|mathbb|bar|dot|operatorname|quad)|[{}_^\s]", "", latex)
    return len(re.sub(r"\\[a-zA-Z]+", "x", without_layout))


def _aligned(equation: Equation) -> str:
    return equation.latex().replace(" = ", " &= ", 1)


_MATH = {"σ": r"\sigma", "β": r"\beta", "ρ": r"\rho", "Σ": r"\sum", "∇": r"\nabla", "½": r"\tfrac12", "²": "^2", "→": r"\to"}
_MATH |= {"−": "-", "·": r"\cdot", "u̇": r"\dot u", "v̇": r"\dot v", "⋆": r"\star", "𝓛": r"\mathcal L"}


def _in_tex(statement: str) -> str:
    """A statement with its mathematical characters as LaTeX; `_1` and `^y` become subscripts and superscripts."""
    marked = re.sub(r"([_^])(\w|\{[^}]*\})", r"\\ensuremath{\1{\2}}", statement)
    for character, macro in sorted(_MATH.items(), key=lambda item: -len(item[0])):
        marked = marked.replace(character, rf"\ensuremath{{{macro}}}")
    return marked
