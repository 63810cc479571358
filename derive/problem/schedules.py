"""Temperature schedules T(t) = 1/beta(t) as expressions in `derive.objects.system.TIME`, one formula for derivations
and kernels.

| kind | formula (T0: temperature at t = 0, t0: time scale) | |---|---| | constant | T = T0 throughout, the only kind
that does not end at T = 1 (T0 = 1: no annealing) | | exponential | T = 1 + (T0 - 1) exp(-t/t0) | | geometric | T =
T0^(1 - t/t0) for t < t0, then 1: geometric cooling, not the geometric path q0^(1 - beta) p^beta | | linear | T = 1 +
(T0 - 1) (1 - t/t0) for t < t0, then 1 | | beta-exponential | beta = 1 - (1 - 1/T0) exp(-t/t0) | | beta-linear | beta =
1/T0 + (1 - 1/T0) t/t0 for t < t0, then 1 | | cosine | T = 1 + (T0 - 1) (1 + cos(pi t/t0))/2 for t < t0, then 1: half a
period, flat at both ends | | hold | T = T0 for t < t0, then 1 | | table | log T linear between the given points, then
1; points may rise as well as fall, and two at one time are a jump | | expression | T (`expression`) or beta
(`beta_expression`) as the user's own formula in t, T0 and t0 |

beta is 0 (T infinite) at the start of "beta-linear", "beta-exponential" and "hold" where T0 = inf, and wherever a
user's formula says so. Tables and formulas may be colder than 1 on the way (beta > 1, "cold posterior"). At the end T
is 1.

Two further kinds are rules, not formulas: every t0 of the flow's time they raise beta by what the proposal q has
become, until it is 1.

| kind | next beta | |---|---| | adaann | beta + tau / sqrt(Var_q[log p*]) | | ess | the largest beta' for which the
weights p*^(beta' - beta) of q's samples keep the relative effective sample size `level` |

Warning: "KL warm-up", multiplying KL(q || prior) by a beta < 1, is the opposite direction. It tempers the prior colder,
where annealing as meant here tempers the whole target hotter: L_beta = E_q[log q] - beta E_q[log p*] with beta = 1/T.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise

import sympy as sp
from sympy.printing.precedence import PRECEDENCE
from sympy.printing.pycode import PythonCodePrinter

from derive.objects.short_repr import short_repr
from derive.objects.system import TIME
from derive.problem.arguments import checked
from derive.problem.expression_parser import parse_expression, sympy_guard
from derive.problem.interpolation import Interpolated, Logarithms, Numbers, interpolate, points_in_latex
from derive.problem.kinds import KINDS, Formula
from derive.problem.scaled_form import Floor, Tabulated, inverse_without_overflow, without_overflow
from derive.problem.specification import BadInput, ScheduleSpec

START_TEMPERATURE = sp.Symbol("T0", positive=True)
TIME_SCALE = sp.Symbol("t0", positive=True)

HORIZON = 1e9  # the time by which a user's expression has settled
SETTLED_EXCESS = 1e-3
MOST_JUMPS = 10_000


@dataclass(frozen=True)
class Schedule:
    """One schedule. Time is the gradient flow's own.

    temperature, beta: T and 1/T in TIME and `parameters`. parameters, values: the symbols that a run may set, in order,
    and the problem's values of them. breakpoints: the times, ascending, where the formula changes. duration: the time
    from which T is constant, infinity where it only tends to 1. latex: the formula of T, or of beta where that is the
    simpler one. temperature and beta overflow only where their values do.
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
        """T at time t >= 0, in double precision; infinite where beta is 0."""
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
    """A rule that raises beta until it is 1. kind: "adaann" or "ess". start_beta: beta until the rule acts for the
    first time.

    interval: the flow's time between adjustments, positive. strength: tau of "adaann", the level of "ess".
    """

    kind: str
    start_beta: float
    interval: float
    strength: float


def make_rule(spec: ScheduleSpec) -> AdaptiveRule | None:
    """The rule of an adaptive kind; None for a schedule with a formula."""
    if not KINDS[spec.kind].adaptive:
        return None
    strength = spec.tau if spec.kind == "adaann" else spec.level
    assert strength is not None  # ScheduleSpec has put in its default
    return AdaptiveRule(spec.kind, 1 / spec.T0, spec.t0, strength)


@checked
def make_schedule(spec: ScheduleSpec, source: str = "problem") -> Schedule:
    """The schedule with the formula of `spec.kind`; of an adaptive kind the temperature until its rule acts, T0.

    Raises BadInput where the user's own expression is not plain mathematics, or where on a grid of times (640 of them,
    geometric from 1e-6 to 1e9, and 2048 uniform until it settles) T is not positive or beta not finite, or where T is
    not within 1e-3 of 1 at t = 1e9. Misbehaviour between grid points is not seen, and of a `floor` or `mod` no jump
    there and back between two of them.
    """
    return _made_once(spec, source)


@lru_cache(maxsize=256)
def _made_once(spec: ScheduleSpec, source: str) -> Schedule:
    if spec.kind == "table":
        return _table_schedule(spec)
    if spec.kind == "expression":
        return _expression_schedule(spec, source)
    formula = KINDS[spec.kind].formula
    assert formula is not None  # the two kinds above are those without one
    return _closed_form(spec, formula)


def settling_time(schedule: Schedule, excess: float = SETTLED_EXCESS) -> float:
    """The time from which |T - 1| <= excess for good. excess: positive.

    A closed form except for "expression", whose last crossing is found on the grid of `make_schedule` and bisected. Of
    a schedule of no kind the duration. Raises BadInput for a constant T0 > 1 + excess and for an expression that is not
    so near 1 at t = 1e9.
    """
    if not 0 < excess < math.inf:
        raise ValueError(f"the excess must be positive and finite, not {excess}")
    if schedule.kind == "table":
        return _table_settling_time(schedule, excess)
    if schedule.kind == "expression":
        return _scanned_settling_time(schedule, excess, "problem")
    kind = KINDS.get(schedule.kind)
    if kind is None:
        return schedule.duration
    numbers = dict(zip(schedule.parameters, schedule.values, strict=True))
    T0, t0 = numbers.get(START_TEMPERATURE, math.inf), numbers.get(TIME_SCALE, 0.0)
    if excess >= T0 - 1:
        return 0.0
    if kind.adaptive:
        found = f"when a schedule of kind {kind.name!r} settles follows from its run"
        raise BadInput("schedule.kind", found, "choose a kind with a formula")
    if kind.settling is None:
        raise BadInput(
            "schedule.kind", f"a constant temperature of {T0} never settles at 1", "set schedule.T0 = 1 or another kind"
        )
    return t0 * kind.settling(T0, excess)


def _closed_form(spec: ScheduleSpec, formula: Formula) -> Schedule:
    """The schedule of a formula in T0 and t0."""

    def until_end(expression: sp.Expr) -> sp.Expr:
        return sp.Piecewise((expression, TIME < TIME_SCALE), (sp.Integer(1), True)) if formula.ends else expression

    value = formula.value(TIME, sp.oo if math.isinf(spec.T0) else START_TEMPERATURE, TIME_SCALE)
    stated, inverse = until_end(value), until_end(1 / value)
    temperature, beta = (stated, inverse) if formula.of == "T" else (inverse, stated)
    endless = math.inf if value.has(TIME) else 0.0
    symbols = {START_TEMPERATURE: spec.T0, TIME_SCALE: spec.t0}
    used = {s: value for s, value in symbols.items() if s in stated.free_symbols}
    return Schedule(
        kind=spec.kind,
        temperature=temperature,
        beta=beta,
        parameters=tuple(used),
        values=tuple(used.values()),
        breakpoints=(TIME_SCALE,) if formula.ends else (),
        duration=spec.t0 if formula.ends else endless,
        latex=rf"{'T' if formula.of == 'T' else chr(92) + 'beta'}(t) = {sp.latex(stated)}",
    )


def _table_schedule(spec: ScheduleSpec) -> Schedule:
    times, temperatures = zip(*spec.points, strict=True)
    log_temperature = Interpolated(TIME, Numbers(times), Logarithms(temperatures))
    breakpoints = tuple(sp.Float(time) for time, _ in groupby(times) if time > 0)
    points = points_in_latex([(sp.latex(sp.Float(t)), sp.latex(sp.Float(T))) for t, T in spec.points])
    between = r"T(t) = T_k^{1 - f} T_{k+1}^f,\quad f = \frac{t - t_k}{t_{k+1} - t_k},\quad (t_k, T_k) = "
    return Schedule(
        spec.kind, sp.exp(log_temperature), sp.exp(-log_temperature), (), (), breakpoints, times[-1], between + points
    )


def _table_settling_time(schedule: Schedule, excess: float) -> float:
    (table,) = schedule.temperature.atoms(Interpolated)
    _, times, levels = table.args
    segments = list(pairwise(zip(times.doubles, levels.doubles, strict=True)))
    hottest, coldest = math.log1p(excess), math.log1p(-excess) if excess < 1 else -math.inf
    for (start, level), (end, next_level) in reversed(segments):
        for bound, beyond in ((hottest, level > hottest), (coldest, level < coldest)):
            if beyond:
                return start + (end - start) * min(1.0, (bound - level) / (next_level - level))
        if not coldest <= next_level <= hottest:
            return end
    return 0.0


def _expression_schedule(spec: ScheduleSpec, source: str) -> Schedule:
    symbols = {"t": TIME, "T0": START_TEMPERATURE, "t0": TIME_SCALE}
    key = "schedule.expression" if spec.expression else "schedule.beta_expression"
    stated = parse_expression(spec.expression or spec.beta_expression, symbols, key, source)
    used = {s: value for s, value in ((START_TEMPERATURE, spec.T0), (TIME_SCALE, spec.t0)) if s in stated.free_symbols}
    with sympy_guard(key, source):
        latex = f"{'T' if spec.expression else chr(92) + 'beta'}(t) = {_plain_latex(stated)}"
        if stated.has(Floor):  # where it jumps is a matter of numbers
            stated, used = stated.xreplace({s: sp.Float(value) for s, value in used.items()}), {}
        schedule = _of_formula(stated, key, used, latex)
    for t in _grid():
        _require_value(schedule, t, key, source)
    settled = _scanned_settling_time(schedule, SETTLED_EXCESS, source, key)
    for i in range(2048):
        _require_value(schedule, settled * i / 2048, key, source)
    floors = sorted(stated.atoms(Floor), key=sp.default_sort_key)
    if not floors:
        return schedule
    jumps = {floor: _jumps(floor.args[0], settled, key, source) for floor in floors}
    with sympy_guard(key, source):
        tabulated = stated.xreplace(
            {floor: _looked_up(floor, found) for floor, found in jumps.items() if len(found) > 1}
        )
        times = sorted({time for found in jumps.values() for time, _ in found[1:]})
        return _of_formula(tabulated, key, {}, latex, tuple(map(sp.Float, times)))


def _of_formula(
    stated: sp.Expr, key: str, used: Mapping[sp.Symbol, float], latex: str, breakpoints: tuple[sp.Expr, ...] = ()
) -> Schedule:
    direct, inverse = without_overflow(stated), inverse_without_overflow(stated)
    temperature, beta = (direct, inverse) if key == "schedule.expression" else (inverse, direct)
    schedule = Schedule(
        "expression", temperature, beta, tuple(used), tuple(used.values()), breakpoints, math.inf, latex
    )
    schedule.temperature_at(0), schedule.beta_at(0)  # compiles both
    return schedule


Jumps = list[tuple[float, float]]
"""(time, value from then on), first those of t = 0."""


def _jumps(argument: sp.Expr, end: float, key: str, source: str) -> Jumps:
    """Where the floor of an argument changes until `end`: each time is the first double with the new value."""
    evaluate = _double_function(without_overflow(argument), (TIME,))
    grid = sorted({0.0, *(t for t in _grid() if t < end), *(end * i / 2048 for i in range(2049))})
    values = [evaluate(t) for t in grid]
    if not all(map(math.isfinite, values)):
        raise BadInput(
            key, "floor or mod of what is not finite", "keep what they act on finite for every t >= 0", source
        )
    floors = list(map(math.floor, values))
    if sum(abs(b - a) for a, b in pairwise(floors)) > MOST_JUMPS:
        found = f"floor or mod jumps over {MOST_JUMPS} times before T has settled at 1"
        raise BadInput(key, found, "make its steps longer, or let T settle sooner", source)
    jumps: Jumps = [(0.0, float(floors[0]))]
    for (start, before), (stop, after) in pairwise(zip(grid, values, strict=True)):
        pending = [(start, before, stop, after)]
        while pending:
            low, at_low, high, at_high = pending.pop()
            steps = abs(math.floor(at_high) - math.floor(at_low))
            middle = (low + high) / 2
            if steps == 0:
                continue
            if not low < middle < high:
                jumps.append((high, float(math.floor(at_high))))
                continue
            if steps == 1 and at_high != at_low:  # nearly straight: next to where a line would jump, then by halves
                level = max(math.floor(at_low), math.floor(at_high))
                guess = low + (high - low) * ((level - at_low) / (at_high - at_low))
                tried = guess + 1e-9 * (high - low) * (1 if evaluate(guess) < level == at_high > at_low else -1)
                middle = next((t for t in (tried, guess) if low < t < high), middle)
            at_middle = evaluate(middle)
            pending += [(middle, at_middle, high, at_high), (low, at_low, middle, at_middle)]
    return jumps


def _looked_up(floor: sp.Expr, jumps: Jumps) -> sp.Expr:
    """The floor as a table of its jumps, so that in every precision it has its new value from the landing point on, and
    later itself."""
    times, levels = [0.0], [jumps[0][1]]
    for time, value in jumps[1:]:
        times += [time, time]
        levels += [levels[-1], value]
    return Tabulated(TIME, sp.Float(times[-1]), Interpolated(TIME, Numbers(times), Numbers(levels)), floor)


def _plain_latex(formula: sp.Expr) -> str:
    """LaTeX of a user's formula. Where SymPy's printer knows an exponent to be negative it asks whether that is
    constant, and to find out it simplifies, tries random numbers and evaluates text; so here it knows nothing of
    exponents."""

    def veiled(exponent: sp.Expr) -> sp.Expr:
        return exponent if exponent.is_number else sp.UnevaluatedExpr(exponent)

    return sp.latex(
        formula.replace(sp.exp, lambda x: sp.exp(veiled(x))).replace(sp.Pow, lambda base, x: base ** veiled(x))
    )


def _require_value(schedule: Schedule, t: float, key: str, source: str) -> None:
    T, beta = schedule.temperature_at(t), schedule.beta_at(t)
    name, value = ("temperature", T) if key == "schedule.expression" else ("inverse temperature", beta)
    if math.isnan(value):
        raise BadInput(key, f"the {name} is not a real number at t = {t:g}", "give it for every t >= 0", source)
    if not (T > 0 and 0 <= beta < math.inf):
        remedy = "keep it positive, finite and coming to 1, for example as max(1, ...)"
        raise BadInput(key, f"the {name} is {value:g} at t = {t:g}", remedy, source)


def _scanned_settling_time(schedule: Schedule, excess: float, source: str, key: str = "schedule.expression") -> float:
    def is_away(t: float) -> bool:
        return not abs(schedule.temperature_at(t) - 1) <= excess

    grid = _grid()
    if is_away(grid[-1]):
        found = f"the temperature is {schedule.temperature_at(grid[-1]):g} at t = {HORIZON:g}"
        raise BadInput(key, found, "let it come to 1; a constant temperature is schedule.kind = 'constant'", source)
    away = [i for i, t in enumerate(grid) if is_away(t)]
    if not away:
        return 0.0
    last, settled = grid[away[-1]], grid[away[-1] + 1]
    while settled - last > 1e-12 * settled:
        middle = (last + settled) / 2
        last, settled = (middle, settled) if is_away(middle) else (last, middle)
    return settled


def _grid() -> list[float]:
    """0, then 640 times from 1e-6 to the horizon in equal ratios."""
    first = math.log(1e-6)
    return [0.0, *(math.exp(first + (math.log(HORIZON) - first) * i / 639) for i in range(640))]


@lru_cache(maxsize=256)
def _double_function(expression: sp.Expr, arguments: tuple[sp.Symbol, ...]) -> Callable[..., float]:
    """`expression` as a function of floats with the semantics of the kernels: overflow is infinite, what is undefined
    is nan.

    Python's own operators would raise instead, or return a complex root of a negative number.
    """
    printer = _DoublePrinter({"fully_qualified_modules": False, "inline": True, "allow_unknown_functions": True})
    names = {f.__name__: f for f in (*_DOUBLE_FUNCTIONS.values(), interpolate)}
    return sp.lambdify(arguments, expression, modules=[names, "math"], printer=printer)


class _DoublePrinter(PythonCodePrinter):
    """Python code with every literal to the last bit, where SymPy itself prints 15 digits, and functions of double
    precision."""

    def _print(self, node: sp.Basic, **settings: object) -> str:
        function = _DOUBLE_FUNCTIONS.get(type(node))
        if function is None:
            return super()._print(node, **settings)
        return f"{function.__name__}({', '.join(map(self._print, node.args))})"

    def _print_Float(self, literal: sp.Float) -> str:
        return repr(float(literal))

    def _print_Mul(self, product: sp.Mul) -> str:
        return "*".join(
            self.parenthesize(factor, PRECEDENCE["Mul"]) for factor in product.args
        )  # without a division, which may raise


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


def double_floor(x: float) -> float:
    return float(math.floor(x)) if math.isfinite(x) else x


_DOUBLE_FUNCTIONS: dict[type[sp.Basic], Callable[..., float]] = {
    sp.exp: double_exp,
    sp.sinh: double_sinh,
    sp.cosh: double_cosh,
    sp.Pow: double_power,
    sp.log: double_log,
    sp.sin: double_sin,
    sp.cos: double_cos,
    sp.tan: double_tan,
    sp.floor: double_floor,
    sp.Max: double_max,
    sp.Min: double_min,
}
