"""Fixed points and bifurcations as text for people."""

from __future__ import annotations

from collections.abc import Iterable

from annealvi.fixed_points.branches import Branches
from annealvi.fixed_points.search import LIGHTEST, FixedPoint, FixedPoints
from annealvi.show.printing import Printer, text_width
from derive.objects.notation import families_of

MOST_ROWS = 60
MOST_EIGENVALUES = 4


def fixed_point_table(found: FixedPoints) -> str:
    """Write one line per fixed point.

    The line has its state, whether it attracts, and its largest growth rates per unit of the flow's time.
    """
    lines = []
    for beta in found.index_sums:
        points = found.at(beta)
        attractors = sum(p.stable for p in points)
        lines.append(
            f"T = {1 / beta:g} (beta = {beta:g}): {_count(len(points), 'fixed point')}, "
            f"{_count(attractors, 'attractor')}"
        )
        lines += _rows(found.state_names, points[:MOST_ROWS])
        if len(points) > MOST_ROWS:
            lines.append(f"  ... and {len(points) - MOST_ROWS} more")
        lines.append(f"  {_completeness(found, beta)}")
        if found.unresolved[beta]:
            lines.append(
                f"  {_count(found.unresolved[beta], 'start')} ended at no isolated point: a "
                f"bifurcation, or a continuous family"
            )
        if found.ran_away[beta]:
            lines.append(
                f"  {_count(found.ran_away[beta], 'start')} ran away to a vanishing weight or out of the range of the "
                f"averages"
            )
        lines.append("")
    lines += [family.plain for family in families_of(found.state_names)]
    lines.append(
        "growth rates: those across the span of modes and means, marked by *, occur once for each "
        "direction of space that is left"
    )
    return "\n".join(lines)


def bifurcation_table(branches: Branches) -> str:
    """Write one line per bifurcation, by falling temperature."""
    names = branches.state_names
    rows = [["T", "beta", "kind", *names]]
    rows += [
        [f"{b.temperature:.8g}", f"{1 / b.temperature:.6g}", b.kind, *(f"{x:.5f}" for x in b.state)]
        for b in branches.bifurcations
    ]
    broken = sum("not followed" in branch.ends for branch in branches.branches)
    lines = [
        f"{_count(len(branches.branches), 'branch', 'branches')}, {_count(len(rows) - 1, 'bifurcation')}",
        *(_aligned(rows) if len(rows) > 1 else ()),
    ]
    dying = sum("dying" in branch.ends for branch in branches.branches)
    if dying:
        lines.append(f"  {_count(dying, 'branch', 'branches')} followed to where a weight falls below {LIGHTEST:g}")
    if broken:
        lines.append(f"  {_count(broken, 'branch', 'branches')} could not be followed to the end")
    return "\n".join(lines)


def print_fixed_points(found: FixedPoints, to: Printer) -> None:
    """Print the table of fixed points, for notebooks."""
    to.print(fixed_point_table(found), highlight=False)


def print_bifurcations(branches: Branches, to: Printer) -> None:
    """Print the table of bifurcations, for notebooks."""
    to.print(bifurcation_table(branches), highlight=False)


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
    """Set columns side by side; columns that do not fit on the terminal come below, with their rows numbered."""
    widths = [2 + max(map(len, column)) for column in zip(*rows, strict=True)]
    room = text_width()
    if room is None or sum(widths) <= room:
        return [_line(row, widths, range(len(row))) for row in rows]
    number = 2 + len(str(len(rows)))
    blocks: list[list[int]] = [[]]
    for n, width in enumerate(widths):
        if blocks[-1] and number + sum(widths[k] for k in blocks[-1]) + width > room:
            blocks.append([])
        blocks[-1].append(n)
    numbers = ["", *map(str, range(1, len(rows)))]
    return [
        f"{k:>{number}}{_line(row, widths, block)}" for block in blocks for k, row in zip(numbers, rows, strict=True)
    ]


def _line(row: list[str], widths: list[int], columns: Iterable[int]) -> str:
    return "".join(row[n].rjust(widths[n]) for n in columns).rstrip()


def _completeness(found: FixedPoints, beta: float) -> str:
    total = found.index_sums[beta]
    if total is None:
        return f"no check of completeness: {found.unchecked[beta]}"
    if total == 1:
        return "the indices sum to one, as those of all fixed points do"
    return f"the indices sum to {total} instead of one: at least one fixed point is missing; give more starts"


def _count(number: int, singular: str, plural: str = "") -> str:
    return f"{number} {singular if number == 1 else plural or singular + 's'}"
