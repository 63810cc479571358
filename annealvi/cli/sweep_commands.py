"""The commands that run sweeps: maps of the probability of collapse, grids of it, and flows under many schedules."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annealvi.cli.console import NoFigure, drawn, for_people, noted, problem_of, progress_bar, say, show_figure, tell
from annealvi.collapse.formula_coverage import INSTEAD_OF_MAPPING, require_covered, require_quick
from annealvi.show.output import require_inside, require_writable, write_file, write_json
from annealvi.sweeps.axis import parse_axis, require_ends
from derive.problem.specification import BadInput, Problem

if TYPE_CHECKING:
    import xarray as xr

    from annealvi.sweeps.running import Execution
    from annealvi.sweeps.sweep import Sweep


def run_phase(options: argparse.Namespace) -> int:
    folder = Path(options.out or "phase")
    problem = problem_of(options)
    if options.result != "p_ode":
        require_quick(problem, INSTEAD_OF_MAPPING)
    x, y = parse_axis(options.x, "--x"), parse_axis(options.y, "--y")
    tried = require_ends(problem, (x, y))
    for one in tried if options.result != "p_ode" else ():
        require_quick(one, INSTEAD_OF_MAPPING)
    from annealvi.collapse.collapse_figures import draw_phase
    from annealvi.collapse.map_overlays import ensemble_map, particle_grid
    from annealvi.collapse.phase_maps import PhaseMap

    judged = {"seed": options.seed, "device": options.device, "least_weight": options.least_weight}
    sweep = PhaseMap(problem, x, y, options.result, options.n, **judged)
    ode = None if options.ode is None else ensemble_map(problem, x, y, options.ode, options.n, **judged)
    particles = None
    if options.particles is not None:
        particles = particle_grid(problem, x, y, options.particles, options.replicas, **judged)
    path = folder / "phase.nc"
    overlaid = {"ode": ode, "particles": particles}
    beside = {folder / f"phase-{name}.nc": overlay for name, overlay in overlaid.items() if overlay is not None}
    if options.plan:
        return _show_plans(options, {**beside, path: sweep}, path.with_suffix(".png"))
    for file, wanted in {**beside, path: sweep}.items():
        _require_places(options, wanted, file, *([path.with_suffix(".png")] if file == path else []))
    with ExitStack() as running:
        # The overlays first: the map's own chunks are then the first to be removed in the end, and with them goes what
        # says "unfinished".
        overlays = {
            file.stem.removeprefix("phase-"): running.enter_context(
                _sweeping(options, overlay, file, f"overlay of {file.stem}")
            )
            for file, overlay in beside.items()
        }
        data = running.enter_context(_sweeping(options, sweep, path, "rows", path.with_suffix(".png")))
        figure = drawn(lambda: draw_phase(data, path.with_suffix(".png"), **overlays))
        warnings = noted(sweep.warnings)
        write_json(options.json, {"path": str(path), "figure": _stated(figure), "warnings": warnings})
        say(options, f"map: {path}")
        show_figure(options, figure, path.with_suffix(".png"))
    return 0


def run_collapse(options: argparse.Namespace) -> int:
    if options.over:
        return _collapse_over(options)
    _refuse_sweep_options(options, "add --over KEY=LO:HI:N")
    problem = problem_of(options, "collapse.json")
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
    return 0


def _sampling(options: argparse.Namespace) -> dict[str, Any]:
    return {
        name: getattr(options, name)
        for name in ("n", "replicas", "particles", "dt", "t_end", "projected", "seed", "least_weight")
    }


def _collapse_over(options: argparse.Namespace) -> int:
    """P(collapse) at every combination of some keys' values."""
    folder = Path(options.out or "collapse")
    problem = problem_of(options)
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
        return _show_plans(options, {path: sweep}, path.with_suffix(".png"))
    beside = [path.with_suffix(".png")] if len(axes) <= 2 else []
    with _sweeping(options, sweep, path, "points", *beside) as data:
        figure = drawn(draw_grid, data, sweep.methods, *beside) if beside else None
        with for_people(options):
            print_grid(data, sweep.methods, problem.name)
        say(options, f"grid: {path}")
        files = {"path": str(path), "figure": _stated(figure), "warnings": noted(sweep.warnings)}
        if options.json is not None:
            write_json(options.json, {**files, **grid_as_dict(data, sweep.methods)})
        for place in beside:
            show_figure(options, figure, place)
    return 0


def run_flow(options: argparse.Namespace) -> int:
    swept = options.x is not None or options.y is not None or options.kinds is not None
    if not swept:
        _refuse_sweep_options(options, "add --x and --y, or --x and --kinds")
    folder = None if options.out is None else Path(options.out)
    unfinished = (
        folder is not None and (folder / "checkpoint.npz").is_file()
    )  # whose settings are compared before anything is written
    problem = problem_of(options, *(() if swept or unfinished else ("flow.nc", "flow.png")))
    if folder is not None and unfinished:
        require_writable(str(folder / "flow.nc"), "--out")
    from annealvi.components import require

    require("training a flow", "jax", "equinox", "optax")
    from annealvi.realnvp.training import Architecture, Optimiser

    architecture = Architecture(options.layers, options.width, options.depth, options.architecture)
    optimiser = Optimiser(options.batch, options.learning_rate, options.gradient, options.decay, options.clip)
    if swept:
        return _sweep_flows(options, problem, architecture, optimiser)
    import numpy as np

    from annealvi.realnvp.flow_tables import print_flow
    from annealvi.realnvp.run_figures import draw_flow
    from annealvi.realnvp.training_run import SAMPLES, train_flow
    from annealvi.session.resolution import warnings_of

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
    return 0


def _sweep_flows(options: argparse.Namespace, problem: Problem, architecture: Any, optimiser: Any) -> int:
    """Flows over two keys, or kinds of schedule over T0, the mixtures' theory beside them where it covers the
    problem."""
    from annealvi.realnvp.experiments import Kinds, Map, accompany, as_dict
    from annealvi.realnvp.schedule_sweep import CELL_SAMPLES, Training
    from annealvi.session.resolution import warnings_over

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
    experiment: Map | Kinds
    if options.kinds is None:
        experiment = Map(problem, x, parse_axis(options.y, "--y"), training)
    elif x.key == "schedule.T0":
        if x.values.dtype.kind != "f":
            raise BadInput("--x", "a temperature is no number", "write --x schedule.T0=LO:HI:N:log", "")
        experiment = Kinds(problem, tuple(map(float, x.settings)), tuple(options.kinds), options.anneal, training)
    else:
        raise BadInput(
            "--x", f"kinds are compared over schedule.T0, not {x.key}", "write --x schedule.T0=LO:HI:N:log", ""
        )
    path = Path(options.out or "flow") / f"{experiment.name}.nc"
    sweep = experiment.sweep
    if options.plan:
        return _show_plans(options, {path: sweep}, path.with_suffix(".png"))
    with _sweeping(
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
        warnings = noted(warnings_over(problem, varied, training.samples))
        write_json(options.json, {"path": str(path), "figure": _stated(figure), "warnings": warnings, **as_dict(data)})
        show_figure(options, figure, path.with_suffix(".png"))
    return 0


def _stated(figure: Path | NoFigure | None) -> str | None:
    """For JSON."""
    return str(figure) if isinstance(figure, Path) else None


def _execution(options: argparse.Namespace) -> Execution:
    from annealvi.sweeps.running import Execution

    return Execution(options.workers, options.engine, options.scheduler, options.chunk, options.max_cost, options.force)


def _refuse_sweep_options(options: argparse.Namespace, remedy: str) -> None:
    given = {
        "--plan": options.plan,
        "--workers": options.workers,
        "--chunk": options.chunk,
        "--scheduler": options.scheduler,
    }
    for option in (
        *(name for name, value in given.items() if value),
        *(["--engine"] if options.engine != "local" else []),
    ):
        raise BadInput(option, "there is no sweep", f"{remedy}, or leave it out", "")


@contextmanager
def _sweeping(options: argparse.Namespace, sweep: Sweep, path: Path, label: str, *beside: Path) -> Iterator[xr.Dataset]:
    """Run a sweep with a progress bar. beside: further files that are written."""
    from annealvi.sweeps.running import sweeping

    _require_places(options, sweep, path, *beside)
    with (
        progress_bar(label) as progress,
        sweeping(sweep, path, _execution(options), progress=progress, tell=tell) as data,
    ):
        yield data


def _require_places(options: argparse.Namespace, sweep: Sweep, path: Path, *beside: Path) -> None:
    """Refuse files that cannot be written, that are there already, that a link leads elsewhere, or that --json would
    overwrite."""
    from annealvi.sweeps.running import parts_of, refuse_overwriting

    for file in (path, *beside):
        require_writable(str(file), "--out")
    refuse_overwriting(sweep, path, (path, *beside), options.force)
    for place in (path, parts_of(path), *beside):
        require_inside(place, path.parent, "--out")
        if options.json not in (None, "-") and Path(os.path.realpath(options.json)).is_relative_to(
            os.path.realpath(place)
        ):
            raise BadInput("--json", f"{options.json} is a file of the result", "give another path", "")


def _show_plans(options: argparse.Namespace, sweeps: dict[Path, Sweep], figure: Path) -> int:
    """Say what each of the sweeps, given by the files that they would write, would take."""
    from annealvi.sweeps.running import plan_sweep

    for path, sweep in sweeps.items():
        _require_places(options, sweep, path, *([figure] if figure == path.with_suffix(".png") else []))
    plans = [plan_sweep(sweep, path, _execution(options)) for path, sweep in sweeps.items()]
    for plan in plans:
        say(options, str(plan))
    write_json(options.json, {"plan": [vars(plan) for plan in plans]})
    return 0
