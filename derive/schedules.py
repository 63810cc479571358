"""Temperature schedules T(t) = 1/beta(t) as expressions in `derive.system.TIME`, one formula for derivations and kernels.

| kind | formula (T0: temperature at t = 0, t0: time scale) |
|---|---|
| constant | T = T0 throughout, the only kind that does not end at T = 1 (T0 = 1: no annealing) |
| exponential | T = 1 + (T0 - 1) exp(-t/t0) |
| geometric | T = T0^(1 - t/t0) for t < t0, then 1: geometric cooling, not the geometric path q0^(1 - beta) p^beta |
| linear | T = 1 + (T0 - 1) (1 - t/t0) for t < t0, then 1 |
| beta-exponential | beta = 1 - (1 - 1/T0) exp(-t/t0) |
| beta-linear | beta = 1/T0 + (1 - 1/T0) t/t0 for t < t0, then 1 |
| cosine | T = 1 + (T0 - 1) (1 + cos(pi t/t0))/2 for t < t0, then 1: half a period, flat at both ends |
| hold | T = T0 for t < t0, then 1 |
| table | log T linear between the given points, then 1; points may rise as well as fall |
| expression | T as the user's own formula in t, T0 and t0 |

Two further kinds are rules, not formulas: every t0 of the flow's time they raise beta by what the proposal q has become, until it is 1.

| kind | next beta |
|---|---|
| adaann | beta + tau / sqrt(Var_q[log p*]) |
| ess | the largest beta' for which the weights p*^(beta' - beta) of q's samples keep the relative effective sample size `level` |

Warning: "KL warm-up", multiplying KL(q || prior) by a beta < 1, is the opposite direction. It tempers the prior colder, where
annealing as meant here tempers the whole target hotter: L_beta = E_q[log q] - beta E_q[log p*] with beta = 1/T <= 1.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise

import sympy as sp
from sympy.printing.pycode import PythonCodePrinter

from derive.arguments import checked
from derive.expression_parser import parse_expression, sympy_guard
from derive.problem import ADAPTIVE_KINDS, BadInput, ScheduleSpec
from derive.short_repr import short_repr
from derive.system import TIME

START_TEMPERATURE = sp.Symbol("T0", positive=True)
TIME_SCALE = sp.Symbol("t0", positive=True)

HORIZON = 1e9  # the time by which a user's expression has settled
SETTLED_EXCESS = 1e-3
_ROUNDING = 1e-12


@dataclass(frozen=True)
class Schedule:
    """One schedule. Time is the gradient flow's own.

    temperature, beta: T and 1/T in TIME and `parameters`. parameters, values: the symbols that a run may set, in order, and
    the problem's values of them. breakpoints: the times, ascending, where the formula changes. duration: the time from which
    T is constant, infinity where it only tends to 1. latex: the formula of T, or of beta where that is the simpler one.
    """

    kind: str
    temperature: sp.Expr
    beta: sp.Expr
    parameters: tuple[sp.Symbol, ...]
    values: tuple[float, ...]
    breakpoints: tuple[sp.Expr, ...]
    duration: float
    latex: str

    __repr__ = short_repr

    def _repr_latex_(self) -> str:
        return f"$${self.latex}$$"

    def temperature_at(self, t: float) -> float:
        """T at time t >= 0, in double precision."""
        return self._at(self.temperature, t)

    def beta_at(self, t: float) -> float:
        """beta = 1/T at time t >= 0, in double precision."""
        return self._at(self.beta, t)

    def _at(self, expression: sp.Expr, t: float) -> float:
        if not t >= 0:
            raise ValueError(f"a schedule begins at time 0 and has no value at {t}")
        return float(_double_function(expression, (TIME, *self.parameters))(float(t), *self.values))


@dataclass(frozen=True)
class AdaptiveRule:
    """A rule that raises beta until it is 1. kind: "adaann" or "ess". start_beta: beta until the rule acts for the first time.

    interval: the flow's time between adjustments, positive. strength: tau of "adaann", the level of "ess".
    """

    kind: str
    start_beta: float
    interval: float
    strength: float


def make_rule(spec: ScheduleSpec) -> AdaptiveRule | None:
    """The rule of an adaptive kind; None for a schedule with a formula."""
    if spec.kind not in ADAPTIVE_KINDS:
        return None
    strength = spec.tau if spec.kind == "adaann" else spec.level
    assert strength is not None  # ScheduleSpec has put in its default
    return AdaptiveRule(spec.kind, 1 / spec.T0, spec.t0, strength)


@checked
def make_schedule(spec: ScheduleSpec, source: str = "problem") -> Schedule:
    """The schedule with the formula of `spec.kind`; of an adaptive kind the temperature until its rule acts, T0.

    Raises BadInput where the user's own expression is not plain mathematics, or where on a grid of times (640 of them,
    geometric from 1e-6 to 1e9, and 2048 uniform until it settles) it is not a finite number of at least 1, or where T - 1
    stays above 1e-3 until t = 1e9. Misbehaviour between grid points is not seen.
    """
    if spec.kind == "table":
        return _table_schedule(spec)
    if spec.kind == "expression":
        return _expression_schedule(spec, source)
    T0, t0, t = START_TEMPERATURE, TIME_SCALE, TIME
    progress = t / t0
    if spec.kind == "constant" or spec.kind in ADAPTIVE_KINDS:
        return _closed_form(spec, T0, duration=0.0)
    if spec.kind == "exponential":
        return _closed_form(spec, 1 + (T0 - 1) * sp.exp(-progress))
    if spec.kind == "beta-exponential":
        return _closed_form(spec, 1 - (1 - 1 / T0) * sp.exp(-progress), states_beta=True)
    if spec.kind == "beta-linear":
        return _closed_form(spec, 1 / T0 + (1 - 1 / T0) * progress, states_beta=True, ends=True)
    ramps = {
        "geometric": T0 ** (1 - progress),
        "linear": 1 + (T0 - 1) * (1 - progress),
        "cosine": 1 + (T0 - 1) * (1 + sp.cos(sp.pi * progress)) / 2,
        "hold": T0,
    }
    return _closed_form(spec, ramps[spec.kind], ends=True)


def settling_time(schedule: Schedule, excess: float = SETTLED_EXCESS) -> float:
    """The time from which T - 1 <= excess for good. excess: positive.

    A closed form except for "expression", whose last crossing is found on the grid of `make_schedule` and bisected.
    Raises BadInput for a constant T0 > 1 + excess and for an expression above 1 + excess at t = 1e9.
    """
    if not 0 < excess < math.inf:
        raise ValueError(f"the excess must be positive and finite, not {excess}")
    if schedule.kind == "table":
        return _table_settling_time(schedule, excess)
    if schedule.kind == "expression":
        return _scanned_settling_time(schedule, excess, "problem")
    T0, t0 = (*schedule.values, 0.0)[:2]
    height = T0 - 1
    if height <= excess:
        return 0.0
    if schedule.kind == "constant":
        raise BadInput("schedule.kind", f"a constant temperature of {T0} never settles at 1", "set schedule.T0 = 1 or another kind")
    cold_gap, start_gap = excess / (1 + excess), height / T0  # of 1 - beta, at the settling time and at t = 0
    fractions = {
        "exponential": lambda: math.log(height / excess),
        "geometric": lambda: 1 - math.log1p(excess) / math.log(T0),
        "linear": lambda: 1 - excess / height,
        "beta-exponential": lambda: math.log(start_gap / cold_gap),
        "beta-linear": lambda: 1 - cold_gap / start_gap,
        "cosine": lambda: math.acos(2 * excess / height - 1) / math.pi,
        "hold": lambda: 1.0,
    }
    return t0 * fractions[schedule.kind]()


def _closed_form(
    spec: ScheduleSpec, formula: sp.Expr, *, states_beta: bool = False, ends: bool = False, duration: float = math.inf
) -> Schedule:
    """A schedule in T0 and t0, from its formula for T (or beta). ends: the formula holds until t0, and T = 1 from then on."""

    def until_end(expression: sp.Expr) -> sp.Expr:
        return sp.Piecewise((expression, TIME < TIME_SCALE), (sp.Integer(1), True)) if ends else expression

    stated, inverse = until_end(formula), until_end(1 / formula)
    temperature, beta = (inverse, stated) if states_beta else (stated, inverse)
    symbols = {START_TEMPERATURE: spec.T0, TIME_SCALE: spec.t0}
    used = {s: value for s, value in symbols.items() if s in stated.free_symbols}
    return Schedule(
        kind=spec.kind,
        temperature=temperature,
        beta=beta,
        parameters=tuple(used),
        values=tuple(used.values()),
        breakpoints=(TIME_SCALE,) if ends else (),
        duration=spec.t0 if ends else duration,
        latex=rf"\beta(t) = {sp.latex(stated)}" if states_beta else f"T(t) = {sp.latex(stated)}",
    )


def _table_schedule(spec: ScheduleSpec) -> Schedule:
    t, temperatures, betas = TIME, [], []
    for (start, T), (end, T_end) in pairwise(spec.points):
        slope = sp.Float(math.log(T_end / T) / (end - start))
        segment = sp.Float(T) * sp.exp(slope * (t - sp.Float(start)))
        temperatures.append((segment, t < sp.Float(end)))
        betas.append((1 / segment, t < sp.Float(end)))
    temperature, beta = (sp.Piecewise(*branches, (sp.Integer(1), True)) for branches in (temperatures, betas))
    times = tuple(sp.Float(time) for time, _ in spec.points[1:])
    return Schedule(spec.kind, temperature, beta, (), (), times, float(times[-1]), f"T(t) = {sp.latex(temperature)}")


def _table_settling_time(schedule: Schedule, excess: float) -> float:
    times = [0.0, *map(float, schedule.breakpoints)]
    temperatures = [schedule.temperature_at(t) for t in times]
    hot = [i for i, temperature in enumerate(temperatures) if temperature - 1 > excess]
    if not hot:
        return 0.0
    i = hot[-1]
    fraction = math.log(temperatures[i] / (1 + excess)) / math.log(temperatures[i] / temperatures[i + 1])
    return times[i] + (times[i + 1] - times[i]) * fraction


def _expression_schedule(spec: ScheduleSpec, source: str) -> Schedule:
    symbols = {"t": TIME, "T0": START_TEMPERATURE, "t0": TIME_SCALE}
    temperature = parse_expression(spec.expression, symbols, "schedule.expression", source)
    used = [(s, value) for s, value in ((START_TEMPERATURE, spec.T0), (TIME_SCALE, spec.t0)) if s in temperature.free_symbols]
    parameters, values = tuple(s for s, _ in used), tuple(value for _, value in used)
    with sympy_guard("schedule.expression", source):
        latex = f"T(t) = {_plain_latex(temperature)}"
        schedule = Schedule(spec.kind, temperature, 1 / temperature, parameters, values, (), math.inf, latex)
        schedule.temperature_at(0), schedule.beta_at(0)  # compiles both
    for t in _grid():
        _require_temperature(schedule, t, source)
    settled = _scanned_settling_time(schedule, SETTLED_EXCESS, source)
    for i in range(2048):
        _require_temperature(schedule, settled * i / 2048, source)
    return schedule


def _plain_latex(formula: sp.Expr) -> str:
    """LaTeX of a user's formula. Where SymPy's printer knows an exponent to be negative it asks whether that is constant, and to find out
    it simplifies, tries random numbers and evaluates text; so here it knows nothing of exponents."""

    def veiled(exponent: sp.Expr) -> sp.Expr:
        return exponent if exponent.is_number else sp.UnevaluatedExpr(exponent)

    return sp.latex(formula.replace(sp.exp, lambda x: sp.exp(veiled(x))).replace(sp.Pow, lambda base, x: base ** veiled(x)))


def _require_temperature(schedule: Schedule, t: float, source: str) -> None:
    T, key = schedule.temperature_at(t), "schedule.expression"
    if not math.isfinite(T):
        raise BadInput(key, f"the temperature is not a finite real number at t = {t:g}", "give T(t) for every t >= 0", source)
    if T < 1 - _ROUNDING:
        raise BadInput(key, f"the temperature is {T:g}, below 1, at t = {t:g}", "end at 1, for example as max(1, ...)", source)


def _scanned_settling_time(schedule: Schedule, excess: float, source: str) -> float:
    grid = _grid()
    if schedule.temperature_at(grid[-1]) - 1 > excess:
        found = f"the temperature is {schedule.temperature_at(grid[-1]):g} at t = {HORIZON:g}"
        raise BadInput("schedule.expression", found, "let it fall to 1; a constant temperature is schedule.kind = 'constant'", source)
    above = [i for i, t in enumerate(grid) if schedule.temperature_at(t) - 1 > excess]
    if not above:
        return 0.0
    hot, cold = grid[above[-1]], grid[above[-1] + 1]
    while cold - hot > 1e-12 * cold:
        middle = (hot + cold) / 2
        hot, cold = (middle, cold) if schedule.temperature_at(middle) - 1 > excess else (hot, middle)
    return cold


def _grid() -> list[float]:
    """0, then 640 times from 1e-6 to the horizon in equal ratios."""
    first = math.log(1e-6)
    return [0.0, *(math.exp(first + (math.log(HORIZON) - first) * i / 639) for i in range(640))]


@lru_cache(maxsize=256)
def _double_function(expression: sp.Expr, arguments: tuple[sp.Symbol, ...]) -> Callable[..., float]:
    """`expression` as a function of floats with the semantics of the kernels: overflow is infinite, what is undefined is nan.

    Python's own operators would raise instead, or return a complex root of a negative number.
    """
    named = expression
    for node, function in _DOUBLE_FUNCTIONS.items():
        named = named.replace(node, sp.Function(function.__name__))
    printer = _DoublePrinter({"fully_qualified_modules": False, "inline": True, "allow_unknown_functions": True})
    return sp.lambdify(arguments, named, modules=[{f.__name__: f for f in _DOUBLE_FUNCTIONS.values()}, "math"], printer=printer)


class _DoublePrinter(PythonCodePrinter):
    """Python code with every literal to the last bit; SymPy itself prints 15 digits."""

    def _print_Float(self, literal: sp.Float) -> str:
        return repr(float(literal))


def double_exp(x: float) -> float:
    try:
        return math.exp(x)
    except OverflowError:
        return math.inf


def double_sinh(x: float) -> float:
    return (double_exp(x) - double_exp(-x)) / 2 if abs(x) > 1 else math.sinh(x)


def double_cosh(x: float) -> float:
    return (double_exp(x) + double_exp(-x)) / 2


def double_power(base: float, exponent: float) -> float:
    try:
        return math.pow(base, exponent)
    except OverflowError:
        return -math.inf if base < 0 and exponent % 2 == 1 else math.inf
    except ValueError:
        return math.inf if base == 0 else math.nan


def double_log(x: float) -> float:
    return math.log(x) if x > 0 else -math.inf if x == 0 else math.nan


def double_sin(x: float) -> float:
    return math.nan if math.isinf(x) else math.sin(x)


def double_cos(x: float) -> float:
    return math.nan if math.isinf(x) else math.cos(x)


def double_tan(x: float) -> float:
    return math.nan if math.isinf(x) else math.tan(x)


def double_max(*values: float) -> float:
    return math.nan if any(map(math.isnan, values)) else max(values)


def double_min(*values: float) -> float:
    return math.nan if any(map(math.isnan, values)) else min(values)


_DOUBLE_FUNCTIONS: dict[type[sp.Basic], Callable[..., float]] = {
    sp.exp: double_exp,
    sp.sinh: double_sinh,
    sp.cosh: double_cosh,
    sp.Pow: double_power,
    sp.log: double_log,
    sp.sin: double_sin,
    sp.cos: double_cos,
    sp.tan: double_tan,
    sp.Max: double_max,
    sp.Min: double_min,
}
