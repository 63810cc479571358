"""`annealvi recommend`: the cheapest schedule whose probability of collapse is at most a wanted one."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from annealvi.cli import option_types as types
from annealvi.cli.console import for_people, problem_of, progress_bar
from annealvi.cli.errors import CHECK_FAILED, DONE
from annealvi.cli.shared_options import add_common_options

NAME = "recommend"
ABOUT = "the cheapest schedule whose probability of collapse is at most a wanted one"
EXAMPLE = "recommend bimodal --p-max 0.05 --R 2:3.5"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    parser.add_argument(
        "--p-max", type=float, required=True, metavar="P", help="the largest probability of collapse to accept"
    )
    parser.add_argument(
        "--kinds", type=types.names, metavar="LIST", help="kinds to try (default: all that have T0 and t0)"
    )
    parser.add_argument(
        "--R",
        type=types.interval,
        metavar="LO:HI",
        help="the separation lies between these: recommend for the worst case",
    )
    parser.add_argument(
        "--n",
        type=types.count,
        help="trajectories of each ODE ensemble that is to confirm the result; status 1 where "
        "it does not (default: 20000 where the formula guides the search, else 4000)",
    )


def run(options: argparse.Namespace) -> int:
    problem = problem_of(options, "recommendation.json")
    from annealvi.collapse.formula_coverage import require_recommendable

    require_recommendable(problem)
    from annealvi.collapse.collapse_tables import print_recommendation
    from annealvi.collapse.recommendation import KINDS, recommend
    from annealvi.show.output import write_json
    from annealvi.show.remarks import noted
    from derive.problem.specification import BadInput

    kinds = options.kinds or KINDS
    if stray := [kind for kind in kinds if kind not in KINDS]:
        raise BadInput(
            "--kinds", f"{stray[0][:40]!r} has no T0 and t0 to choose", f"choose from {', '.join(KINDS)}", ""
        )
    with progress_bar("searching") as progress:
        settings: dict[str, Any] = {
            "n": options.n,
            "seed": options.seed,
            "device": options.device,
            "progress": progress,
        }
        found = recommend(problem, options.p_max, kinds=kinds, R=options.R, **settings)
    with for_people(options):
        print_recommendation(found, problem.name)
    noted(found.warnings)
    write_json(options.json, found.as_dict())
    if options.out is not None:
        write_json(str(Path(options.out) / "recommendation.json"), found.as_dict())
    return DONE if found.confirmed else CHECK_FAILED
