"""Reports of comparisons that a referee can attach, in Markdown and in LaTeX."""

from __future__ import annotations

import math

import annealvi
from annealvi.comparison.compare import Comparison, EquationVerdict
from annealvi.comparison.writing.latex import defined_tex, formula_tex, rate_tex, tex_of
from annealvi.comparison.writing.words import equations_in_words, rate_name, sentences


def in_markdown(found: Comparison, problem: str) -> str:
    """A report in Markdown that can be attached to a review."""
    parts = [f"# {found.theirs.source} and what is derived for {problem}"]
    if found.equations:
        rows = ["| rate | verdict | theirs | derived |", "|---|---|---|---|"]
        for v in found.equations:
            rows.append(f"| {rate_name(found, v.state)} | {v.verdict} | {' | '.join(_values(v, 6))} |")
        parts += [f"```\n{equations_in_words(found)}\n```", "\n".join(rows)]
        parts.append("Values are those at the point where the two differ most.")
    if found.claims:
        from annealvi.comparison.claims import words

        parts.append(words.markdown(found.claims))
    return "\n\n".join([*parts, f"annealvi {annealvi.__version__}"]) + "\n"


def in_latex(found: Comparison, problem: str) -> str:
    """A LaTeX fragment for a review: tables of equations and claims, and the repaired equations."""
    lines = [
        f"% annealvi {annealvi.__version__}: {_text(found.theirs.source)} and what is derived for {_text(problem)}"
    ]
    if found.equations:
        lines += [
            f"% {found.verdict}; {found.points} points, seed {found.seed}, to 1e-8 of each rate's largest value",
            r"\begin{tabular}{llrrp{0.45\linewidth}}",
            r"  rate & verdict & theirs & derived & what is wrong \\ \hline",
            *(f"  {_table_row(found, v)} \\\\" for v in found.equations),
            r"\end{tabular}",
        ]
    if found.repaired is not None:
        lines += ["", "With the first repair of each, the equations are right:", tex_of(found.repaired).rstrip()]
    if found.claims:
        from annealvi.comparison.claims import words

        lines += ["", words.latex(found.claims)]
    return "\n".join(lines) + "\n"


def _values(v: EquationVerdict, digits: int) -> tuple[str, str]:
    """Their value and the derived one where the two differ most; empty where they do not."""
    if v.worst is None:
        return "", ""
    theirs = f"{v.worst['theirs']:.{digits}g}" if math.isfinite(v.worst["theirs"]) else "no number"
    return theirs, f"{v.worst['ours']:.{digits}g}"


def _table_row(found: Comparison, v: EquationVerdict) -> str:
    rate = f"${rate_tex(found.theirs, v.state)}$"
    values = [f"${value}$" if value[-1:].isdigit() else value for value in _values(v, 5)]
    theirs = found.theirs
    told = sentences(
        v, lambda e: f"${formula_tex(theirs, e)}$", lambda d: f"${defined_tex(theirs, d)}$", alternative=""
    )
    wrong = "; or: ".join(told)
    return " & ".join((rate, v.verdict, *values, wrong))


def _text(words: str) -> str:
    """Text of a comment, on one line."""
    return "".join(c if c.isprintable() else " " for c in words)
