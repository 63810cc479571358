r"""`annealvi compare` with equations in LaTeX: typed by hand as papers write them, and as the package prints them."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

import annealvi
from annealvi.cli.program import main
from annealvi.comparison import latex_writing, writing
from annealvi.comparison.compare import compare
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
