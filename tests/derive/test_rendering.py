"""The output that people read: names in LaTeX, the legend, named logits and line breaks.

Every built-in problem must typeset.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from functools import cache

import pytest
import sympy as sp

from annealvi.cli.program import main
from derive.dynamics.derivation import Derivation
from derive.dynamics.symbolic_problem import derive_problem
from derive.objects.expectation import ChiSquared, Expectation, StandardNormal
from derive.objects.indices import Entry
from derive.objects.notation import apart_in, dotted, families_of, symbol_tex, tex
from derive.objects.softmax import Softmax
from derive.objects.step import Equation
from derive.problem.built_in import BUILT_IN
from derive.problem.specification import Flow, Problem, Proposal, Space, Target
from derive.rules.reduction import CholeskyRoot
from derive.writing.named_logits import with_named_logits
from derive.writing.rendering import (
    RENDERERS,
    as_latex,
    as_markdown,
    as_text,
    final_equations,
    own_steps,
    with_formulas,
)

NAMES = [
    name for name in BUILT_IN if name not in ("slips-16", "slips-32", "slips-64", "slips-128")
]  # these differ from slips-8 only in their numbers
DEFINED_BY_THEIR_EQUATION = {"h_star", "lambda_q"}


@cache
def derived(name: str) -> Derivation:
    return derive_problem(BUILT_IN[name])


@pytest.mark.quick
@pytest.mark.parametrize(
    ("name", "latex"),
    [
        ("rho_star_1_23", r"\bar{\rho}^{\star}_{1;23}"),
        ("rho_star_12", r"\bar{\rho}^{\star}_{12}"),
        ("rho_1_12", r"\bar{\rho}_{1;12}"),
        ("rho_12", r"\bar{\rho}_{12}"),
        ("S_11", "S_{11}"),
        ("S_star_11", r"S^{\star}_{11}"),
        ("ell_1", r"\ell_{1}"),
        ("ell_star_1", r"\ell^{\star}_{1}"),
        ("e_1", "e_{1}"),
        ("e_mean", r"\bar{e}"),
        ("C_star_21", r"C^{\star}_{21}"),
        ("C_star_1_21", r"C^{\star}_{1;21}"),
        ("C_1_21", "C_{1;21}"),
        ("c_31", "c_{31}"),
        ("r_1", "r_{1}"),
        ("Gamma_12", r"\Gamma_{12}"),
        ("sigma_star_1", r"\sigma^{\star}_{1}"),
        ("sigma_star", r"\sigma^{\star}"),
        ("w_star_1", r"w^{\star}_{1}"),
        ("y_star_11+", r"y^{\star+}_{11}"),
        ("M_10_2", "M_{10,2}"),
        ("M_1_23", "M_{1,23}"),
        ("M_1_2", "M_{1,2}"),
        ("w_12", "w_{12}"),
        ("ell_star_12", r"\ell^{\star}_{12}"),
        ("rho_star_10_2", r"\bar{\rho}^{\star}_{10;2}"),
        ("rho_star_1_2_13", r"\bar{\rho}^{\star}_{1;2,13}"),
        ("C_star_10_2", r"C^{\star}_{10,2}"),
        ("C_star_1_10_2", r"C^{\star}_{1;10,2}"),
        ("y_star_1_12+", r"y^{\star+}_{1,12}"),
        ("Sigma_1_12", r"\Sigma_{1;12}"),
        ("Sigma_star_12_1_2", r"\Sigma^{\star}_{12;1,2}"),
        ("Lambda_star_1_22", r"\Lambda^{\star}_{1;22}"),
        ("A_2_21", "A_{2;21}"),
        ("B_10_1_2", "B_{10;1,2}"),
        ("rhoy_star_1_21", r"\overline{\rho y}^{\star}_{1;21}"),
        ("rhoyy_1_212", r"\overline{\rho y^2}_{1;212}"),
        ("rhoyy_10_2_1_2", r"\overline{\rho y^2}_{10;2,1,2}"),
        ("logdet_star_12", r"\log\det\Sigma^{\star}_{12}"),
        ("mu_1", r"\mu_{1}"),
        ("X_star_21", r"X^{\star}_{21}"),
        ("h_star", r"h^{\star}"),
        ("lambda_q", r"\eta"),
        ("log_Z", r"\log Z(\beta)"),
        ("beta", r"\beta"),
        ("R", "R"),
    ],
)
def test_symbols_in_latex(name, latex):
    assert symbol_tex(sp.Symbol(name)) == latex


def test_legends_of_names_with_indices_apart():
    """The legend reads the name `rho_1_23` by the style of the names beside it.

    Beside `M_11` it is a product of two responsibilities, and beside `M_1_1` it is responsibility 23.
    """
    product, single = "rho_ij = ", "rho_i_jl = "
    for beside, wanted in (("M_1_1", product), ("M_11", single)):
        legend = [family.plain for family in families_of([beside, "rho_1_23"])]
        assert any(line.startswith(wanted) for line in legend)
        assert len(legend) == 2


@pytest.mark.parametrize("name", NAMES)
def test_every_symbol_of_every_problem_is_one_letter_with_indices(name):
    general, own = (
        [e.value for step in steps for e in step.after if isinstance(e.value, sp.Basic)]
        for steps in (derived(name).general.steps, derived(name).steps)
    )
    names = {tex(entry): entry for e in general for entry in e.atoms(Entry)}
    names |= {symbol_tex(s): s for e in own for s in e.atoms(sp.Symbol) if type(s) is sp.Symbol}
    for latex, named in names.items():
        # Indices are letters of their own in a general equation.
        assert not re.search(r"[A-Za-z]{2}", re.sub(r"\\[A-Za-z]+|_\{[a-zKL;,0-9]+\}", "", latex)), named


@pytest.mark.parametrize("name", NAMES)
def test_the_legend_tells_every_symbol_of_the_closed_system(name):
    for equation in final_equations(derived(name)):
        for symbol in equation.value.atoms(sp.Symbol):
            assert families_of([symbol.name]) or symbol.name in DEFINED_BY_THEIR_EQUATION, symbol


@pytest.mark.parametrize(
    ("apart", "names"),
    [
        (
            False,
            ["X_11", "Sigma_1_12", "Lambda_star_2_12", "A_1_21", "B_2_12", "rhoy_1_21", "rhoyy_star_1_212", "f_12"],
        ),
        (True, ["X_1_1", "Sigma_1_1_2", "A_star_11_2_1", "B_2_1_2", "rhoy_11_2_1", "rhoyy_star_1_12_1_2", "f_1_2"]),
    ],
)
def test_names_of_covariances_have_one_meaning_each(apart, names):
    assert apart_in(names) == apart
    meanings = [family.plain.split()[0] for family in families_of(names)]
    assert len(meanings) == len(names)
    heads = {name.split("_")[0] for name in names}
    assert {meaning.split("_")[0] for meaning in meanings} == heads


def test_statements_tell_sums_from_covariances():
    assert with_formulas("Here ∑_j w_j = 1.") == r"Here $\sum _{j} w_{j} = 1$."
    assert with_formulas("dΣ_i/dt = Σ_i G_i, and Λ_i = Σ_i⁻¹.") == (
        r"$d\Sigma _{i}/dt = \Sigma _{i} G_{i}$, and $\Lambda _{i} = \Sigma _{i}^{-1}$."
    )
    assert with_formulas("with G_i = B_iᵀ Λ_i.") == r"with $G_{i} = B_{i}^{\mathsf T} \Lambda _{i}$."


def test_a_dot_stands_on_the_letter():
    assert dotted("M_{11}") == r"\dot{M}_{11}"
    assert dotted(r"\nu_{1}") == r"\dot{\nu}_{1}"


def written_out(equations: tuple[Equation, ...]) -> dict[str, sp.Expr]:
    """The equations by label, with the names of the logits replaced by what they stand for."""
    logits = {e.symbol: e.value for e in equations if e.label.startswith("y")}

    def undone(node: sp.Expr) -> sp.Expr:
        integrand, *variables = node.args
        chi_squared = {sp.Symbol(v.name, nonnegative=True): v for v in variables if isinstance(v, ChiSquared)}
        return Expectation(integrand.xreplace(logits).xreplace(chi_squared), *variables)

    kept = [e for e in equations if e.symbol not in logits]
    return {e.label: e.value.replace(lambda node: type(node).__name__ == "_NamedAverage", undone) for e in kept}


@pytest.mark.parametrize("name", NAMES)
def test_named_logits_stand_for_what_they_replace(name):
    system = final_equations(derived(name))
    assert written_out(with_named_logits(system)) == {e.label: e.value for e in system}


@pytest.mark.parametrize(
    "name", ["simplex", "square", "two-scales", "learned-weights", "learned-scales", "more-components"]
)
def test_softmaxes_of_the_closed_system_contain_names_only(name):
    text = as_text(derived(name)).partition("The closed system\n")[2]
    arguments = re.findall(r"softmax_\d\(([^()]*)\)", text)
    assert arguments
    assert {word for listed in arguments for word in listed.split(", ")} <= {
        "0",
        *re.findall(r"^ +(y\w+)\(", text, re.MULTILINE),
    }
    assert text.count("softmax_j(l_1, ..., l_C) =") == 1


def test_each_logit_is_listed_once():
    named = with_named_logits(final_equations(derived("simplex")))
    logits = [e for e in named if e.label.startswith("y")]
    assert [e.label for e in logits][:2] == ["y_12(z_1, z_2)", "y_13(z_1)"]
    assert len({e.value for e in logits}) == len(logits) == 12
    assert logits[0].left == "y_{12}(z_{1},z_{2})"


def test_averages_of_different_dimension_share_their_logits():
    """Averages over the sample and over the lifted sample use the same named logits.

    The χ² variable of the lifted sample has two more degrees of freedom, which are printed with the average.
    """
    text = as_text(derived("two-scales"))
    assert "rho_1_12 = E_{z, c~chi2(d + 1)}[softmax_1(0, y_12)*softmax_2(0, y_12)]" in text
    assert "rho_12 = E_{z, c~chi2(d - 1)}[softmax_2(0, y_12)]" in text
    assert (
        r"\mathbb{E}_{z,c\sim\chi^2_{d - 1}}\left[\operatorname{softmax}_{2}\left(0,\ y_{12}\right)\right]"
        in as_latex(derived("two-scales"))
    )


def test_a_logit_that_differs_in_the_lifted_space_has_a_name_of_its_own():
    """In one dimension the normal variable fills the space; only the lifted sample has a χ² variable.

    The logit therefore has one name without and one name with this variable.
    """
    problem = Problem(
        target=Target((0.5, 0.5), ((1.0,), (-1.0,)), (1.0, 1.2)),
        proposal=Proposal((1.0,), (1.0,), 1.0),
        flow=Flow("euclidean"),
        space=Space(1),
    )
    system = final_equations(derive_problem(problem))
    named = with_named_logits(system)
    assert {e.label for e in named if e.label.startswith("y")} == {"y_star_11(z)", "y_star_11+(z, c)"}
    assert written_out(named) == {e.label: e.value for e in system}


def test_nodes_of_the_reduction_in_print():
    x, y = sp.symbols("x y", positive=True)
    z, c = StandardNormal("z"), ChiSquared("c", x - 1)
    assert str(CholeskyRoot(x - y, x)) == "sqrt(x - y)"
    assert sp.latex(CholeskyRoot(x - y, x) ** 2) == r"{\sqrt{x - y}}^{2}"
    assert sp.latex(Expectation(Softmax(1, z + c, 0), z, c)).startswith(r"\mathbb{E}_{z,c\sim\chi^2_{x - 1}}")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("form", RENDERERS)
def test_sections_in_order(name, form):
    derivation = derived(name)
    text, general = RENDERERS[form](derivation), derivation.general.steps
    any_number = {"latex": "For any $K$ and $L$"}.get(form, "For any K and L")
    K, L = derivation.setting.target.size, derivation.setting.proposal.size
    own_number = {"latex": f"For $K = {K}$ and $L = {L}$"}.get(form, f"For K = {K} and L = {L}")
    rules = [step.rule for step in (*general, *own_steps(derivation))]
    headings = [f"{number}. {rule}" for number, rule in enumerate(rules, 1)]
    in_order = [any_number, *headings[: len(general)], own_number, *headings[len(general) :]]
    places = [text.index(heading) for heading in in_order] + [text.rindex("The closed system")]
    assert places == sorted(places)
    assert "Dummy" not in text


def test_what_a_step_leaves_is_not_printed_again():
    text = as_text(derived("simplex"))
    gaussian = text.partition("jointly Gaussian scalars")[2].partition(". geometry")[0]
    assert "The other equations stay as they are." in gaussian
    # in the steps "given numbers of modes and components" and "geometry" and, once, in the closed system
    assert text.count("dQ_12/dt = ") == 3
    assert "dQ_12/dt = " not in gaussian
    assert "This is the closed system below." in text


@pytest.mark.parametrize("name", NAMES)
def test_latex_is_ascii_with_balanced_lines(name):
    text = as_latex(derived(name)).replace("–", "--")
    assert text.isascii()
    for line in text.splitlines():
        assert line.count("{") == line.count("}"), line
        assert line.count(r"\left") == line.count(r"\right"), line
    assert text.count(r"\Bigl") == text.count(r"\Bigr")
    labels = re.findall(r"\\label\{([^}]*)\}", text)
    assert len(labels) == len(set(labels)) >= len(final_equations(derived(name)))


def test_markdown_breaks_long_equations():
    text = as_markdown(derived("simplex"))
    displays = re.findall(r"\$\$(.*?)\$\$", text, re.DOTALL)
    assert any(r"\begin{aligned}" in d for d in displays)
    assert all(d.count(r"\begin{aligned}") == d.count(r"\end{aligned}") for d in displays)


def test_the_json_form_stays_explicit(tmp_path, capsys):
    assert main(["derive", "two-scales", "--json", str(tmp_path / "derived.json")]) == 0
    capsys.readouterr()
    found = json.loads((tmp_path / "derived.json").read_text())
    assert found["states"] == ["m_1", "m_2", "s"] == list(found["equations"])
    assert not any(re.search(r"\by_", d["expression"]) for d in found["definitions"].values())
    assert "log(w_star_1)" in found["definitions"]["rho_star_11"]["expression"]
    assert [step["rule"] for step in found["steps"]] == [step.rule for step in derived("two-scales").written_out]


DOCUMENT = r"""\documentclass[10pt]{article}
\usepackage[utf8]{inputenc}
\usepackage[a4paper,landscape,margin=18mm]{geometry}
\usepackage{amsmath,amssymb}
\allowdisplaybreaks
\begin{document}
\footnotesize
%s
\end{document}
"""


@pytest.mark.skipif(shutil.which("pdflatex") is None, reason="needs pdflatex")
@pytest.mark.parametrize("name", NAMES)
def test_every_problem_typesets_without_wide_boxes(name, tmp_path):
    (tmp_path / "all.tex").write_text(DOCUMENT % as_latex(derived(name)), encoding="utf-8")
    command = ["pdflatex", "-interaction=nonstopmode", "-halt-on-error", "all.tex"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, errors="replace", check=False)
    assert done.returncode == 0, done.stdout[-800:]
    widths = [float(w) for w in re.findall(r"Overfull \\hbox \(([0-9.]+)pt", done.stdout)]
    assert max(widths, default=0) < 10
