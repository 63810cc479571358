"""`annealvi collapse`: the probability of mode collapse of one problem, or over a grid of problems."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from annealvi.cli import option_types as types
from annealvi.cli.console import for_people, problem_of, progress_bar, say, show_figure
from annealvi.cli.errors import DONE
from annealvi.cli.shared_options import (
    add_common_options,
    add_cost_option,
    add_projected_option,
    add_sweep_options,
    add_weight_option,
)
from annealvi.cli.sweep_runs import path_of, refuse_sweep_options, show_plans, sweeping

NAME = "collapse"
ABOUT = "the probability of mode collapse, by formula, ODE ensemble, particles and the law over dimensions"
EXAMPLE = "collapse bimodal --set schedule.T0=100 --method formula,ode --n 20000"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    parser.add_argument(
        "--method",
        type=types.methods,
        metavar="LIST",
        help="formula, ode, law and particles, separated by commas; the formula covers two components "
        "under two opposite modes, the law gives P in several dimensions at once where no scales differ or are "
        "learned, the others cover every problem (default: formula,ode, or ode where the formula does not cover "
        "the problem or would take long)",
    )
    parser.add_argument(
        "--dimensions",
        type=types.dimensions,
        metavar="D,D,…",
        help="the dimensions of the law (default: 32,128,1024,16384)",
    )
    parser.add_argument(
        "--n",
        type=types.count,
        help="trajectories of the ODE ensemble (default: 10000; fewer, and no fewer than 100, where those "
        "would take more than two minutes "
        "here, but with --over always 10000; of the law 4096, shared by its dimensions)",
    )
    parser.add_argument(
        "--replicas", type=types.replicas, default=64, metavar="N", help="independent particle runs (default: 64)"
    )
    parser.add_argument(
        "--particles", type=types.count, default=256, metavar="N", help="samples per component and step (default: 256)"
    )
    parser.add_argument(
        "--dt", type=types.positive, default=0.1, help="the particles' step in the flow's time (default: 0.1)"
    )
    add_projected_option(parser)
    parser.add_argument(
        "--t-end",
        type=types.positive,
        metavar="T",
        help="when particles are read, and trajectories that are not proven decided (default: the schedule's "
        "settling time plus 50, and of "
        "particles 1.2 times the time by which the ODE ensemble is proven decided, where there is such a time)",
    )
    add_weight_option(parser)
    parser.add_argument(
        "--over",
        action="append",
        default=[],
        metavar="KEY=LO:HI:N[:log]",
        help="compute it at these values of a key, or at some with KEY=VALUE,VALUE,…; repeat it for a grid "
        "(written to --out, or to ./collapse)",
    )
    add_cost_option(parser)
    add_sweep_options(parser)


def run(options: argparse.Namespace) -> int:
    return _over_a_grid(options) if options.over else _of_one_problem(options)


def _of_one_problem(options: argparse.Namespace) -> int:
    refuse_sweep_options(options, "add --over KEY=LO:HI:N")
    problem = problem_of(options, "collapse.json")
    from annealvi.collapse.formula_coverage import require_covered
    from annealvi.show.output import write_json
    from annealvi.show.remarks import noted, tell

    if "formula" in (options.method or ()):
        require_covered(problem, "use --method ode")
    from annealvi.collapse.collapse_tables import print_collapse
    from annealvi.collapse.probability import collapse_probability
    from annealvi.session.session import open_session

    session = open_session(problem)
    with progress_bar("collapse") as progress:
        found = collapse_probability(
            session,
            options.method,
            dimensions=options.dimensions,
            **_sampling(options),
            device=options.device,
            max_cost=options.max_cost,
            progress=progress,
            tell=tell,
        )
    with for_people(options):
        print_collapse(found, problem.name)
    noted(found.warnings)
    write_json(options.json, found.as_dict())
    if options.out is not None:
        write_json(str(Path(options.out) / "collapse.json"), found.as_dict())
    return DONE


def _over_a_grid(options: argparse.Namespace) -> int:
    """P(collapse) at every combination of some keys' values."""
    folder = Path(options.out or "collapse")
    problem = problem_of(options)
    from annealvi.collapse.formula_coverage import require_covered
    from derive.problem.specification import BadInput

    if options.dimensions is not None or "law" in (options.method or ()):
        raise BadInput("--method", "a grid has no law", "leave out --over, or use --method ode", "")
    from annealvi.show.no_figure import drawn
    from annealvi.show.output import write_json
    from annealvi.show.remarks import noted
    from annealvi.sweeps.axis import parse_axis, require_ends

    axes = tuple(parse_axis(text, "--over") for text in options.over)
    tried = require_ends(problem, axes)
    for one in tried if "formula" in (options.method or ()) else ():
        require_covered(one, "use --method ode")
    from annealvi.collapse.collapse_figures import draw_grid
    from annealvi.collapse.collapse_tables import print_grid
    from annealvi.collapse.probability_grid import CollapseGrid, Sampling, grid_as_dict

    given = {name: value for name, value in _sampling(options).items() if value is not None}
    sweep = CollapseGrid(problem, axes, options.method or (), Sampling(**given), options.device)
    path = folder / "collapse.nc"
    if options.plan:
        return show_plans(options, {path: sweep}, path.with_suffix(".png"))
    beside = [path.with_suffix(".png")] if len(axes) <= 2 else []
    with sweeping(options, sweep, path, "points", *beside) as data:
        figure = drawn(draw_grid, data, sweep.methods, *beside) if beside else None
        with for_people(options):
            print_grid(data, sweep.methods, problem.name)
        say(options, f"grid: {path}")
        files = {"path": str(path), "figure": path_of(figure), "warnings": noted(sweep.warnings)}
        if options.json is not None:
            write_json(options.json, {**files, **grid_as_dict(data, sweep.methods)})
        for place in beside:
            show_figure(options, figure, place)
    return DONE


def _sampling(options: argparse.Namespace) -> dict[str, Any]:
    return {
        name: getattr(options, name)
        for name in ("n", "replicas", "particles", "dt", "t_end", "projected", "seed", "least_weight")
    }
