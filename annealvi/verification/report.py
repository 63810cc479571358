"""The table of checks and the report that `verify --out` writes."""

from __future__ import annotations

import platform
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annealvi import __version__
from annealvi.session.session import Session
from annealvi.show.output import write_file, write_json
from annealvi.verification.check import Check

if TYPE_CHECKING:
    from annealvi.show.printing import Printer
    from annealvi.verification.every_check import Verification


PATHS = (
    "![States along the flow: lines are the derived ODE, points the particles with bands of two standard errors]"
    "(paths.png)"
)


def print_checks(outcome: Verification, to: Printer | None = None) -> None:
    """Print one row for each check, then notes and the verdict."""
    from rich.table import Table

    from annealvi.show.printing import Terminal

    console = to or Terminal()
    table = Table(
        title=f"annealvi verify{_subset(outcome)} · {outcome.problem} · {outcome.device}",
        title_justify="left",
        header_style="bold",
    )
    for heading, justify in (
        ("check", "left"),
        ("kind", "left"),
        ("statistic", "right"),
        ("bound", "right"),
        ("", "left"),
    ):
        table.add_column(heading, justify=justify, overflow="fold")  # type: ignore[arg-type]
    for check in outcome.checks:
        verdict = "[green]ok[/]" if check.passed else "[bold red]FAILED[/]"
        table.add_row(check.name, check.kind, _short(check.statistic), _short(check.bound), verdict)
    console.print(table)
    for line in (*(c.note for c in outcome.checks if c.name.startswith("negative")), *outcome.notes):
        console.print(f"  {line}", highlight=False)
    failed = sum(not check.passed for check in outcome.checks)
    held = "all checks of this subset hold" if outcome.quick else "all checks hold"
    verdict = held if outcome.passed else f"{failed} of {len(outcome.checks)} checks FAILED"
    console.print(f"  {len(outcome.checks)} checks in {outcome.seconds:.0f} s: {verdict}", highlight=False)


def print_session(session: Session, to: Printer) -> None:
    """Print the problem's states, parameters, schedule and flow."""
    from rich.table import Table

    problem, system = session.problem, session.derivation.system
    table = Table(title=f"{problem.name} · {len(session.derivation.written_out)} steps", title_justify="left")
    for heading in ("", ""):
        table.add_column(heading, justify="left")
    table.add_row("states", ", ".join(session.state_names))
    table.add_row("parameters", ", ".join(f"{s.name} = {session.values[s]:.6g}" for s in system.parameters))
    spec = problem.schedule
    table.add_row("schedule", f"{spec.kind}, T0 = {spec.T0:g}, t0 = {spec.t0:g}")
    table.add_row(
        "flow", f"{problem.flow.manifold}, learns {', '.join(problem.flow.learn)}, d = {problem.space.dimension}"
    )
    to.print(table)


def write_report(outcome: Verification, session: Session, folder: Path) -> Path:
    """Write report.md, verify.json and derivation.md into the folder, and return the report's path.

    The report of a whole verification shows paths.png, which the caller draws into the same folder.
    """
    from derive.problem.problem_file import problem_to_toml
    from derive.writing.rendering import as_markdown, final_equations

    write_json(str(folder / "verify.json"), outcome.as_dict())
    write_file(folder / "derivation.md", as_markdown(session.derivation).encode())
    rows = "\n".join(_row(check) for check in outcome.checks)
    measured_errors = "\n".join(f"| {' | '.join(map(_cell, measured))} |" for measured in outcome.measured_errors)
    equations = "\n\n".join(f"$${e.latex()}$$" for e in final_equations(session.derivation))
    libraries = ", ".join(f"{name} {version(name)}" for name in ("sympy", "numpy", "numba", "scipy", "mpmath"))
    notes = "".join(f"\n- {note}" for note in outcome.notes)
    held = "All checks of this subset hold." if outcome.quick else "All checks hold."
    verdict = held if outcome.passed else "**Some checks failed.**"
    paths = "" if outcome.quick else f"## Paths\n\n{PATHS}\n\n"
    text = f"""# Verification of `{outcome.problem}`{_subset(outcome)}

{verdict} {len(outcome.checks)} checks in {outcome.seconds:.0f} s on {outcome.device}.
annealvi {__version__}, Python {platform.python_version()}, {libraries}.

| check | kind | statistic | bound | | how |
|---|---|---|---|---|---|
{rows}
{notes}

A check passes when its statistic is at most its bound.

{paths}## The derived equations

{equations}

All steps: [derivation.md](derivation.md).

## Errors of the averages

The largest difference from a finer rule at the places named, and no bound beyond them. Of averages over several
variables it is relative to E|f| where that exceeds one, and of quasi-random points it is a standard error. The checks
of kernels compare rates at other states.

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


def _subset(outcome: Verification) -> str:
    return ", a quick subset of the checks" if outcome.quick else ""


def _row(check: Check) -> str:
    verdict = "ok" if check.passed else "**FAILED**"
    note = check.note.replace("|", r"\|")
    return f"| {check.name} | {check.kind} | {_short(check.statistic)} | {_short(check.bound)} | {verdict} | {note} |"


def _short(value: float) -> str:
    return f"{value:.2g}" if abs(value) < 1e-2 or abs(value) >= 100 else f"{value:.2f}"


def _cell(value: Any) -> str:
    return f"{value:.1e}" if isinstance(value, float) else str(value)
