"""Tables for a terminal and the report that `verify --out` writes."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import Any

from annealvi import __version__
from annealvi.checks.check import Check
from annealvi.output import write_file, write_json
from annealvi.session import Session
from annealvi.verification import Verification


def print_checks(outcome: Verification) -> None:
    """One row per check, then the verdict."""
    from rich.console import Console
    from rich.table import Table

    console = Console(soft_wrap=False)
    table = Table(title=f"annealvi verify · {outcome.problem} · {outcome.device}", title_justify="left", header_style="bold")
    for heading, justify in (("check", "left"), ("kind", "left"), ("statistic", "right"), ("bound", "right"), ("", "left")):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for check in outcome.checks:
        verdict = "[green]ok[/]" if check.passed else "[bold red]FAILED[/]"
        table.add_row(check.name, check.kind, _short(check.statistic), _short(check.bound), verdict)
    console.print(table)
    for line in (*(c.note for c in outcome.checks if c.name.startswith("negative")), *outcome.notes):
        console.print(f"  {line}", highlight=False)
    failed = sum(not check.passed for check in outcome.checks)
    verdict = "all checks hold" if outcome.passed else f"{failed} of {len(outcome.checks)} checks FAILED"
    console.print(f"  {len(outcome.checks)} checks in {outcome.seconds:.0f} s: {verdict}", highlight=False)


def print_path_table(paths: Any, what: str) -> None:
    """The mean of each state over the paths at a few times, with its standard error where there is one."""
    import numpy as np
    from rich.console import Console
    from rich.table import Table

    console = Console()
    rows = np.unique(np.linspace(0, len(paths.t) - 1, 11).round().astype(int))
    beta = np.atleast_2d(paths.beta).mean(0)
    known = paths.standard_error is not None and np.isfinite(paths.standard_error).all()  # one replica gives none
    errors = paths.standard_error[rows] if known else None
    columns = [_column(mean, None if errors is None else errors[:, k]) for k, mean in enumerate(paths.values[:, rows].mean(0).T)]
    fitting = max(1, (console.width - 25) // (4 + max(len(cell) for column in columns for cell in column)))
    for first in range(0, len(paths.states), fitting):
        title = f"mean over {what} · {paths.method} · {paths.device}" if first == 0 else None
        table = Table(title=title, title_justify="left", header_style="bold")
        for heading in ("t", "β", *paths.states[first : first + fitting]):
            table.add_column(heading, justify="right", no_wrap=True)
        for row, n in enumerate(rows):
            table.add_row(f"{paths.t[n]:.4g}", f"{beta[n]:.4g}", *(column[row] for column in columns[first : first + fitting]))
        console.print(table)
    if paths.cost is not None:
        console.print(_cost_in_words(paths.cost), highlight=False)
    if paths.bias is not None:
        worst = []
        for k, name in enumerate(paths.states):
            n = np.abs(paths.bias[:, k]).argmax()
            worst.append(f"{name} {paths.bias[n, k]:+.1e} ± {paths.bias_standard_error[n, k]:.1e}")
        console.print(f"largest bias that half the step leaves in the mean: {', '.join(worst)}", highlight=False)


def _column(means: Any, errors: Any) -> list[str]:
    """A state's cells; in four decimals, unless it is too large for them or would vanish in them."""
    largest = abs(means).max()
    exact, rough = (".4f", ".4f") if 1e-3 <= largest < 1e4 or largest == 0 else (".3e", ".0e")
    return [f"{mean:+{exact}}" + ("" if errors is None else f" ± {errors[n]:{rough}}") for n, mean in enumerate(means)]


def _cost_in_words(cost: Any) -> str:
    """What an adaptive schedule took, on average over the replicas."""
    import numpy as np

    times, updates = cost["time_to_one"], np.mean(cost["updates"])
    reached = times[np.isfinite(times)]
    when = f"beta = 1 at t = {reached.mean():.4g} ({reached.min():.4g} to {reached.max():.4g})" if len(reached) else "beta stayed below 1"
    short = f", not in {len(times) - len(reached)} of {len(times)} replicas" if 0 < len(reached) < len(times) else ""
    by_rule, by_steps = (np.mean(cost[key]) for key in ("rule_evaluations", "gradient_evaluations"))
    return f"{when}{short}; {updates:.4g} updates; per replica {by_rule:.2g} evaluations of log p* by the rule, {by_steps:.2g} by the steps"


def write_report(outcome: Verification, session: Session, folder: Path) -> Path:
    """report.md with the figure beside it, verify.json, and the derivation; returns the report's path."""
    from annealvi.figures import draw_comparisons
    from derive.problem_file import problem_to_toml
    from derive.rendering import as_markdown, final_equations

    draw_comparisons(outcome.comparisons, session.derivation.system.states, folder / "paths.png")
    write_json(str(folder / "verify.json"), outcome.as_dict())
    write_file(folder / "derivation.md", as_markdown(session.derivation).encode())
    rows = "\n".join(_row(check) for check in outcome.checks)
    measured_errors = "\n".join(f"| {' | '.join(map(_cell, measured))} |" for measured in outcome.measured_errors)
    equations = "\n\n".join(f"$${e.latex()}$$" for e in final_equations(session.derivation))
    libraries = ", ".join(f"{name} {version(name)}" for name in ("sympy", "numpy", "numba", "scipy", "mpmath"))
    notes = "".join(f"\n- {note}" for note in outcome.notes)
    verdict = "All checks hold." if outcome.passed else "**Some checks failed.**"
    text = f"""# Verification of `{outcome.problem}`

{verdict} {len(outcome.checks)} checks in {outcome.seconds:.0f} s on {outcome.device}.
annealvi {__version__}, Python {platform.python_version()}, {libraries}.

| check | kind | statistic | bound | | how |
|---|---|---|---|---|---|
{rows}
{notes}

A check passes when its statistic is at most its bound.

## Paths

![Overlaps along the flow: lines are the derived ODE, points the particles with bands of two standard errors](paths.png)

## The derived equations

{equations}

All steps: [derivation.md](derivation.md).

## Errors of the averages

The largest difference from a finer rule at the places named, and no bound beyond them. Of averages over several variables it is relative to
E|f| where that exceeds one, and of quasi-random points it is a standard error. The checks of kernels compare rates at other states.

| average | method | size | measured error | at |
|---|---|---|---|---|
{measured_errors}

## Problem

```toml
{problem_to_toml(session.problem).rstrip()}
```
"""
    path = folder / "report.md"
    write_file(path, text.encode())
    return path


def _row(check: Check) -> str:
    verdict = "ok" if check.passed else "**FAILED**"
    note = check.note.replace("|", r"\|")
    return f"| {check.name} | {check.kind} | {_short(check.statistic)} | {_short(check.bound)} | {verdict} | {note} |"


def _short(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 1e-2 or abs(value) >= 100 else f"{value:.2f}"


def _cell(value: Any) -> str:
    return f"{value:.1e}" if isinstance(value, float) else str(value)
