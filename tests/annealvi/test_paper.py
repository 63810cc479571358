"""The files of the paper.

The exported equations state what the kernels compute, their checks can fail, and the article has no faults.
"""

from __future__ import annotations

import ast
import inspect
import math
import pkgutil
import re
import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest
import sympy as sp
from derived_limits import limits
from latex_numbers import Reader, equations_in
from places import ROOT

import annealvi
from annealvi.cli.program import main
from annealvi.paper import learned_shapes
from annealvi.paper.article_figures import draw_all
from annealvi.paper.article_results import Mixture, mixture, stored_results
from annealvi.paper.build import (
    READ_BACK,
    READ_BACK_GENERAL,
    TypesettingError,
    _appendix,
    appendix_name,
    article_source,
    distinct,
    faults,
    rebuild,
    typeset,
    wide_lines,
    write,
    write_equations,
)
from annealvi.paper.exported_equations import (
    PaperEquation,
    bundle,
    general_equations,
    hold_equations,
    limit_equations,
    stability_equations,
    system_equations,
)
from annealvi.paper.folder import renewed
from annealvi.paper.fragments import booktabs, mark, named, number, numbers, only, tables, text
from annealvi.paper.stored_flows import FIGURES, flow_datasets, flow_numbers, flow_tables
from annealvi.show.output import write_file
from annealvi.verification.check import Check
from annealvi.verification.kl_gradient import MUTANTS
from derive.asymptotics.hold_and_quench import protected_pair
from derive.asymptotics.linear_stability import bimodal_stability
from derive.dynamics.symbolic_problem import derive_problem
from derive.objects.notation import symbol_tex
from derive.objects.system import BETA
from derive.problem.specification import BadInput, Problem, Proposal, ScheduleSpec, Space, Target
from derive.writing.rendering import closed_system_as_latex

needs_pdflatex = pytest.mark.skipif(shutil.which("latexmk") is None, reason="LaTeX is not installed")


def joined(symbol: sp.Symbol) -> str:
    return re.sub(r"[\s{}]", "", symbol_tex(symbol))


def read_back(name: str, equations) -> Reader:
    """A reader of the equations as their files print them, with the numbers of the problem."""
    session = annealvi.open_session(annealvi.load_problem(name))
    definitions = {}
    for equation in equations:
        for left, (_, right) in equations_in(equation.as_file()).items():
            assert left not in definitions
            definitions[left] = right
    values = {joined(symbol): float(value) for symbol, value in session.values.items()}
    return Reader(definitions, values)


@pytest.mark.parametrize(
    "name", ["bimodal", "learned-weights", "two-scales", "simplex", "more-components", "one-component"]
)
def test_the_exported_equations_say_what_the_kernel_computes(name):
    """The values of the printed equations are the kernel's rates.

    The LaTeX reader and its quadratures are independent of the package. The kernel's averages have an error of 1e-11
    here.
    """
    session = annealvi.open_session(annealvi.load_problem(name))
    equations = system_equations(name, session.derivation, ())
    beta, state = 0.4, session.random_states(1, seed=3)[0]
    kernel = annealvi.rate_function(session.problem, tolerance=1e-11)(beta, state)
    reader = read_back(name, equations)
    reader.values |= {
        joined(BETA): beta,
        **{joined(s): float(x) for s, x in zip(session.derivation.system.states, state, strict=True)},
    }
    printed = [reader.value("d" + joined(s)) for s in session.derivation.system.states]
    np.testing.assert_allclose(printed, kernel, rtol=0, atol=1e-9)


def test_a_wrong_sign_in_a_file_would_be_found():
    session = annealvi.open_session(annealvi.load_problem("bimodal"))
    equations = system_equations("bimodal", session.derivation, ())
    state = session.random_states(1, seed=3)[0]
    kernel = annealvi.rate_function(session.problem)(0.4, state)
    for wrong in ("F_{1} \\beta", "m_{1} s - m_{2}", "R^{2} m_{1} + h", "s}{4} - \\frac"):
        changed = [replace(e, lines=tuple(line.replace(wrong, _spoiled(wrong)) for line in e.lines)) for e in equations]
        assert changed != list(equations)
        reader = read_back("bimodal", changed)
        reader.values |= {r"\beta": 0.4, **dict(zip(("m_1", "m_2", "s"), state, strict=True))}
        printed = [reader.value(rate) for rate in ("dm_1", "dm_2", "ds")]
        assert np.abs(np.subtract(printed, kernel)).max() > 1e-6


def _spoiled(part: str) -> str:
    return part.replace(" - ", " + ") if " - " in part else part.replace(" + ", " - ") if " + " in part else f"2 {part}"


def test_labels_macros_and_files_are_names_that_latex_takes():
    equations = limit_equations("bimodal", limits(), {})
    for equation in equations:
        assert re.fullmatch(r"\\AV[A-Za-z]+", equation.macro)
        assert re.fullmatch(r"[A-Za-z0-9-]+\.tex", equation.file)
        assert re.fullmatch(r"[a-z]+:[A-Za-z0-9_-]+", equation.label)
    assert len({e.macro for e in equations}) == len({e.file for e in equations}) == len(equations)
    hostile = PaperEquation(r"x}\input{/etc/passwd}:dm_1", ("m &= 1",), "", "", ())
    assert re.fullmatch(r"[A-Za-z0-9-]+\.tex", hostile.file)
    assert re.fullmatch(r"\\AV[A-Za-z]+", hostile.macro)


@needs_pdflatex
def test_files_and_bundle_typeset_in_a_document_of_somebody_else(tmp_path):
    derivation = derive_problem(annealvi.load_problem("bimodal"))
    equations = (*system_equations("bimodal", derivation, ()), *limit_equations("bimodal", limits(), {}))
    write_equations(tmp_path, equations)
    inputs = "\n".join(rf"\input{{equations/{e.file}}}" for e in equations)
    macros = "\n".join(rf"\[ {e.macro} \]" for e in equations)
    body = (
        rf"\input{{equations/bundle}} \begin{{document}} {inputs} \clearpage {macros} See "
        rf"\eqref{{eq:bimodal:dm_1}}. \end{{document}}"
    )
    (tmp_path / "theirs.tex").write_text(
        rf"\documentclass{{article}}\usepackage{{amsmath,amssymb}}{body}", encoding="utf-8"
    )
    for _ in range(2):
        run = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "theirs"], cwd=tmp_path, capture_output=True
        )
    assert run.returncode == 0, run.stdout[-2000:]
    log = (tmp_path / "theirs.log").read_text(encoding="latin-1")
    assert faults(log) == []


def test_without_latex_the_pdf_alone_is_missing_and_a_note_says_so(tmp_path, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda program: None)
    pdf, notes = typeset(tmp_path, print)
    assert pdf is None
    assert "latexmk" in notes[0]


HOSTILE = (
    "my mix_1 {x} & $ % # ~ ^ β 中",
    "3-modes",
    "<a|b>",
    "[x] Þórður's þing – ﬁ",
    "Żółć i Ąę",
    "W" * 80,
    "\N{SNOWMAN}",
    "index",
    "steps",
)


@needs_pdflatex
@pytest.mark.parametrize("name", HOSTILE)
def test_a_problem_with_any_name_has_an_appendix_that_typesets(tmp_path, name):
    problem = replace(annealvi.load_problem("one-component"), name=name)
    assert appendix_name(problem) == name
    own = Mixture(name, problem, derive_problem(problem), (), ())
    equations = system_equations(own.name, own.derivation, ())
    write_equations(tmp_path, equations)
    packages = (
        r"\usepackage[utf8]{inputenc}\usepackage{amsmath,amssymb,booktabs,pdflscape}\usepackage[hidelinks]{hyperref}"
    )
    labels = r"\section{x}\label{app:index}\label{tab:steps}\input{equations/bundle} \begin{landscape}"
    body = rf"{labels}{_appendix(own)}\end{{landscape}} \[ {equations[-1].macro} \]"
    source = rf"\documentclass{{article}}{packages}\begin{{document}}{body}"
    (tmp_path / "own.tex").write_text(source + r"\end{document}", encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "own"]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True)
    assert run.returncode == 0, run.stdout[-1500:]
    log = (tmp_path / "own.log").read_text(encoding="latin-1")
    assert "Missing character" not in log
    assert wide_lines(log) == []


def test_characters_without_a_letter_in_the_articles_fonts_are_question_marks():
    assert text("déjà š ĳ « Þ ø ß ñ ı ï") == r"d\'{e}j\`{a} \v{s} ? ? ? \o{} \ss{} \~{n} \i{} \"{\i}"
    assert text("a<b|c>d [e]") == "a$<$b$|$c$>$d {[}e{]}"
    assert all(text(chr(n)).isascii() for n in range(0x20, 0x3000))


@pytest.mark.parametrize(
    "changed", [{}, {"schedule": ScheduleSpec("linear", 100.0, 50.0)}, {"space": Space(64)}, {"name": "other"}]
)
def test_a_problem_whose_equations_the_article_has_gets_no_appendix(changed):
    assert appendix_name(replace(Problem(), **changed)) is None


def test_a_changed_built_in_problem_gets_labels_of_its_own(monkeypatch):
    monkeypatch.setattr("annealvi.paper.article_results.derivation_checks", lambda derivation: ())
    own = Problem("bimodal", Target(means=((2.5,), (-2.5,))))
    assert appendix_name(own) == "bimodal-own"
    there = mixture("bimodal-own", replace(own, proposal=Proposal((1.0,), (1.0,))), lambda line: None)
    assert r"\label{eq:bimodal-own:dm_1}" in closed_system_as_latex(there.derivation)
    assert r"\label{eq:bimodal:" not in _appendix(there)


def test_an_appendix_says_which_instance_a_mixture_is_and_prints_what_the_article_does_not_derive():
    def appendix(name: str, **flow) -> str:
        problem = annealvi.load_problem(name)
        derivation = derive_problem(replace(problem, flow=replace(problem.flow, **flow)))
        return _appendix(Mixture("own", problem, derivation, (), ()))

    assert r"$K = 3$, $L = 3$: an instance of the equations of Section~\ref{sec:general}" in appendix("simplex")
    assert r"\ref{app:learned}" in appendix("learned-weights")
    assert r"\sum_{k=1}^{K}" not in appendix("simplex")
    assert r"\sum_{k=1}^{K}" in appendix("one-component", manifold="euclidean")


def test_a_general_label_stands_for_one_equation():
    one, other = (
        PaperEquation("general:x", ("x &= 1",), "", "", ()),
        PaperEquation("general:x", ("x &= 2",), "", "", ()),
    )
    assert distinct([one, one]) == (one,)
    with pytest.raises(ValueError, match="general:x"):
        distinct([one, other])


@pytest.mark.parametrize("name", ["two_scales", "bimodal!", "Two scales", "learned+weights"])
def test_a_name_with_the_articles_labels_is_refused_before_anything_is_computed(name, monkeypatch, tmp_path):
    monkeypatch.setattr("annealvi.paper.build.compute", lambda *_: pytest.fail("computed"))
    problem = replace(annealvi.load_problem("one-component"), name=name)
    with pytest.raises(BadInput, match="labels"):
        rebuild(tmp_path, problem, "cpu", 0, lambda line: None)
    assert not list(tmp_path.iterdir())


@needs_pdflatex
def test_an_article_with_a_fault_changes_nothing_and_leaves_its_log(tmp_path):
    (tmp_path / "article.pdf").write_text("the last good one")

    def build() -> None:
        with renewed(tmp_path, TypesettingError) as scratch:
            (scratch / "article.tex").write_text(
                r"\documentclass{article}\begin{document}\ref{nowhere}.\end{document}", encoding="utf-8"
            )
            typeset(scratch, lambda line: None)

    with pytest.raises(TypesettingError, match=r"\.building-.*undefined"):
        build()
    assert (tmp_path / "article.pdf").read_text() == "the last good one"
    assert not (tmp_path / "article.tex").exists()
    assert list(tmp_path.glob(".building-*/article.log"))


@pytest.mark.quick
def test_a_folder_is_renewed_as_a_whole(tmp_path):
    (tmp_path / "figures").mkdir()
    (tmp_path / "figures" / "kept.png").write_text("committed")
    (tmp_path / "article.in.tex").write_text("prose")

    def build(*names: str, interrupted: bool = False) -> None:
        with renewed(tmp_path, TypesettingError) as scratch:
            for name in names:
                write_file(scratch / name, name.encode())
            if interrupted:
                raise KeyboardInterrupt

    build("article.pdf", "tables/flows.tex", "tables/steps.tex")
    build("tables/steps.tex", "figures/new.png")
    with pytest.raises(KeyboardInterrupt):
        build("article.aux", interrupted=True)
    left = {p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*") if p.is_file()}
    assert left == {"figures/kept.png", "article.in.tex", "tables/steps.tex", "figures/new.png", "generated.txt"}


def test_a_list_of_generated_files_reaches_nothing_outside(tmp_path):
    (tmp_path / "mine.txt").write_text("mine")
    paper = tmp_path / "paper"
    paper.mkdir()
    (paper / "generated.txt").write_text("../mine.txt\n", encoding="utf-8")
    with renewed(paper, TypesettingError) as scratch:
        (scratch / "article.tex").write_text("new")
    assert (tmp_path / "mine.txt").exists()


WIDE = r"\documentclass{article}\begin{document}\noindent\rule{\linewidth}{1pt}\rule{20pt}{1pt}\end{document}"


@needs_pdflatex
def test_a_line_that_is_too_wide_is_a_fault_of_the_article_alone(tmp_path):
    (tmp_path / "article.tex").write_text(WIDE, encoding="utf-8")
    with pytest.raises(TypesettingError, match="Overfull"):
        typeset(tmp_path, lambda line: None)
    pdf, notes = typeset(tmp_path, lambda line: None, wide_is_fault=False)
    assert pdf is not None
    assert ["Overfull" in note for note in notes] == [True]


def test_a_problem_that_is_not_derived_is_refused_before_anything_is_computed(tmp_path, capsys):
    assert main(["paper", "nosuch.toml", "--out", str(tmp_path / "paper")]) == 2
    assert "nosuch.toml" in capsys.readouterr().err
    assert not (tmp_path / "paper").exists()


@pytest.mark.quick
def test_faults_of_a_log_are_found():
    assert faults("LaTeX Warning: There were undefined references.") != []
    assert faults("LaTeX Warning: Reference `eq:x' on page 1 undefined on input line 7.") != []
    assert faults("! LaTeX Error: File `figures/x.pdf' not found.") != []
    assert wide_lines("Overfull \\hbox (10.1pt too wide) in paragraph at lines 1--2") != []
    assert (
        wide_lines("Overfull \\hbox (9.9pt too wide) in paragraph at lines 1--2\nOutput written on article.pdf") == []
    )
    broken_at_79 = "LaTeX Warning: Reference `eq:bimodal:a-label-that-is-rather-long' on page 1 unde"
    assert faults(broken_at_79[:79] + "\n" + broken_at_79[79:] + "fined on input line 7.") != []


def made_equations() -> tuple[PaperEquation, ...]:
    """The equations of the study, with checks that compare nothing."""
    derivation = derive_problem(annealvi.load_problem("bimodal"))
    check = Check("none", "numeric", 0.0, 1.0)
    steps = [Check(f"step: {step.rule}", "symbolic", 0.0, 1.0) for step in derivation.written_out]
    names = [f"{corner}-{part}" for corner in ("collapsed", "mixed", "separated") for part in ("matrix", "determinant")]
    checks = dict.fromkeys(
        [*names, "protected-sum", "protected-difference", "switching-slope", *limits().latex()], check
    )
    steps = [Check(f"step: {s.rule}", "symbolic", 0.0, 1.0) for s in derivation.written_out]
    return (
        *general_equations(derivation, steps, READ_BACK_GENERAL),
        *system_equations("bimodal", derivation, steps, [check]),
        *limit_equations("bimodal", limits(), checks),
        *stability_equations("bimodal", bimodal_stability(derivation), checks),
        *hold_equations("bimodal", protected_pair(limits().path), checks),
    )


def keys_returned(function) -> set[str]:
    """The keys of the dictionaries that a function returns, read from its source."""
    returned = [node.value for node in ast.walk(ast.parse(inspect.getsource(function))) if isinstance(node, ast.Return)]
    return {
        key.value
        for value in returned
        if isinstance(value, ast.Dict)
        for key in value.keys
        if isinstance(key, ast.Constant)
    }


def test_what_the_article_looks_up_is_made():
    source = re.sub(r"(?m)(?<!\\)%.*$", "", article_source())
    made = {e.label: e for e in made_equations()}
    looked_up = set(re.findall(r"\\checked\{([^}#]+)\}", source))
    assert looked_up <= set(made)
    assert all(made[label].checks for label in looked_up)
    macros = set(re.findall(r"(?<!\|)\\AV[A-Za-z]+", source))
    assert len(macros) > 15
    assert macros <= {e.macro for e in made.values()}
    flows = flow_datasets(stored_results("flows"))
    assert set(re.findall(r"\\input\{tables/([\w-]+)\}", source)) == keys_returned(tables) | set(flow_tables(flows))
    drawn = set(re.findall(r"([\w-]+)\{suffix\}", inspect.getsource(draw_all)))
    assert set(re.findall(r"figures/([\w-]+)\.pdf", source)) == drawn | {*FIGURES, learned_shapes.FIGURE}
    named_numbers = set(re.findall(r"\\num\{([^}#]+)\}", source))
    stored = {
        *flow_numbers(flows),
        *learned_shapes.shape_numbers(learned_shapes.shape_datasets(stored_results("shapes"))),
    }
    assert {n for n in named_numbers if not n.startswith(("flow-", "shape-"))} == keys_returned(numbers)
    assert {n for n in named_numbers if n.startswith(("flow-", "shape-"))} <= stored
    written = set(re.findall(r'scratch / "([\w-]+)\.tex"', inspect.getsource(write))) - {"article"}
    assert set(re.findall(r"\\input\{([\w-]+)\}", source)) == written
    assert set(re.findall(r"\\cite\{(\w+)\}", source)) == set(re.findall(r"\\bibitem\{(\w+)\}", source))
    labels = re.findall(r"\\label\{([^}]+)\}", source)
    assert len(set(labels)) == len(labels)
    assert set(re.findall(r"\\(?:eq)?ref\{([^}]+)\}", source)) <= set(labels)


def hard_coded(prose: str) -> list[str]:
    """The numbers in the prose that may be results.

    These are numbers of two digits or more, numbers with a fraction, and numbers above two beside an equality sign.
    Lengths and names do not count.
    """
    prose = re.sub(r"(?m)(?<!\\)%.*$|\\frac12", "", prose)
    prose = re.sub(r"\\(?:includegraphics|input|label|cite|ref|eqref|num|checked)(?:\[[^]]*\])?\{[^}]*\}", "", prose)
    return re.findall(r"\d+\.\d+|\d{2,}(?:\\,\d+)*|= ?[3-9]\b(?!\\,)", prose)


def test_no_result_stands_in_the_prose_as_a_number():
    source = article_source()
    begin, end = source.index(r"\begin{abstract}"), source.index(r"\begin{thebib")
    assert hard_coded(source[begin:end] + source[source.index(r"\appendix") :]) == []
    found = hard_coded(
        r"at $R = 3$ and $0.8$ from $T_0 = 30\,000$, \num{a1} of 128, \includegraphics[width=0.7\linewidth]{x}"
    )
    assert found == ["= 3", "0.8", r"30\,000", "128"]


def test_each_equation_has_the_steps_that_led_to_it_and_the_words_for_the_others():
    equations = {e.label: e for e in made_equations()}
    steps = {
        e.label.removeprefix("bimodal:"): [c.name.removeprefix("step: ") for c in e.checks] for e in equations.values()
    }
    assert steps["general:D_in"] == ["product rule", "closure"]
    assert steps["general:share_ij"] == ["shares", "closure"]
    assert steps["h_star"] == ["two modes: tanh"]
    assert steps["g"] == ["two components: sech", "final variables"]
    assert {"product rule", "closure", "final variables"} < set(steps["dm_1"])
    assert "two modes: tanh" in steps["F_1"]
    assert "closure" not in steps["F_1"]
    assert "the system as a whole: " in mark(equations["bimodal:ds"])
    step = Check("step: closure", "symbolic", 0.0, 1.0)
    mixture_only = system_equations("x", derive_problem(annealvi.load_problem("one-component")), [step])
    compared = [e for e in mixture_only if e.checks]
    assert compared
    assert all(mark(e).endswith("steps only") for e in compared)
    assert all(e.kernel == "no kernel on this page" for e in mixture_only)


def test_kernels_and_tests_are_names_that_can_be_followed():
    for equation in made_equations():
        module = equation.kernel.split(",")[0]
        if module != "no kernel on this page":
            pkgutil.resolve_name(module)
        if not equation.label.startswith("bimodal:d") and equation.test:
            file, _, function = equation.test.partition("::")
            assert f"def {function.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8")
        assert equation.test or equation.whole
    for test in (READ_BACK, READ_BACK_GENERAL):
        file, _, function = test.partition("::")
        assert f"def {function.partition('[')[0]}(" in (ROOT / file).read_text(encoding="utf-8")


def test_fragments():
    assert number(0.0123) == "$0.0123$"
    assert number(344.2) == "$344$"
    assert number(1.234e-14, 2) == r"$1.2\cdot 10^{-14}$"
    assert number(float("nan")) == "--"
    assert number(float("inf")) == r"$\infty$"
    assert number(float("-inf")) == r"$-\infty$"
    assert text(r"50 % of _x_ & \y^2 {β}") == r"50 \% of \_x\_ \& \textbackslash{}y\textasciicircum{}2 \{$\beta$\}"
    assert named({"steps": "15"}, "num") == "\\expandafter\\def\\csname num:steps\\endcsname{15}\n"
    assert booktabs("lr", ("a", "b"), [("1", "2")]).count(r"\\") == 2


def equation_with(*checks: Check, whole: tuple[Check, ...] = (), test: str = "") -> PaperEquation:
    return PaperEquation("bimodal:x", ("x &= 1",), "", "", checks, whole, test)


def test_marks():
    failed, passed = Check("a", "numeric", 2.0, 1.0), Check("b", "numeric", 0.1, 1.0)
    assert (
        mark(equation_with(failed, passed))
        == r"$\times$ FAILED 2 checks, closest to its bound: a: $2.0$ $\not\le$ $1.0$"
    )
    assert mark(equation_with(passed)) == r"$\checkmark$ b: $0.10$ $\le$ $1.0$"
    assert mark(equation_with(passed, whole=(failed,))).startswith(r"$\times$ FAILED b: ")
    for statistic in (math.inf, math.nan):
        assert "FAILED" in mark(equation_with(Check("a", "numeric", statistic, 0.0), Check("b", "numeric", 0.0, 0.0)))
    assert mark(equation_with(test="tests/x.py::y")).endswith("only")


def test_the_number_of_rejected_mutants_is_the_grids():
    """The article counts the mutants that the grid rejects, not the negative control of the particles.

    The name of the negative control begins with the same words.
    """
    particles = Check("negative controls: share that one velocity lets pass", "monte-carlo", 0.1, 0.2, "other")
    grid = Check(MUTANTS, "numeric", 0.0, 0.0, "138 of 138 mutants rejected by the grid")
    assert only((particles, grid), MUTANTS) is grid
    for wrong in ((particles,), (grid, grid)):
        with pytest.raises(ValueError, match="unpack"):
            only(wrong, MUTANTS)


def test_the_bundle_defines_each_equation_once():
    equations = limit_equations("bimodal", limits(), {})
    assert bundle(equations).count(r"\newcommand") == len(equations)
