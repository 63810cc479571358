"""`annealvi compare`: somebody's equations and claims beside the derived ones."""

from __future__ import annotations

import argparse
from pathlib import Path

from annealvi.cli.console import problem_of, say, show_figure
from annealvi.cli.errors import CHECK_FAILED, DONE
from annealvi.cli.shared_options import add_common_options

NAME = "compare"
ABOUT = "somebody's equations or claims beside the derived ones: equal, or where not"
EXAMPLE = 'compare theirs.toml bimodal, with "dm_1/dt" = "w_1*(...)" under [equations] in theirs.toml'

FILES = ("compare.json", "compare.md", "compare.tex", "repaired.toml", "repaired.tex", "claims.png", "claims.pdf")


def add_options(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "theirs",
        metavar="THEIRS",
        help="TOML with the tables names, definitions, equations, claims and ranges, or a .tex file with displays",
    )
    add_common_options(parser)


def run(options: argparse.Namespace) -> int:
    problem = problem_of(options, *FILES)
    from annealvi.comparison.compare import compare
    from annealvi.comparison.writing import latex, report, words
    from annealvi.show.output import write_file, write_json

    found = compare(problem, options.theirs, options.seed, device=options.device)
    say(options, words.in_words(found))
    result, figure = words.as_dict(found), None
    if options.out is not None:
        folder = Path(options.out)
        write_json(str(folder / "compare.json"), result)
        write_file(folder / "compare.md", report.in_markdown(found, problem.name).encode())
        write_file(folder / "compare.tex", report.in_latex(found, problem.name).encode())
        if found.repaired is not None:
            write_file(folder / "repaired.tex", latex.tex_of(found.repaired).encode())
        if result["repaired"] is not None:
            write_file(folder / "repaired.toml", result["repaired"].encode())
        if found.claims:
            from annealvi.comparison.claims.figure import draw_claims
            from annealvi.show.no_figure import drawn

            figure = drawn(draw_claims, found.claims, folder / "claims.png")
    write_json(options.json, result)
    if figure is not None:
        show_figure(options, figure, folder / "claims.png")
    return DONE if found.agrees else CHECK_FAILED
