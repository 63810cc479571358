"""Pages that the build of the site makes from the code, the results and the notebooks."""

from __future__ import annotations

import argparse
import dataclasses
import inspect
import json
import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import griffe
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

import annealvi
from annealvi.cli.program import build_parser
from derive.dynamics.derivation import Derivation
from derive.dynamics.symbolic_problem import derive_problem
from derive.objects.step import Equation
from derive.problem.built_in import BUILT_IN
from derive.problem.field_checks import FROM_INFINITY
from derive.problem.kinds import KINDS
from derive.problem.problem_file import problem_to_toml
from derive.problem.specification import (
    ADAPTIVE_KINDS,
    SCHEDULE_KINDS,
    Flow,
    Init,
    Objective,
    Problem,
    Proposal,
    ScheduleSpec,
    Space,
    Target,
)
from derive.writing.rendering import closed_legend, final_equations, general_legend

ROOT = Path(__file__).resolve().parent.parent


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the generated pages, the figures, the notebooks and KaTeX."""

    def add(path: str, content: str | bytes) -> None:
        files.append(File.generated(config, path, content=content))

    add("reference/cli.md", command_line())
    add("reference/problem.md", problem_file())
    add("reference/python.md", python_api())
    add("benchmarks.md", benchmarks())
    for name, content in notebooks().items():
        add(f"notebooks/{name}", content)
    for figure in sorted((ROOT / "paper" / "figures").glob("*.png")):
        add(f"figures/{figure.name}", figure.read_bytes())
    for figure in sorted((ROOT / "tests" / "benchmarks" / "results").rglob("*.png")):
        add(f"results/{figure.relative_to(ROOT / 'tests' / 'benchmarks' / 'results').as_posix()}", figure.read_bytes())
    katex = ROOT / "annealvi" / "show" / "katex"
    for part in (
        "katex.min.css",
        "katex.min.js",
        "auto-render.min.js",
        *(f"fonts/{f.name}" for f in sorted((katex / "fonts").iterdir())),
    ):
        add(f"katex/{part}", (katex / part).read_bytes())
    return files


def on_page_markdown(markdown: str, page: object, config: MkDocsConfig, files: Files) -> str:
    """Replace the marker in a page by the derived equations."""
    for marker, equations in (("general flow", general_flow), ("closed system", closed_system)):
        comment = f"<!-- the {marker} -->"
        if comment in markdown:
            markdown = markdown.replace(comment, equations(derive_problem(Problem())))
    return markdown


def general_flow(derivation: Derivation) -> str:
    about, *families = general_legend(derivation)
    return f"{_aligned(derivation.general.closed)}\n\n{about} Here {'; '.join(families)}."


def closed_system(derivation: Derivation) -> str:
    return f"{_aligned(final_equations(derivation))}\n\nHere {'; '.join(closed_legend(derivation))}."


def _aligned(equations: Sequence[Equation]) -> str:
    rows = " \\\\[0.6em]\n".join(e.latex().replace(" = ", " &= ", 1) for e in equations)
    return f"$$\n\\begin{{aligned}}\n{rows}\n\\end{{aligned}}\n$$"


def command_line() -> str:
    """The page of the command line: one section for each command, from the parser itself."""
    parser = build_parser()
    (commands,) = (a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
    parts = ["# Command line", str(parser.description), f"`annealvi COMMAND [PROBLEM] [options]`. {parser.epilog}"]
    for name, command in commands.choices.items():
        example, _, remark = str(command.epilog).removeprefix("Example: ").partition(", ")
        parts += [f"## {name}", str(command.description), f"```sh\n{example}\n```", _cell(remark)]
        rows = ["| option | meaning |", "|---|---|"]
        for action in command._actions:
            if action.dest != "help":
                rows.append(f"| {_option(action)} | {_cell(action.help or '')} |")
        parts.append("\n".join(rows))
    return "\n\n".join(parts) + "\n"


def _option(action: argparse.Action) -> str:
    name = ", ".join(action.option_strings) or str(action.metavar)
    value = str(action.metavar) if action.metavar else "|".join(map(str, action.choices or ()))
    return f"`{name}{' ' + value if action.option_strings and action.nargs != 0 and value else ''}`"


def _cell(words: str) -> str:
    return words.replace("|", "\\|").replace("<", "&lt;").replace("*", "\\*").replace("%%", "%")


def problem_file() -> str:
    """The page of the problem file: all sections and keys with defaults, from the dataclasses; built-in problems."""
    parts = [
        "# Problem file",
        "A problem is a TOML file. Every section and key is optional; what is left out is the study's "
        "bimodal case, which in full is",
        f"```toml\n{problem_to_toml(Problem())}```",
        "A key can be changed on the command line: `--set schedule.T0=100`. Unknown keys, wrong types and "
        "numbers out of range are refused "
        "in one line that names the key and the remedy. Expressions are parsed by a whitelist and never run as Python.",
    ]
    for section in (Target, Proposal, Flow, ScheduleSpec, Space, Init, Objective):
        name = {"ScheduleSpec": "schedule"}.get(section.__name__, section.__name__.lower())
        fields = dataclasses.fields(section)
        prose, meanings = described(inspect.cleandoc(section.__doc__ or ""), [f.name for f in fields])
        rows = ["| key | default | meaning |", "|---|---|---|"]
        rows += [
            f"| `{name}.{f.name}` | {_default(f)} | {_cell(_with_kinds(meanings.get(f.name, '')))} |" for f in fields
        ]
        parts += [f"## {name}", *map(_cell, prose), "\n".join(rows)]
    rows = ["| kind | meaning |", "|---|---|"]
    rows += [f"| `{kind.name}` | {_cell(kind.meaning)} |" for kind in KINDS.values()]
    parts += ["## Schedule kinds", "\n".join(rows)]
    rows = ["| name | modes | components | manifold | learned | dimension |", "|---|---|---|---|---|---|"]
    for name, problem in BUILT_IN.items():
        sizes = f"{len(problem.target.weights)} | {len(problem.proposal.weights)}"
        rows.append(
            f"| `{name}` | {sizes} | {problem.flow.manifold} | {', '.join(problem.flow.learn)} | "
            f"{problem.space.dimension} |"
        )
    return "\n\n".join([*parts, "## Built-in problems", "\n".join(rows)]) + "\n"


def _default(field: dataclasses.Field) -> str:
    """The field's default as TOML, which for these values is JSON."""
    value = field.default
    if field.default_factory is not dataclasses.MISSING:
        value = field.default_factory()
    return "" if value is None else f"`{json.dumps(value)}`"


def _with_kinds(meaning: str) -> str:
    for name, kinds in (
        ("SCHEDULE_KINDS", SCHEDULE_KINDS),
        ("ADAPTIVE_KINDS", ADAPTIVE_KINDS),
        ("FROM_INFINITY", FROM_INFINITY),
    ):
        meaning = meaning.replace(f"`{name}`", ", ".join(f"`{kind}`" for kind in kinds))
    return meaning


def described(docstring: str, names: Iterable[str]) -> tuple[list[str], dict[str, str]]:
    """The paragraphs of a docstring, and the meanings of the given names.

    Meanings come from the NumPy sections. A docstring without these gives meanings in the form "name: meaning", which
    then stand in no paragraph.
    """
    if not SECTION.search(docstring):
        return _described_in_prose(docstring, list(names))
    paragraphs, meanings = [], {}
    for section in griffe.Docstring(docstring).parse("numpy", warnings=False):
        if section.kind is griffe.DocstringSectionKind.text:
            paragraphs += re.split(r"\n\s*\n", section.value)
        elif section.kind in (griffe.DocstringSectionKind.attributes, griffe.DocstringSectionKind.parameters):
            meanings.update({entry.name: " ".join(entry.description.split()) for entry in section.value})
    return [text.strip() for text in paragraphs if text.strip()], meanings


SECTION = re.compile(r"^(Attributes|Parameters|Returns|Yields|Raises|Examples|Notes|References|Warns)\n\s*-{3,}$", re.M)


def _described_in_prose(docstring: str, names: list[str]) -> tuple[list[str], dict[str, str]]:
    beginning = re.compile(rf"(?:^|(?<=[.;)] )|(?<=\n))({'|'.join(map(re.escape, names))}): ")
    paragraphs, meanings = [], {}
    for paragraph in re.split(r"\n\s*\n", docstring):
        before, *found = beginning.split(paragraph) if names else [paragraph]
        if found:
            # What a call raises is said after its last argument.
            found[-1], *after = re.split(r"(?<=\.)\s+(?=Raises )", found[-1])
            meanings.update(
                {name: " ".join(meaning.split()) for name, meaning in zip(found[::2], found[1::2], strict=True)}
            )
            paragraphs += [before, *after]
        else:
            paragraphs.append(before)
    return [text.strip() for text in paragraphs if text.strip()], meanings


class Lists(griffe.Extension):
    """Docstrings without NumPy sections get a list of the arguments and fields that their prose describes."""

    def on_function_instance(self, *, func: griffe.Function, **_: object) -> None:
        self._list(func, [parameter.name for parameter in func.parameters])

    def on_class_members(self, *, cls: griffe.Class, **_: object) -> None:
        self._list(cls, [name for name, member in cls.members.items() if member.is_attribute])

    def _list(self, documented: griffe.Function | griffe.Class, names: list[str]) -> None:
        if documented.docstring is None or not names or SECTION.search(documented.docstring.value):
            return
        prose, meanings = _described_in_prose(documented.docstring.value, names)
        entries = "\n".join(f"- `{name}`: {meaning}" for name, meaning in meanings.items())
        documented.docstring.value = "\n\n".join([*prose[:1], *([entries] if entries else []), *prose[1:]])


GROUPS = {
    "Problems": (
        "Problem",
        "Target",
        "Proposal",
        "Flow",
        "Objective",
        "ScheduleSpec",
        "Space",
        "BUILT_IN",
        "load_problem",
        "problem_to_toml",
        "BadInput",
    ),
    "Derivation": (
        "derivation",
        "derive_problem",
        "equations",
        "rate_function",
        "symbols",
        "asymptotics",
        "linear_stability",
        "final_equations",
    ),
    "Runs": ("Session", "open_session", "integrate", "simulate", "State", "velocity", "verify"),
    "Somebody's equations": ("compare", "Comparison"),
    "Checks": ("derivation_checks", "grid_checks", "references"),
    "Collapse": (
        "collapse_probability",
        "recommend",
        "optimal_schedule",
        "best_hold",
        "ultimate_hold",
        "scaling_law",
        "collapse_by_ensemble",
        "collapse_law",
        "collapse_by_particles",
        "outcomes_of_states",
        "Family",
        "Accuracy",
    ),
    "Sweeps": (
        "Axis",
        "Choices",
        "phase_map",
        "collapse_grid",
        "Sampling",
        "Execution",
        "overlay_by_ode",
        "phase_panel",
    ),
    "Fixed points": ("find_fixed_points", "continue_branches", "bifurcation_figure"),
    "Flows and schedules": (
        "BetaSchedule",
        "beta_schedule",
        "schedule_within",
        "AdaAnn",
        "EffectiveSampleSize",
        "find_barrier",
        "Barrier",
        "make_schedule",
        "settling_time",
        "train_flow",
        "flow_map",
        "compare_kinds",
        "Architecture",
        "Optimiser",
        "flow_figure",
        "map_figure",
        "training_figure",
        "kinds_figure",
    ),
}


def python_api() -> str:
    """The page of the Python names by group; a public name without a group is an error."""
    grouped = {name for names in GROUPS.values() for name in names}
    public = {name for name in annealvi.__all__ if name not in ("__version__", "style")}  # the latter is a module
    if missing := public ^ grouped:
        raise ValueError(f"docs/generate.py: put into a group, or take out: {sorted(missing)}")
    parts = ["# Python", "All of these are names of `annealvi`: `import annealvi`, then `annealvi.verify(...)`."]
    for group, names in GROUPS.items():
        parts.append(f"## {group}")
        parts += [f"::: {_home(name)}.{name}" for name in names]
    return "\n\n".join(parts) + "\n"


def _home(name: str) -> str:
    """The module that defines a public name."""
    return (
        getattr(getattr(annealvi, name), "__module__", None) or annealvi._HOMES[name]
        if name != "BUILT_IN"
        else annealvi._HOMES[name]
    )


def benchmarks() -> str:
    text = (ROOT / "tests" / "benchmarks" / "README.md").read_text(encoding="utf-8")
    return _without_links_to_files(text)


def _without_links_to_files(markdown: str) -> str:
    """Replace links into the repository by their text; links to figures and notebooks stay."""
    inside = r"https?:|#|results/[\w/-]+\.png\)|\w+\.ipynb\)|annealing_a_flow_of_your_own\.md\)"
    markdown = re.sub(rf"(?<!!)\[([^]]*)\]\((?!{inside})[^)]*\)", r"\1", markdown)
    return re.sub(r"\]\((\w+)\.ipynb\)", r"](\1.md)", markdown)


def notebooks() -> dict[str, str | bytes]:
    """One page with figures for each rendered notebook, and a page that lists them."""
    from nbconvert import MarkdownExporter
    from nbconvert.preprocessors import CoalesceStreamsPreprocessor

    # One cell may print in several pieces, which belong into one block.
    exporter = MarkdownExporter(preprocessors=[CoalesceStreamsPreprocessor(enabled=True)])
    found: dict[str, str | bytes] = {}
    entries = [
        "# Notebooks",
        "Executed on two cores in under three minutes each; their sources are in the repository's `notebooks/`.",
    ]
    for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
        body, resources = exporter.from_filename(str(path), resources={"unique_key": path.stem})
        found.update(resources["outputs"])
        body = _without_links_to_files(body)
        found[f"{path.stem}.md"] = body
        title = next((line[2:] for line in body.splitlines() if line.startswith("# ")), path.stem)
        entries.append(f"- [{title}]({path.stem}.md)")
    page = (ROOT / "notebooks" / "annealing_a_flow_of_your_own.md").read_text(encoding="utf-8")
    found["annealing_a_flow_of_your_own.md"] = re.sub(
        r"\]\(\.\./tests/benchmarks/README\.md(#\w+)?\)", r"](../benchmarks.md\1)", page
    )
    entries.append(
        "- [Annealing a flow of your own](annealing_a_flow_of_your_own.md): normflows, flowjax, JAX with optax"
    )
    found["index.md"] = "\n\n".join(entries[:2]) + "\n\n" + "\n".join(entries[2:]) + "\n"
    return found
