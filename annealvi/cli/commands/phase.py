"""`annealvi phase`: a map of the probability of collapse over two keys of the problem."""

from __future__ import annotations

import argparse
from contextlib import ExitStack
from pathlib import Path

from annealvi.cli import option_types as types
from annealvi.cli.console import problem_of, say, show_figure
from annealvi.cli.errors import DONE
from annealvi.cli.shared_options import add_common_options, add_cost_option, add_sweep_options, add_weight_option
from annealvi.cli.sweep_runs import path_of, require_places, show_plans, sweeping

NAME = "phase"
ABOUT = "a map of the probability of collapse over two numbers of the problem, as netCDF and a figure"
EXAMPLE = "phase bimodal --x schedule.T0=3:3000:60:log --y schedule.t0=10:3000:60:log --out map"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    for option, default in (("--x", "schedule.T0=3:3000:40:log"), ("--y", "schedule.t0=10:3000:40:log")):
        parser.add_argument(
            option,
            default=default,
            metavar="KEY=LO:HI:N[:log]",
            help="a key of the problem file such as schedule.T0 or target.scales[0], or R (of the modes and "
            "the radius), w_star or w_1; "
            f":log for equal ratios; KEY=VALUE,VALUE,… for some (default: {default})",
        )
    parser.add_argument(
        "--result",
        choices=("p", "p_leading", "b_c", "growth", "p_ode"),
        help="p by the formula, its leading order, b_c, the growth exponent, or p by ODE ensembles (default: p where "
        "the formula covers the problem, else p_ode)",
    )
    add_weight_option(parser)
    parser.add_argument(
        "--n", type=types.count, default=4000, help="most trajectories per point of an ODE ensemble (default: 4000)"
    )
    parser.add_argument(
        "--error",
        type=types.error,
        default=0.02,
        metavar="E",
        help="standard error of p_ode that is enough at a point; 0 takes all --n (default: 0.02)",
    )
    parser.add_argument(
        "--ode",
        type=types.points,
        metavar="N",
        help="overlay the contours of ODE ensembles on N × N points of the map (default: none)",
    )
    parser.add_argument(
        "--particles", type=types.points, metavar="N", help="overlay particle runs at N × N points (default: none)"
    )
    parser.add_argument(
        "--replicas", type=types.replicas, default=32, metavar="N", help="particle runs per point (default: 32)"
    )
    add_cost_option(parser)
    add_sweep_options(parser)


def run(options: argparse.Namespace) -> int:
    folder = Path(options.out or "phase")
    problem = problem_of(options)
    from annealvi.collapse.formula_coverage import INSTEAD_OF_MAPPING, require_quick
    from annealvi.show.no_figure import drawn
    from annealvi.show.output import write_json
    from annealvi.show.remarks import noted
    from annealvi.sweeps.axis import parse_axis, require_ends

    by_formula = options.result not in (None, "p_ode")
    if by_formula:
        require_quick(problem, INSTEAD_OF_MAPPING)
    x, y = parse_axis(options.x, "--x"), parse_axis(options.y, "--y")
    tried = require_ends(problem, (x, y))
    for one in tried if by_formula else ():
        require_quick(one, INSTEAD_OF_MAPPING)
    from annealvi.collapse.collapse_figures import draw_phase
    from annealvi.collapse.map_overlays import ensemble_map, particle_grid
    from annealvi.collapse.phase_maps import PhaseMap

    judged = {"seed": options.seed, "device": options.device, "least_weight": options.least_weight}
    sweep = PhaseMap(problem, x, y, options.result or "", options.n, error=options.error, **judged)
    if options.result is None and sweep.result == "p_ode":
        say(options, "the formula does not cover this problem: P by ODE ensembles")
    ode = None if options.ode is None else ensemble_map(problem, x, y, options.ode, options.n, **judged)
    particles = None
    if options.particles is not None:
        particles = particle_grid(problem, x, y, options.particles, options.replicas, **judged)
    path = folder / "phase.nc"
    overlaid = {"ode": ode, "particles": particles}
    beside = {folder / f"phase-{name}.nc": overlay for name, overlay in overlaid.items() if overlay is not None}
    if options.plan:
        return show_plans(options, {**beside, path: sweep}, path.with_suffix(".png"))
    for file, wanted in {**beside, path: sweep}.items():
        require_places(options, wanted, file, *([path.with_suffix(".png")] if file == path else []))
    with ExitStack() as running:
        # The overlays are computed first, so that the chunks of the map itself, and with them the mark "unfinished",
        # are the first to be removed in the end.
        overlays = {
            file.stem.removeprefix("phase-"): running.enter_context(
                sweeping(options, overlay, file, f"overlay of {file.stem}")
            )
            for file, overlay in beside.items()
        }
        data = running.enter_context(sweeping(options, sweep, path, "rows", path.with_suffix(".png")))
        figure = drawn(lambda: draw_phase(data, path.with_suffix(".png"), **overlays))
        warnings = noted(sweep.warnings)
        write_json(options.json, {"path": str(path), "figure": path_of(figure), "warnings": warnings})
        say(options, f"map: {path}")
        show_figure(options, figure, path.with_suffix(".png"))
    return DONE
