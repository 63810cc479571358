"""The table of a training run."""

from __future__ import annotations

import numpy as np
from rich.console import Console
from rich.table import Table

from annealvi.flows.run import FlowRun

MOST_ROWS = 20


def print_flow(run: FlowRun, name: str) -> None:
    """One row for each flow, the first MOST_ROWS of them, then how many collapsed."""
    console, result = Console(), run.as_dict()
    table = Table(title=f"flows in the end · {name}", title_justify="left", header_style="bold")
    for heading in ("flow", "mode weights", "variance", "EMC", "ESS(q)", "ESS(p)", "KL(q‖p)", "misses"):
        table.add_column(heading, justify="right", no_wrap=heading == "mode weights")
    for n, weights in enumerate(result["mode_weights"][:MOST_ROWS]):
        ess = result["ess"]
        numbers = (result["projected_variance"], result["emc"], ess["reverse"], ess["forward"], result["kl"]["reverse"])
        shown = (f"{column[n]:.{digits}f}" for column, digits in zip(numbers, (2, 2, 2, 2, 3), strict=True))
        missed = ",".join(str(k + 1) for k in np.flatnonzero(~run.outcomes.covered[n]))
        table.add_row(str(n), " ".join(f"{w:.3f}" for w in weights), *shown, f"[red]{missed}[/]")
    console.print(table)
    if result["runs"] > MOST_ROWS:
        console.print(f"  and {result['runs'] - MOST_ROWS} more", highlight=False)
    console.print("  variance: along the modes; EMC: entropic mode coverage; ESS: relative, by samples of either", highlight=False)
    wanted = " ".join(f"{w:.3g}" for w in run.data["target_weights"].to_numpy())
    mean = " ".join(f"{w:.3f}" for w in np.mean(result["mode_weights"], 0))
    share = f"P(collapse) = {result['p']:.3f} ± {result['stderr']:.3f} over {result['runs']} flows"
    console.print(f"  {share}; mean mode weights {mean}, of the target {wanted}", highlight=False)
    console.print(f"  {run.method} · {run.device}", highlight=False)
