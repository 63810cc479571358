"""`annealvi flow`: RealNVP flows trained on the tempered reverse KL, for one problem or over many schedules."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from annealvi.cli import option_types as types
from annealvi.cli.console import for_people, problem_of, progress_bar, say, show_figure
from annealvi.cli.errors import DONE
from annealvi.cli.shared_options import add_common_options, add_cost_option, add_sweep_options
from annealvi.cli.sweep_runs import path_of, refuse_sweep_options, show_plans, sweeping

if TYPE_CHECKING:
    from annealvi.realnvp.experiments import Kinds, Map
    from annealvi.realnvp.training import Architecture, Optimiser
    from derive.problem.specification import Problem

NAME = "flow"
ABOUT = "RealNVP flows trained on the tempered reverse KL, many seeds side by side, and whether they collapse"
EXAMPLE = "flow bimodal --set space.dimension=16 --set schedule.t0=500 --layers 4 --width 32 --seeds 16 --out run"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    _add_training_options(parser)
    _add_experiment_options(parser)
    add_cost_option(parser)
    add_sweep_options(parser)


def _add_training_options(parser: argparse.ArgumentParser) -> None:
    settled = "until the schedule has settled and 20000 more, or 10000 where it is adaptive"
    parser.add_argument("--steps", type=types.count, metavar="N", help=f"optimiser steps (default: {settled})")
    parser.add_argument(
        "--seeds", type=types.replicas, default=4, metavar="N", help="flows, trained side by side (default: 4)"
    )
    parser.add_argument(
        "--batch", type=types.points, default=256, metavar="N", help="samples in each step (default: 256)"
    )
    parser.add_argument("--layers", type=types.layers, default=8, metavar="N", help="coupling layers (default: 8)")
    parser.add_argument(
        "--width", type=types.width, default=64, metavar="N", help="of their networks' hidden layers (default: 64)"
    )
    parser.add_argument(
        "--depth", type=types.layers, default=3, metavar="N", help="hidden layers of each network (default: 3)"
    )
    parser.add_argument(
        "--architecture",
        choices=("plain", "study"),
        default="plain",
        help="study: batch normalisation on each network's input, as in the study's code (default: plain, without)",
    )
    parser.add_argument(
        "--gradient",
        choices=("path", "total"),
        default="path",
        help="path: of log q along the samples' paths alone, without noise where q = p; total: "
        "all of it (default: path)",
    )
    parser.add_argument(
        "--learning-rate",
        type=types.positive,
        default=1e-3,
        metavar="RATE",
        help="of Adam, in the first step (default: 0.001)",
    )
    parser.add_argument(
        "--decay",
        choices=("cosine", "constant"),
        default="cosine",
        help="of the learning rate, to a hundredth of it (default: cosine)",
    )
    parser.add_argument(
        "--clip", type=types.positive, metavar="NORM", help="scale gradients down to this norm (default: as they are)"
    )
    parser.add_argument(
        "--time-per-step",
        type=types.positive,
        default=1.0,
        metavar="TIME",
        help="of the schedule's t (default: 1, so t0 counts steps)",
    )
    parser.add_argument(
        "--records",
        type=types.count,
        default=20,
        metavar="N",
        help="how often the flows of one run are judged (default: 20)",
    )


def _add_experiment_options(parser: argparse.ArgumentParser) -> None:
    keys = "keys of the target, the schedule or the space, or R or w_star"
    parser.add_argument(
        "--x", metavar="KEY=LO:HI:N[:log]", help=f"with --y: map P(collapse) over two {keys}; with --kinds: schedule.T0"
    )
    parser.add_argument("--y", metavar="KEY=LO:HI:N[:log]", help="see --x")
    parser.add_argument(
        "--kinds",
        type=types.names,
        metavar="LIST",
        help="compare these kinds of schedule over --x, at equal numbers of steps",
    )
    parser.add_argument(
        "--anneal",
        type=types.count,
        default=1500,
        metavar="N",
        help="with --kinds: steps in which the schedules come to T = 1.05 (default: 1500)",
    )
    parser.add_argument(
        "--after",
        type=types.count,
        default=2000,
        metavar="N",
        help="steps of each cell of a map or comparison once it has come to T = 1.05, where --steps "
        "is not given (default: 2000)",
    )
    parser.add_argument(
        "--samples",
        type=types.samples,
        metavar="N",
        help="of each judgement (default: 8192; of a map or comparison, 2048)",
    )


def run(options: argparse.Namespace) -> int:
    swept = options.x is not None or options.y is not None or options.kinds is not None
    if not swept:
        refuse_sweep_options(options, "add --x and --y, or --x and --kinds")
    folder = None if options.out is None else Path(options.out)
    # The settings of an unfinished run are compared with those of this one before anything is written.
    unfinished = folder is not None and (folder / "checkpoint.npz").is_file()
    problem = problem_of(options, *(() if swept or unfinished else ("flow.nc", "flow.png")))
    from annealvi.components import require
    from annealvi.show.output import require_writable

    if folder is not None and unfinished:
        require_writable(str(folder / "flow.nc"), "--out")
    require("training a flow", "jax", "equinox", "optax")
    from annealvi.realnvp.training import Architecture, Optimiser

    architecture = Architecture(options.layers, options.width, options.depth, options.architecture)
    optimiser = Optimiser(options.batch, options.learning_rate, options.gradient, options.decay, options.clip)
    if swept:
        return _run_experiment(options, problem, architecture, optimiser)
    return _train(options, problem, architecture, optimiser, folder)


def _train(
    options: argparse.Namespace,
    problem: Problem,
    architecture: Architecture,
    optimiser: Optimiser,
    folder: Path | None,
) -> int:
    """Flows of one problem, a seed each."""
    import numpy as np

    from annealvi.realnvp.flow_tables import print_flow
    from annealvi.realnvp.run_figures import draw_flow
    from annealvi.realnvp.training_run import SAMPLES, train_flow
    from annealvi.session.resolution import warnings_of
    from annealvi.show.no_figure import drawn
    from annealvi.show.output import write_file, write_json
    from annealvi.show.remarks import noted, tell

    samples = options.samples or SAMPLES
    with progress_bar("training") as progress:
        run = train_flow(
            problem,
            steps=options.steps,
            seeds=options.seeds,
            architecture=architecture,
            optimiser=optimiser,
            time_per_step=options.time_per_step,
            records=options.records,
            samples=samples,
            seed=options.seed,
            device=options.device,
            checkpoint=None if folder is None else folder / "checkpoint.npz",
            max_cost=options.max_cost,
            progress=progress,
            tell=tell,
        )
    with for_people(options):
        print_flow(run, problem.name)
    if folder is not None:
        write_file(folder / "flow.nc", bytes(run.data.to_netcdf(engine="scipy")))
        say(options, f"result: {folder / 'flow.nc'}")
    write_json(options.json, {**run.as_dict(), "warnings": noted(warnings_of(problem, samples))})
    if folder is not None:
        figure = drawn(draw_flow, run.data, np.array(problem.target.scales), folder / "flow.png")
        show_figure(options, figure, folder / "flow.png")
        (folder / "checkpoint.npz").unlink(missing_ok=True)
    return DONE


def _run_experiment(
    options: argparse.Namespace, problem: Problem, architecture: Architecture, optimiser: Optimiser
) -> int:
    """Flows over two keys, or kinds of schedule over T0, beside the mixtures' theory where it covers the problem."""
    from annealvi.realnvp.experiments import Map, accompany, as_dict
    from annealvi.session.resolution import warnings_over
    from annealvi.show.no_figure import drawn
    from annealvi.show.output import write_json
    from annealvi.show.remarks import noted, tell
    from derive.problem.specification import BadInput

    experiment = _experiment(options, problem, architecture, optimiser)
    path = Path(options.out or "flow") / f"{experiment.name}.nc"
    sweep = experiment.sweep
    if options.plan:
        return show_plans(options, {path: sweep}, path.with_suffix(".png"))
    with sweeping(
        options, sweep, path, "schedules", path.with_suffix(".png"), path.with_name(f"{path.stem}-theory.nc")
    ) as data:
        try:
            theory = experiment.theory(options.device)
        except BadInput as wrong:
            theory = None
            tell(f"no theory beside the flows: {wrong.found}")
        with for_people(options):
            experiment.show(data)
        figure = drawn(accompany, experiment, data, theory, path)
        say(options, f"result: {path}")
        varied = (experiment.x, experiment.y) if isinstance(experiment, Map) else ()
        warnings = noted(warnings_over(problem, varied, experiment.training.samples))
        write_json(options.json, {"path": str(path), "figure": path_of(figure), "warnings": warnings, **as_dict(data)})
        show_figure(options, figure, path.with_suffix(".png"))
    return DONE


def _experiment(
    options: argparse.Namespace, problem: Problem, architecture: Architecture, optimiser: Optimiser
) -> Map | Kinds:
    """The map or the comparison that the options ask for."""
    from annealvi.realnvp.experiments import Kinds, Map
    from annealvi.realnvp.schedule_sweep import CELL_SAMPLES, Training
    from annealvi.sweeps.axis import parse_axis
    from derive.problem.specification import BadInput

    if options.x is None or (options.y is None) == (options.kinds is None):
        raise BadInput("--x", "a map needs --x and --y, and a comparison --x and --kinds", "give two of the three", "")
    training = Training(
        options.steps,
        options.after,
        options.seeds,
        architecture,
        optimiser,
        options.time_per_step,
        options.samples or CELL_SAMPLES,
        options.seed,
        options.device,
    )
    x = parse_axis(options.x, "--x")
    if options.kinds is None:
        return Map(problem, x, parse_axis(options.y, "--y"), training)
    if x.key != "schedule.T0":
        found = f"kinds are compared over schedule.T0, not {x.key}"
        raise BadInput("--x", found, "write --x schedule.T0=LO:HI:N:log", "")
    if x.values.dtype.kind != "f":
        raise BadInput("--x", "a temperature is no number", "write --x schedule.T0=LO:HI:N:log", "")
    return Kinds(problem, tuple(map(float, x.settings)), tuple(options.kinds), options.anneal, training)
