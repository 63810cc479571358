"""Results of the collapse probability as tables, for the terminal and for notebooks."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from annealvi.annealing.betas import ANNEALED
from annealvi.collapse.by_particles import ParticleRuns
from annealvi.collapse.ensemble import Ensemble
from annealvi.collapse.formula import Formula
from annealvi.collapse.recommendation import CONFIDENCE, SCOPE, Recommendation, fewest_to_confirm
from annealvi.show.printing import Printer, Terminal

if TYPE_CHECKING:
    import xarray as xr

    from annealvi.collapse.collapse_law import CollapseLaw
    from annealvi.collapse.probability import Collapse

MOST_ROWS = 20
"""Number of a grid's points that a table shows."""
MOST_SETS = 4
"""Number of sets of missed modes that a table shows."""


def print_collapse(found: Collapse, title: str, to: Printer | None = None) -> None:
    """Print one row per method, then what each method reports beyond p."""
    console = to or Terminal()
    table = Table(
        title=" · ".join(filter(None, ("probability of mode collapse", title))),
        title_justify="left",
        header_style="bold",
    )
    for heading, justify in (("method", "left"), ("P(collapse)", "right"), ("± error", "right"), ("", "left")):
        table.add_column(heading, justify=justify)  # type: ignore[arg-type]
    if found.formula is not None:
        table.add_row(
            "formula", f"{found.formula.p:.4f}", f"{found.formula.error:.4f}", f"{found.formula.runs} trajectories shot"
        )
        table.add_row("  leading order", f"{found.formula.leading:.4f}", "", _separatrix_in_words(found.formula))
    for name, result, what in (("ODE ensemble", found.ode, "trajectories"), ("particles", found.particles, "replicas")):
        if result is not None:
            outcomes = result.outcomes
            table.add_row(
                name,
                f"{outcomes.p:.4f}",
                f"{outcomes.stderr:.4f}",
                f"{len(outcomes.covered)} {what}{_decided_in_words(result)}",
            )
    if table.rows:
        console.print(table)
    for result in (found.ode, found.particles):
        missed = {} if result is None else result.outcomes.as_dict()["modes_missed"]
        if missed and (result is found.ode or found.ode is None):
            shares = "; ".join(f"{modes}: {share:.4f}" for modes, share in list(missed.items())[:8])
            console.print(f"  modes missed: {shares}{'; …' if len(missed) > 8 else ''}", highlight=False)
    for line in _mechanisms_in_words(found):
        console.print(f"  {line}", highlight=False)
    for method, device in ((r.method, r.device) for r in (found.formula, found.ode, found.particles) if r is not None):
        console.print(f"  {method} · {device}", highlight=False)
    if found.law is not None:
        print_law(found.law, title, console)


def print_law(law: CollapseLaw, title: str = "", to: Printer | None = None) -> None:
    """Print one row per dimension: P(collapse), and the probability of each of the sets that are missed most."""
    console = to or Terminal()
    order = "exact starts" if law.exact else "leading order in 1/√d"
    heading = " · ".join(filter(None, ("law of mode collapse over dimensions", order, title)))
    table = Table(title=heading, title_justify="left", header_style="bold")
    sets = sorted(law.missed, key=lambda modes: -law.missed[modes][:, 0].max())[:MOST_SETS]
    for name in ("d", "P(collapse)", *("missed " + ",".join(map(str, modes)) for modes in sets)):
        table.add_column(name, justify="right")
    for place, d in enumerate(law.dimensions):
        shares = [(law.p[place], law.stderr[place]), *(law.missed[modes][place] for modes in sets)]
        table.add_row(str(d), *(f"{p:.4f} ± {error:.4f}" for p, error in shares))
    console.print(table)
    growing, count = law.growing, law.growing.overlaps.count
    factors = ", ".join(f"e^{growth:.2f}" for growth in growing.growth[:MOST_ROWS])
    grow = f"{len(growing.growth)} of {count} directions of initial overlaps grow"
    lines = [
        f"{grow}{': by ' if factors else ''}{factors}, until t = {growing.until:.4g}",
        f"{law.n} trajectories, of which {min(law.effective):.0f} or more count in each dimension · {law.device}",
    ]
    for line in lines:
        console.print(f"  {line}", highlight=False)


def _separatrix_in_words(formula: Formula) -> str:
    low, high = formula.b_c
    if formula.growth is None:
        return f"collapse for {low:.4g} < b < {high:.4g}"
    if formula.prefactor is None:
        return f"b_c = {high:.4g}, Λ = ∞"
    return f"b_c = {high:.4g} = {formula.prefactor:.3g} e^−Λ, Λ = {formula.growth:.4g}"


def _mechanisms_in_words(found: Collapse) -> list[str]:
    """Describe how a mode was missed where weights are learned, and how that depends on the time of reading."""
    result = found.ode or found.particles
    shares = None if result is None else result.outcomes.mechanisms
    if result is None or shares is None:
        return []
    both = f", both {shares['both']:.4f}" if shares["both"] else ""
    lines = [
        f"of these: means align {shares['means_align']:.4f}, a weight vanishes {shares['weight_vanishes']:.4f}{both}"
    ]
    if isinstance(result, Ensemble):
        lines.append(f"  (a mode's components hold less than {result.least_weight:g} of its weight: --least-weight)")
        lines += [f"P(collapse) read at t = {t:.4g}: {read.p:.4f}" for t, read in list(result.readings.items())[:-1]]
        lines.append("  (small weights come back slowly: --t-end reads later)")
    return lines


def _decided_in_words(result: Ensemble | ParticleRuns) -> str:
    if isinstance(result, ParticleRuns):
        return f", read at t = {result.t_end:.4g}"
    if result.undecided == 0:
        return f", all proven decided by t = {result.t.max():.4g}"
    settled = "" if result.settled == 0 else f"{result.settled} of them settled, "
    return f", {settled}{result.undecided - result.settled} of them run to the end, t = {result.t.max():.4g}"


def print_grid(data: xr.Dataset, methods: Sequence[str], title: str) -> None:
    """Print the first MOST_ROWS points: the keys' values, then P by each method with its error."""
    console = Terminal()
    table = Table(title=f"probability of mode collapse · {title}", title_justify="left", header_style="bold")
    dims = [str(key) for key in data["p_" + methods[0]].dims]
    for heading in (*dims, *methods):
        table.add_column(heading, justify="right")
    shape = tuple(data.sizes[key] for key in dims)
    points = math.prod(shape)
    for unit in range(min(points, MOST_ROWS)):
        point = data.isel(dict(zip(dims, (int(n) for n in np.unravel_index(unit, shape)), strict=True)))
        values = [point[key].item() for key in dims]
        cells = [value if isinstance(value, str) else f"{value:.5g}" for value in values]
        for method in methods:
            error = float(point[f"{'error' if method == 'formula' else 'stderr'}_{method}"])
            cells.append(f"{float(point[f'p_{method}']):.4f} ± {error:.4f}")
        table.add_row(*cells)
    console.print(table)
    if points > MOST_ROWS:
        console.print(f"  and {points - MOST_ROWS} more points", highlight=False)
    console.print(
        f"  ±: standard error; of the formula what finer quadrature changes · {data.attrs['device']}", highlight=False
    )


def print_recommendation(found: Recommendation, title: str = "", to: Printer | None = None) -> None:
    """Print the schedule in one line, then the kinds side by side."""
    console = to or Terminal()
    spec, p_max = found.schedule, found.p_max
    console.print(
        f"[bold]{spec.kind}[/], T0 = {spec.T0:.4g}, t0 = {spec.t0:.5g}: P(collapse) = {found.p:.4g} in "
        f"{found.duration:.5g} units of time"
    )
    table = Table(
        title=f"shortest schedules with P <= {p_max:g}{' · ' if title else ''}{title}",
        title_justify="left",
        header_style="bold",
    )
    for heading in ("kind", "T0", "t0", "duration", "P", f"P in {found.duration:.4g}", "its T0"):
        table.add_column(heading, justify="left" if heading == "kind" else "right", no_wrap=heading == "kind")
    for c in found.compared:
        row = (c.T0, c.t0, c.duration, c.p, c.equal, c.equal_start)
        table.add_row(c.kind, *("–" if math.isnan(x) else f"{x:.0f}" if x >= 1000 else f"{x:.3g}" for x in row))
    console.print(table)
    verdict = "confirmed" if found.confirmed else "NOT CONFIRMED"
    bound = f"P <= {found.p_upper:.4g} at {CONFIDENCE:.0%}"
    lines = [f"{verdict}: {found.n} runs at R = {found.separation:g}: {found.p_ode:.4f} ± {found.stderr:.4f}, {bound}"]
    if not found.confirmed:
        lines.append(f"P <= {p_max:g} takes more runs: --n {max(4 * found.n, 2 * fewest_to_confirm(p_max))}")
    if found.duration > found.compared[0].duration:
        lines.append(f"longer than the search's own (in the table), so that the runs confirm {p_max:g}")
    lines += [*SCOPE[found.method], f"a schedule has ended once T <= {1 + ANNEALED:g} · {found.device}"]
    for line in lines:
        console.print(f"  {line}", highlight=False)
