"""`annealvi derive`: the derivation, step by step, as text, Markdown, LaTeX, JSON or a page."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from annealvi.cli.console import problem_of, say
from annealvi.cli.errors import CHECK_FAILED, DONE
from annealvi.cli.shared_options import add_common_options, add_limit_option

if TYPE_CHECKING:
    from derive.dynamics.derivation import Derivation
    from derive.objects.step import Step

NAME = "derive"
ABOUT = "the derivation, step by step"
EXAMPLE = "derive bimodal --format markdown --out derivation"

SUFFIXES = {"text": "txt", "markdown": "md", "latex": "tex"}


def add_options(parser: argparse.ArgumentParser) -> None:
    add_common_options(parser)
    parser.add_argument(
        "--format", choices=("text", "markdown", "latex"), default="text", help="how to print it (default: text)"
    )
    parser.add_argument(
        "--html",
        metavar="PATH",
        help="check every step and write one self-contained page with rendered mathematics; status 1 if one fails",
    )
    add_limit_option(parser)


def run(options: argparse.Namespace) -> int:
    _require_page(options)
    name = f"derivation.{SUFFIXES[options.format]}"
    problem = problem_of(options, name)
    from annealvi.session.session import open_session
    from annealvi.show.output import write_file, write_json
    from derive.writing.rendering import RENDERERS

    session = open_session(problem, options.large_dimension)
    has_flow = session.rule is not None and session.rule.kind == "adaann"
    derivation = session.with_rule() if has_flow else session.derivation
    text = RENDERERS[options.format](derivation)
    say(options, text.rstrip())
    write_json(options.json, _as_dict(derivation))
    if options.out is not None:
        write_file(Path(options.out) / name, text.encode())
    return DONE if options.html is None else _write_page(derivation, Path(options.html))


def _require_page(options: argparse.Namespace) -> None:
    from annealvi.show.output import require_free, require_writable
    from derive.problem.specification import BadInput

    if options.html == "-":
        raise BadInput(
            "--html", "- is standard output, which carries the derivation", "give a path to write the page to", ""
        )
    require_writable(options.html, "--html")
    require_free(options.html, "--html", options.force)


def _as_dict(derivation: Derivation) -> dict[str, Any]:
    """The JSON form of a derivation."""
    from derive.writing.rendering import final_equations

    names = {f"d{s.name}": s.name for s in derivation.system.states}
    equations = final_equations(derivation)
    return {
        "states": [s.name for s in derivation.system.states],
        "equations": {names[e.label]: _both(e) for e in equations if e.symbol is None},
        "definitions": {e.label: _both(e) for e in equations if e.symbol is not None},
        "indexed": [_labelled(e) for e in derivation.general.closed],
        "general_steps": [_step(step) for step in derivation.general.steps],
        "steps": [_step(step) for step in derivation.written_out],
    }


def _step(step: Step) -> dict[str, Any]:
    return {
        "rule": step.rule,
        "statement": step.statement,
        "before": [_labelled(e) for e in step.before],
        "after": [_labelled(e) for e in step.after],
    }


def _labelled(equation: Any) -> dict[str, str]:
    return {"label": equation.label, "expression": _expression(equation), "latex": equation.latex()}


def _both(equation: Any) -> dict[str, str]:
    return {"expression": str(equation.value), "latex": equation.latex()}


def _expression(equation: Any) -> str:
    value = equation.value
    return str(value) if not hasattr(value, "latex") or hasattr(value, "free_symbols") else repr(value)


def _write_page(derivation: Derivation, path: Path) -> int:
    from annealvi.show.derivation_page import check_steps, derivation_page
    from annealvi.show.output import write_file
    from annealvi.show.remarks import tell

    steps = check_steps(derivation, tell)
    write_file(path, derivation_page(derivation, steps).encode())
    tell(f"written: {path}")
    return CHECK_FAILED if any(step.status == "failed" for step in steps) else DONE
