"""`annealvi fixed-points`: fixed points, their spectra, and their branches over a range of temperatures."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from annealvi.cli import option_types as types
from annealvi.cli.console import problem_of, say, show_figure
from annealvi.cli.errors import CHECK_FAILED, DONE
from annealvi.cli.shared_options import add_common_options

NAME = "fixed-points"
ABOUT = "fixed points, their spectra, and how they branch as the temperature varies"
EXAMPLE = "fixed-points bimodal --T-range 1:1000 --out branches"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    parser.add_argument(
        "--T",
        type=types.temperatures,
        metavar="LIST",
        help="temperatures, separated by commas, at which all are sought (default: 1)",
    )
    parser.add_argument(
        "--T-range",
        type=types.interval,
        metavar="LO:HI",
        help="follow the branches between these temperatures instead, and draw them",
    )
    parser.add_argument(
        "--levels",
        type=types.points,
        default=5,
        metavar="N",
        help="temperatures of the range at which branches begin (default: 5)",
    )
    parser.add_argument(
        "--starts",
        type=types.replicas,
        default=48,
        metavar="N",
        help="random starts of the search, per round (default: 48)",
    )


def run(options: argparse.Namespace) -> int:
    problem = problem_of(options, "fixed-points.json", *(("branches.png",) if options.T_range is not None else ()))
    _require_temperatures(options)
    from annealvi.fixed_points import bifurcation_table, continue_branches, find_fixed_points, fixed_point_table
    from annealvi.session.session import open_session
    from annealvi.show.no_figure import drawn
    from annealvi.show.output import write_json

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
    return DONE if complete else CHECK_FAILED


def _require_temperatures(options: argparse.Namespace) -> None:
    from derive.problem.specification import BadInput

    if options.T is not None and options.T_range is not None:
        raise BadInput("--T", "given beside --T-range", "give one of the two", "")
    if options.T_range is not None and not 1 <= options.T_range[0] < options.T_range[1] < 1e12:
        raise BadInput("--T-range", "the range is empty or begins below 1", "give LO:HI with 1 <= LO < HI", "")
