"""What people see in Python.

This covers completed names, short reprs, tables and mathematics in notebooks, symbols, and the line for a wrong
argument.
"""

from __future__ import annotations

import ast
import dataclasses
import re
import rlcompleter
from importlib import import_module

import numpy as np
import pytest
import sympy as sp
from places import ROOT
from scipy.integrate import quad
from scipy.stats import chi2

import annealvi
from annealvi.cli.program import main
from annealvi.collapse.collapse_tables import print_collapse
from annealvi.collapse.outcome import nearest_modes
from annealvi.fixed_points import fixed_point_table
from annealvi.runs.path_table import print_path_table
from annealvi.runs.paths import Paths
from annealvi.show.printing import fitted
from derive.objects.expectation import ChiSquared, Expectation, StandardNormal
from derive.objects.softmax import Softmax

PACKAGES = ("annealvi", "derive", "kernels")
FLOWS = {
    "train_flow",
    "flow_map",
    "compare_kinds",
    "flow_figure",
    "map_figure",
    "training_figure",
    "kinds_figure",
    "Architecture",
    "Optimiser",
}


@pytest.fixture(scope="module")
def session():
    return annealvi.open_session(annealvi.load_problem("bimodal", ["schedule.T0=3", "schedule.t0=3"]))


@pytest.fixture(scope="module")
def points(session):
    return annealvi.find_fixed_points(session, np.array([1.0]), count=8)


@pytest.mark.quick
def test_the_public_names_are_shown_and_completed():
    assert set(dir(annealvi)) == set(annealvi.__all__)
    completer = rlcompleter.Completer({"annealvi": annealvi})
    assert completer.complete("annealvi.open_s", 0) == "annealvi.open_session("


def _names_in_strings():
    for path in sorted(p for package in PACKAGES for p in (ROOT / package).rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                for name in re.findall(r"`+((?:annealvi|derive|kernels)(?:\.\w+)+)(?:\([^`]*\))?`+", node.value):
                    yield path.relative_to(ROOT).as_posix(), name


def _exists(name):
    parts = name.split(".")
    for k in range(len(parts), 0, -1):
        try:
            found = import_module(".".join(parts[:k]))
        except ModuleNotFoundError:
            continue
        for part in parts[k:]:
            if not hasattr(found, part):
                return part in getattr(found, "__annotations__", ()) and part == parts[-1]  # the field of a dataclass
            found = getattr(found, part)
        return True
    return False


def test_every_name_that_a_docstring_mentions_exists():
    named = list(_names_in_strings())
    assert len(named) > 15
    assert [(place, name) for place, name in named if not _exists(name)] == []
    assert not _exists("annealvi.schedules")
    assert not _exists("derive.objects.system.NoSuchThing")


WRONG = {
    'annealvi.open_session("bimodal")': "a Problem",
    "annealvi.integrate(session.problem)": "annealvi.open_session(problem)",
    'annealvi.integrate(session, t_end="x")': "t_end",
    "annealvi.integrate(session, [0.1, 0.2])": "m_1, m_2, s",
    "annealvi.integrate(session, n=0)": "at least 1",
    "annealvi.integrate(session, n=2.5)": "a whole number",
    "annealvi.integrate(session, seed=-1)": "seed",
    "annealvi.integrate(session, points=1)": "points",
    "annealvi.simulate(session, dt=0)": "--dt",
    'annealvi.load_problem("bimodal", "schedule.T0=3")': "a list",
    "annealvi.load_problem(3)": "a path",
    'annealvi.Problem(target={"weights": [1]})': "annealvi.Target",
    'annealvi.Problem(schedule="linear")': "annealvi.ScheduleSpec",
    'annealvi.beta_schedule("adaann", 20.0, 100)': "choose from exponential",
    'annealvi.beta_schedule("table", 20.0, 100)': "choose from exponential",
    'annealvi.beta_schedule("linear", 20.0, 0)': "steps",
    'annealvi.BetaSchedule("linear")': "a ScheduleSpec",
    "annealvi.AdaAnn(0)": "tau",
    "annealvi.AdaAnn(float('nan'))": "tau",
    "annealvi.AdaAnn('x')": "a number",
    "annealvi.AdaAnn(0.1, T0=0.5)": "T0",
    "annealvi.EffectiveSampleSize(1.0)": "level",
    'annealvi.collapse_probability(session, ("nope",))': "choose from formula",
    'annealvi.collapse_probability(session, "ode")': "a list",
    "annealvi.collapse_probability(session, ())": "none is asked for",
    'annealvi.collapse_grid(session.problem, (annealvi.Axis("schedule.T0", 3, 30, 2),), ("nope",))': "methods",
    'annealvi.phase_map(session.problem, "schedule.T0", "schedule.t0")': "an Axis",
    "annealvi.recommend(session.problem, 0.05, R=3)": "2 of a number",
    'annealvi.recommend(session.problem, 0.05, kinds=("adaann",))': "choose from",
    "annealvi.best_hold(session.problem, 'x')": "duration",
    "annealvi.find_fixed_points(session, 1.0)": "a list",
    'annealvi.Execution(workers="x")': "a whole number",
    "annealvi.Sampling(n='x')": "a whole number",
    "annealvi.velocity(session.problem, None)": "a State",
    "annealvi.collapse_by_ensemble(session, n=0)": "at least 1",
    "annealvi.integrate(session, [[float('nan')] * 3])": "outside its interval",
    "annealvi.integrate(session, tolerance=0)": "tolerance",
    "annealvi.integrate(session, tolerance=float('nan'))": "tolerance",
    "annealvi.rate_function(session.problem, tolerance=1)": "tolerance",
    "session.random_states(-1, seed=0)": "at least 0",
    "session.random_states(3, seed='x')": "a whole number",
    "rates(0.1, [[5, 0.2, 0.3]])": "outside its interval [-1, 1]",
    "rates(float('nan'), [[0.1, 0.2, 0.3]])": "beta",
    "rates('a', [[0.1, 0.2, 0.3]])": "numbers",
    "rates(0.1, [[0.1, 0.2]])": "in the order of",
    "rates([0.1, 0.2], [[0.1, 0.2, 0.3]])": "one for each state",
}


@pytest.fixture(scope="module")
def rates(session):
    return annealvi.rate_function(session.problem)


@pytest.mark.parametrize("call", WRONG)
def test_a_wrong_argument_is_one_line(call, session, rates):
    with pytest.raises(annealvi.BadInput) as caught:
        eval(call, {"annealvi": annealvi, "session": session, "rates": rates})
    assert WRONG[call].removeprefix("an ") in str(caught.value)
    assert len(str(caught.value)) < 250


def test_numbers_of_numpy_and_arrays_are_arguments_too(session):
    paths = annealvi.integrate(session, np.array([0.1, -0.1, 0.0]), t_end=np.float32(1), points=np.int64(3))
    assert paths.values.shape == (1, 3, 3)
    assert annealvi.beta_schedule("linear", np.array(20.0), np.array(100)).steps == 100
    assert annealvi.collapse_probability(session, (method for method in ["ode"]), n=10).ode is not None


def test_rates_of_one_state_and_of_several_at_one_temperature_or_their_own(rates):
    states = np.array([[0.1, 0.2, 0.3], [0.4, -0.2, 0.0]])
    both = rates(np.array([0.1, 0.5]), states)
    np.testing.assert_array_equal(both, [rates(0.1, states[0]), rates(0.5, states[1])])


def everything_within(value, depth=0):
    """Yields a value and the dataclasses within it."""
    if dataclasses.is_dataclass(value):
        yield value
        if depth < 4:
            for field in dataclasses.fields(value):
                yield from everything_within(getattr(value, field.name), depth + 1)
    elif isinstance(value, tuple | list):
        for item in value[:3]:
            yield from everything_within(item, depth)


def test_reprs_are_a_few_lines(session, points):
    problem = session.problem
    wide = annealvi.Problem(
        "wide", annealvi.Target((1 / 64,) * 64, [[float(k), 1.0 + k] for k in range(64)], (1.0,) * 64)
    )
    results = [
        *(annealvi.BUILT_IN.values()),
        wide,
        session,
        annealvi.integrate(session, n=50, t_end=1.0),
        annealvi.collapse_probability(session, ("ode",), n=500),
        points,
        annealvi.asymptotics(problem),
        annealvi.linear_stability(problem),
        annealvi.velocity(problem, {"means": [[1.8, 2.4], [-0.6, 2.9]]}),
        annealvi.beta_schedule("linear", 20.0, 100),
        session.compile(),
        annealvi.Axis("schedule.T0", 3, 30, 2),
        annealvi.Choices("target.weights[0]", list(np.linspace(0.1, 0.9, 500))),
    ]
    for value in (v for result in results for v in everything_within(result)):
        if not isinstance(value, sp.Basic):
            assert len(repr(value)) < 1000, type(value)
            assert repr(value).count("\n") < 10, type(value)
    assert repr(annealvi.Target()) == "Target(weights=(0.8, 0.2), means=((3.0,), (-3.0,)), scales=(1.0, 1.0))"
    assert f"p={results[-9].ode.outcomes.p}" in repr(results[-9])


def test_notebooks_get_tables_and_mathematics(session, points):
    paths = annealvi.integrate(session, n=4, t_end=1.0)
    for result, words in (
        (paths, ("m_1", "mode 2")),
        (session, ("schedule", "w_star_1")),
        (points, ("attractor",)),
    ):
        assert all(word in result._repr_html_() for word in words)
    assert paths._repr_html_().count("<table>") == 3
    found = annealvi.collapse_probability(session, ("ode",), n=50)._repr_html_()
    assert "<td" in found
    assert "P(collapse)" in found
    derivation = session.derivation
    of_any_size = (derivation.general, *derivation.general.steps, *derivation.general.closed)
    for value in (*of_any_size, derivation, derivation.system, *derivation.steps, *derivation.steps[-1].after):
        shown = value._repr_latex_()
        assert shown.startswith("$$")
        assert shown.endswith("$$")
        assert shown.count("{") == shown.count("}")
    assert r"\dot{m}_{1}" in derivation.system._repr_latex_()
    assert session.schedule._repr_latex_() == f"$${session.schedule.latex}$$"


def normal(function):
    """E[f(z)] by adaptive quadrature."""
    return quad(
        lambda z: function(z) * np.exp(-z * z / 2) / np.sqrt(2 * np.pi), -12, 12, epsabs=1e-13, epsrel=1e-12, limit=200
    )[0]


@pytest.mark.parametrize("modules", ["numpy", "scipy", "math", "mpmath"])
def test_an_average_in_a_lambdified_function_is_what_quadrature_gives(modules):
    a, k = sp.Symbol("a", real=True), sp.Symbol("k", positive=True)
    z, c = StandardNormal("z"), ChiSquared("c", k)
    tanh, sech = Expectation(sp.tanh(a + 3 * z), z), Expectation(sp.sech(a * z), z)
    shared = Expectation(Softmax(2, 0, a + 40 * z, -a), z)
    logarithm = Expectation(sp.log(Softmax(1, 0, a * (z + 900))), z)
    values = sp.lambdify((a,), [tanh, sech, shared, logarithm], modules)(0.7)
    expected = (
        normal(lambda x: np.tanh(0.7 + 3 * x)),
        normal(lambda x: 1 / np.cosh(0.7 * x)),
        normal(lambda x: 1 / (1 + np.exp(-0.7 - 40 * x) + np.exp(-1.4 - 40 * x)))
        if modules != "mpmath"
        else float(values[2]),
        -630.0,
    )
    assert [float(x) for x in values] == pytest.approx(expected, rel=1e-10)
    if modules != "mpmath":
        found = sp.lambdify((a, k), Expectation(1 / (1 + sp.exp(a - c / 4)), c), modules)(1.5, 7)
        wanted = quad(lambda x: chi2.pdf(x, 7) / (1 + np.exp(1.5 - x / 4)), 0, 200, epsabs=1e-13, limit=400)[0]
        assert float(found) == pytest.approx(wanted, rel=1e-10)


def test_the_derived_equations_are_functions_of_arrays(session):
    problem = session.problem
    s = annealvi.symbols(problem)
    assert list(s) == ["m_1", "m_2", "s", "R", "w_1", "w_2", "w_star_1", "w_star_2", "beta", "t"]
    rate = annealvi.equations(problem)[s["m_1"]]
    numbers = {s["R"]: 3, s["w_1"]: 0.5, s["w_2"]: 0.5, s["w_star_1"]: 0.8, s["w_star_2"]: 0.2, s["beta"]: 0.5}
    m_1 = np.array([[0.6], [-0.3]])
    found = sp.lambdify((s["m_1"], s["m_2"], s["s"]), rate.subs(numbers))(m_1, np.array([-0.2, 0.1, 0.4]), 0.1)
    F = normal(lambda z: np.tanh(9 * 0.6 + np.log(4) / 2 + 3 * z))
    G = normal(lambda z: 1 / (1 + np.exp(8.1 + np.sqrt(16.2) * z)))
    assert found.shape == (2, 3)
    wanted = 0.5 * (0.5 * F * (1 - 0.36) - G * (-0.2 - 0.06))
    assert found[0, 0] == pytest.approx(wanted, rel=1e-10)
    assert float(rate.subs({**numbers, s["m_1"]: 0.6, s["m_2"]: -0.2, s["s"]: 0.1})) == pytest.approx(wanted, rel=1e-10)


@pytest.mark.parametrize("columns", [40, 60, 80])
def test_nothing_printed_is_wider_than_the_terminal(columns, session, points, capsys, monkeypatch, tmp_path):
    monkeypatch.setenv("COLUMNS", str(columns))
    state = tmp_path / "state.json"
    state.write_text('{"means": [[1.8, 2.4, 0.123456789], [-0.6, 2.9, 0.123456789]]}')
    assert main(["derive"]) == 0
    assert main(["rhs", "--state", str(state)]) == 0
    print(fitted(fixed_point_table(points)))
    wide = tuple(f"M_{i}{k}" for i in range(1, 4) for k in range(1, 10))
    random = np.random.default_rng(1)
    values, nearest = random.normal(size=(5, 3, len(wide))), random.integers(9, size=(5, 3))
    errors = {"standard_error": values[0], "bias": values[1], "bias_standard_error": values[2]}
    for more in ({}, errors):
        print_path_table(
            Paths(
                np.arange(3.0), np.ones(3), wide, values, "cpu", "a method in words", **more, nearest=nearest, modes=9
            )
        )
    print_collapse(annealvi.collapse_probability(session, ("ode",), n=50), "a long name of a problem")
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 100
    assert [line for line in lines if len(line) > columns] == []
    text = "\n".join(lines)
    assert all(name in text for name in wide)
    assert "M_ik = a_i·nu_k" in text
    assert "50 %" in text


def test_the_table_of_paths_tells_where_the_runs_end(capsys, monkeypatch):
    monkeypatch.setenv("COLUMNS", "80")
    ends = np.repeat([[1.0], [-1.0]], [57, 43], axis=0)
    values = np.stack([np.zeros((100, 1)), ends], axis=1)
    nearest = (ends < 0).astype(int)
    print_path_table(Paths(np.array([0.0, 9.0]), np.ones(2), ("m_1",), values, "cpu", "none", nearest=nearest, modes=2))
    lines = capsys.readouterr().out.splitlines()
    deviation = np.sqrt((57 * 0.86**2 + 43 * 1.14**2) / 99)
    assert any(f"+0.1400 ± {deviation:.4f}" in line for line in lines)
    assert any(re.fullmatch(r"│ +m_1 │ -1.0000 │ \+1.0000 │ \+1.0000 │", line) for line in lines)
    assert any(re.fullmatch(r"│ component 1 │ +0.570 │ +0.430 │", line) for line in lines)
    assert "  some mode is the nearest of no component in 100.0 % of them" in lines


def test_the_nearest_mode_is_the_one_at_the_least_distance():
    problem = annealvi.load_problem("square", ["space.dimension=5"])
    session = annealvi.open_session(problem)
    means = np.random.default_rng(2).normal(size=(20, 4, 5))
    means *= 3 / np.linalg.norm(means, axis=2, keepdims=True)
    distances = np.linalg.norm(means[:, :, None] - session.modes()[None, None], axis=3)
    assert (nearest_modes(session, session.states_of_vectors(means)) == distances.argmin(axis=2)).all()
