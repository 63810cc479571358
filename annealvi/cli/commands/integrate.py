"""`annealvi integrate`: paths of the summary-statistics ODE."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from annealvi.cli import option_types as types
from annealvi.cli.console import problem_of, progress_bar
from annealvi.cli.path_results import finish_paths, require_writable_size
from annealvi.cli.shared_options import add_common_options, add_limit_option, add_path_options

if TYPE_CHECKING:
    import numpy as np

    from annealvi.session.session import Session

NAME = "integrate"
ABOUT = "the summary-statistics ODE from given or random initial states"
EXAMPLE = "integrate bimodal --set schedule.T0=30 --n 100 --json paths.json"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    add_path_options(parser, points=201)
    parser.add_argument("--n", type=types.count, default=16, help="random initial states (default: 16)")
    parser.add_argument(
        "--rtol", type=types.tolerance, default=1e-9, help="relative tolerance per step (default: 1e-9)"
    )
    parser.add_argument(
        "--tolerance",
        type=types.tolerance,
        metavar="E",
        help="absolute error of each average (default: 1e-10, or --rtol if that is less)",
    )
    parser.add_argument(
        "--initial",
        metavar="FILE",
        help='start here instead; JSON: {"states": {"m_1": [0.1, ...], ...}}, one number per path',
    )
    add_limit_option(parser)


def run(options: argparse.Namespace) -> int:
    problem = problem_of(options, "paths.json", "paths.png")
    from annealvi.runs.trajectories import integrate
    from annealvi.session.session import open_session
    from annealvi.show.remarks import tell

    session = open_session(problem, options.large_dimension)
    initial = None if options.initial is None else read_initial(options.initial, session)
    paths = options.n if initial is None else len(initial)
    require_writable_size(options, paths * options.points * len(session.state_names))
    with progress_bar("integrating") as progress:
        found = integrate(
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
    return finish_paths(options, found)


def read_initial(path: str, session: Session) -> np.ndarray:
    """Initial states (n, states) from a file {"states": {name: [...]}}; BadInput for any other content."""
    import numpy as np

    from derive.problem.field_checks import one_line
    from derive.problem.specification import BadInput

    source = one_line(path)
    document = _read_document(path, source)
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


def _read_document(path: str, source: str) -> Any:
    from annealvi.show.output import read_json
    from derive.problem.specification import BadInput

    try:
        return read_json(path)
    except BadInput:
        raise
    except OSError as error:
        raise BadInput("--initial", error.strerror or str(error), "give the path of a JSON file", source) from None
    except (ValueError, RecursionError):
        raise BadInput("", "not JSON", 'write {"states": {"m_1": [0.1], ...}}', source) from None
