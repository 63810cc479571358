"""Write the paper's files, all or none, and typeset the article if LaTeX is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from importlib import resources
from pathlib import Path
from typing import ClassVar

from annealvi.paper.article_figures import draw_all
from annealvi.paper.article_results import OTHERS, Mixture, Progress, Results, compute, mixture, stored_results
from annealvi.paper.exported_equations import (
    COLUMN,
    PaperEquation,
    bundle,
    general_equations,
    hold_equations,
    in_letters,
    limit_equations,
    stability_equations,
    system_equations,
)
from annealvi.paper.folder import renewed
from annealvi.paper.fragments import breakable, checked, index, named, numbers, step_table, tables, text
from annealvi.paper.learned_shapes import shape_datasets, shape_numbers
from annealvi.paper.stored_flows import flow_datasets, flow_numbers, flow_tables
from annealvi.show.no_figure import NoFigure, drawn
from annealvi.show.output import write_file
from derive.dynamics.derivation import Derivation
from derive.dynamics.symbolic_problem import derive_problem, symbolise
from derive.objects.parameters import PARAMETERS
from derive.problem.built_in import BUILT_IN
from derive.problem.specification import BadInput, Problem
from derive.writing.rendering import closed_system_as_latex, general_as_latex, own_steps_as_latex
from derive.writing.slug import slug

ARTICLE = ("bimodal", *OTHERS)
"""Built-in problems whose equations are in the article."""

PACKAGES = "latexmk texlive-latex-base texlive-latex-recommended"
READ_BACK = "tests/annealvi/test_paper.py::test_the_exported_equations_say_what_the_kernel_computes[{}]"
READ_BACK_GENERAL = (
    "tests/annealvi/test_read_back.py::test_the_printed_general_equations_are_the_gradient_of_the_divergence"
)
AUXILIARY = ("aux", "fdb_latexmk", "fls", "log", "out")

TOLERATED = 10.0
"""Points by which a line may exceed the text width."""


@dataclass(frozen=True)
class Paper:
    """The written paper. figures, tables: files. pdf: None without LaTeX, and `notes` say why."""

    folder: Path
    equations: tuple[PaperEquation, ...]
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    pdf: Path | None
    notes: tuple[str, ...]
    passed: bool

    def as_dict(self) -> dict:
        """The JSON form, with paths relative to the folder."""

        def inside(paths: Sequence[Path]) -> list[str]:
            return [path.relative_to(self.folder).as_posix() for path in paths]

        return {
            "equations": [{**e.as_dict(), "file": f"equations/{e.file}"} for e in self.equations],
            "figures": inside(self.figures),
            "tables": inside(self.tables),
            "pdf": None if self.pdf is None else self.pdf.relative_to(self.folder).as_posix(),
            "notes": list(self.notes),
            "passed": self.passed,
        }


def rebuild(folder: Path, own: Problem, device: str, seed: int, tell: Progress, force: bool = False) -> Paper:
    """Compute, write and typeset everything.

    own: a problem that gets an appendix, unless the article has its equations already. force: overwrite files in the
    folder. Raises BadInput, before anything is computed, for a problem that cannot be derived or whose name gives the
    same labels as the article's; TypesettingError for faults that LaTeX finds.
    """
    name = appendix_name(own)
    extra = () if name is None else (mixture(name, own, tell),)
    notes = (
        ()
        if extra or own in BUILT_IN.values()
        else (f"the article has the equations of {own.name} already: no appendix of its own",)
    )
    return write(folder, compute(device, seed, tell), extra, tell, notes, force)


def appendix_name(own: Problem) -> str | None:
    """A name for the problem's labels beside the article's; None if the article has the same equations.

    Problems that differ in numbers alone have the same equations.
    """
    if any(_same_equations(own, BUILT_IN[name]) for name in ARTICLE):
        return None
    # A built-in problem with changed keys keeps its name, which may be one of the article's.
    name = f"{own.name}-own" if own.name in ARTICLE else own.name
    for taken in ARTICLE:
        if in_letters(slug(name)).lower() == in_letters(slug(taken)).lower():
            raise BadInput(
                "name", f"{name!r} makes the same labels as {taken!r} of the article", "give the problem another name"
            )
    return name


def _same_equations(own: Problem, other: Problem) -> bool:
    one, another = symbolise(own), symbolise(other)
    return one.setting == another.setting and one.derived(other.name).system == another.derived(other.name).system


def write(
    folder: Path,
    results: Results,
    extra: Sequence[Mixture],
    tell: Progress,
    notes: Sequence[str] = (),
    force: bool = False,
) -> Paper:
    """Write all files from the results.

    extra: mixtures besides the article's. notes: lines for the outcome's notes. force: overwrite files.
    """
    others = (*results.others, *extra)
    equations = collect(results, others)
    tell("writing equations, tables and figures")
    flows, shapes = flow_datasets(stored_results("flows")), shape_datasets(stored_results("shapes"))
    told = [*notes, *([] if flows else ["the flows' results are not at hand: their section is left out"])]
    told += [note for m in others for note in m.notes]
    with renewed(folder, (TypesettingError, NoFigure), force) as scratch:
        write_equations(scratch, equations)
        written = _write_tables(scratch, {**tables(results), **flow_tables(flows)})
        _write(
            scratch / "numbers.tex", named(numbers(results, {**flow_numbers(flows), **shape_numbers(shapes)}), "num")
        )
        _write(scratch / "checks.tex", named(checked(equations), "chk"))
        own, learned = results.session.derivation, with_all_learned(results.session.problem)
        _write(scratch / "general.tex", general_as_latex(own, COLUMN))
        _write(scratch / "derivation.tex", f"{own_steps_as_latex(own)}\n\n{closed_system_as_latex(own)}\n")
        _write(scratch / "learned.tex", general_as_latex(learned))
        _write(scratch / "index.tex", index(e for e in equations if e.label.startswith(("general:", "bimodal:"))))
        _write(scratch / "mixtures.tex", "\n".join(_appendix(m) for m in others))
        _write(scratch / "article.tex", article_source())
        figures = drawn(draw_all, results, flows, shapes, scratch / "figures")
        if isinstance(figures, NoFigure):
            raise NoFigure(f"{figures} in {scratch}")
        pdf, remarks = typeset(scratch, tell, wide_is_fault=not extra)
        final = [
            [folder / path.relative_to(scratch) for path in paths]
            for paths in (figures, written, [] if pdf is None else [pdf])
        ]
    checks = [*results.verification.checks, *(c for m in others for c in m.checks)]
    pdf = final[2][0] if final[2] else None
    return Paper(
        folder, equations, tuple(final[0]), tuple(final[1]), pdf, (*told, *remarks), all(c.passed for c in checks)
    )


def with_all_learned(problem: Problem) -> Derivation:
    """The derivation of a problem whose flow learns weights and scales beside the means."""
    learn = ("means", *(parameter.name for parameter in PARAMETERS))
    return derive_problem(replace(problem, name="learned", flow=replace(problem.flow, learn=learn)))


def collect(results: Results, others: Sequence[Mixture]) -> tuple[PaperEquation, ...]:
    """All equations with their checks; a label, macro or file name that occurs twice is an error."""
    checks = results.verification.checks
    steps = [c for c in checks if c.name.startswith("step: ")]
    whole = [c for c in checks if c.name.startswith(("right-hand side", "kernel"))]
    derived = [
        (results.session.derivation, steps),
        *((m.derivation, m.checks) for m in results.others),
        (with_all_learned(results.session.problem), ()),
    ]
    found = [
        *distinct(e for derivation, own in derived for e in general_equations(derivation, own, READ_BACK_GENERAL)),
        *system_equations("bimodal", results.session.derivation, steps, whole, READ_BACK.format("bimodal")),
        *limit_equations("bimodal", results.theory.limits, results.theory.checks),
        *stability_equations("bimodal", results.theory.stability, results.theory.checks),
        *hold_equations("bimodal", results.theory.pair, results.theory.checks),
    ]
    for m in others:
        found += system_equations(
            m.name, m.derivation, m.checks, test=READ_BACK.format(m.name) if m.name in OTHERS else ""
        )
    for names in ([e.label for e in found], [e.macro for e in found], [e.file for e in found]):
        if twice := {n for n in names if names.count(n) > 1}:
            raise ValueError(f"two equations have the name {sorted(twice)[0]}")
    return tuple(found)


def distinct(equations: Iterable[PaperEquation]) -> tuple[PaperEquation, ...]:
    """The equations, each once with the checks that come first; two of one label that differ are an error."""
    found: dict[str, PaperEquation] = {}
    for equation in equations:
        if found.setdefault(equation.label, equation).lines != equation.lines:
            raise ValueError(f"{equation.label} stands for two equations")
    return tuple(found.values())


def write_equations(folder: Path, equations: Sequence[PaperEquation]) -> None:
    """Write one file for each equation, and the bundle of macros beside them."""
    for equation in equations:
        _write(folder / "equations" / equation.file, equation.as_file())
    _write(folder / "equations" / "bundle.tex", bundle(equations))


def article_source() -> str:
    """The article's prose, from the repository or from the installed package."""
    beside = Path(__file__).resolve().parents[2] / "paper" / "article.in.tex"
    if beside.is_file():
        return beside.read_text(encoding="utf-8")
    return (resources.files("annealvi.paper") / "article.in.tex").read_text(encoding="utf-8")


def _write(path: Path, content: str) -> Path:
    write_file(path, content.encode())
    return path


def _write_tables(folder: Path, found: dict[str, str]) -> list[Path]:
    return [_write(folder / "tables" / f"{name}.tex", table) for name, table in found.items()]


def _appendix(m: Mixture) -> str:
    """The appendix of one mixture: which instance it is, the closed system and the steps.

    A flow in the whole space, which is not projected, has general equations of its own.
    """
    setting = m.derivation.setting
    where = r"Section~\ref{sec:general}" if setting.learn == ("means",) else r"Appendix~\ref{app:learned}"
    projected = setting.manifold == "sphere"
    parts = [
        rf"\subsection{{\texttt{{{breakable(m.name)}}}}}\label{{mixture:{slug(m.name)}}}",
        r"{\footnotesize",
        rf"\noindent $K = {setting.target.size}$, $L = {setting.proposal.size}$"
        + (f": an instance of the equations of {where}." if projected else "; the flow is not projected."),
        *([] if projected else [general_as_latex(m.derivation)]),
        closed_system_as_latex(m.derivation),
        r"\par}",
        r"\begin{center}\footnotesize",
        step_table(m.derivation, m.checks),
        r"\end{center}",
        *(rf"\noindent {text(note)}." for note in m.notes),
    ]
    return "\n".join(parts)


def typeset(folder: Path, tell: Progress, wide_is_fault: bool = True) -> tuple[Path | None, list[str]]:
    """Run latexmk, and return the PDF, or None, with remarks; a fault in the log is an error.

    wide_is_fault: whether a line that is too wide counts as a fault. The article's own lines fit; a term of a user's
    mixture may not.
    """
    if shutil.which("latexmk") is None or shutil.which("pdflatex") is None:
        return None, [f"no PDF: latexmk and pdflatex are not installed (Debian: {PACKAGES})"]
    tell("typesetting")
    command = [
        "latexmk",
        "-pdf",
        "-quiet",
        "-interaction=nonstopmode",
        "-halt-on-error",
        "-no-shell-escape",
        "article.tex",
    ]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    log = folder / "article.log"
    written = log.read_text(encoding="latin-1") if log.is_file() else ""
    found, wide = faults(written) if written else ["no log was written"], wide_lines(written)
    if wide_is_fault:
        found += wide
    if run.returncode != 0 or found:
        raise TypesettingError(f"{log}: {found[0] if found else 'latexmk failed'}")
    for suffix in AUXILIARY:
        (folder / f"article.{suffix}").unlink(missing_ok=True)
    return folder / "article.pdf", [f"article.pdf: {line}" for line in wide]


class TypesettingError(RuntimeError):
    """LaTeX refused the article, or its log has a fault that the reader would see."""

    exit_status: ClassVar[int] = 1


def faults(log: str) -> list[str]:
    """The log's errors, undefined references, labels defined twice and missing files."""
    patterns = (
        r"^! .*|.*(?:undefined references|Reference .* undefined|Citation .* "
        r"undefined|multiply.defined).*|.*File .* not found.*"
    )
    return re.findall(patterns, _joined(log), re.MULTILINE)


def wide_lines(log: str) -> list[str]:
    """The log's lines about lines that are too wide by more than TOLERATED points."""
    return [
        w[0] for w in re.finditer(r"Overfull \\hbox \(([\d.]+)pt too wide\).*", _joined(log)) if float(w[1]) > TOLERATED
    ]


def _joined(log: str) -> str:
    return re.sub(r"(?<=.{79})\n", "", log)  # TeX breaks its log's lines at 79 characters


def print_paper(paper: Paper) -> None:
    """Print what was written."""
    compared = [e for e in paper.equations if e.checks]
    failed = [e.label for e in compared if not e.passed]
    print(
        f"{paper.folder}: {len(paper.equations)} equations, {len(compared)} of them with "
        f"checks; {len(paper.tables)} tables"
    )
    print(f"{len(paper.figures)} figure files; {'no PDF' if paper.pdf is None else f'article: {paper.pdf}'}")
    for label in failed:
        print(f"FAILED: {label}")
    for note in paper.notes:
        print(note)
