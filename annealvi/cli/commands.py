"""What each command does: read the problem, compute, print for people, write JSON and files."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from annealvi.cli.console import drawn, for_people, noted, problem_of, progress_bar, say, show_figure, tell
from annealvi.cli.sweep_commands import run_collapse, run_flow, run_phase
from annealvi.collapse.formula_coverage import INSTEAD_OF_RECOMMENDING, require_quick
from annealvi.paper.folder import MANIFEST
from annealvi.show.output import read_json, require_free, require_writable, write_file, write_json
from derive.problem.field_checks import one_line
from derive.problem.specification import BadInput, Problem
from kernels.machine.stages import spoken_for

SINGLE_PRECISION = 1e-30, 1e30
"""Lengths and scales whose products with a sample float32 still holds."""

SUFFIXES = {"text": "txt", "markdown": "md", "latex": "tex"}
REPORT = ("report.md", "paths.png", "verify.json", "derivation.md")

MOST_NUMBERS_IN_JSON = 20_000_000
"""Half a gigabyte of text."""


def run_derive(options: argparse.Namespace) -> int:
    if options.html == "-":
        raise BadInput(
            "--html", "- is standard output, which carries the derivation", "give a path to write the page to", ""
        )
    require_writable(options.html, "--html")
    require_free(options.html, "--html", options.force)
    name = f"derivation.{SUFFIXES[options.format]}"
    problem = problem_of(options, name)
    from annealvi.session.session import open_session
    from derive.writing.indexed_equations import IndexedEquation, indexed_equations
    from derive.writing.rendering import RENDERERS, final_equations

    session = open_session(problem, options.large_dimension)
    has_flow = session.rule is not None and session.rule.kind == "adaann"
    derivation = session.with_rule() if has_flow else session.derivation
    text = RENDERERS[options.format](derivation)
    say(options, text.rstrip())
    names = {f"d{s.name}": s.name for s in derivation.system.states}

    def both(equation: Any) -> dict[str, str]:
        return {"expression": str(equation.value), "latex": equation.latex()}

    def sums(equation: IndexedEquation) -> dict[str, str]:
        left, _, right = equation.plain().partition(" = ")
        return {
            "label": left.removesuffix("/dt"),
            "expression": right,
            "latex": f"{equation.latex_left()} = {' '.join(equation.latex_terms())}",
        }

    equations = final_equations(derivation)
    result = {
        "states": [s.name for s in derivation.system.states],
        "equations": {names[e.label]: both(e) for e in equations if e.symbol is None},
        "definitions": {e.label: both(e) for e in equations if e.symbol is not None},
        "indexed": [sums(e) for e in indexed_equations(derivation.setting)],
        "steps": [
            {
                "rule": step.rule,
                "statement": step.statement,
                "before": [{"label": e.label, "expression": _expression(e), "latex": e.latex()} for e in step.before],
                "after": [{"label": e.label, "expression": _expression(e), "latex": e.latex()} for e in step.after],
            }
            for step in derivation.steps
        ],
    }
    write_json(options.json, result)
    if options.out is not None:
        write_file(Path(options.out) / name, text.encode())
    return 0 if options.html is None else _write_page(derivation, Path(options.html))


def _write_page(derivation: Any, path: Path) -> int:
    from annealvi.show.derivation_page import check_steps, derivation_page

    steps = check_steps(derivation, tell)
    write_file(path, derivation_page(derivation, steps).encode())
    tell(f"written: {path}")
    return int(any(step.status == "failed" for step in steps))


def _expression(equation: Any) -> str:
    value = equation.value
    return str(value) if not hasattr(value, "latex") or hasattr(value, "free_symbols") else repr(value)


def run_rhs(options: argparse.Namespace) -> int:
    problem = problem_of(options, "rhs.json")
    from annealvi.runs import velocity

    result = velocity.result(problem, velocity.read_state(options.state, problem))
    rows = {f"a_{i}": _row(row) for i, row in enumerate(result.get("means", ()), 1)}
    rows |= {name: f"{rate:.12g}" for name, rate in result.get("states", {}).items()}
    rows |= {
        name: _row(result[key]) for key, name in (("weights", "w"), ("scales", "sigma")) if key in problem.flow.learn
    }
    rows |= {name: f"[{', '.join(map(_row, matrix))}]" for name, matrix in result["overlaps"].items()}
    longest = max(map(len, rows))
    for name, row in rows.items():
        say(options, f"{f'd{name}/dt':{longest + 4}} = {row}")
    write_json(options.json, result)
    if options.out is not None:
        write_json(str(Path(options.out) / "rhs.json"), result)
    return 0


def _row(numbers: Any) -> str:
    return f"[{', '.join(f'{x:.12g}' for x in numbers)}]"


def run_integrate(options: argparse.Namespace) -> int:
    problem = problem_of(options, "paths.json", "paths.png")
    from annealvi.runs.trajectories import integrate
    from annealvi.session.session import open_session

    session = open_session(problem, options.large_dimension)
    initial = None if options.initial is None else _read_initial(options.initial, session)
    _require_writable_size(
        options, (options.n if initial is None else len(initial)) * options.points * len(session.state_names)
    )
    with progress_bar("integrating") as progress:
        paths = integrate(
            session,
            initial,
            n=options.n,
            t_end=options.t_end,
            points=options.points,
            rtol=options.rtol,
            tolerance=options.tolerance,
            max_cost=options.max_cost,
            seed=options.seed,
            device=options.device,
            progress=progress,
            tell=tell,
        )
    return _finish_paths(options, paths)


def run_simulate(options: argparse.Namespace) -> int:
    problem = problem_of(options, "paths.json", "paths.png")
    from annealvi.runs.trajectories import simulate
    from annealvi.session.session import open_session

    if options.precision == "float32":
        _require_single_precision(problem)
    session = open_session(problem)
    _require_writable_size(options, options.replicas * options.points * len(session.state_names))
    with progress_bar("simulating") as progress:
        paths = simulate(
            session,
            replicas=options.replicas,
            particles=options.particles,
            dt=options.dt,
            t_end=options.t_end,
            points=options.points,
            seed=options.seed,
            precision=options.precision,
            extrapolate=options.extrapolate,
            projected=options.projected,
            max_cost=options.max_cost,
            device=options.device,
            progress=progress,
            tell=tell,
        )
    return _finish_paths(options, paths)


def run_fixed_points(options: argparse.Namespace) -> int:
    problem = problem_of(options, "fixed-points.json", *(("branches.png",) if options.T_range is not None else ()))
    if options.T is not None and options.T_range is not None:
        raise BadInput("--T", "given beside --T-range", "give one of the two", "")
    if options.T_range is not None and not 1 <= options.T_range[0] < options.T_range[1] < 1e12:
        raise BadInput("--T-range", "the range is empty or begins below 1", "give LO:HI with 1 <= LO < HI", "")
    from annealvi.fixed_points import bifurcation_table, continue_branches, find_fixed_points, fixed_point_table
    from annealvi.session.session import open_session

    session = open_session(problem)
    settings: dict[str, Any] = {"count": options.starts, "seed": options.seed, "device": options.device}
    if options.T_range is None:
        points = find_fixed_points(session, [1 / T for T in options.T or (1.0,)], **settings)
        found, table, complete = points.as_dict(), fixed_point_table(points), points.complete
    else:
        branches = continue_branches(session, *options.T_range, levels=options.levels, **settings)
        found, table = branches.as_dict(), bifurcation_table(branches)
        complete = branches.complete
    say(options, table)
    if options.out is not None:
        write_json(str(Path(options.out) / "fixed-points.json"), found)
    write_json(options.json, found)
    if options.out is not None and options.T_range is not None:
        from annealvi.fixed_points.bifurcation_diagram import bifurcation_figure

        path = Path(options.out) / "branches.png"
        show_figure(options, drawn(bifurcation_figure, branches, path), path)
    return 0 if complete else 1


def run_recommend(options: argparse.Namespace) -> int:
    problem = problem_of(options, "recommendation.json")
    require_quick(problem, INSTEAD_OF_RECOMMENDING)
    from annealvi.collapse.recommendation import KINDS, print_recommendation, recommend

    kinds = options.kinds or KINDS
    if stray := [kind for kind in kinds if kind not in KINDS]:
        raise BadInput(
            "--kinds", f"{stray[0][:40]!r} has no T0 and t0 to choose", f"choose from {', '.join(KINDS)}", ""
        )
    with progress_bar("searching") as progress:
        settings: dict[str, Any] = {
            "n": options.n,
            "seed": options.seed,
            "device": options.device,
            "progress": progress,
        }
        found = recommend(problem, options.p_max, kinds=kinds, R=options.R, **settings)
    with for_people(options):
        print_recommendation(found, problem.name)
    noted(found.warnings)
    write_json(options.json, found.as_dict())
    if options.out is not None:
        write_json(str(Path(options.out) / "recommendation.json"), found.as_dict())
    return 0 if found.confirmed else 1


def _require_single_precision(problem: Problem) -> None:
    target, proposal = problem.target, problem.proposal
    sizes = [*target.scales, *proposal.scales, *proposal.radii, *(abs(x) for row in target.means for x in row if x)]
    smallest, largest = SINGLE_PRECISION
    if not smallest <= min(sizes) <= max(sizes) <= largest:
        found = f"lengths and scales from {min(sizes):g} to {max(sizes):g} do not fit into float32"
        raise BadInput("--precision", found, f"choose float64, or stay within {smallest:g} and {largest:g}", "")


def _finish_paths(options: argparse.Namespace, paths: Any) -> int:
    from annealvi.runs.path_table import print_path_table

    with for_people(options):
        print_path_table(paths)
    write_json(options.json, paths.as_dict())
    if options.out is not None:
        from annealvi.show.path_figures import draw_paths

        write_json(str(Path(options.out) / "paths.json"), paths.as_dict())
        path = Path(options.out) / "paths.png"
        show_figure(options, drawn(draw_paths, paths, path), path)
    return 0


def _require_writable_size(options: argparse.Namespace, numbers: int) -> None:
    if (options.json or options.out) and numbers > MOST_NUMBERS_IN_JSON:
        raise BadInput(
            "--points",
            f"{numbers:.3g} numbers to write as JSON",
            f"ask for at most {MOST_NUMBERS_IN_JSON:.0e}, or use the Python functions",
            "",
        )


def _read_initial(path: str, session: Any) -> Any:
    """Initial states (n, states) from a file {"states": {name: [...]}}."""
    import numpy as np

    source = one_line(path)
    try:
        document = read_json(path)
    except BadInput:
        raise
    except OSError as error:
        raise BadInput("--initial", error.strerror or str(error), "give the path of a JSON file", source) from None
    except (ValueError, RecursionError):
        raise BadInput("", "not JSON", 'write {"states": {"m_1": [0.1], ...}}', source) from None
    names = list(session.state_names)
    states = document.get("states") if isinstance(document, dict) else None
    if not isinstance(states, dict) or sorted(states) != sorted(names):
        raise BadInput("states", "not an object with one list per state", f"give lists for {', '.join(names)}", source)
    try:
        if not all(isinstance(x, int | float) and not isinstance(x, bool) for name in names for x in states[name]):
            raise TypeError
        table = np.array([states[name] for name in names], dtype=float)
    except (TypeError, ValueError, OverflowError):
        raise BadInput(
            "states", "the lists are not numbers of one length", "give as many numbers for each state", source
        ) from None
    if table.ndim != 2 or table.shape[1] == 0 or not np.isfinite(table).all():
        raise BadInput(
            "states",
            "the lists are not finite numbers of one length",
            "give as many finite numbers for each state",
            source,
        )
    session.require_states(table.T, "states", source)
    return table.T


def run_verify(options: argparse.Namespace) -> int:
    problem = problem_of(options, *REPORT)
    from annealvi.session.session import open_session
    from annealvi.verification.every_check import verify
    from annealvi.verification.report import print_checks, write_report

    session = open_session(problem)
    quiet = options.quiet or not sys.stderr.isatty()
    with nullcontext() if quiet else spoken_for():
        outcome = verify(
            session, device=options.device, seed=options.seed, progress=None if quiet else _line_of_progress
        )
    if not quiet:
        _line_of_progress("")
    with for_people(options):
        print_checks(outcome)
    write_json(options.json, outcome.as_dict())
    if options.out is not None:
        from annealvi.show.path_figures import draw_comparisons

        path = Path(options.out) / "paths.png"
        say(options, f"report: {write_report(outcome, session, Path(options.out))}")
        show_figure(options, drawn(draw_comparisons, outcome.comparisons, session.derivation.system.states, path), path)
    return 0 if outcome.passed else 1


def _line_of_progress(text: str) -> None:
    sys.stderr.write(f"\r\x1b[K{text[:100]}")
    sys.stderr.flush()


def run_paper(options: argparse.Namespace) -> int:
    options.out = options.out or "paper"
    problem = problem_of(options, MANIFEST, "article.tex", "article.pdf")
    from annealvi.paper.build import print_paper, rebuild

    live = sys.stderr.isatty()
    with spoken_for():
        paper = rebuild(
            Path(options.out), problem, options.device, options.seed, _line_of_progress if live else tell, options.force
        )
    if live:
        _line_of_progress("")
    with for_people(options):
        print_paper(paper)
    write_json(options.json, paper.as_dict())
    return 0 if paper.passed else 1


RUN: dict[str, Callable[[argparse.Namespace], int]] = {
    "verify": run_verify,
    "derive": run_derive,
    "rhs": run_rhs,
    "integrate": run_integrate,
    "simulate": run_simulate,
    "collapse": run_collapse,
    "fixed-points": run_fixed_points,
    "phase": run_phase,
    "recommend": run_recommend,
    "flow": run_flow,
    "paper": run_paper,
}
