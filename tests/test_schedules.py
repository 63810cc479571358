import math
import time
from itertools import pairwise

import mpmath
import pytest
import sympy as sp

from derive.problem import SCHEDULE_KINDS, BadInput, ScheduleSpec
from derive.schedules import START_TEMPERATURE, TIME_SCALE, make_schedule, settling_time
from derive.system import TIME

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


@pytest.mark.parametrize("kind", SCHEDULE_KINDS)
def test_temperature_and_beta_follow_the_retyped_formula(kind: str) -> None:
    schedule = make_schedule(spec(kind))
    for t in TIMES:
        wanted = TEMPERATURES[kind](t)
        assert schedule.temperature_at(t) == pytest.approx(wanted, rel=1e-13)
        assert schedule.beta_at(t) == pytest.approx(1 / wanted, rel=1e-13)


@pytest.mark.parametrize("kind", SCHEDULE_KINDS)
def test_the_expressions_give_the_same_at_thirty_digits(kind: str) -> None:
    schedule = make_schedule(spec(kind))
    assert schedule.temperature.free_symbols <= {TIME, *schedule.parameters}
    values = dict(zip(schedule.parameters, map(sp.Integer, schedule.values), strict=True))
    with mpmath.workdps(30):
        for t in (0, 7, 33, 79, 80, 500):
            T, beta = (sp.N(e.subs(values).subs(TIME, t), 30) for e in (schedule.temperature, schedule.beta))
            assert abs(T * beta - 1) < (1e-14 if kind == "table" else 1e-28)
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


def test_a_table_of_64_points_is_prompt_and_exact() -> None:
    points = tuple((10.0 * i, 1 + 5.0 * (63 - i)) for i in range(64))
    start = time.perf_counter()
    schedule = make_schedule(ScheduleSpec("table", points=points))
    for t, temperature in points:
        assert schedule.temperature_at(t) == pytest.approx(temperature, rel=1e-13)
    assert settling_time(schedule) == pytest.approx(630, abs=0.01)
    assert time.perf_counter() - start < 2


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


@pytest.mark.parametrize(
    ("expression", "fragment"),
    [
        ("2", "let it fall to 1"),
        ("0.5", "below 1"),
        ("300*exp(-t/100)", "below 1"),
        ("1 - 1e-9", "below 1"),
        ("300/t", "not a finite real number at t = 0"),
        ("1 + exp(t)", "not a finite real number"),
        ("1 + sqrt(t - 5)", "not a finite real number at t = 0"),
        ("max(1, log(t - 5))", "not a finite real number at t = 0"),
        ("1 + 0*t/(t - t)", "division by zero"),
        ("1 + 1/log(2 + t)", "let it fall to 1"),
        ("1 + 3*sin(t)**2", "let it fall to 1"),
        ("1 + exp(-t/1000)*sin(t)", "below 1"),
        ("import os", "unknown"),
        ("exp(exp(exp(t)))", "not a finite real number"),
        ("exp(" * 45 + "-t" + ")" * 45, "not a finite real number"),
        ("9**9**9", "column"),
        ("x" * 10**6, "shorten"),
    ],
)
def test_a_bad_formula_is_one_line(expression: str, fragment: str) -> None:
    start = time.perf_counter()
    with pytest.raises(BadInput) as caught:
        make_schedule(ScheduleSpec("expression", expression=expression), "my.toml")
    assert time.perf_counter() - start < 2
    message = str(caught.value)
    assert message.startswith("my.toml: schedule.expression: ")
    assert message.isprintable()
    assert fragment in message


@pytest.mark.parametrize(
    ("points", "fragment"),
    [
        ([[0, 3]], "at least two"),
        ([[1, 3], [2, 1]], "begin at time 0"),
        ([[0, 3], [0, 1]], "strictly increasing"),
        ([[0, 3], [5, 2], [4, 1]], "strictly increasing"),
        ([[0, 3], [5, 2]], "end at temperature 1"),
        ([[0, 3], [5, 0.5], [6, 1]], "at least 1"),
        ([[0, 3], [math.nan, 1]], "not finite"),
        ([[0, 3], [math.inf, 1]], "not finite"),
        ([[0, 3, 1], [1, 1, 1]], "at most 2"),
        ([[0], [1]], "pairs"),
        ([0, 1], "pairs"),
        ("0 3 1 1", "pairs"),
        ([[0, True], [1, 1]], "not a number"),
        ([[i, 1] for i in range(65)], "at most 64"),
        ([], "needs it"),
    ],
)
def test_a_bad_table_is_one_line(points: object, fragment: str) -> None:
    with pytest.raises(BadInput) as caught:
        ScheduleSpec("table", points=points)  # type: ignore[arg-type]
    assert fragment in str(caught.value)
    assert str(caught.value).isprintable()


def test_a_schedule_has_no_past() -> None:
    for t in (-1.0, math.nan):
        with pytest.raises(ValueError, match="begins at time 0"):
            make_schedule(spec("linear")).beta_at(t)
