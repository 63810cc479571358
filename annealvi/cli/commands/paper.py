"""`annealvi paper`: the article, with its equations, tables and figures."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from annealvi.cli.console import for_people, live_line, problem_of
from annealvi.cli.errors import CHECK_FAILED, DONE
from annealvi.cli.shared_options import add_common_options

NAME = "paper"
ABOUT = (
    "the article with its equations, tables and figures, from the derivation and from results "
    "computed anew (of flows: stored ones)"
)
EXAMPLE = "paper three-mode.toml --out paper"


def add_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(
        parser,
        problem_help="TOML file or built-in name that gets an appendix of its own (default: none beside the article's)",
        out_help="the folder to write (default: paper)",
    )


def run(options: argparse.Namespace) -> int:
    from annealvi.paper.folder import MANIFEST

    options.out = options.out or "paper"
    problem = problem_of(options, MANIFEST, "article.tex", "article.pdf")
    from annealvi.paper.build import print_paper, rebuild
    from annealvi.show.output import write_json
    from annealvi.show.remarks import tell
    from kernels.machine.stages import spoken_for

    live = sys.stderr.isatty()
    with spoken_for():
        paper = rebuild(
            Path(options.out), problem, options.device, options.seed, live_line if live else tell, options.force
        )
    if live:
        live_line("")
    with for_people(options):
        print_paper(paper)
    write_json(options.json, paper.as_dict())
    return DONE if paper.passed else CHECK_FAILED
