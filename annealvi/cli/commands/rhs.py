"""`annealvi rhs`: the flow's velocity at one state."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from annealvi.cli.console import problem_of, say
from annealvi.cli.errors import DONE
from annealvi.cli.shared_options import add_common_options

NAME = "rhs"
ABOUT = "the flow's velocity at one state"
EXAMPLE = 'rhs bimodal --state state.json, with {"means": [[3, 0], [0, 3]], "beta": 0.5} in state.json'


def add_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    parser.add_argument(
        "--state",
        required=True,
        metavar="FILE",
        help='JSON: {"means": one list of coordinates per component, "weights", "scales", "covariances", "beta"}, '
        'or {"states": {"m_1": 0.1, ...}} or '
        '{"overlaps": {"M": [[...]], "Q": [[...]]}} in place of means; the others may be left '
        "out: the problem's and beta = 1",
    )


def run(options: argparse.Namespace) -> int:
    problem = problem_of(options, "rhs.json")
    from annealvi.runs import velocity
    from annealvi.show.output import write_json
    from derive.objects.parameters import PARAMETERS
    from derive.problem.specification import COVARIANCES

    result = velocity.result(problem, velocity.read_state(options.state, problem))
    rows = {f"a_{i}": _row(row) for i, row in enumerate(result.get("means", ()), 1)}
    rows |= {name: f"{rate:.12g}" for name, rate in result.get("states", {}).items()}
    rows |= {p.letter: _row(result[p.name]) for p in PARAMETERS if p.name in problem.flow.learn}
    if COVARIANCES in problem.flow.learn:
        rows |= {f"C_{i}": _matrix(rate) for i, rate in enumerate(result[COVARIANCES], 1)}
    rows |= {name: _matrix(rate) for name, rate in result["overlaps"].items()}
    longest = max(map(len, rows))
    for name, row in rows.items():
        say(options, f"{f'd{name}/dt':{longest + 4}} = {row}")
    write_json(options.json, result)
    if options.out is not None:
        write_json(str(Path(options.out) / "rhs.json"), result)
    return DONE


def _row(numbers: Any) -> str:
    return f"[{', '.join(f'{x:.12g}' for x in numbers)}]"


def _matrix(rows: Any) -> str:
    return f"[{', '.join(map(_row, rows))}]"
