"""Writes the paper's files, each whole or not at all, and typesets the article where LaTeX is installed."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

from annealvi.output import write_file
from annealvi.paper.equations import PaperEquation, bundle, hold_equations, limit_equations, stability_equations, system_equations
from annealvi.paper.figures import draw_all
from annealvi.paper.flows import flow_datasets, flow_numbers, flow_tables
from annealvi.paper.fragments import checked, index, named, numbers, step_table, tables, text
from annealvi.paper.results import OTHERS, Mixture, Progress, Results, compute, mixture, stored_flows
from derive.built_in import BUILT_IN
from derive.problem import Problem
from derive.rendering import as_latex, closed_system_as_latex, general_as_latex

TOLERATED = 10.0
"""Points by which a line may be too wide."""


@dataclass(frozen=True)
class Paper:
    """What was written. equations: labels with their checks. figures, tables: files. pdf: None where it was not typeset; notes say why."""

    folder: Path
    equations: tuple[PaperEquation, ...]
    figures: tuple[Path, ...]
    tables: tuple[Path, ...]
    pdf: Path | None
    notes: tuple[str, ...]
    passed: bool

    def as_dict(self) -> dict:
        """The JSON form; paths relative to the folder."""

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


def rebuild(folder: Path, own: Problem, device: str, seed: int, tell: Progress) -> Paper:
    """Compute, write and typeset everything. own: a problem that gets an appendix of its own, unless the article has it already.

    Raises BadInput for what is not derived, and TypesettingError for an article that LaTeX finds fault with.
    """
    known = {name: BUILT_IN[name] for name in ("bimodal", *OTHERS)}
    extra = () if own in known.values() else (mixture(f"{own.name}-own" if own.name in known else own.name, own, tell),)
    return write(folder, compute(device, seed, tell), extra, tell)


def write(folder: Path, results: Results, extra: Sequence[Mixture], tell: Progress) -> Paper:
    """All files, from what was computed. extra: mixtures besides those of the article."""
    others = (*results.others, *extra)
    equations = collect(results, others)
    tell("writing equations, tables and figures")
    write_equations(folder, equations)
    flows = flow_datasets(stored_flows())
    written = _write_tables(folder, {**tables(results), **flow_tables(flows)})
    figures = draw_all(results, flows, folder / "figures")
    _write(folder / "numbers.tex", named(numbers(results, flow_numbers(flows)), "num"))
    _write(folder / "checks.tex", named(checked(equations), "chk"))
    _write(folder / "derivation.tex", as_latex(results.session.derivation))
    _write(folder / "index.tex", index(e for e in equations if e.label.startswith("bimodal:")))
    _write(folder / "mixtures.tex", "\n".join(_appendix(m) for m in others))
    _write(folder / "article.tex", article_source())
    notes = [] if flows else ["the flows' results are not at hand: their section is left out"]
    notes += [note for m in others for note in m.notes]
    pdf, told = typeset(folder, tell)
    checks = [*results.verification.checks, *results.limit_checks.values(), *(c for m in others for c in m.checks)]
    return Paper(folder, equations, figures, tuple(written), pdf, (*notes, *told), all(c.passed for c in checks))


def collect(results: Results, others: Sequence[Mixture]) -> tuple[PaperEquation, ...]:
    """Every equation with its checks; a label or a macro that occurs twice is an error."""
    checks = [c for c in results.verification.checks if c.name.startswith(("step: ", "right-hand side", "kernel"))]
    found = [
        *system_equations("bimodal", results.session.derivation, checks),
        *limit_equations("bimodal", results.limits, results.limit_checks),
        *stability_equations("bimodal", results.stability, results.limit_checks),
        *hold_equations("bimodal", results.pair),
        *(e for m in others for e in system_equations(m.name, m.derivation, m.checks)),
    ]
    for names in ([e.label for e in found], [e.macro for e in found], [e.file for e in found]):
        if twice := {n for n in names if names.count(n) > 1}:
            raise ValueError(f"two equations have the name {sorted(twice)[0]}")
    return tuple(found)


def write_equations(folder: Path, equations: Sequence[PaperEquation]) -> None:
    """One file each, and the bundle of macros beside them."""
    for equation in equations:
        _write(folder / "equations" / equation.file, equation.as_file())
    _write(folder / "equations" / "bundle.tex", bundle(equations))


def article_source() -> str:
    """The prose: beside the package's repository, or within the installed package."""
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
    """One mixture's sums, closed system and steps."""
    parts = [
        rf"\subsection{{\texttt{{{text(m.name)}}}}}\label{{app:{re.sub(r'[^A-Za-z0-9]+', '-', m.name)}}}",
        r"{\footnotesize",
        general_as_latex(m.derivation),
        closed_system_as_latex(m.derivation),
        r"\par}",
        r"\begin{center}\footnotesize",
        step_table(m.derivation, m.checks),
        r"\end{center}",
        *(rf"\noindent {text(note)}." for note in m.notes),
    ]
    return "\n".join(parts)


def typeset(folder: Path, tell: Progress) -> tuple[Path | None, list[str]]:
    """Run latexmk. The PDF and nothing, or None and why there is none; a fault in the log is an error."""
    if shutil.which("latexmk") is None or shutil.which("pdflatex") is None:
        return None, ["no PDF: latexmk and pdflatex are not installed (Debian: latexmk texlive-latex-recommended texlive-latex-extra)"]
    tell("typesetting")
    command = ["latexmk", "-pdf", "-quiet", "-interaction=nonstopmode", "-halt-on-error", "-no-shell-escape", "article.tex"]
    run = subprocess.run(command, cwd=folder, capture_output=True, text=True, errors="replace", check=False)
    log = folder / "article.log"
    found = faults(log.read_text(encoding="latin-1")) if log.is_file() else ["no log was written"]
    if run.returncode != 0 or found:
        raise TypesettingError(f"{log}: {found[0] if found else 'latexmk failed'}")
    return folder / "article.pdf", []


class TypesettingError(RuntimeError):
    """LaTeX refused the article, or left something that a reader would stumble over."""


def faults(log: str) -> list[str]:
    """Errors, undefined references, labels defined twice, missing figures and lines too wide by more than TOLERATED points."""
    joined = re.sub(r"(?<=.{79})\n", "", log)  # TeX breaks its log's lines at 79 characters
    patterns = r"^! .*|.*(?:undefined references|Reference .* undefined|Citation .* undefined|multiply.defined).*|.*File .* not found.*"
    found = re.findall(patterns, joined, re.MULTILINE)
    wide = [w for w in re.finditer(r"Overfull \\hbox \(([\d.]+)pt too wide\).*", joined) if float(w[1]) > TOLERATED]
    return [*found, *(w[0] for w in wide)]


def print_paper(paper: Paper) -> None:
    """What was written, for people."""
    compared = [e for e in paper.equations if e.checks]
    failed = [e.label for e in compared if not e.passed]
    print(f"{paper.folder}: {len(paper.equations)} equations, {len(compared)} of them with checks; {len(paper.tables)} tables")
    print(f"{len(paper.figures)} figure files; {'no PDF' if paper.pdf is None else f'article: {paper.pdf}'}")
    for label in failed:
        print(f"FAILED: {label}")
    for note in paper.notes:
        print(note)
