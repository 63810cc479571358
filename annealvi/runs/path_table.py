"""Tables of paths for people: the mean course of each state, and the spread of the states at the end.

The table of the end is needed because a mean over paths that lead to different modes describes none of them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from annealvi.show.printing import Printer, Terminal
from derive.objects.notation import families_of

if TYPE_CHECKING:
    from annealvi.runs.paths import Paths

QUANTILES = (0.1, 0.5, 0.9)


def print_path_table(paths: Paths, to: Printer | None = None) -> None:
    """Print the mean of each state at a few times, and the spread of the states at the end.

    The table of the end has quantiles and nearest modes. A legend says what the states' names mean. Beside a
    mean stands its standard error for particles, and the standard deviation for trajectories of the ODE.
    """
    to = to or Terminal()
    count = len(paths.values)
    what = "trajectories" if paths.standard_error is None else "replicas"
    rows = np.unique(np.linspace(0, len(paths.t) - 1, 11).round().astype(int))
    beta = np.atleast_2d(paths.beta).mean(0)
    chosen = paths.values[:, rows]
    spread, word = (paths.standard_error, "error") if paths.standard_error is not None else (None, "deviation")
    errors = None if count < 2 else chosen.std(axis=0, ddof=1) if spread is None else spread[rows]
    columns = [_column(mean, None if errors is None else errors[:, k]) for k, mean in enumerate(chosen.mean(0).T)]
    begins = f"mean ± standard {word} over {count} {what}" if count > 1 else f"one of {what}"
    table = _table(f"{begins} · {paths.method} · {paths.device}", "β", *paths.states, first="t")
    for row, n in enumerate(rows):
        table.add_row(_time(paths.t[n]), f"{beta[n]:.4g}", *(column[row] for column in columns))
    to.print(table)
    if count > 1:
        _print_ends(paths, what, to)
    if paths.cost is not None:
        to.print(_cost_in_words(paths.cost), highlight=False)
    if paths.bias is not None and paths.bias_standard_error is not None:
        worst = []
        for k, name in enumerate(paths.states):
            n = np.abs(paths.bias[:, k]).argmax()
            worst.append(f"{name} {paths.bias[n, k]:+.1e} ± {paths.bias_standard_error[n, k]:.1e}")
        to.print(f"largest bias that half the step leaves in the mean: {', '.join(worst)}", highlight=False)
    for family in families_of(paths.states):
        to.print(f"  {family.plain}", highlight=False)


def _print_ends(paths: Paths, what: str, to: Printer) -> None:
    """Print quantiles of the states at the end, and how often each mode is the nearest one of a component."""
    last = np.quantile(paths.values[:, -1], QUANTILES, axis=0)
    table = _table(
        f"quantiles of the {len(paths.values)} {what} at t = {_time(paths.t[-1])}",
        *(f"{100 * q:g} %" for q in QUANTILES),
        first="state",
    )
    for name, cells in zip(paths.states, (_column(column, None) for column in last.T), strict=True):
        table.add_row(name, *cells)
    to.print(table)
    if paths.nearest is None:
        return
    modes, when = paths.modes, f"at t = {_time(paths.t[-1])}"
    table = _table(f"nearest mode {when}, share of the {what}", *(f"mode {k}" for k in range(1, modes + 1)), first="")
    for i, nearest in enumerate(paths.nearest.T, 1):
        table.add_row(
            f"component {i}", *(f"{share:.3f}" for share in np.bincount(nearest, minlength=modes) / len(nearest))
        )
    to.print(table)
    missed = np.mean([len(set(row)) < modes for row in paths.nearest.tolist()])
    to.print(f"  some mode is the nearest of no component in {100 * missed:.1f} % of them", highlight=False)


def _table(title: str, *headings: str, first: str) -> Table:
    table = Table(title=title, title_justify="left", header_style="bold")
    for heading in (first, *headings):
        table.add_column(heading, justify="right", no_wrap=True)
    return table


def _time(t: float) -> str:
    return f"{t:.0f}" if 1e3 <= t < 1e7 else f"{t:.4g}"


def _column(means: Any, errors: Any) -> list[str]:
    """The cells of one state: with four decimals where these show it well, else in scientific notation."""
    largest = abs(means).max()
    exact, rough = (".4f", ".4f") if 1e-3 <= largest < 1e4 or largest == 0 else (".3e", ".0e")
    return [f"{mean:+{exact}}" + ("" if errors is None else f" ± {errors[n]:{rough}}") for n, mean in enumerate(means)]


def _cost_in_words(cost: Any) -> str:
    """Say how much work an adaptive schedule was, on average over the replicas."""
    times, updates = cost["time_to_one"], np.mean(cost["updates"])
    reached = times[np.isfinite(times)]
    when = (
        f"beta = 1 at t = {reached.mean():.4g} ({reached.min():.4g} to {reached.max():.4g})"
        if len(reached)
        else "beta stayed below 1"
    )
    short = f", not in {len(times) - len(reached)} of {len(times)} replicas" if 0 < len(reached) < len(times) else ""
    by_rule, by_steps = (np.mean(cost[key]) for key in ("rule_evaluations", "gradient_evaluations"))
    return (
        f"{when}{short}; {updates:.4g} updates; per replica {by_rule:.2g} evaluations of log p* by the "
        f"rule, {by_steps:.2g} by the steps"
    )
