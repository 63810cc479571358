"""`[claims]` of `annealvi compare`: results of the theory typed by hand, right ones and wrong ones.

Claims are the theory page's formulas, or numbers that mpmath and SciPy find from the equations retyped in
`oracles/retyped.py`. None is made by the code under test.
"""

from __future__ import annotations

import json
import math

import mpmath
import numpy as np
import pytest
import sympy as sp
from oracles import retyped
from scipy.integrate import solve_ivp
from scipy.stats import binom

import annealvi
from annealvi.cli.program import main
from annealvi.comparison.claims import sampled
from annealvi.comparison.claims.comparing import compared_claims
from annealvi.comparison.claims.reading import given_claims
from annealvi.comparison.claims.results import RESULTS, Effort
from annealvi.comparison.writing import words as writing

THEORY = """
[definitions]
h = "log(w_star_1/w_star_2)/2"
G = "E[1/(1 + exp(2*R**2 + 2*R*z))]"
slope = "R**2*E[sech(h + R*z)**2]"
T = "slope/(2*G)"
[claims]
T_c = "slope/(2*G)"
beta_c = "2*G/slope"
"F'(0)" = "R*E[z*tanh(h + R*z)]"
"G(-1)" = "exp(-R**2/2)/2*E[sech(R*z)]"
Lambda_hot = "slope/2*t0*log(T*(T0 - 1)/(T0*(T - 1)))"
[ranges]
T0 = [700, 3000]
R = [2, 3.2]
"""
"""Section 4 of the theory page, where F'(0) and G(-1) are written otherwise than the definitions, and the
integral of beta under an exponential schedule until T = T_c."""


@pytest.fixture(scope="module")
def session():
    return annealvi.open_session(annealvi.load_problem("bimodal"))


@pytest.fixture
def found(session, tmp_path):
    def compared(text):
        path = tmp_path / "theirs.toml"
        path.write_text(text, encoding="utf-8")
        return annealvi.compare(session, path)

    return compared


def one(session, name, claim, ranges=None, runs=None):
    """The verdict on one claim, with small ensembles."""
    read = given_claims({name: claim}, ranges, session)
    (verdict,) = compared_claims(read, session, Effort("cpu", seed=1, runs=runs), "claims")
    return verdict


SHORT = ["target.means=[[2.0],[-2.0]]", "proposal.radius=2.0", "schedule.T0=20", "schedule.t0=50"]
"""A problem whose paths end soon."""


@pytest.fixture(scope="module")
def short():
    return annealvi.open_session(annealvi.load_problem("bimodal", SHORT))


def beta_of_short(t):
    return 1 / (1 + 19 * math.exp(-t / 50))


@pytest.fixture(scope="module")
def growth_by_scipy():
    """The largest integral of the theory's transverse rate along m_1 = m_2 from m = s = 0, for the short problem."""
    R, w, step = 2.0, 0.8, 1e-4

    def rates(t, y):
        m, s, _ = y
        beta = beta_of_short(t)
        pull, repulsion = retyped.F(m, R, w), retyped.G_1(s, R, 0.5)
        slope = (retyped.F(m + step, R, w) - retyped.F(m - step, R, w)) / (2 * step)
        growth = (beta * (slope * (1 - m**2) - 2 * m * pull) + repulsion * (1 + s)) / 2
        return [retyped.dm_1(m, m, s, beta, R, w, 0.5), retyped.ds(m, m, s, beta, R, w, 0.5), growth]

    path = solve_ivp(rates, (0, 200), [0, 0, 0], method="LSODA", rtol=1e-10, atol=1e-12, dense_output=True)
    return float(path.sol(np.linspace(0, 200, 400_001))[2].max())


@pytest.fixture(scope="module")
def boundary_by_scipy():
    """The smallest b from which m_1 = -m_2 = b/2 and s = 0 end separated, for the short problem."""

    def separates(b):
        def rates(t, y):
            given = (*y, beta_of_short(t), 2.0, 0.8, 0.5)
            return [retyped.dm_1(*given), retyped.dm_2(*given), retyped.ds(*given)]

        end = solve_ivp(rates, (0, 300), [b / 2, -b / 2, 0.0], method="LSODA", rtol=1e-10, atol=1e-12).y[:, -1]
        return end[0] * end[1] < 0

    low, high = 1e-3, 1.0
    while high > low * (1 + 1e-7):
        middle = math.sqrt(low * high)
        low, high = (low, middle) if separates(middle) else (middle, high)
    return math.sqrt(low * high)


def test_the_theorys_results_typed_by_hand_are_equal(tmp_path):
    path = tmp_path / "theory.toml"
    path.write_text(THEORY, encoding="utf-8")
    verdict = annealvi.compare(annealvi.load_problem("bimodal", ["schedule.T0=2000"]), path)
    assert {v.name: v.verdict for v in verdict.claims} == dict.fromkeys(
        ("T_c", "beta_c", "F'(0)", "G(-1)", "Lambda_hot"), "equal"
    )
    assert verdict.agrees
    assert (verdict.verdict, verdict.equations) == ("equal", ())


def test_the_critical_temperature_is_that_of_mpmath(session):
    with mpmath.workdps(30):
        h, R = mpmath.log(4) / 2, mpmath.mpf(3)
        slope = R**2 * retyped.gaussian_mean_mp(lambda z: mpmath.sech(h + R * z) ** 2)
        critical = float(slope / (2 * retyped.G_1_mp("-1", "3", "0.5")))
    assert abs(critical - 539.108) < 1e-3
    assert one(session, "T_c", critical).verdict == "equal"
    assert one(session, "T_c", critical * (1 + 1e-7)).verdict == "different"


def test_growth_separatrix_and_prefactor_are_those_of_scipy(short, growth_by_scipy, boundary_by_scipy):
    right = {
        "Lambda": growth_by_scipy,
        "b_c": boundary_by_scipy,
        "C": boundary_by_scipy * math.exp(growth_by_scipy),
    }
    for name, value in right.items():
        verdict = one(short, name, value)
        assert verdict.verdict == "equal", (name, value, verdict.points)
        assert 0 < verdict.points[0].error < 1e-5 * value
        assert one(short, name, 1.0001 * value).verdict == "different"


def test_the_leading_order_of_p_is_compatible_and_a_wrong_one_is_not(short, boundary_by_scipy):
    ranges = {"d": (1000, 16_000)}
    right = one(short, "P", f"erf({boundary_by_scipy!r}*sqrt(d)/2)", ranges, runs=4000)
    assert right.verdict == "compatible"
    assert right.agrees
    assert len({p.more["seed"] for p in right.points}) == len(right.points) == 5
    assert 1 < right.hidden < 1.1
    wrong = one(short, "P", f"erf({1.15 * boundary_by_scipy!r}*sqrt(d)/2)", ranges, runs=4000)
    assert wrong.verdict == "different"
    assert wrong.p_value < 1e-3
    half = one(short, "P", f"erf({boundary_by_scipy!r}*sqrt(d)/2)/2", ranges, runs=4000)
    assert half.verdict == "factor"
    assert abs(float(half.factor) - 0.5) < 0.02
    circulating = one(short, "P", "exp(-T0/t0)", runs=500)
    assert circulating.verdict == "different"
    assert set(circulating.ranges) == {"T0", "t0"}


WRONG = {
    "a factor 2": ("T_c", "slope/G", "factor", "2"),
    "a factor R**2": ("G(-1)", "R**2*G", "factor", "R**2"),
    "a factor pi/2": ("F'(0)", "pi/2*slope", "factor", "pi/2"),
    "an exponent": ("T_c", "(slope/(2*G))**2", "different", ""),
    "a sign": ("beta_c", "-2*G/slope", "factor", "-1"),
    "half of a logarithm": ("F'(0)", "R**2*E[sech(2*h + R*z)**2]", "different", ""),
    "zero": ("beta_c", "0", "different", ""),
}


@pytest.mark.parametrize(("name", "claim", "verdict", "factor"), WRONG.values(), ids=WRONG)
def test_wrong_claims_are_different_or_equal_up_to_a_factor(name, claim, verdict, factor, found):
    head = THEORY[: THEORY.index("[claims]")]
    (v,) = found(f'{head}[claims]\n"{name}" = "{claim}"\n').claims
    assert v.verdict == verdict
    assert str(v.factor or "") == factor
    assert not v.agrees


def test_a_limit_is_told_where_the_ratio_tends_to_one(session):
    large = one(session, "T_c", "2/pi*R**2*exp(R**2/2)", {"R": (2, 8)})
    assert large.verdict == "different"
    assert large.limit.startswith("for large R: the ratio is 0.99")
    assert large.worst.at == {"R": 2.0}
    assert one(session, "T_c", "R**2", {"R": (2, 8)}).limit == ""


def test_a_number_that_cancels_is_varied_all_the_same(found):
    (v,) = found('[definitions]\nr = "T0/t0"\n[claims]\nbeta_c = "T0/r/t0"\n').claims
    assert set(v.ranges) == {"T0", "t0"}


def test_a_range_in_which_all_runs_agree_decides_nothing(short):
    cold = one(short, "P", "exp(-1000*t0)", {"t0": (2000, 4000)}, runs=64)
    assert (cold.verdict, cold.idle) == ("undecided", ("t0",))
    assert "state another range" in writing_of(cold)
    assert one(short, "P", "1 - exp(-t0)", {"t0": (2000, 4000)}, runs=64).verdict == "different"


def writing_of(verdict):
    from annealvi.comparison.claims.words import in_words

    return in_words([verdict])


STATES = {
    "separated": ({"m_1": 1, "m_2": -1, "s": -1, "stable": True}, "equal", "stable"),
    "collapsed": ({"m_1": 1, "m_2": 1, "s": 1, "stable": False}, "equal", "saddle"),
    "collapsed, said to be stable": ({"m_1": 1, "m_2": 1, "s": 1, "stable": True}, "different", "saddle"),
    "between the modes": ({"m_1": 0, "m_2": 0, "s": -1, "beta": 1}, "different", "Newton's iteration ends at"),
}


@pytest.mark.parametrize(("state", "verdict", "told"), STATES.values(), ids=STATES)
def test_claimed_fixed_points(state, verdict, told, session):
    v = one(session, "here", state)
    assert (v.verdict, v.agrees) == (verdict, verdict == "equal")
    assert told in writing_of(v)
    assert set(v.ranges) == (set() if "beta" in state else {"beta"})


def test_the_separatrix_of_one_component_is_a_saddle_at_every_length_and_weight():
    session = annealvi.open_session(annealvi.load_problem("one-component"))
    h, R = sp.log(sp.Symbol("w_star_1") / sp.Symbol("w_star_2")) / 2, sp.Symbol("R")
    v = one(session, "alone", {"m_1": -h / R**2, "beta": 1, "stable": False})
    assert (v.verdict, set(v.ranges)) == ("equal", {"R", "w_star_1"})
    assert one(session, "alone", {"m_1": -h / R, "beta": 1}).verdict == "different"


def test_sympy_claims_count_symbols_by_name(session):
    R = sp.Symbol("R")
    assert one(session, "T_c", R**2, {"R": (2, 3)}).verdict == "different"
    verdict = annealvi.compare(session, {}, claims={"T_c": "R**2"}, ranges={"R": (2, 3)})
    assert (verdict.verdict, verdict.agrees) == ("different", False)
    with pytest.raises(annealvi.BadInput, match="k has no meaning"):
        one(session, "T_c", sp.Symbol("k"))
    with pytest.raises(annealvi.BadInput, match="given without claims"):
        annealvi.compare(session, {}, ranges={"R": (2, 3)})


def test_equations_and_claims_of_one_file_are_both_compared(found):
    rates = (
        '"dm_1/dt" = "1/2*(beta*F(m_1)*(1 - m_1**2) - G(s)*(m_2 - s*m_1))"',
        '"dm_2/dt" = "1/2*(beta*F(m_2)*(1 - m_2**2) - G(s)*(m_1 - s*m_2))"',
        '"ds/dt" = "beta/2*(F(m_1)*(m_2 - s*m_1) + F(m_2)*(m_1 - s*m_2)) - G(s)*(1 - s**2)"',
    )
    text = """
    [definitions]
    h = "log(w_star_1/w_star_2)/2"
    "F(u)" = "E[tanh(R**2*u + h + R*z)]"
    "G(q)" = "E[1/(1 + exp(R**2*(1 - q) + R*sqrt(2*(1 - q))*z))]"
    rate = "T0/t0"
    [claims]
    "G(-1)" = "G(-1)"
    beta_c = "rate"
    [equations]
    """ + "\n".join(rates)
    verdict = found(text)
    assert (verdict.verdict, verdict.limit) == ("equal-in-limit", "where the proposal's weights are equal")
    assert [v.verdict for v in verdict.claims] == ["equal", "different"]
    assert "beta_c = rate: different" in writing.in_words(verdict)


def test_the_p_value_is_uniform_for_a_right_claim_and_the_promised_factor_is_found():
    rng = np.random.default_rng(2)
    p, n = np.array([0.02, 0.1, 0.3, 0.6, 0.9]), np.full(5, 4000.0)
    values = [sampled.p_value(binom.rvs(4000, p, random_state=rng).astype(float), n, p) for _ in range(2000)]
    shares = [np.mean(np.array(values) < level) for level in (0.05, 0.5)]
    assert np.abs(np.array(shares) - [0.05, 0.5]).max() < 4 * math.sqrt(0.25 / 2000)
    p = np.array([0.02, 0.1, 0.3])
    factor = sampled.smallest_factor_found(n[:3] * p, n[:3])
    off = [
        sampled.p_value(binom.rvs(4000, p, random_state=rng).astype(float), n[:3], p * factor) < sampled.LEVEL
        for _ in range(1000)
    ]
    assert abs(np.mean(off) - 0.95) < 0.03
    assert math.isinf(sampled.deviance(np.array([1.0]), np.array([10.0]), np.array([1.2])))
    assert math.isinf(sampled.deviance(np.array([1.0]), np.array([10.0]), np.array([0.0])))


BAD = {
    "no claim": ("[claims]\n", "claims: there is none; write a result and its formula"),
    "no table": ("claims = 3\n", "claims: there is none"),
    "an unknown result": ('[claims]\nTc = "R"\n', "no such result; choose one of beta_c, T_c, F'(0)"),
    "an unknown name": ('[claims]\nT_c = "R*q"\n', "claims.T_c: column 3: the name 'q' is unknown"),
    "a state": ('[claims]\nT_c = "R*m_1"\n', "the name 'm_1' is unknown"),
    "beta": ('[claims]\nT_c = "R/beta"\n', "the name 'beta' is unknown"),
    "no text": ("[claims]\nT_c = [1, 2]\n", "claims.T_c: a list; write a formula in quotes, or a number"),
    "not finite": ('[claims]\nT_c = "1/(R - 3)"\n[ranges]\nR = [3, 4]\n', "no finite real number at R = 3"),
    "not real": ('[claims]\nT_c = "log(-R)"\n', "claims.T_c: no finite real number at R = 1.5"),
    "an average that diverges": ('[claims]\nT_c = "E[exp(R*z**2)]"\n', "claims.T_c: an average does not settle"),
    "an average with a pole": ('[claims]\nT_c = "E[1/(z - R)]"\n', "claims.T_c: an average does not settle"),
    "an average of 0/0": ('[claims]\nT_c = "E[tanh(R*z)/z]"\n', "claims.T_c: an average does not settle"),
    "an idle range": ('[claims]\nT_c = "R"\n[ranges]\nT0 = [2, 3]\n', "ranges.T0: no claim varies with it"),
    "a reversed range": ('[claims]\nT_c = "R"\n[ranges]\nR = [4, 2]\n', "the smaller first: [2, 4]"),
    "a range of text": ('[claims]\nT_c = "R"\n[ranges]\nR = ["a", 2]\n', "write two positive numbers"),
    "a range below zero": ('[claims]\nT_c = "R"\n[ranges]\nR = [-1, 2]\n', "write two positive numbers"),
    "an unknown range": ('[claims]\nT_c = "R"\n[ranges]\nQ = [1, 2]\n', "no such parameter; the parameters are"),
    "a refused value": (
        '[claims]\nP = "T0"\n[ranges]\nT0 = [0.5, 2]\n',
        "ranges.T0: at T0 = 0.5 the problem is refused",
    ),
    "half a dimension": ('[claims]\nP = "1/d"\n[ranges]\nd = [10.5, 20]\n', "write whole numbers"),
    "ranges alone": ("[ranges]\nR = [2, 3]\n", "equations: there is none"),
    "a definition of a parameter": ('[definitions]\nd = "R"\n[claims]\nT_c = "d"\n', "has a meaning already"),
    "a wrong definition": ('[definitions]\nk = "R*q"\n[claims]\nT_c = "R"\n', "definitions.k: column 3"),
    "a cold start": ('[claims]\nLambda_hot = "1"\n', "starts at T0 = 300, below T_c = 539.108"),
    "no state": ("[claims]\nhere = {m_1 = 1, q = 2}\n", "claims.'here'.'q': this is no state"),
    "a missing state": ("[claims]\nhere = {m_1 = 1, m_2 = 1}\n", "no value for s"),
    "no vectors": ("[claims]\nhere = {m_1 = 1, m_2 = 1, s = 0}\n", "no vectors have these overlaps"),
    "a cold beta": ("[claims]\nhere = {m_1 = 1, m_2 = 1, s = 1, beta = 2}\n", "claims.'here'.beta: 2 at"),
    "no bool": ("[claims]\nhere = {m_1 = 1, m_2 = 1, s = 1, stable = 1}\n", "write true or false"),
}


@pytest.mark.parametrize(("text", "told"), BAD.values(), ids=BAD)
def test_what_cannot_be_read_is_one_line(text, told, tmp_path, capsys):
    path, out = tmp_path / "claims.toml", tmp_path / "out"
    path.write_text(text, encoding="utf-8")
    assert main(["compare", str(path), "--out", str(out)]) == 2
    printed = capsys.readouterr()
    assert printed.out == ""
    (line,) = [line for line in printed.err.splitlines() if line.startswith("annealvi: ") and "; " in line]
    assert told in line
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "changes", "told"),
    [
        ("T_c", ["proposal.weights=[0.3, 0.7]"], "claims.T_c: its components are not alike"),
        ("Lambda", ["target.weights=[0.5, 0.5]"], "infinite for modes of equal weight"),
        ("b_c", ["space.dimension=2"], "the formula needs d >= 3"),
        ("Lambda_hot", ["schedule.kind='constant'"], "no closed form of the growth above T_c"),
    ],
)
def test_a_result_that_the_problem_lacks_is_said(name, changes, told):
    session = annealvi.open_session(annealvi.load_problem("bimodal", changes))
    with pytest.raises(annealvi.BadInput, match=told) as refused:
        one(session, name, 1.0)
    assert "leave the claim out" in str(refused.value)


def test_the_command_writes_what_it_says(tmp_path, capsys):
    path, out = tmp_path / "claims.toml", tmp_path / "out"
    path.write_text(
        '[claims]\nT_c = "R**2"\nbeta_c = "0*d + 2"\nhere = {m_1 = 1, m_2 = -1, s = -1}\n', encoding="utf-8"
    )
    assert main(["compare", str(path), "bimodal", "--out", str(out)]) == 1
    assert "T_c = R**2: different" in capsys.readouterr().out
    assert sorted(p.name for p in out.iterdir()) == [
        *("claims.pdf", "claims.png"),
        *("compare.json", "compare.md", "compare.tex"),
    ]
    found = json.loads((out / "compare.json").read_text())
    assert (found["verdict"], found["agrees"], found["equations"]) == ("different", False, {})
    claim = found["claims"]["T_c"]
    assert (claim["verdict"], claim["claim"], claim["ranges"]) == ("different", "R**2", {"R": [1.5, 6.0]})
    assert [set(p) for p in claim["points"]] == [{"R", "claim", "ours", "error", "ratio"}] * 7
    assert claim["points"][0]["claim"] == 2.25
    assert found["claims"]["here"]["points"][0]["stable"] is True
    report = (out / "compare.md").read_text()
    assert "### T_c = R**2: different" in report
    assert "| R = 1.5 | 2.25 |" in report
    path.write_text("[claims]\nhere = {m_1 = 1, m_2 = -1, s = -1, beta = 1}\n", encoding="utf-8")
    assert main(["compare", str(path), "--json", "-"]) == 0


def test_every_result_is_in_the_documentation():
    from places import ROOT

    page = (ROOT / "docs" / "how-to" / "check.md").read_text(encoding="utf-8")
    for name in RESULTS:
        assert f"`{name}`" in page, name


IN_LATEX = r"""
\[ T_c = \frac{R^2\, \mathbb{E}_z[\operatorname{sech}^2(h + R z)]}{2 G}, \]
\[ h = \tfrac12 \log\frac{w_1^\star}{w_2^\star} \]
\[ G = \mathbb{E}_z\left[ \frac{1}{1 + e^{2 R^2 + 2 R z}} \right], \qquad \beta_c = 1 / R^2 \]
"""


def test_displayed_results_are_claims(tmp_path, capsys):
    path = tmp_path / "claims.tex"
    path.write_text(IN_LATEX, encoding="utf-8")
    assert main(["compare", str(path), "--json", str(tmp_path / "found.json")]) == 1
    found = json.loads((tmp_path / "found.json").read_text())
    assert {name: claim["verdict"] for name, claim in found["claims"].items()} == {
        "T_c": "equal",
        "beta_c": "different",
    }
    text = IN_LATEX.replace("= 1 / R^2", r"= 1 / T_c, \quad P = I - N N^\dagger")
    path.write_text(text, encoding="utf-8")
    assert main(["compare", str(path)]) == 0  # one claim may use another, and P may be something else
    assert "beta_c = 1/T_c: equal" in capsys.readouterr().out
    path.write_text(IN_LATEX.replace("G =", "G = k"), encoding="utf-8")
    capsys.readouterr()
    assert main(["compare", str(path)]) == 2
    assert "line 4, column 8: the symbol k has no meaning" in capsys.readouterr().err
