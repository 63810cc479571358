"""How the commands `collapse`, `phase` and `flow` run a sweep: its plan, its files, and its progress."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from annealvi.cli.console import progress_bar, say
from annealvi.cli.errors import DONE

if TYPE_CHECKING:
    import xarray as xr

    from annealvi.show.no_figure import NoFigure
    from annealvi.sweeps.running import Execution
    from annealvi.sweeps.sweep import Sweep


@contextmanager
def sweeping(options: argparse.Namespace, sweep: Sweep, path: Path, label: str, *beside: Path) -> Iterator[xr.Dataset]:
    """Run a sweep with a progress bar and yield its result.

    path: the netCDF file of the result. label: the name of the bar. beside: further files that the command writes.
    """
    from annealvi.show.remarks import tell
    from annealvi.sweeps.running import sweeping as run

    require_places(options, sweep, path, *beside)
    with (
        progress_bar(label) as progress,
        run(sweep, path, _execution(options), progress=progress, tell=tell) as data,
    ):
        yield data


def show_plans(options: argparse.Namespace, sweeps: dict[Path, Sweep], figure: Path) -> int:
    """Say what each sweep would take, and return the exit status.

    sweeps: by the files that they would write. figure: the figure's path, which has the stem of one of these files.
    """
    from annealvi.show.output import write_json
    from annealvi.sweeps.running import plan_sweep

    for path, sweep in sweeps.items():
        require_places(options, sweep, path, *([figure] if figure == path.with_suffix(".png") else []))
    plans = [plan_sweep(sweep, path, _execution(options)) for path, sweep in sweeps.items()]
    for plan in plans:
        say(options, str(plan))
    write_json(options.json, {"plan": [vars(plan) for plan in plans]})
    return DONE


def require_places(options: argparse.Namespace, sweep: Sweep, path: Path, *beside: Path) -> None:
    """Refuse a sweep's files where they cannot be written or must not be.

    Refused are files that cannot be written, that exist already, that a link leads out of the folder, or that --json
    would overwrite.
    """
    from annealvi.show.output import require_inside, require_writable
    from annealvi.sweeps.running import parts_of, refuse_overwriting
    from derive.problem.specification import BadInput

    for file in (path, *beside):
        require_writable(str(file), "--out")
    refuse_overwriting(sweep, path, (path, *beside), options.force)
    for place in (path, parts_of(path), *beside):
        require_inside(place, path.parent, "--out")
        if options.json not in (None, "-") and Path(os.path.realpath(options.json)).is_relative_to(
            os.path.realpath(place)
        ):
            raise BadInput("--json", f"{options.json} is a file of the result", "give another path", "")


def refuse_sweep_options(options: argparse.Namespace, remedy: str) -> None:
    """Refuse the options of a sweep where there is none. remedy: how to ask for a sweep."""
    from derive.problem.specification import BadInput

    given = {
        "--plan": options.plan,
        "--workers": options.workers,
        "--chunk": options.chunk,
        "--scheduler": options.scheduler,
        "--engine": options.engine != "local",
    }
    for option in (name for name, value in given.items() if value):
        raise BadInput(option, "there is no sweep", f"{remedy}, or leave it out", "")


def path_of(figure: Path | NoFigure | None) -> str | None:
    """The figure's path for the JSON, None where there is no figure."""
    return str(figure) if isinstance(figure, Path) else None


def _execution(options: argparse.Namespace) -> Execution:
    from annealvi.sweeps.running import Execution

    return Execution(options.workers, options.engine, options.scheduler, options.chunk, options.max_cost, options.force)
