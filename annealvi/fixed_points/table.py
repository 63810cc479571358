"""Fixed points and bifurcations as text for people."""

from __future__ import annotations

from annealvi.fixed_points.branches import Branches
from annealvi.fixed_points.search import FixedPoint, FixedPoints

MOST_ROWS = 60
MOST_EIGENVALUES = 4


def fixed_point_table(found: FixedPoints) -> str:
    """One line per fixed point: its state, whether it attracts, and its largest growth rates per unit of the flow's time."""
    lines = []
    for beta, total in found.index_sums.items():
        points = found.at(beta)
        attractors = sum(p.stable for p in points)
        lines.append(f"T = {1 / beta:g} (beta = {beta:g}): {_count(len(points), 'fixed point')}, {_count(attractors, 'attractor')}")
        lines += _rows(found.state_names, points[:MOST_ROWS])
        if len(points) > MOST_ROWS:
            lines.append(f"  ... and {len(points) - MOST_ROWS} more")
        lines.append(f"  {_completeness(total)}")
        if found.unresolved[beta]:
            lines.append(f"  {_count(found.unresolved[beta], 'start')} ended at no isolated point: a bifurcation, or a continuous family")
        lines.append("")
    lines.append("growth rates: those across the span of modes and means, marked by *, occur once for each direction of space that is left")
    return "\n".join(lines)


def bifurcation_table(branches: Branches) -> str:
    """One line per bifurcation, by falling temperature."""
    names = branches.state_names
    rows = [["T", "beta", "kind", *names]]
    rows += [[f"{b.temperature:.8g}", f"{1 / b.temperature:.6g}", b.kind, *(f"{x:.5f}" for x in b.state)] for b in branches.bifurcations]
    broken = sum("not followed" in branch.ends for branch in branches.branches)
    lines = [f"{_count(len(branches.branches), 'branch', 'branches')}, {_count(len(rows) - 1, 'bifurcation')}", *_aligned(rows)]
    if broken:
        lines.append(f"  {_count(broken, 'branch', 'branches')} could not be followed to the end")
    return "\n".join(lines)


def _rows(names: tuple[str, ...], points: tuple[FixedPoint, ...]) -> list[str]:
    rows = [[*names, "", "growth rates"]]
    for point in points:
        kind = "attractor" if point.stable else "unstable" if point.spectrum.resolved else "undecided"
        rows.append([*(f"{x:.5f}" for x in point.state.values()), kind, _growth_rates(point)])
    return _aligned(rows)


def _growth_rates(point: FixedPoint) -> str:
    marked = [(x, "") for x in point.spectrum.within] + [(x, "*") for x in point.spectrum.across]
    marked.sort(key=lambda pair: -pair[0])
    shown = " ".join(f"{x:.4g}{mark}" for x, mark in marked[:MOST_EIGENVALUES])
    return shown + (" ..." if len(marked) > MOST_EIGENVALUES else "")


def _aligned(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return ["  " + "  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]


def _completeness(total: int | None) -> str:
    if total is None:
        return "no check of completeness: too few dimensions, or an eigenvalue whose sign is not resolved"
    if total == 1:
        return "the indices sum to one, as those of all fixed points do"
    return f"the indices sum to {total} instead of one: at least one fixed point is missing; give more starts"


def _count(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
