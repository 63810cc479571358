"""Reports of comparisons that a referee can attach, in Markdown and in LaTeX."""

from __future__ import annotations

import annealvi
from annealvi.comparison.compare import Comparison, EquationVerdict
from annealvi.comparison.latex_writing import defined_tex, formula_tex, tex_of
from annealvi.comparison.writing import in_words, rate_name, sentences


def in_markdown(found: Comparison, problem: str) -> str:
    """A report in Markdown that can be attached to a review."""
    rows = ["| rate | verdict | theirs | derived |", "|---|---|---|---|"]
    for v in found.equations:
        values = ("", "") if v.worst is None else (f"{v.worst['theirs']:.6g}", f"{v.worst['ours']:.6g}")
        rows.append(f"| {rate_name(found, v.state)} | {v.verdict} | {values[0]} | {values[1]} |")
    return "\n".join(
        [
            f"# {found.theirs.source} and the equations derived for {problem}",
            "",
            "```",
            in_words(found),
            "```",
            "",
            *rows,
            "",
            f"annealvi {annealvi.__version__}; values are those at the point where the two differ most.",
            "",
        ]
    )


def in_latex(found: Comparison, problem: str) -> str:
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
        v, lambda e: f"${formula_tex(theirs, e)}$", lambda d: f"${defined_tex(theirs, d)}$", alternative=""
    )
    wrong = "; or: ".join(told)
    return " & ".join((rate, v.verdict, *values, wrong))


def _text(words: str) -> str:
    """Text of a comment, on one line."""
    return "".join(c if c.isprintable() else " " for c in words)
