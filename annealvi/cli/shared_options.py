"""Options that several commands have in common."""

from __future__ import annotations

import argparse

from annealvi.cli import option_types as types

MOST_SECONDS = 3600.0
"""Default of --max-cost. The bare `annealvi simulate` takes about 800 s on two cores and must not be refused."""


def add_common_options(
    parser: argparse.ArgumentParser,
    problem_help: str = "TOML file or built-in name (default: bimodal)",
    out_help: str = "write the result as files to this folder",
) -> None:
    """The problem and the options that every command has."""
    parser.add_argument("problem", nargs="?", default="bimodal", metavar="PROBLEM", help=problem_help)
    parser.add_argument(
        "--set",
        action="append",
        default=[],
        metavar="KEY=VALUE",
        help="change one key of the problem, such as schedule.T0=100; repeatable",
    )
    parser.add_argument("--json", metavar="PATH", help="write the result as JSON; - is standard output")
    parser.add_argument("--out", metavar="DIR", help=out_help)
    parser.add_argument("--force", action="store_true", help="overwrite results that are there already")
    parser.add_argument("--seed", type=types.seed, default=0, help="seed of every random choice (default: 0)")
    parser.add_argument(
        "--device", choices=("auto", "cpu", "cuda"), default="auto", help="where kernels run (default: auto)"
    )


def add_path_options(parser: argparse.ArgumentParser, points: int) -> None:
    """Options of the commands that compute paths. points: the default number of output times."""
    settled = (
        "the schedule's settling time plus 50, or 50 after every path has reached beta = 1 "
        "where the schedule is adaptive"
    )
    parser.add_argument("--t-end", type=types.positive, metavar="T", help=f"final time (default: {settled})")
    parser.add_argument(
        "--points", type=types.points, default=points, metavar="N", help=f"output times (default: {points})"
    )
    add_cost_option(parser)


def add_cost_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--max-cost",
        type=types.positive,
        default=MOST_SECONDS,
        metavar="SECONDS",
        help=f"refuse a run that is expected to take longer, stop one that takes twice as long "
        f"(default: {MOST_SECONDS:g})",
    )


def add_sweep_options(parser: argparse.ArgumentParser) -> None:
    group = parser.add_argument_group(
        "how a sweep is run", "Its numbers do not depend on any of these. An interrupted one goes on."
    )
    group.add_argument("--plan", action="store_true", help="say what a sweep would take, and do nothing")
    group.add_argument(
        "--workers",
        type=types.workers,
        metavar="N",
        help="processes that share the cores (default: the command's own choice)",
    )
    group.add_argument(
        "--chunk", type=types.count, metavar="N", help="units of work kept together (default: some seconds' worth)"
    )
    group.add_argument(
        "--engine",
        choices=("local", "dask"),
        default="local",
        help="processes of this machine, or Dask, an extra (default: local)",
    )
    group.add_argument(
        "--scheduler", metavar="tcp://…", help="of a Dask cluster (default: a cluster of this machine's own)"
    )


def add_projected_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--projected",
        action="store_true",
        help="draw the particles in the span of modes and means only, and what they have outside as one "
        "vector: the same law, and in many "
        "dimensions faster; for one scale in each mixture and nothing learned but means",
    )


def add_weight_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--least-weight",
        type=types.share,
        metavar="SHARE",
        help="with learned weights: a mode is missed as well where the components nearest to it hold less "
        "than this share of the mode's "
        "own weight (default: 0.1, as of flows)",
    )


def add_limit_option(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--large-dimension",
        action="store_true",
        help="the limit of many dimensions of what unequal scales make depend on the dimension",
    )
