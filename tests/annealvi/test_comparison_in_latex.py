r"""`annealvi compare` with equations in LaTeX: typed by hand as papers write them, and as the package prints them."""

from __future__ import annotations

import json
import random
import re
import subprocess
import time
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import sympy as sp

import annealvi
from annealvi.cli.program import main
from annealvi.comparison.compare import compare
from annealvi.comparison.reading.formulas import UnreadableFormula
from annealvi.comparison.reading.theirs import read_equations
from annealvi.comparison.writing import latex as latex_writing
from annealvi.comparison.writing import words as writing
from derive.objects.expectation import Expectation, StandardNormal
from derive.problem.field_checks import BadInput
from derive.writing.rendering import closed_system_as_latex

PAPER = r"""
\documentclass{article}
\newcommand{\E}{\mathbb{E}}
\newcommand\ws{w^\star}
\DeclareMathOperator{\sech}{sech}
\begin{document}
We study the overlaps with one mode and with each other,
\[ x = m_1, \quad y = m_2, \qquad q = s. \]
The pull and the exchange are
\begin{align}
  F(u) &= \E_z\left[\tanh(R^2 u + h + R z)\right], \label{eq:F}\\  % a comment = none
  h &= \frac12 \ln\frac{\ws_1}{\ws_2}, \qquad \Delta = R^2 (1 - q), \\[2pt]
  G(a) &= \E_z\Bigl[ \frac{1}{1 + e^{\Delta + a + \sqrt{2\Delta}\, z}} \Bigr],
\end{align}
and the flow is
\begin{equation}\begin{aligned}
  \dot x &= w_1 \bigl( \beta F(x) (1 - x^2) - G(\lambda) (y - q x) \bigr) \\
  \frac{\mathrm{d} y}{\mathrm{d}t} &= w_2 \left\{ \beta F(y) (1 - y^2) - G(-\lambda) (x - q y) \right\}, \\
  \frac{d}{dt} q &= w_1\beta F(x)(y - qx) + w_2 \beta F(y) (x - q y) \\
   &\quad - \left( w_1 G(\lambda) + w_2 G(-\lambda) \right) (1 - q^2),
\end{aligned}\end{equation}
where $$\lambda = \log (w_1/w_2).$$
\end{document}
"""


@pytest.fixture(scope="module")
def session():
    return annealvi.open_session(annealvi.load_problem("bimodal"))


@pytest.fixture
def verdict(session, tmp_path):
    def found(*changes, text=PAPER):
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / "theirs.tex"
        path.write_text(text, encoding="utf-8")
        return compare(session, path)

    return found


@pytest.mark.quick
def test_equations_as_a_paper_prints_them_are_equal(verdict):
    found = verdict()
    assert found.verdict == "equal"
    assert found.theirs.left_aside == ()


F, G, X, RATE = r"\E_z\left[\tanh(R^2 u + h + R z)\right]", r"\E_z\Bigl[ \frac{1}{1 + e", r"\dot x &=", "(1 - x^2)"
WRITTEN = {
    "a Gaussian integral": [(F, r"\int Dz\, \tanh(R^2 u + h + R z)")],
    "the measure behind": [(F, r"\int \tanh\left(R^2 u + h + R z\right) \mathcal{D}z")],
    "the density written out": [
        (F, r"\int_{-\infty}^{\infty} \frac{dz}{\sqrt{2\pi}}\, e^{-z^2/2} \tanh(R^2 u + h + R z)")
    ],
    "the density of another variance": [
        (F, r"\int \frac{\mathrm{d}t}{\sqrt{2\pi R^2}} \exp\left(-\frac{t^2}{2 R^2}\right) \tanh(R^2 u + h + t)")
    ],
    "an average in angles": [(F, r"\langle \tanh(R^2 u + h + R \xi) \rangle_\xi")],
    "angles without a variable": [(F, r"\left\langle \tanh(R^2 u + h + R z) \right\rangle")],
    "a law of the variable": [(F, r"\mathbb{E}_{\xi\sim\mathcal{N}(0,1)}[\tanh(R^2 u + h + R \xi)]")],
    "an average without brackets": [(F, r"\mathbb E_z \tanh(R^2 u + h + R z)")],
    "an upright E": [(F, r"\operatorname{E}_z[\tanh(R^2 u + h + R z)]")],
    "two variables": [(F, r"\E_{z_1,z_2}[\tanh(R^2 u + h + R (0.6 z_1 + 0.8 z_2))]")],
    "an argument that is named": [
        (F, r"\E_\xi[\tanh \kappa(u)]"),
        (r"\qquad \Delta", r"\qquad \kappa(v) = R^2 v + h + R \xi, \qquad \Delta"),
    ],
    "a sigmoid": [(F, r"\E_z[2\,\sigma(2(R^2 u + h + R z)) - 1]")],
    "the normal law's distribution": [(RATE, r"(1 - x^2 + \E_z[\Phi(x + z)] - \Phi(x/\sqrt{2}))")],
    "braces with words": [(RATE, r"\underbrace{(1 - x^2)}_{\text{projection}}")],
    "a power of a function": [(RATE, r"(\cosh^2 x - \sinh^2 x - x^2)")],
    "functions without brackets": [(r"\ln\frac{\ws_1}{\ws_2}", r"(\log\ws_1 - \log \ws_2)")],
    "stars behind indices": [(r"\ln\frac{\ws_1}{\ws_2}", r"\ln\frac{w_1^*}{w_{2}^{\ast}}")],
    "functions of time": [(X, r"\dot x(t) &="), (RATE, "(1 - x(t)^2)")],
    "a rate by dots on letters": [(X, r"\dot{m}_{1} &=")],
    "a rate by a slash": [(X, "dx/dt &=")],
    "a partial derivative": [(X, r"\partial_t x &=")],
    "crosses and dots": [(r"w_1 \bigl(", r"w_1 \cdot 1 \times \bigl(")],
    "another display": [
        ("$$", ""),
        (r"\lambda = \log (w_1/w_2).", r"\begin{gather*}\lambda = \log (w_1/w_2)\end{gather*}"),
    ],
}


@pytest.mark.parametrize("changes", WRITTEN.values(), ids=WRITTEN)
def test_what_papers_write_is_understood(changes, verdict):
    assert verdict(*changes).verdict == "equal"


def test_lines_without_a_document_are_equations(verdict):
    lines = [
        r"F(u) = \mathbb{E}_z[\tanh(R^2 u + h + R z)]",
        r"h = \tfrac12 \log(w^\star_1/w^\star_2)",
        r"g = \sqrt{w_1 w_2}\, e^{-\Delta/4} \mathbb{E}_z\left[\frac{1}{2\cosh(\sqrt{\Delta/2}\, z - \eta/2)}\right]",
        r"\Delta = R^2 (1 - s)",
        r"\eta = \log(w_1/w_2)",
        r"\dot m_1 = w_1 \beta F(m_1) (1 - m_1^2) - g (m_2 - s m_1)",
        r"\dot m_2 = w_2 \beta F(m_2) (1 - m_2^2) - g (m_1 - s m_2)",
        r"\dot s = w_1 \beta F(m_1) (m_2 - s m_1)",
        r"   + w_2 \beta F(m_2) (m_1 - s m_2) - 2 g (1 - s^2)",
    ]
    assert verdict(text="\n".join(lines)).verdict == "equal"


@pytest.mark.parametrize("name", ["bimodal", "learned-weights", "learned-scales", "one-component", "slips-16"])
def test_equations_that_the_package_prints_are_read_back(name, tmp_path):
    session = annealvi.open_session(annealvi.load_problem(name))
    path = tmp_path / "printed.tex"
    path.write_text(closed_system_as_latex(session.derivation), encoding="utf-8")
    found = compare(session, path)
    assert (found.verdict, found.theirs.left_aside) == ("equal", ())
    path.write_text(latex_writing.tex_of(found.theirs), encoding="utf-8")
    assert compare(session, path).verdict == "equal"


def test_a_slip_is_found_and_repaired_in_their_letters(verdict, session, tmp_path):
    found = verdict(("- G(\\lambda) (y", "- 2 G(\\lambda) (y"), (r"\Delta + a", r"\Delta - a"))
    assert found.verdict == "different"
    found = verdict((r"\sqrt{2\Delta}", r"\sqrt{\Delta}"))
    assert "the definition G(a) should be" in writing.in_words(found)
    assert found.repaired is not None
    written = latex_writing.tex_of(found.repaired)
    assert r"\frac{dx}{dt} &= w_{1} \left(F\left(x\right) \beta" in written
    path = tmp_path / "repaired.tex"
    path.write_text(written, encoding="utf-8")
    assert compare(session, path).verdict == "equal"
    path = tmp_path / "repaired.toml"
    path.write_text(writing.toml_of(found.repaired), encoding="utf-8")
    assert compare(session, path).verdict == "equal"


def test_what_is_left_aside_is_told(verdict):
    found = verdict((r"\end{document}", r"\[ R = 3, \quad p_\beta(x) \propto p(x)^\beta \] \end{document}"))
    assert found.verdict == "equal"
    assert "left aside" in writing.in_words(found)
    assert [aside.partition(" (")[2] for aside in found.theirs.left_aside] == ["R = …)", r"p_\beta(x) \propto …)"]


BAD = {
    "an unknown symbol": ([("+ h +", r"+ k_0 +")], "the symbol k_0 has no meaning; define it, or use", "k_0"),
    "a power of two digits": ([(RATE, "(1 - x^12)")], "12 is a power of one digit", "12"),
    "an index of two digits": ([("q = s", "q = s_12")], "12 is an index of one digit in TeX", "12"),
    "an inverse or a reciprocal": ([(r"\tanh(R", r"\tanh^{-1}(R")], "the exponent -1 of tanh", "^{-1}"),
    "an open argument": ([(r"\ln\frac{\ws_1}{\ws_2}", r"\ln \ws_1/\ws_2")], "where the argument of log ends", r"/\ws"),
    "a quotient in two ways": ([(RATE, "/2 (1 - x^2)")], "a quotient before a further factor", "(1 -"),
    "another law": ([(r"\E_z\left", r"\E_{z\sim q}\left")], "only standard normal and chi-squared", r"\sim"),
    "an average over a component": ([(r"\E_z\left", r"\E_{1}\left")], "this is no standard normal variable", "1}"),
    "an idle average": ([("+ R z)", ")")], "an average of what does not vary", r"\E_z"),
    "a rate of no state": ([(X, r"\dot v &=")], "this is the rate of no state; the states are m_{1}, m_{2}, s", "v &="),
    "an approximation": ([(X, r"\dot x &\approx")], r"\approx in the place of =", r"\approx"),
    "two equals": ([("F(u) &=", "F(u) &= 2 =")], "found = after a complete formula", r"= \E_z"),
    "a second definition": ([(r"\lambda = ", r"\Delta = ")], r"a second definition of \Delta", r"\Delta = \log"),
    "a circle": ([(r"\lambda = ", r"\lambda = \lambda + ")], "a circle of definitions", r"\lambda + "),
    "an integral with limits": ([(F, r"\int_0^1 Dz\, z")], "an integral with finite limits", r"\int"),
    "an integral without a measure": ([(F, r"\int \tanh(u)")], "an integral without a measure", r"\int"),
    "a macro with a default": ([(r"{\E}{", r"{\E}[1][z]{")], r"the macro \E has an argument with", r"\E_z\left"),
    "a macro in itself": ([(r"{\mathbb{E}}", r"{\E}")], r"the macro \E has no end", r"\E_z\left"),
    "a sum over an index": ([("- G(", r"- \sum_j G(")], r"found \sum; put a number", r"\sum"),
    "cases": ([(X, X + r"\begin{cases} 1 \end{cases}")], r"found \begin; put", r"\begin{cases}"),
    "an inner product": ([("(y - q x)", r"\langle y, q\rangle")], "an inner product; write the overlap", ", q"),
    "a file": ([(X, X + r"\input{/etc/passwd}")], r"found \input; put a number", r"\input"),
    "a division by zero": ([(X, X + r"\frac{1}{0}")], "no finite real number", r"\frac{1}{0}"),
    "an open bracket": ([("(w_1/w_2).", "(w_1/w_2.")], "found the end; put ) there", None),
}


@pytest.mark.parametrize(("changes", "told", "at"), BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_shown_at_its_place(changes, told, at, tmp_path, capsys):
    text = PAPER
    for old, new in changes:
        assert old in text
        text = text.replace(old, new, 1)
    path, out = tmp_path / "theirs.tex", tmp_path / "out"
    path.write_text(text, encoding="utf-8")
    assert main(["compare", str(path), "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    line, shown, caret = printed.err.splitlines()[-3:]
    assert line.startswith("annealvi: ")
    assert told in line, line
    assert caret.strip() == "^"
    if at is not None:
        assert shown[caret.index("^") :].startswith(at), (shown, caret)
    assert not out.exists()


def test_a_document_without_rates_is_bad_input(tmp_path, capsys):
    path = tmp_path / "theirs.tex"
    for text, told in (
        (r"\begin{document} $x = 1$ \end{document}", "no displayed equation"),
        (r"\[ h = R \]", r"no rate of a state is displayed; write \dot{m_{1}} = …"),
    ):
        path.write_text(text, encoding="utf-8")
        assert main(["compare", str(path)]) == 2
        assert told in capsys.readouterr().err
    path.write_bytes(b"\xff\xfe")
    assert main(["compare", str(path)]) == 2


def test_the_report_is_latex_that_compiles(tmp_path, capsys):
    path, out = tmp_path / "theirs.tex", tmp_path / "out"
    path.write_text(PAPER.replace(RATE, "(1 + x^2)"), encoding="utf-8")
    assert main(["compare", str(path), "--out", str(out)]) == 1
    capsys.readouterr()
    files = ["compare.json", "compare.md", "compare.tex", "repaired.tex", "repaired.toml"]
    assert sorted(p.name for p in out.iterdir()) == files
    assert json.loads((out / "compare.json").read_text())["repaired"]
    assert main(["compare", str(out / "repaired.tex")]) == 0
    assert main(["compare", str(out / "compare.tex")]) == 0  # its display is the repaired system
    body = Path(out / "compare.tex").read_text()
    assert r"the sign of the term $F\left(x\right) \beta x^{2} w_{1}$ is wrong" in body
    document = rf"\documentclass{{article}}\usepackage{{amsmath,amssymb}}\begin{{document}}{body}\end{{document}}"
    (out / "all.tex").write_text(document, encoding="utf-8")
    try:
        done = subprocess.run(
            ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"], cwd=out, capture_output=True
        )
    except FileNotFoundError:
        pytest.skip("needs pdflatex, which is not on this machine")
    assert done.returncode == 0, done.stdout[-2000:]


NAMES = r"\[ x = m_1, \quad y = m_2, \quad q = s \] "
POINT = {"m_1": 0.31, "m_2": -0.23, "s": 0.17, "R": 1.3, "w_1": 0.6, "w_2": 0.4, "w_star_1": 0.7, "w_star_2": 0.3}
POINT |= {"beta": 0.83, "d": 20.0}


@pytest.fixture
def read(session, tmp_path):
    def theirs(text, name="theirs.tex"):
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        return read_equations(path, session.derivation.system, session.symbolic.values)

    return theirs


def number(theirs):
    """The first rate at a point."""
    value = next(iter(theirs.rates.values()))
    for symbol, definition in reversed(theirs.subexpressions):
        value = value.xreplace({symbol: definition})
    return complex(value.subs({s: POINT[s.name] for s in value.free_symbols}).evalf(15))


def typed(expected):
    """The number of an expression in SymPy's own notation."""
    z = StandardNormal("z")
    letters = {name: sp.Symbol(name, real=True) for name in POINT}
    letters |= {"x": letters["m_1"], "y": letters["m_2"], "q": letters["s"], "z": z, "E": lambda e: Expectation(e, z)}
    value = sp.sympify(expected, locals=letters)
    return complex(value.subs({s: POINT[s.name] for s in value.free_symbols}).evalf(15))


MEANT = {
    r"-x^2": "-x**2",
    r"x^{-1}y": "y/x",
    r"{w_1}^2 w^2_1": "w_1**4",
    r"\frac12x\frac1{2y}": "x/(4*y)",
    r"\sqrt2x": "sqrt(2)*x",
    r"\sqrt[3]R\,x": "R**Rational(1,3)*x",
    r"\log^2R + \log R^2": "log(R)**2 + log(R**2)",
    r"\tanh 2x": "tanh(2*x)",
    r"\tanh(x)^2y": "tanh(x)**2*y",
    r"\tanh(x)y": "tanh(x)*y",
    r"e^xy": "exp(x)*y",
    r"2|x-y||q|": "2*Abs(x-y)*Abs(q)",
    r"\left|x\left|y\right|q\right|": "Abs(x*Abs(y)*q)",
    r"\log|x|": "log(Abs(x))",
    r"R^2(t)x(t)^2": "R**2*x**2",
    r"w_\mathrm{1}w_{\text{2}}": "w_1*w_2",
    r"x \quad + y": "x + y",
    r"={} x {}+ y": "x + y",
    r"\mathbb{E}_z[\tanh(x+z)]^2": "E(tanh(x+z))**2",
    r"\mathbb{E}_z\tanh^2(x+z)y + q": "E(tanh(x+z)**2)*y + q",
    r"\mathbb{E}_z[z^2]\,\mathbb{E}_z[\tanh(x+z)]": "E(tanh(x+z))",
    r"\langle\tanh(x+z)\rangle_z^2": "E(tanh(x+z))**2",
    r"y\int Dz\,\tanh(x+z)R - q": "R*y*E(tanh(x+z)) - q",
    r"\int\tanh(x+z)\,Dz\,y": "y*E(tanh(x+z))",
    r"\int\!\int z^2u^2\,Dz\,Du": "1",
    r"\int_{-\infty}^\infty\int Dz\,Du\,z^2u^2": "1",
    r"\int dz\, e^{-z^2/2} z^2": "sqrt(2*pi)",
    r"\int \frac{dz\,e^{-(z-x)^2/(2R^2)}}{\sqrt{2\pi R^2}} z^2": "x**2 + R**2",
}


@pytest.mark.parametrize(("latex", "meant"), MEANT.items(), ids=MEANT)
def test_a_formula_means_what_its_reader_takes_it_for(latex, meant, read):
    theirs = read(NAMES + (rf"\[ \dot x {latex} \]" if latex.startswith("=") else rf"\[ \dot x = {latex} \]"))
    assert theirs.left_aside == ()
    assert number(theirs) == pytest.approx(typed(meant), rel=1e-12)
    assert number(read(latex_writing.tex_of(theirs))) == pytest.approx(typed(meant), rel=1e-12)


DOCUMENTS = {
    "columns": (r"\begin{align}\dot y &= q & \dot x &= h \\ && &+ q, & h &= R\end{align}", "R + q"),
    "eqnarray": (r"\begin{eqnarray}\dot x &=& R \nonumber\\ && - q\,.\end{eqnarray}", "R - q"),
    "columns that are counted": (r"\begin{alignat*}{2}\dot x &= R && \text{(here)}\end{alignat*}", "R"),
    "a row behind a comma": (r"\begin{align}\dot x &= R, \\* &\qquad + q\end{align}", "R + q"),
    "a bracket over rows": (r"\begin{align}\dot x &= \left(R \right. \\ &\left. + q\right)x\end{align}", "(R + q)*x"),
    "an operator at the end": (r"\begin{align}\dot x &= R\, - \\ &\quad q\end{align}", "R - q"),
    "a system": (r"\[\left\{\begin{array}{rl}\dot x &= R\\ &+ q \\ \dot y &= q\end{array}\right.\]", "R + q"),
    "a comment behind a row": ("\\[\\dot x = R \\\\% - y\n + q\\]", "R + q"),
    "hidden equations": (r"\begin{comment}\[q = 2\]\end{comment}\iffalse\[\dot x = y\]\fi\[\dot x = R\]", "R"),
    "behind the end": (r"\[\dot x = R\]\end{document}\[\dot x = q\]", "R"),
    "a line break in the text": (r"a \\[2pt] b \[\dot x = R\]", "R"),
    "dollars in the text": (r"costs \$3, $a$$b$ \[\dot x = R\]", "R"),
    "a macro with arguments": (r"\newcommand{\a}[2]{\frac{#2}{#1}}\[\dot x = \a{q+1}x\]", "x/(q+1)"),
    "a macro in a macro": (r"\def\b{\a^2}\newcommand\a{x+y}\[\dot x = 2\b\]", "2*x + y**2"),
    "an index by a macro": (r"\newcommand\ws{w^\star}\[\dot x = \ws_1^2\]", "w_star_1**2"),
    "a shadowed argument": (r"\[\dot x = f(y, x), \quad f(x, y) = x - 2y\]", "y - 2*x"),
    "an argument of another name": (r"\[\dot x = f(y),\ f(u) = g,\ g = u,\ u = q\]", "q"),
    "an argument behind a semicolon": (r"\[\dot x = f(x; R),\quad f(u; a) = a u\]", "R*x"),
    "functions of time": (r"\[\dot x(t) = \Delta(t)x(t)\]\[\Delta(t) = R^2(1-q(t))\]", "R**2*(1-q)*x"),
    "a function whose argument is t": (r"\[\dot x = f(x),\quad f(t) = \tanh(t)\]", "tanh(x)"),
    "an upright index": (r"\[\dot x = a_\mathrm{eff}x,\quad a_\text{eff} = R\]", "R*x"),
    "a prime": (r"\[\dot x = a' a^2,\quad a' = R,\quad a = q\]", "R*q**2"),
}


@pytest.mark.parametrize(("latex", "meant"), DOCUMENTS.values(), ids=DOCUMENTS)
def test_a_document_means_what_its_reader_takes_it_for(latex, meant, read):
    theirs = read(NAMES + latex)
    rates = {s.name: rate for s, rate in theirs.rates.items()}
    only = replace(theirs, rates={sp.Symbol("m_1"): rates["m_1"]})
    assert theirs.left_aside == ()
    assert number(only) == pytest.approx(typed(meant), rel=1e-12)


REFUSED = {
    "x^2^2": ("a second exponent", "^2"),
    r"\frac12^2": ("a power of a fraction", "^2"),
    r"w_1^2^3": ("a second exponent", "^3"),
    r"\sqrt(1-q)": ("all that TeX takes", "(1"),
    r"\mathbb{E}_z(z+1)^2": ("a power of the average or of its integrand", "^2"),
    r"\mathbb{E}_\xi[\xi z^2]": ("z stands outside", r"\mathbb"),
    r"\int (x+z) Dz\, z": ("z stands outside", r"\int"),
    r"\int x + z Dz": ("a sum before the measure", "+ z"),
    r"\mathbb{E}_{u,c\sim\chi^2_3}[uc]": ("a variable without a law", "u,"),
    r"\tanh x\cdot y": ("where the argument of tanh ends", r"\cdot"),
    r"\log|x|y": ("where the argument of log ends", "y"),
    r"\log\frac{x}{y}R": ("where the argument of log ends", "R"),
    r"\Phi(x, y)": ("erf with 2 arguments", r"\Phi"),
    r"\lg R": (r"the symbol \lg has no meaning", r"\lg"),
    r"x^{(1)}": ("an index in the place of an exponent", "{(1)"),
    r"w_{1'}": ("' in an index", "'}"),
    r"\mathrm{d}x": ("the sign of a differential", r"\mathrm"),
    r"\begin{cases}x & y > 0\end{cases}": (r"found \begin", r"\begin"),
    "": ("nothing behind =", "="),
    r"x}": ("a closing brace without", "}"),
    r"x{": ("an open brace", "{"),
    r"x \] \[ y": ("an open display", r"\["),
    r"x \renewcommand\a{1}\newcommand\a{2}\a": (r"the macro \a is defined twice", r"\a "),
}


@pytest.mark.parametrize(("latex", "expected"), REFUSED.items(), ids=REFUSED)
def test_what_has_two_meanings_or_none_is_refused_at_its_place(latex, expected, read):
    told, at = expected
    closing = "" if told == "an open display" else r" \]"
    with pytest.raises(UnreadableFormula, match=re.escape(told)) as refused:
        read(NAMES + "\n" + rf"\[ \dot x = {latex}{closing}")
    shown, caret = refused.value.excerpt.splitlines()
    assert shown[caret.index("^") :].startswith(at)
    assert str(refused.value).partition(": ")[2].startswith("line 2, column ")


def test_other_equations_of_a_display_are_told(read):
    theirs = read(NAMES + r"\begin{align}\dot x &= R \quad (1), \\ \dot y &= x \\ &= q, \quad i = 1, 2\end{align}")
    assert theirs.left_aside == ("line 1 ((1))", "line 1 (=q)", "line 1 (2)")
    assert str(theirs.rates[sp.Symbol("m_1", real=True)]) == "R"


ODD = ["x1", "xx", "exp1", "log_x", "beta2", "in", "pi2", "E1", "E_0", "lambda_q", "u_star", "u_1_star", "phi_star"]
ODD += ["theta_12", "mu_1", "omicron", "a_b_c", "a_", "_a", "a__b", "beta_", "d1", "e", "frac", "k_eff", "w1", "eth"]


@pytest.mark.parametrize("name", ODD)
def test_unusual_names_are_written_so_that_they_are_read_back(name, read):
    definition = f'[definitions]\n"{name}" = "R + beta"\n"f(v)" = "{name}*v"\n[equations]\n"dm_1/dt" = "f(s)**2"'
    argument = f'[definitions]\n"f({name})" = "{name}**2 + {name}*beta"\n[equations]\n"dm_1/dt" = "f(m_2)*m_1"'
    renamed = f'[names]\n{name} = "m_1"\n[equations]\n"d{name}/dt" = "{name}**2*R - s"'
    for text in (definition, argument, renamed):
        theirs = read(text, "theirs.toml")
        again = read(latex_writing.tex_of(theirs))
        assert number(again) == pytest.approx(number(theirs), rel=1e-12)
        assert again.left_aside == ()


def test_a_document_with_a_few_wrong_tokens_is_read_or_refused(read):
    tokens = re.findall(r"\\[A-Za-z]+|\\.|[0-9]+|\s+|.", PAPER[PAPER.index(r"\[") :], re.DOTALL)
    others = [
        *sorted(set(tokens)),
        *re.findall(r"\S+", r"\left. \langle \int Dz \frac # ^ _ ' $ $$ | % & \\ \begin{cases}"),
    ]
    draw = random.Random(0)
    told = []
    for _ in range(150):
        changed = list(tokens)
        for _ in range(draw.randrange(1, 4)):
            n = draw.randrange(len(changed))
            changed[n : n + draw.randrange(3)] = [draw.choice(others) for _ in range(draw.randrange(2))]
        try:
            read("".join(changed))
        except BadInput as error:
            told.append(str(error))
    assert len(told) > 50
    assert all(re.search(r": line [0-9]+, column |no rate of a state is displayed", message) for message in told)


HUGE = {
    "open displays": r"\begin{align}" * 10_000,
    "columns": r"\[ \dot x = " + "& a " * 50_000 + r"\]",
    "braces": r"\[ \dot x = " + "{" * 50_000 + "}" * 50_000 + r"\]",
    "variables": r"\[ \dot m_1 = \mathbb{E}_{" + ",".join(f"u_{{{n}}}" for n in range(3000)) + r"}[u_{1}] \]",
    "macros": "".join(rf"\def\{a}{{\{b}\{b}}}" for a, b in pairwise("abcdefghijklmnopqrstu")) + r"\[\dot x = \a\]",
    "a macro in its argument": r"\newcommand{\a}[1]{\a{#1#1}}\[ \dot x = \a{R} \]",
}


@pytest.mark.parametrize("text", HUGE.values(), ids=HUGE)
def test_huge_documents_are_refused_soon(text, read):
    start = time.process_time()
    with pytest.raises(BadInput):
        read(text)
    assert time.process_time() - start < 10
