import math
import time
from itertools import pairwise
from pathlib import Path

import mpmath
import pytest
import sympy as sp

from derive.objects.system import TIME
from derive.problem.field_checks import FROM_INFINITY
from derive.problem.problem_file import load_problem, problem_to_toml
from derive.problem.schedules import START_TEMPERATURE, TIME_SCALE, make_schedule, settling_time
from derive.problem.specification import ADAPTIVE_KINDS, SCHEDULE_KINDS, BadInput, ScheduleSpec

T0, SCALE = 37.0, 80.0
B0 = 1 / T0
TABLE = ((0, 37), (10, 12), (25, 15), (60, 1))


def interpolated(t: float) -> float:
    for (start, high), (end, low) in pairwise(TABLE):
        if t < end:
            s = (t - start) / (end - start)
            return high ** (1 - s) * low**s
    return 1.0


TEMPERATURES = {
    "constant": lambda t: T0,
    "exponential": lambda t: 1 + (T0 - 1) * math.exp(-t / SCALE),
    "geometric": lambda t: T0 ** (1 - t / SCALE) if t < SCALE else 1,
    "linear": lambda t: T0 + (1 - T0) * t / SCALE if t < SCALE else 1,
    "beta-exponential": lambda t: 1 / (1 - (1 - B0) * math.exp(-t / SCALE)),
    "beta-linear": lambda t: 1 / (B0 + (1 - B0) * t / SCALE) if t < SCALE else 1,
    "cosine": lambda t: 1 + (T0 - 1) * math.cos(math.pi * t / SCALE / 2) ** 2 if t < SCALE else 1,
    "hold": lambda t: T0 if t < SCALE else 1,
    "table": interpolated,
    "expression": lambda t: 1 + (T0 - 1) / (1 + t / SCALE) ** 3,
}
ENDING = ("geometric", "linear", "beta-linear", "cosine", "hold")
TIMES = (0.0, 1e-9, 1.0, 9.9, 10.0, 24.9, 33.3, 59.9, 60.0, 79.9, 80.0, 81.0, 400.0, 1e6)


def spec(kind: str, T: float = T0, t0: float = SCALE) -> ScheduleSpec:
    details = {"table": {"points": TABLE}, "expression": {"expression": "1 + (T0 - 1)/(1 + t/t0)**3"}}
    return ScheduleSpec(kind, T, t0, **details.get(kind, {}))  # type: ignore[arg-type]


def test_every_kind_has_an_independent_formula() -> None:
    assert set(TEMPERATURES) == set(SCHEDULE_KINDS)


@pytest.mark.quick
@pytest.mark.parametrize("kind", SCHEDULE_KINDS)
def test_temperature_and_beta_follow_the_retyped_formula(kind: str) -> None:
    schedule = make_schedule(spec(kind))
    for t in TIMES:
        wanted = TEMPERATURES[kind](t)
        assert schedule.temperature_at(t) == pytest.approx(wanted, rel=1e-13)
        assert schedule.beta_at(t) == pytest.approx(1 / wanted, rel=1e-13)


@pytest.mark.parametrize("kind", SCHEDULE_KINDS)
def test_a_schedule_is_made_once(kind: str) -> None:
    assert make_schedule(spec(kind)) is make_schedule(spec(kind))
    assert kind in ("table", "constant") or make_schedule(spec(kind)) is not make_schedule(spec(kind, t0=SCALE + 1))


@pytest.mark.parametrize("kind", SCHEDULE_KINDS)
def test_the_expressions_give_the_same_at_thirty_digits(kind: str) -> None:
    schedule = make_schedule(spec(kind))
    assert schedule.temperature.free_symbols <= {TIME, *schedule.parameters}
    values = dict(zip(schedule.parameters, map(sp.Integer, schedule.values), strict=True))
    with mpmath.workdps(30):
        for t in (0, 7, 33, 79, 80, 500):
            T, beta = (sp.N(e.subs(values).subs(TIME, t), 30) for e in (schedule.temperature, schedule.beta))
            assert abs(T * beta - 1) < 1e-28
            assert float(T) == pytest.approx(TEMPERATURES[kind](t), rel=1e-13)


@pytest.mark.parametrize("kind", SCHEDULE_KINDS)
def test_schedules_start_at_T0_and_end_at_one(kind: str) -> None:
    schedule = make_schedule(spec(kind))
    assert schedule.temperature_at(0) == pytest.approx(T0)
    assert schedule.temperature_at(1e9) == pytest.approx(T0 if kind == "constant" else 1.0)
    assert schedule.temperature_at(math.inf) == pytest.approx(T0 if kind == "constant" else 1.0)


@pytest.mark.parametrize("kind", [kind for kind in SCHEDULE_KINDS if kind not in ("table", "constant")])
def test_parameters_are_symbols_that_a_run_may_set(kind: str) -> None:
    schedule, other = make_schedule(spec(kind)), make_schedule(spec(kind, 5.0, 3.0))
    assert schedule.parameters == other.parameters == (START_TEMPERATURE, TIME_SCALE)
    assert (schedule.values, other.values) == ((T0, SCALE), (5.0, 3.0))
    assert (schedule.temperature, schedule.beta, schedule.latex) == (other.temperature, other.beta, other.latex)


@pytest.mark.parametrize("kind", SCHEDULE_KINDS)
def test_breakpoints_and_duration(kind: str) -> None:
    schedule = make_schedule(spec(kind))
    if kind in ENDING:
        assert (schedule.breakpoints, schedule.duration) == ((TIME_SCALE,), SCALE)
    elif kind == "table":
        assert (list(map(float, schedule.breakpoints)), schedule.duration) == ([10, 25, 60], 60)
    else:
        assert (schedule.breakpoints, schedule.duration) == ((), 0.0 if kind == "constant" else math.inf)
    assert schedule.latex.startswith((r"T(t) = ", r"\beta(t) = "))


@pytest.mark.parametrize("excess", [1e-6, 1e-3, 0.5, 20.0])
@pytest.mark.parametrize("kind", [kind for kind in SCHEDULE_KINDS if kind != "constant"])
def test_settling_time_is_the_last_crossing(kind: str, excess: float) -> None:
    settled = settling_time(make_schedule(spec(kind)), excess)
    formula = TEMPERATURES[kind]
    assert formula(settled * (1 + 1e-9)) - 1 <= excess * (1 + 1e-6)
    assert formula(settled * (1 - 1e-5)) - 1 > excess
    assert all(formula(settled * (1 + k / 50)) - 1 <= excess * (1 + 1e-6) for k in range(1, 500))


def test_settling_time_where_there_is_nothing_to_wait_for() -> None:
    for kind in SCHEDULE_KINDS:
        if kind != "table":
            assert settling_time(make_schedule(spec(kind, 1.0))) == 0.0
    assert settling_time(make_schedule(spec("table")), 100.0) == 0.0
    with pytest.raises(BadInput, match="never settles"):
        settling_time(make_schedule(spec("constant")))
    for kind in ADAPTIVE_KINDS:
        with pytest.raises(BadInput, match="follows from its run"):
            settling_time(make_schedule(spec(kind)))
    with pytest.raises(BadInput, match="t = 1e\\+09"):
        settling_time(make_schedule(ScheduleSpec("expression", expression="1 + 5e5/(1 + t)")), 1e-9)
    for excess in (0.0, -1.0, math.nan, math.inf):
        with pytest.raises(ValueError, match="excess"):
            settling_time(make_schedule(spec("linear")), excess)


def test_extreme_parameters_keep_beta_between_zero_and_one() -> None:
    for kind in SCHEDULE_KINDS:
        if kind in ("table", "expression"):
            continue
        for T, t0 in ((1.0, 1e-100), (1e100, 1e-100), (1e100, 1e100), (1e15, 3.0)):
            schedule = make_schedule(ScheduleSpec(kind, T, t0))
            for s in (0.0, 0.1, 0.9, 1 - 1e-16, 1.0, 1.5, 1e5):
                assert 0 <= schedule.beta_at(s * t0) <= 1 + 1e-12, (kind, T, t0, s)


def test_a_table_of_ten_thousand_points_is_prompt_and_exact() -> None:
    points = tuple((10.0 * i, 1 + 5.0 * (9_999 - i)) for i in range(10_000))
    start = time.process_time()
    schedule = make_schedule(ScheduleSpec("table", points=points))
    for t, temperature in points:
        assert schedule.temperature_at(t) == pytest.approx(temperature, rel=1e-13)
    assert settling_time(schedule) == pytest.approx(99_990, abs=0.01)
    assert len(schedule.latex) < 1000
    assert time.process_time() - start < 2


@pytest.mark.parametrize(
    ("expression", "formula"),
    [
        ("1 + 299*sech(t/100)", lambda t: 1 + 299 / math.cosh(t / 100)),
        ("1 + 299/(1 + exp((t - 1000)/100))", lambda t: 1 + 299 / (1 + math.exp((t - 1000) / 100))),
        ("max(1, 300 - t)", lambda t: max(1, 300 - t)),
        ("300**max(0, 1 - t/500)", lambda t: 300 ** max(0, 1 - t / 500)),
        ("1 + 299/(1 + (t/100)**100)", lambda t: 1 + 299 / (1 + (t / 100) ** 100)),
        ("min(300, 1 + 1e5/t**2)", lambda t: min(300, 1 + 1e5 / t**2) if t else 300),
        ("1 + sin(t)**2*exp(-t/100)", lambda t: 1 + math.sin(t) ** 2 * math.exp(-t / 100)),
        ("1", lambda t: 1),
    ],
)
def test_users_formulas_are_evaluated_wherever_double_precision_has_a_limit(expression: str, formula) -> None:  # type: ignore[no-untyped-def]
    schedule = make_schedule(ScheduleSpec("expression", expression=expression))
    for t in (0.0, 1.0, 99.0, 499.0, 1234.5, 30_000.0):
        assert schedule.temperature_at(t) == pytest.approx(formula(t), rel=1e-12)
    assert schedule.temperature_at(1e9) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("key", ["expression", "beta_expression"])
@pytest.mark.parametrize(
    ("formula", "fragment"),
    [
        ("2", "let it come to 1"),
        ("0.5", "let it come to 1"),
        ("1 + 1/log(2 + t)", "let it come to 1"),
        ("1 + 3*sin(t)**2", "let it come to 1"),
        ("1 - exp(-t/100)*cos(t/20) - exp(-t/100)", "keep it positive, finite"),
        ("1 + sqrt(t - 5)", "not a real number at t = 0"),
        ("max(1, log(t - 5))", "not a real number at t = 0"),
        ("1 + 0*t/(t - t)", "division by zero"),
        ("1 + 299*mod(t, 0.001)*exp(-t/100)", "over 10000 times"),
        ("1 + mod(t, t0 - t0)", "no finite real number"),
        ("1 + exp(-t)*tanh(floor(1/t))", "not finite"),
        ("1 + mod(t)", "2 arguments"),
        ("import os", "unknown"),
        ("exp(" * 45 + "-t" + ")" * 45, "to 1"),
        ("9**9**9", "column"),
        ("x" * 10**6, "shorten"),
    ],
)
def test_a_bad_formula_is_one_line(key: str, formula: str, fragment: str) -> None:
    start = time.process_time()
    with pytest.raises(BadInput) as caught:
        make_schedule(ScheduleSpec("expression", **{key: formula}), "my.toml")  # type: ignore[arg-type]
    assert time.process_time() - start < 3
    message = str(caught.value)
    assert message.startswith(f"my.toml: schedule.{key}: ")
    assert message.isprintable()
    assert fragment in message


def test_a_formula_is_for_T_or_for_beta() -> None:
    for given in ({}, {"expression": "1", "beta_expression": "1"}):
        with pytest.raises(BadInput, match=r"expression"):
            ScheduleSpec("expression", **given)  # type: ignore[arg-type]
    with pytest.raises(BadInput, match="no use for it"):
        ScheduleSpec("linear", beta_expression="1")


@pytest.mark.parametrize(
    ("points", "fragment"),
    [
        ([[0, 3]], "at least two"),
        ([[1, 3], [2, 1]], "begin at time 0"),
        ([[0, 3], [5, 2], [5, 3], [5, 1]], "a third point at time 5"),
        ([[0, 3], [5, 2], [4, 1]], "ascending"),
        ([[0, 3], [5, 2]], "end at temperature 1"),
        ([[0, 3], [5, 0], [6, 1]], "not positive"),
        ([[0, 3], [math.nan, 1]], "not finite"),
        ([[0, 3], [math.inf, 1]], "not finite"),
        ([[0, math.inf], [5, 1]], 'kind = "beta-linear"'),
        ([[0, 3, 1], [1, 1, 1]], "at most 2"),
        ([[0], [1]], "pairs"),
        ([0, 1], "pairs"),
        ([[0, True], [1, 1]], "not a number"),
        ([[i, 1] for i in range(10_001)], "at most 10000"),
        ([], "needs it"),
    ],
)
def test_a_bad_table_is_one_line(points: object, fragment: str) -> None:
    with pytest.raises(BadInput) as caught:
        ScheduleSpec("table", points=points)  # type: ignore[arg-type]
    assert fragment in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_table_comes_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    points = ((0.0, 300.0), (1000.0, 300.0), (1000.0, 2.5), (1200.0, 1.0))
    (tmp_path / "cooling.csv").write_text(
        "\ufeff# measured\nt,T\n0,300\n# held\n1e3, 300\n\n1e3;2.5\n1200\t1.0\n", encoding="utf-8"
    )
    (tmp_path / "a.toml").write_text('[schedule]\nkind = "table"\npoints = "cooling.csv"\n', encoding="utf-8")
    problem = load_problem(tmp_path / "a.toml")
    assert problem.schedule.points == points
    (tmp_path / "b.toml").write_text(problem_to_toml(problem), encoding="utf-8")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "other").mkdir()
    (tmp_path / "a.toml").rename("other/a.toml")
    with pytest.raises(
        BadInput, match=r"^other/a.toml: schedule.points: other/cooling.csv: no such file; .* beside the problem file"
    ):
        load_problem("other/a.toml")
    found = load_problem("other/a.toml", ['schedule.points="cooling.csv"'])
    assert found == load_problem("b.toml")
    assert found.schedule == load_problem("bimodal", FROM_FILE).schedule
    with pytest.raises(BadInput, match=r"schedule.points: \.: not a file; give the name of a file of two columns$"):
        ScheduleSpec("table", points=".")  # type: ignore[arg-type]
    assert ScheduleSpec("table", points=Path("cooling.csv")).points == points  # type: ignore[arg-type]


FROM_FILE = ["schedule.kind=table", "schedule.points=cooling.csv"]


@pytest.mark.parametrize(
    ("content", "fragment"),
    [
        (b"", "cooling.csv: no points"),
        (b"t,T\n", "cooling.csv: no points"),
        (b"0,300\n5;2;1\n6,1\n", "cooling.csv, line 2: not two finite numbers"),
        (b"0,300\nt,T\n6,1\n", "cooling.csv, line 2: not two finite numbers"),
        (b"0,300\n5,nan\n6,1\n", "cooling.csv, line 2: not two finite numbers"),
        (b"0,300\n5,1e999\n6,1\n", "cooling.csv, line 2: log T is linear"),
        (b"0,300\n\n5,2\n4,1\n", "cooling.csv, line 4: time 4.0 does not come after 5.0"),
        (b"0,300\n5,-2\n6,1\n", "cooling.csv, line 2: -2.0 is not positive"),
        (b"0,300\n5,2\n", "cooling.csv: the last temperature is 2.0"),
        (b"0,300\n\xff\n6,1\n", "cooling.csv, line 2: not UTF-8"),
        (b"0,1\n" * 10_001, "cooling.csv: over 10000 points"),
        (b"#" * (2**20 + 1), "cooling.csv: larger than 1 MiB"),
        (b"root:x:0:0\nsecret\n", "cooling.csv, line 2: not two finite numbers"),
        (None, "cooling.csv: not a file"),
    ],
    ids=range(14),
)
def test_a_bad_file_of_points_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: bytes | None, fragment: str
) -> None:
    monkeypatch.chdir(tmp_path)
    if content is None:
        (tmp_path / "cooling.csv").mkdir()
    else:
        (tmp_path / "cooling.csv").write_bytes(content)
    with pytest.raises(BadInput) as caught:
        load_problem("bimodal", FROM_FILE)
    message = str(caught.value)
    assert message.startswith("--set: schedule.points: ")
    assert fragment in message
    assert "secret" not in message
    assert message.isprintable()


@pytest.mark.parametrize("kind", [*SCHEDULE_KINDS, *ADAPTIVE_KINDS])
def test_where_the_formula_has_a_meaning_a_schedule_begins_at_infinity(kind: str) -> None:
    if kind not in FROM_INFINITY:
        with pytest.raises(
            BadInput,
            match="has no meaning for inf; give a number, or one of the kinds beta-exponential, beta-linear, hold",
        ):
            spec(kind, math.inf)
        return
    schedule = make_schedule(spec(kind, math.inf))
    assert (schedule.beta_at(0), schedule.temperature_at(0), schedule.parameters) == (0.0, math.inf, (TIME_SCALE,))
    formulas = {"beta-exponential": lambda t: 1 - math.exp(-t / SCALE), "beta-linear": lambda t: min(1, t / SCALE)}
    formula = formulas.get(kind, lambda t: float(t >= SCALE))
    for t in TIMES:
        assert schedule.beta_at(t) == pytest.approx(formula(t), rel=1e-12)
    settled = settling_time(schedule)
    assert formula(settled * (1 + 1e-9)) >= 1 / 1.001 > formula(settled * (1 - 1e-5))


COLDER = [[0, 30], [10, 0.25], [20, 0.25], [20, 3], [30, 0.5], [40, 1]]


def test_a_schedule_that_is_colder_on_the_way_settles_where_it_is_near_one_for_good() -> None:
    table = make_schedule(ScheduleSpec("table", points=COLDER))  # type: ignore[arg-type]
    assert [table.beta_at(t) for t in (10, 15, 20, 30, 40)] == pytest.approx([4, 4, 1 / 3, 2, 1])
    assert settling_time(table) == pytest.approx(30 + 10 * math.log(0.999 / 0.5) / math.log(2))
    assert settling_time(table, 0.4) == pytest.approx(30 + 10 * math.log(0.6 / 0.5) / math.log(2))
    assert settling_time(table, 1.5) == 10 + 10 + 10 * math.log(3 / 2.5) / math.log(6)
    formula = make_schedule(ScheduleSpec("expression", beta_expression="1 + 3*exp(-t/50) - 4*exp(-t/10)"))
    assert [formula.beta_at(t) for t in (0, 20)] == pytest.approx([0, 1 + 3 * math.exp(-0.4) - 4 * math.exp(-2)])
    assert settling_time(formula) == pytest.approx(50 * math.log(3 / (1 / 0.999 - 1)), rel=1e-6)


def test_a_jump_at_the_last_point_settles_there() -> None:
    assert settling_time(make_schedule(ScheduleSpec("table", points=[[0, 9], [7, 9], [7, 1]]))) == 7  # type: ignore[arg-type]
    assert settling_time(make_schedule(ScheduleSpec("table", points=[[0, 9], [0, 1]]))) == 0  # type: ignore[arg-type]


def test_a_schedule_has_no_past() -> None:
    for t in (-1.0, math.nan):
        with pytest.raises(ValueError, match="begins at time 0"):
            make_schedule(spec("linear")).beta_at(t)
