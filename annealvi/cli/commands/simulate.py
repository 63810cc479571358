"""`annealvi simulate`: paths of the particle simulation."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from annealvi.cli import option_types as types
from annealvi.cli.console import problem_of, progress_bar
from annealvi.cli.path_results import finish_paths, require_writable_size
from annealvi.cli.shared_options import add_common_options, add_path_options, add_projected_option

if TYPE_CHECKING:
    from derive.problem.specification import Problem

NAME = "simulate"
ABOUT = "the particle simulation: d-dimensional stochastic gradient flow"
EXAMPLE = "simulate bimodal --set schedule.kind=hold --set schedule.t0=100 --replicas 32 --out run"

SINGLE_PRECISION = 1e-30, 1e30
"""Lengths and scales whose products with a sample float32 still holds."""


def add_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    add_path_options(parser, points=101)
    parser.add_argument(
        "--replicas",
        type=types.replicas,
        default=16,
        metavar="N",
        help="independent runs; errors need at least 2 (default: 16)",
    )
    parser.add_argument(
        "--particles", type=types.count, default=256, metavar="N", help="samples per component and step (default: 256)"
    )
    parser.add_argument(
        "--dt",
        type=types.positive,
        default=0.1,
        help="step in the flow's time; the run ends at a whole number of them (default: 0.1)",
    )
    add_projected_option(parser)
    parser.add_argument(
        "--precision", choices=("float64", "float32"), default="float64", help="of the samples (default: float64)"
    )
    parser.add_argument(
        "--extrapolate",
        action="store_true",
        help="run again with half the step, extrapolate to step zero and report the step's bias",
    )


def run(options: argparse.Namespace) -> int:
    problem = problem_of(options, "paths.json", "paths.png")
    from annealvi.runs.trajectories import simulate
    from annealvi.session.session import open_session
    from annealvi.show.remarks import tell

    if options.precision == "float32":
        _require_single_precision(problem)
    session = open_session(problem)
    require_writable_size(options, options.replicas * options.points * len(session.state_names))
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
    return finish_paths(options, paths)


def _require_single_precision(problem: Problem) -> None:
    import numpy as np

    from derive.problem.specification import BadInput

    target, proposal = problem.target, problem.proposal
    sizes = [*target.scales, *proposal.scales, *proposal.radii, *(abs(x) for row in target.means for x in row if x)]
    sizes += [x**0.5 for matrix in (*target.covariances, *proposal.covariances) for x in np.linalg.eigvalsh(matrix)]
    if target.reference_scale is not None:
        sizes.append(target.reference_scale)
    smallest, largest = SINGLE_PRECISION
    if not smallest <= min(sizes) <= max(sizes) <= largest:
        found = f"lengths and scales from {min(sizes):g} to {max(sizes):g} do not fit into float32"
        raise BadInput("--precision", found, f"choose float64, or stay within {smallest:g} and {largest:g}", "")
