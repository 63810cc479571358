"""`annealvi compare`: equations typed by hand, in other notations and with planted slips."""

from __future__ import annotations

import json
import random
import tomllib
from dataclasses import dataclass

import pytest
import sympy as sp

import annealvi
from annealvi.cli.program import main
from annealvi.comparison.compare import compare, compared
from annealvi.comparison.reading.theirs import OwnDefinition, Theirs, read_equations
from annealvi.comparison.writing import words as writing
from derive.checks.mutations import one_term_mutations
from derive.objects.expectation import Expectation, StandardNormal

RIGHT = """
[names]
x = "m_1"
y = "m_2"
q = "s"
[definitions]
h = "log(w_star_1/w_star_2)/2"
"F(u)" = "E[tanh(R**2*u + h + R*z)]"
"G(a)" = "E[1/(1 + exp(D + a + sqrt(2*D)*z))]"
D = "R**2*(1 - q)"
L = "log(w_1/w_2)"
[equations]
"dx/dt" = "w_1*(beta*F(x)*(1 - x**2) - G(L)*(y - q*x))"
"dy/dt" = "w_2*(beta*F(y)*(1 - y**2) - G(-L)*(x - q*y))"
"dq/dt" = "w_1*beta*F(x)*(y - q*x) + w_2*beta*F(y)*(x - q*y) - (w_1*G(L) + w_2*G(-L))*(1 - q**2)"
"""


@pytest.fixture(scope="module")
def session():
    return annealvi.open_session(annealvi.load_problem("bimodal"))


@pytest.fixture
def verdict(session, tmp_path):
    def found(*changes, text=RIGHT):
        for old, new in changes:
            assert old in text, old
            text = text.replace(old, new)
        path = tmp_path / "theirs.toml"
        path.write_text(text, encoding="utf-8")
        return compare(session, path)

    return found


def by_state(found):
    return {v.state.name: v for v in found.equations}


@pytest.mark.quick
def test_equations_typed_by_hand_are_equal(verdict):
    found = verdict()
    assert found.verdict == "equal"
    assert found.time_unit is None
    assert writing.in_words(found).startswith("equal: ")


REWRITTEN = {
    "tanh as a sigmoid": [("E[tanh(R**2*u + h + R*z)]", "E[2*sigmoid(2*(R**2*u + h + R*z)) - 1]")],
    "tanh as exponentials": [("tanh(R**2*u + h + R*z)", "1 - 2/(1 + exp(2*(R**2*u + h + R*z)))")],
    "the exchange by sech": [
        (
            '"E[1/(1 + exp(D + a + sqrt(2*D)*z))]"',
            '"exp(-D/4 - a/2)/2*E[sech(sqrt(D/2)*z + a/2)]"',
        )
    ],
    "products multiplied out": [("F(x)*(1 - x**2)", "(F(x) - F(x)*x*x)"), ("(1 - q**2)", "(1 - q)*(1 + q)")],
    "two variables for one": [("E[tanh(R**2*u + h + R*z)]", "E[tanh(R**2*u + h + R*(0.6*z1 + 0.8*z2))]")],
    "a mean of the error function": [("(1 - q**2)", "(1 - q**2 + E[erf(q + z)] - erf(q/sqrt(3)))")],
    "one exchange for both": [("(w_1*G(L) + w_2*G(-L))", "2*w_1*G(L)")],
}


@pytest.mark.parametrize("changes", REWRITTEN.values(), ids=REWRITTEN)
def test_equations_written_in_another_way_are_equal(changes, verdict):
    assert verdict(*changes).verdict == "equal"


@pytest.mark.parametrize(
    ("factor", "named"), [("R**2*", "R**2"), ("1/R**2*", "R**(-2)"), ("2*", "2"), ("sqrt(2)*", "sqrt(2)")]
)
def test_another_unit_of_time_is_named(factor, named, verdict):
    text = RIGHT
    for rate in ("dx", "dy", "dq"):
        text = text.replace(f'"{rate}/dt" = "', f'"{rate}/dt" = "{factor}(')
    text = "\n".join(line[:-1] + ')"' if line.startswith('"d') else line for line in text.splitlines())
    found = verdict(text=text)
    assert found.verdict == "equal-up-to-time-unit"
    assert str(found.time_unit) == named


def test_a_factor_of_one_equation_is_its_own(verdict):
    found = verdict(('"dq/dt" = "w_1', '"dq/dt" = "2*w_1'), ("+ w_2*beta", "+ 2*w_2*beta"), ("- (w_1*G", "- 2*(w_1*G"))
    assert found.verdict == "different"
    assert found.time_unit is None
    assert (by_state(found)["s"].verdict, by_state(found)["s"].factor) == ("factor", 2)


@dataclass
class Slip:
    """A change of RIGHT, the wrong equation, and words of the line that tells what is wrong."""

    old: str
    new: str
    state: str
    told: str


SLIPS = [
    Slip("F(x)*(1 - x**2)", "F(x)*(1 + x**2)", "m_1", "the sign of the term F(x)*beta*w_1*x**2 is wrong"),
    Slip("- G(L)*(y - q*x))", "- 2*G(L)*(y - q*x))", "m_1", "should be multiplied by 1/2: -G(L)*w_1*(-q*x + y)"),
    Slip("- G(L)*(y - q*x))", "- G(L)*(y - q*y))", "m_1", "has y in the place of x"),
    Slip("- G(L)*(y - q*x))", "- G(L)*y)", "m_1", "is missing"),
    Slip("w_2*(beta*F(y)*(1", "w_1*(beta*F(y)*(1", "m_2", "has w_1 in the place of w_2"),
    Slip("beta*F(x)*(y - q*x)", "F(x)*(y - q*x)", "s", "should be multiplied by beta"),
    Slip("F(y)*(x - q*y) - (w", "F(x)*(x - q*y) - (w", "s", "has F(x) in the place of F(y)"),
    Slip('(1 - q**2)"', '(1 - q**2) + w_1*q"', "s", "the term q*w_1 should not be there"),
]


@pytest.mark.parametrize("slip", SLIPS, ids=lambda slip: slip.told)
def test_a_slip_in_one_term_is_found(slip, verdict):
    found = verdict((slip.old, slip.new))
    assert found.verdict == "different"
    wrong = [v for v in found.equations if v.verdict != "equal"]
    assert [v.state.name for v in wrong] == [slip.state]
    words = writing.in_words(found)
    assert slip.told in words, words
    assert found.repaired is not None


IN_DEFINITIONS = {
    "a factor in a root": ("sqrt(2*D)", "sqrt(D)", "the definition G(a) should be"),
    "half of a logarithm": ("w_star_2)/2", "w_star_2)", "the definition h should be"),
    "a dropped length": ("+ R*z)", "+ z)", "the definition F(u) should be"),
    "a sign": ("h + R*z", "-h + R*z", "the definition F(u) should be"),
    "a dropped field": ("exp(D + a", "exp(a", "the definition G(a) should be"),
}


@pytest.mark.parametrize(("old", "new", "told"), IN_DEFINITIONS.values(), ids=IN_DEFINITIONS)
def test_a_slip_in_a_definition_is_found(old, new, told, verdict):
    found = verdict((old, new))
    assert found.verdict == "different"
    words = writing.in_words(found)
    assert told in words, words
    assert found.repaired is not None


def test_slips_in_two_equations_are_each_found(verdict):
    found = verdict(("F(x)*(1 - x**2)", "F(x)*(1 + x**2)"), ("(1 - q**2)", "(1 - q)"))
    assert {s: v.verdict for s, v in by_state(found).items()} == {"m_1": "different", "m_2": "equal", "s": "different"}
    assert "the sign of the term F(x)*beta*w_1*x**2 is wrong" in writing.in_words(found)
    assert found.repaired is not None


def test_two_slips_in_one_equation_are_both_found(verdict):
    found = verdict(("F(x)*(1 - x**2)", "F(x)*(1 + x**2)"), ("- G(L)*(y - q*x)", "- G(L)*(2*y - q*x)"))
    words = writing.in_words(found)
    assert "the sign of the term F(x)*beta*w_1*x**2 is wrong" in words
    assert "the term -2*G(L)*w_1*y should be multiplied by 1/2" in words
    assert found.repaired is not None
    parts = writing.as_dict(found)["equations"]["m_1"]["terms"]
    assert [(part["repair"], part["coefficient"]) for part in parts] == [(0, "1/2"), (0, "-1")]


def test_three_slips_in_one_equation_are_told_without_a_repair(verdict):
    found = verdict(("F(x)*(1 - x**2)", "F(x)*(1 + x**3)"), ("- G(L)*(y - q*x)", "- G(L)*(y**2 - q*y)"))
    assert found.verdict == "different"
    assert found.repaired is None
    assert "no repair was found: neither" in writing.in_words(found)


def test_what_is_no_number_at_some_states_is_different(verdict):
    found = verdict(("G(L)*(y - q*x)", "log(x)"))
    assert found.verdict == "different"
    assert "dx/dt: no finite number in place of" in writing.in_words(found)
    assert writing.as_dict(found)["equations"]["m_1"]["worst"]["theirs"] is None


def test_a_slip_in_what_an_average_is_of_is_found(verdict):
    text = RIGHT.replace('"E[tanh(R**2*u + h + R*z)]"', '"E[tanh(A(u))]"\n"A(v)" = "R**2*v + h + R*z"')
    assert verdict(text=text).verdict == "equal"
    found = verdict(("h + R*z", "h - 2*R*z"), text=text)
    assert "the definition A(v) should be" in writing.in_words(found)
    assert found.repaired is not None


def test_equations_linear_in_small_overlaps_are_equal_in_that_limit(verdict):
    text = """
[definitions]
h = "log(w_star_1/w_star_2)/2"
F0 = "E[tanh(h + R*z)]"
F1 = "E[R**2/cosh(h + R*z)**2]"
g0 = "sqrt(w_1*w_2)*exp(-R**2/4)*E[1/cosh(R*z/sqrt(2) - log(w_1/w_2)/2)]/2"
[equations]
"dm_1/dt" = "w_1*beta*(F0 + F1*m_1) - g0*m_2"
"dm_2/dt" = "w_2*beta*(F0 + F1*m_2) - g0*m_1"
"""
    # d/ds of the exchange at s = 0, written out by hand: E[sech(a sqrt(1 - s) z - b)] has the derivative
    # -a/2 E[z sech'(a z - b)] = -a**2/2 E[sech''(a z - b)]
    text += (
        '"ds/dt" = "w_1*beta*F0*m_2 + w_2*beta*F0*m_1 - 2*(g0 + s*(R**2/4*g0 - sqrt(w_1*w_2)*exp(-R**2/4)*R**2/8*'
        "E[sech(R*z/sqrt(2) - log(w_1/w_2)/2) - 2*sech(R*z/sqrt(2) - log(w_1/w_2)/2)**3]))"
        '"\n'
    )
    found = verdict(text=text)
    assert (found.verdict, found.limit) == ("equal-in-limit", "to first order in the overlaps, where these are small")
    assert verdict(("+ F1*m_1", "- F1*m_1"), text=text).verdict == "different"


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ([("h + R*z", "R*z")], "where the target's weights are equal"),
        (
            [("G(L)", "G(0)"), ("G(-L)", "G(0)"), ("w_1*", "1/2*"), ("w_2*", "1/2*"), ('L = "log(w_1/w_2)"', "")],
            "where the proposal's weights are equal",
        ),
        ([("F(u)", "F(u, b)"), ("F(x)", "F(x, beta)"), ("F(y)", "F(y, beta)")], ""),
    ],
)
def test_equations_of_a_special_case_are_equal_in_that_limit(changes, told, verdict):
    found = verdict(*changes)
    assert (found.verdict, found.limit) == (("equal-in-limit", told) if told else ("equal", ""))


def test_the_first_order_at_high_temperature_is_told(verdict):
    found = verdict(("beta*F(x)*(1 - x**2)", "tanh(beta)*F(x)*(1 - x**2)"))
    assert found.verdict == "equal-in-limit"
    assert "first order in beta" in found.limit


def test_a_small_error_at_first_order_is_no_limit(verdict):
    found = verdict(("beta*F(x)*(1 - x**2)", "1.0005*tanh(beta)*F(x)*(1 - x**2)"))
    assert found.verdict == "different"


def test_time_that_runs_backwards_is_no_unit(verdict):
    text = "\n".join(
        f'{line[:-1]})"'.replace('= "', '= "-(') if line.startswith('"d') else line for line in RIGHT.splitlines()
    )
    found = verdict(text=text)
    assert (found.verdict, found.time_unit) == ("different", None)
    assert "it is the derived rate times -1" in writing.in_words(found)


def test_equations_that_are_nearly_right_are_equal_to_fewer_digits(verdict):
    found = verdict(("w_1*(beta*F(x)", "1.000000001*w_1*(beta*F(x)"))
    assert writing.in_words(found).startswith("equal to ")
    assert 8 <= found.digits <= 10


def test_averages_with_tails_are_computed_and_those_with_kinks_are_refused(verdict):
    tilted = ("E[tanh(R**2*u + h + R*z)]", "exp(-R**2/2)*E[exp(R*z)*tanh(R**2*u + h + R*(z - R))]")
    assert verdict(tilted).verdict == "equal"
    assert verdict(("G(L)*(y", "G(L)*E[exp(R*z/4 - R**2/32)]*(y")).verdict == "equal"
    with pytest.raises(annealvi.BadInput, match="does not settle"):
        verdict(("G(-L)*(x", "G(-L)*sqrt(pi/2)*E[abs(z)]*(x"))


def test_what_has_no_value_is_bad_input(session):
    m_1 = sp.Symbol("m_1")
    for formula in (sp.Function("F")(m_1), sp.Derivative(m_1**2, m_1), sp.I * m_1):
        with pytest.raises(annealvi.BadInput, match="has no value"):
            compare(session, {"m_1": formula})


def test_the_repaired_equations_are_right(verdict, session, tmp_path):
    found = verdict(("sqrt(2*D)", "sqrt(D)"))
    path = tmp_path / "repaired.toml"
    path.write_text(writing.repaired_toml(found), encoding="utf-8")
    assert compare(session, path).verdict == "equal"


X, Y = "w_1*(beta*F(x)*(1 - x**2) - G(L)*(y - q*x))", "w_2*(beta*F(y)*(1 - y**2) - G(-L)*(x - q*y))"
OWN_VARIABLES = {
    "a length": ('M = "R**2*m_1"', ["dM", f"R**2*{X}", "dy", Y], "equal"),
    "sum and difference": ('a = "(x + y)/2"\nb = "x - y"', ["da", f"({X} + {Y})/2", "db", f"{X} - {Y}"], "equal"),
    "an angle": ('phi = "atan(x/y)"', ["dphi", f"({X}*y - {Y}*x)/(x**2 + y**2)", "dy", Y], "equal"),
    "a wrong sum": ('a = "x + y"', ["da", f"{X} - {Y}", "dy", Y], "different"),
}


@pytest.mark.parametrize(("defined", "rates", "expected"), OWN_VARIABLES.values(), ids=OWN_VARIABLES)
def test_rates_of_their_own_variables_are_compared(defined, rates, expected, verdict, session, tmp_path):
    first, one, second, other = rates
    text = RIGHT.replace("[definitions]", f"[definitions]\n{defined}")
    text = "\n".join(line for line in text.splitlines() if not line.startswith(('"dx', '"dy')))
    found = verdict(text=f'{text}\n"{first}/dt" = "{one}"\n"{second}/dt" = "{other}"\n')
    assert found.verdict == expected
    assert (f"{first}/dt:" in writing.in_words(found)) == (expected == "different")
    path = tmp_path / "again.toml"
    path.write_text(writing.toml_of(found.repaired or found.theirs), encoding="utf-8")
    assert compare(session, path).verdict == "equal"


def test_a_variable_that_changes_with_beta_is_bad_input(verdict):
    text = RIGHT.replace("[definitions]", '[definitions]\nM = "beta*m_1"').replace('"dx/dt"', '"dM/dt"')
    with pytest.raises(annealvi.BadInput, match="changes with beta"):
        verdict(text=text)


def test_rates_of_dependent_variables_are_bad_input(verdict):
    text = RIGHT.replace("[definitions]", '[definitions]\nM = "R**2*m_1"').replace('"dy/dt"', '"dM/dt"')
    with pytest.raises(annealvi.BadInput, match="follows from the others"):
        verdict(text=text)


def test_a_missing_equation_is_said(verdict):
    text = RIGHT[: RIGHT.index('"dq/dt"')]
    found = verdict(text=text)
    assert found.verdict == "different"
    assert by_state(found)["s"].verdict == "missing"
    assert "no equation is given for dq/dt" in writing.in_words(found)


def test_the_rate_of_the_last_weight_follows_from_the_others():
    session = annealvi.open_session(annealvi.load_problem("learned-weights"))
    rates = dict(zip(session.derivation.system.states, session.derivation.system.expanded_rhs(), strict=True))
    (last,) = [s for s in rates if s.name == "w_2"]
    del rates[last]
    assert compare(session, rates).verdict == "equal"


def test_equations_in_sympy_of_other_symbols_are_compared_by_name(session):
    m_1, m_2, s, R, beta, w_1, w_2, p, q = sp.symbols("m_1 m_2 s R beta w_1 w_2 w_star_1 w_star_2", positive=True)
    z = StandardNormal("z")
    h, D, L = sp.log(p / q) / 2, R**2 * (1 - s), sp.log(w_1 / w_2)

    def F(m):
        return Expectation(sp.tanh(R**2 * m + h + R * z), z)

    def G(a):
        return Expectation(1 / (1 + sp.exp(D + a + sp.sqrt(2 * D) * z)), z)

    rates = {
        "m_1": w_1 * (beta * F(m_1) * (1 - m_1**2) - G(L) * (m_2 - s * m_1)),
        "m_2": w_2 * (beta * F(m_2) * (1 - m_2**2) - G(-L) * (m_1 - s * m_2)),
        "s": beta * (w_1 * F(m_1) * (m_2 - s * m_1) + w_2 * F(m_2) * (m_1 - s * m_2)) - 2 * w_1 * G(L) * (1 - s**2),
    }
    assert compare(session, rates).verdict == "equal"
    assert compare(session, {**rates, "s": rates["s"] + m_1}).verdict == "different"
    with pytest.raises(annealvi.BadInput, match="this is no state"):
        compare(session, {"u": m_1})
    with pytest.raises(annealvi.BadInput, match="k has no meaning"):
        compare(session, {"m_1": sp.Symbol("k")})


def test_texts_of_all_functions_are_read_back(session, tmp_path):
    text = RIGHT.replace(
        "(1 - q**2)",
        "(1 - q**2)*max(abs(x), min(-1, x))/abs(x)",
    )
    path = tmp_path / "theirs.toml"
    path.write_text(text, encoding="utf-8")
    found = compare(session, path)
    path.write_text(writing.toml_of(found.theirs), encoding="utf-8")
    assert compare(session, path).verdict == found.verdict == "equal"


def test_derived_equations_of_three_modes_are_equal_in_their_own_text(tmp_path):
    session = annealvi.open_session(annealvi.load_problem("simplex"))
    system = session.derivation.system
    path = tmp_path / "simplex.toml"
    path.write_text(writing.toml_of(as_theirs(system)), encoding="utf-8")
    assert compare(session, path).verdict == "equal"


def as_theirs(system):
    definitions = tuple(OwnDefinition(s.name, (), e, {s: ()}) for s, e in system.subexpressions)
    return Theirs("a mutant", dict(zip(system.states, system.rhs, strict=True)), system.subexpressions, {}, definitions)


def test_one_term_mutants_are_different_and_are_repaired_at_their_place(session, tmp_path):
    """A sample of the mutants of sign, factor, index and dropped term; the how-to page tells how all of them fare."""
    system = session.derivation.system
    for mutant in random.Random(3).sample(one_term_mutations(system), 10):
        path = tmp_path / "mutant.toml"
        path.write_text(writing.toml_of(as_theirs(mutant.system)), encoding="utf-8")
        found = compared(session, read_equations(path, system, session.symbolic.values), 0)
        assert found.verdict == "different", mutant.label
        assert found.repaired is not None, mutant.label
        pairs = zip(system.subexpressions, mutant.system.subexpressions, strict=True)
        changed = {s.name for (s, e), (_, other) in pairs if e != other}
        if changed:
            assert changed & {r.name for v in found.equations for r in v.repairs}, mutant.label


BAD = {
    "no TOML": ("[equations", "no TOML"),
    "an unknown section": (
        RIGHT + "[rates]\n",
        "no such section; the sections are names, definitions, equations, claims, ranges",
    ),
    "no equation": ("[names]\nx = 'm_1'\n", "equations: there is none"),
    "an unknown name": (RIGHT.replace("h + R*z", "k + R*z"), "definitions.F: column 17: the name 'k' is unknown"),
    "a rate of no state": (RIGHT.replace('"dq/dt"', '"dv/dt"'), "this is the rate of no state"),
    "a circle": (RIGHT.replace('"R**2*(1 - q)"', '"R**2*(1 - q) + G(0)"'), "a circle of definitions"),
    "z outside": (RIGHT.replace("- G(L)*", "- z*G(L)*"), "z stands outside of an average"),
    "a wrong count": (RIGHT.replace("F(x)", "F(x, y)"), "F with 2 arguments; give it 1"),
    "an unclosed average": (RIGHT.replace("R*z)]", "R*z)"), "found the end; put ']' there"),
    "an idle average": (RIGHT.replace("+ R*z)]", ")]"), "an average of what does not vary"),
    "an average of an average": (
        RIGHT.replace("- G(L)*", "- E[F(z)]*"),
        "F is an average, and its argument varies with z",
    ),
    "a hidden product": (RIGHT.replace("w_1*(beta", "w_1(beta"), "'w_1' before a bracket"),
    "code": (RIGHT.replace("log(w_1/w_2)", "__import__(R)"), "'__import__' is not a known function"),
    "a text in code": (RIGHT.replace("log(w_1/w_2)", "open('x')"), "is not part of plain mathematics"),
    "an attribute": (RIGHT.replace("log(w_1/w_2)", "R.func"), "'.' is not part of plain mathematics"),
    "an average that diverges": (RIGHT.replace("tanh(R**2*u + h + R*z)", "exp(z**2)"), "does not settle"),
    "a symbol of ours": (RIGHT.replace('L = "log', 'R = "log'), "definitions.R: the name has a meaning already"),
    "a taken name": (RIGHT.replace('h = "log', 'z = "log'), "definitions.z: the name has a meaning already"),
    "a number": (RIGHT.replace('"log(w_1/w_2)"', "[1, 2]"), "definitions.'L': no text"),
    "ours unknown": (RIGHT.replace('"m_1"', '"m_3"'), "names.x: 'm_3' has no meaning here"),
}


@pytest.mark.parametrize(("text", "told"), BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_one_line(text, told, tmp_path, capsys):
    path = tmp_path / "theirs.toml"
    path.write_text(text, encoding="utf-8")
    out = tmp_path / "out"
    assert main(["compare", str(path), "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = [line for line in printed.err.splitlines() if line.startswith("annealvi: ") and "; " in line]
    assert told in line
    assert not out.exists()


def test_the_command_writes_what_it_says(tmp_path, capsys):
    path, out = tmp_path / "theirs.toml", tmp_path / "out"
    path.write_text(RIGHT.replace("F(x)*(1 - x**2)", "F(x)*(1 + x**2)"), encoding="utf-8")
    assert main(["compare", str(path), "bimodal", "--out", str(out)]) == 1
    assert "the sign of the term F(x)*beta*w_1*x**2 is wrong" in " ".join(capsys.readouterr().out.split())
    assert sorted(p.name for p in out.iterdir()) == [
        *("compare.json", "compare.md", "compare.tex"),
        *("repaired.tex", "repaired.toml"),
    ]
    found = json.loads((out / "compare.json").read_text())
    assert found["verdict"] == "different"
    equation = found["equations"]["m_1"]
    assert set(equation) == {"rate", "verdict", "factor", "worst", "terms", "missing"}
    assert equation["terms"][0]["coefficient"] == "-1"
    assert set(equation["worst"]) == {"state", "theirs", "ours"}
    assert tomllib.loads(found["repaired"])["equations"]
    assert main(["compare", str(out / "repaired.toml")]) == 0
    path.write_text(RIGHT, encoding="utf-8")
    assert main(["compare", str(path), "--json", "-"]) == 0
    out = capsys.readouterr().out
    assert json.loads(out[out.index("{") :])["verdict"] == "equal"
