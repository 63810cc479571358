"""Tables of flows: of one training run, and of many schedules."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from rich.table import Table

from annealvi.collapse.outcome import Outcomes
from annealvi.flows.run import FlowRun
from annealvi.printing import Printer, Terminal

if TYPE_CHECKING:
    import xarray as xr

MOST_ROWS = 20


def print_flow(run: FlowRun, name: str, to: Printer | None = None) -> None:
    """One row for each flow, the first MOST_ROWS of them, then how many collapsed."""
    console, result = to or Terminal(), run.as_dict()
    table = Table(title=f"flows in the end · {name}", title_justify="left", header_style="bold")
    for heading in ("flow", "mode weights", "var", "EMC", "ESS", "uncovered", "KL(q‖p)", "misses"):
        table.add_column(heading, justify="right", no_wrap=heading == "mode weights")
    for n, weights in enumerate(result["mode_weights"][:MOST_ROWS]):
        ess = result["ess"]
        numbers = (result["projected_variance"], result["emc"], ess["reverse"], result["uncovered"], result["kl"]["reverse"])
        shown = (f"{column[n]:.{digits}f}" for column, digits in zip(numbers, (2, 2, 2, 3, 3), strict=True))
        missed = ",".join(str(k + 1) for k in np.flatnonzero(~run.outcomes.covered[n]))
        table.add_row(str(n), " ".join(f"{w:.3f}" for w in weights), *shown, f"[red]{missed}[/]")
    console.print(table)
    if result["runs"] > MOST_ROWS:
        console.print(f"  and {result['runs'] - MOST_ROWS} more", highlight=False)
    console.print("  var: variance along the modes; EMC: entropic mode coverage; ESS: of samples of", highlight=False)
    console.print("  q, relative; uncovered: share of the target at which q < p/100", highlight=False)
    wanted = " ".join(f"{w:.3g}" for w in run.data["target_weights"].to_numpy())
    mean = " ".join(f"{w:.3f}" for w in np.mean(result["mode_weights"], 0))
    share = f"P(collapse) = {result['p']:.3f} ± {result['stderr']:.3f} over {result['runs']} flows"
    console.print(f"  {share}; mean mode weights {mean}, of the target {wanted}", highlight=False)
    console.print(f"  {run.method} · {run.device}", highlight=False)


def print_map(data: xr.Dataset, name: str) -> None:
    """One row for each value of the second key: P(collapse) against the first one."""
    console = Terminal()
    y, x = (str(key) for key in data["p"].dims)
    table = Table(title=f"P(collapse) of flows · {name}", title_justify="left", header_style="bold")
    table.add_column(f"{y} \\ {x}", justify="right")
    for value in data[x].to_numpy():
        table.add_column(_short(value), justify="right")
    for j, value in enumerate(data[y].to_numpy()):
        table.add_row(_short(value), *(f"{p:.2f}" for p in data["p"].to_numpy()[j]))
    console.print(table)
    console.print("  nan: a flow was no longer finite", highlight=False)
    _print_what_ran(console, data)


def _short(value: Any) -> str:
    return value if isinstance(value, str) else f"{value:.4g}"


def print_kinds(data: xr.Dataset, name: str) -> None:
    """The best initial temperature of each kind: the fewest collapses, then the smallest error of the mode weights."""
    console = Terminal()
    table = Table(title=f"kinds of schedule at equal numbers of steps · {name}", title_justify="left", header_style="bold")
    for heading in ("kind", "T0", "step", "P", "weights", "KL(q‖p)", "mean P"):
        table.add_column(heading, justify="left" if heading == "kind" else "right", no_wrap=True)
    error, divergence = data["weight_error"].mean("seed").to_numpy(), data["reverse_kl"].mean("seed").to_numpy()
    kinds, steps = data["kind"].to_numpy(), data["steps"].to_numpy()
    for kind, count in dict.fromkeys(zip(kinds.tolist(), steps.tolist(), strict=True)):
        own = np.flatnonzero((kinds == kind) & (steps == count))
        p = data["p"].to_numpy()[own]
        best = own[np.lexsort((error[own], p))[0]]
        chosen = data.isel(schedule=best)
        table.add_row(
            f"none, {count} steps" if kind == "none" else kind,
            "" if kind == "none" else f"{float(chosen['T0']):.4g}",
            f"{float(chosen['annealed_at'].median()):.0f}",
            f"{float(chosen['p']):.2f} ± {float(chosen['stderr']):.2f}",
            f"{error[best]:.3f}",
            f"{divergence[best]:.3f}",
            f"{p.mean():.2f}",
        )
    console.print(table)
    console.print("  P(collapse) at the best T0 of each kind; step: the median flow's, at T = 1.05;", highlight=False)
    console.print("  weights: their mean error; mean P: over all T0 that were tried", highlight=False)
    _print_what_ran(console, data)


def _print_what_ran(console: Printer, data: xr.Dataset) -> None:
    none, n = Outcomes(np.ones((data.sizes["seed"], 1), bool)), data.sizes["seed"]
    console.print(f"  ±: standard error; 0 of {n} collapsed flows mean P < {none.interval[1]:.2f} at 95 % confidence", highlight=False)
    console.print(f"  {data.attrs['method']} · {data.attrs['device']}", highlight=False)
