"""`annealvi verify`: check the derivation, the kernels, and the equations against particles."""

from __future__ import annotations

import argparse
import sys
from contextlib import nullcontext
from pathlib import Path

from annealvi.cli.console import for_people, live_line, problem_of, say, show_figure
from annealvi.cli.errors import CHECK_FAILED, DONE
from annealvi.cli.shared_options import add_common_options

NAME = "verify"
ABOUT = "check every derivation step, the kernels, and the equations against particles"
EXAMPLE = "verify bimodal --out report"

REPORT = ("report.md", "paths.png", "verify.json", "derivation.md")


def add_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    parser.add_argument("--quiet", action="store_true", help="print no progress")
    parser.add_argument("--quick", action="store_true", help="a first look: a subset of the checks, which says so")


def run(options: argparse.Namespace) -> int:
    problem = problem_of(options, *REPORT)
    from annealvi.session.session import open_session
    from annealvi.show.no_figure import drawn
    from annealvi.show.output import write_json
    from annealvi.verification.every_check import verify
    from annealvi.verification.report import print_checks, write_report
    from kernels.machine.stages import spoken_for

    session = open_session(problem)
    quiet = options.quiet or not sys.stderr.isatty()
    with nullcontext() if quiet else spoken_for():
        progress = None if quiet else live_line
        outcome = verify(session, device=options.device, seed=options.seed, progress=progress, quick=options.quick)
    if not quiet:
        live_line("")
    with for_people(options):
        print_checks(outcome)
    write_json(options.json, outcome.as_dict())
    if options.out is not None:
        say(options, f"report: {write_report(outcome, session, Path(options.out))}")
    if options.out is not None and not options.quick:
        from annealvi.show.path_figures import draw_comparisons

        path = Path(options.out) / "paths.png"
        show_figure(options, drawn(draw_comparisons, outcome.comparisons, session.derivation.system.states, path), path)
    return DONE if outcome.passed else CHECK_FAILED
