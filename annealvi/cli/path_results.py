"""The paths of `annealvi integrate` and `annealvi simulate`: their size, their table, and their files."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING

from annealvi.cli.console import for_people, show_figure
from annealvi.cli.errors import DONE

if TYPE_CHECKING:
    from annealvi.runs.paths import Paths

MOST_NUMBERS_IN_JSON = 20_000_000
"""Half a gigabyte of text."""


def require_writable_size(options: argparse.Namespace, numbers: int) -> None:
    """Refuse more numbers than a JSON file can reasonably hold."""
    from derive.problem.specification import BadInput

    if (options.json or options.out) and numbers > MOST_NUMBERS_IN_JSON:
        raise BadInput(
            "--points",
            f"{numbers:.3g} numbers to write as JSON",
            f"ask for at most {MOST_NUMBERS_IN_JSON:.0e}, or use the Python functions",
            "",
        )


def finish_paths(options: argparse.Namespace, paths: Paths) -> int:
    """Print the paths as a table, write their files, and return the exit status."""
    from annealvi.runs.path_table import print_path_table
    from annealvi.show.no_figure import drawn
    from annealvi.show.output import write_json

    with for_people(options):
        print_path_table(paths)
    write_json(options.json, paths.as_dict())
    if options.out is not None:
        from annealvi.show.path_figures import draw_paths

        write_json(str(Path(options.out) / "paths.json"), paths.as_dict())
        path = Path(options.out) / "paths.png"
        show_figure(options, drawn(draw_paths, paths, path), path)
    return DONE
