"""Verdicts on claims in words and as tables."""

from __future__ import annotations

import math
from collections.abc import Sequence

from annealvi.comparison.claims.fixed_points import FixedPointVerdict, StatePoint
from annealvi.comparison.claims.sampled import LEVEL
from annealvi.comparison.claims.verdicts import ClaimPoint, ClaimVerdict
from annealvi.comparison.evidence.factors import CLOSE

Verdict = ClaimVerdict | FixedPointVerdict
Rows = list[list[str]]


def in_words(verdicts: Sequence[Verdict]) -> str:
    """All claims for people: for each one line of verdict, what follows from it, and a table with few rows."""
    parts = ["\n".join([*_lines(v), *_aligned(_table(v, few=True))]) for v in verdicts]
    return "\n\n".join([*parts, _base(verdicts[0])])


def _base(v: Verdict) -> str:
    numbers = ", ".join(f"{name} = {x:.6g}" for name, x in v.base.items())
    return f"each parameter varies alone; the others are the problem's: {numbers}"


def markdown(verdicts: Sequence[Verdict]) -> str:
    """A section of a report: each claim with all its points."""
    parts = ["## Claims"]
    for v in verdicts:
        header, *rows = _table(v, few=False)
        lines = [" | ".join(row) for row in (header, ["---:"] * len(header), *rows)]
        headline, *told = _lines(v)
        parts += [f"### {headline}", "\n".join(f"- {line.strip()}" for line in told)]
        parts.append("\n".join(f"| {line} |" for line in lines))
    return "\n\n".join([*parts, f"For all claims: {_base(verdicts[0])}."])


def latex(verdicts: Sequence[Verdict]) -> str:
    """A LaTeX table of the claims, each with its verdict and the point where it is worst."""
    rows = []
    for v in verdicts:
        cells = ["", ""]
        if isinstance(v, ClaimVerdict) and v.points:
            cells = [f"${x:.5g}$" for x in (v.worst.claim, v.worst.ours)]
        rows.append(" & ".join([_typed(f"{v.name} = {v.text}"), v.verdict, *cells]) + r" \\")
    head = r"  claim & verdict & claimed & computed \\ \hline"
    return "\n".join([r"\begin{tabular}{p{0.5\linewidth}lrr}", head, *(f"  {row}" for row in rows), r"\end{tabular}"])


def _typed(text: str) -> str:
    """Text as it was typed, for LaTeX."""
    signs = {"\\": r"\textbackslash{}", "^": r"\^{}", "~": r"\~{}"}
    return r"\texttt{" + "".join(signs.get(c, rf"\{c}" if c in "_#$%&{}" else c) for c in text) + "}"


def _lines(v: Verdict) -> list[str]:
    if isinstance(v, FixedPointVerdict):
        return _of_fixed_point(v)
    lines = [f"{v.name} = {v.text}: {_headline(v)}"]
    lines += [f"  {v.meaning}", f"  compared with {v.against}"]
    if v.p_value is not None:
        lines += _of_sample(v)
    if v.verdict in ("different", "factor"):
        lines += _course(v)
    if v.limit:
        lines.append(f"  it tends to the right one {v.limit}")
    return lines


def _headline(v: ClaimVerdict) -> str:
    points = f"{len(v.points)} points" if len(v.points) > 1 else "the problem's own numbers"
    return {
        "equal": f"equal, at {points}",
        "compatible": f"compatible with the ensembles, at {points}",
        "factor": f"equal up to a factor: the claim is {v.factor} times the result",
        "different": "different",
        "undecided": f"undecided: all runs had the same outcome {_over(v)}",
    }[v.verdict]


def _over(v: ClaimVerdict) -> str:
    where = " and ".join(f"over {name}" for name in v.idle if name) or "at the problem's numbers"
    return f"{where}, which tests nothing; state another range"


def _of_sample(v: ClaimVerdict) -> list[str]:
    runs = v.points[0].more["runs"]
    line = f"  {runs} runs a point, with seeds of their own; p-value {v.p_value:.2g}, rejected below {LEVEL:g}"
    if v.verdict != "compatible":
        return [line]
    found = f"a formula that is wrong by a factor {v.hidden:.3f} throughout is rejected in 95 of 100 comparisons"
    return [line, f"  {found}"]


def _course(v: ClaimVerdict) -> list[str]:
    lines = []
    worst = v.worst
    if worst.at:
        at = ", ".join(f"{name} = {x:.4g}" for name, x in worst.at.items())
        lines.append(f"  worst at {at}: {worst.claim:.6g} in place of {worst.ours:.6g}")
    for name in v.ranges if v.verdict == "different" else ():
        first, last = v.along(name)[0], v.along(name)[-1]
        ends = (f"{_ratio(p)} at {name} = {p.at[name]:.4g}" for p in (first, last))
        lines.append(f"  claim/ours goes from {' to '.join(ends)}")
    return lines


def _of_fixed_point(v: FixedPointVerdict) -> list[str]:
    spectra = list(dict.fromkeys(p.spectrum for p in v.points))
    told = {"stable": "stable", "not resolved": "of a spectrum that is not resolved"}
    kind = " or ".join(told.get(s, f"a saddle ({s})") for s in spectra)
    points = f"{len(v.points)} points" if len(v.points) > 1 else "the problem's own numbers"
    lines = [f"{v.name}: {v.text}"]
    worst = v.worst
    where = ", ".join(f"{name} = {x:.4g}" for name, x in worst.at.items())
    where = f" at {where}" if where else ""
    if v.verdict == "equal":
        return [*lines, f"  equal: a fixed point, {kind}, at {points}"]
    if not worst.ours:
        return [*lines, f"  different: no fixed point was found near this state{where}"]
    if worst.away > CLOSE:
        state = ", ".join(f"{name} = {x:.8g}" for name, x in worst.ours.items())
        return [
            *lines,
            f"  different: no fixed point; Newton's iteration{where} ends at {state}, {worst.away:.2g} away",
        ]
    return [*lines, f"  {v.verdict}: a fixed point, {kind}, and claimed to be {'stable' if v.stable else 'unstable'}"]


def _table(v: Verdict, few: bool) -> Rows:
    """A header and a row for each point; with `few` the ends and the middle of each range alone."""
    rows: Rows = []
    for name in list(v.ranges) or [""]:
        points: Sequence[ClaimPoint | StatePoint] = v.along(name) if name else v.points
        if few and len(points) > 3:
            points = [points[0], points[len(points) // 2], points[-1]]
        rows += [[f"{name} = {p.at[name]:.4g}" if name else "the problem", *_cells(p)] for p in points]
    if isinstance(v, FixedPointVerdict):
        return [["at", "distance", "spectrum"], *rows]
    sampled = v.p_value is not None
    formula = ["formula"] if v.points and "formula" in v.points[0].more else []
    return [["at", "claim", "ours", *(["+-"] if sampled else []), *formula, "ratio"], *rows]


def _cells(p: ClaimPoint | StatePoint) -> list[str]:
    if isinstance(p, StatePoint):
        return [f"{p.away:.1e}", p.spectrum]
    error = [f"{p.error:.2g}"] if "runs" in p.more else []
    formula = [f"{p.more['formula']:.4g}"] if "formula" in p.more else []
    digits = 4 if error else 9
    return [f"{p.claim:.{digits}g}", f"{p.ours:.{digits}g}", *error, *formula, _ratio(p)]


def _ratio(p: ClaimPoint) -> str:
    return f"{p.claim:.4g}/0" if math.isnan(p.ratio) else f"{p.ratio:.4g}"


def _aligned(rows: Rows) -> list[str]:
    widths = [max(len(row[n]) for row in rows) for n in range(len(rows[0]))]
    return ["  " + "  ".join(cell.rjust(w) for cell, w in zip(row, widths, strict=True)) for row in rows]
