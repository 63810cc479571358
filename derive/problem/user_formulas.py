"""The schedule of a user's own formula for T or beta: it is checked on a grid of times, and its jumps are tabulated."""

from __future__ import annotations

import math
from collections.abc import Mapping
from itertools import pairwise

import sympy as sp

from derive.objects.system import TIME
from derive.problem.double_functions import double_function
from derive.problem.expression_parser import parse_expression
from derive.problem.field_checks import BadInput
from derive.problem.formula_limits import sympy_guard
from derive.problem.interpolation import Interpolated, Numbers
from derive.problem.scaled_form import Floor, Tabulated, inverse_without_overflow, without_overflow
from derive.problem.schedule_value import SETTLED_EXCESS, START_TEMPERATURE, TIME_SCALE, Schedule
from derive.problem.specification import ScheduleSpec

HORIZON = 1e9
"""The time by which a user's formula must have come to T = 1."""
MOST_JUMPS = 10_000


def expression_schedule(spec: ScheduleSpec, source: str) -> Schedule:
    symbols = {"t": TIME, "T0": START_TEMPERATURE, "t0": TIME_SCALE}
    key = "schedule.expression" if spec.expression else "schedule.beta_expression"
    stated = parse_expression(spec.expression or spec.beta_expression, symbols, key, source)
    used = {s: value for s, value in ((START_TEMPERATURE, spec.T0), (TIME_SCALE, spec.t0)) if s in stated.free_symbols}
    with sympy_guard(key, source):
        latex = f"{'T' if spec.expression else chr(92) + 'beta'}(t) = {_plain_latex(stated)}"
        if stated.has(Floor):  # the times of the jumps depend on the values of T0 and t0
            stated, used = stated.xreplace({s: sp.Float(value) for s, value in used.items()}), {}
        schedule = _of_formula(stated, key, used, latex)
    for t in _grid():
        _require_value(schedule, t, key, source)
    settled = scanned_settling_time(schedule, SETTLED_EXCESS, source, key)
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
"""Pairs of a time and the value from then on; the first pair is that of t = 0."""


def _jumps(argument: sp.Expr, end: float, key: str, source: str) -> Jumps:
    """The times until `end` at which the floor of an argument changes, each the first double with the new value."""
    evaluate = double_function(without_overflow(argument), (TIME,))
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
            # A single jump is sought beside the place where a straight line would jump, several jumps by halving.
            if steps == 1 and at_high != at_low:
                level = max(math.floor(at_low), math.floor(at_high))
                guess = low + (high - low) * ((level - at_low) / (at_high - at_low))
                tried = guess + 1e-9 * (high - low) * (1 if evaluate(guess) < level == at_high > at_low else -1)
                middle = next((t for t in (tried, guess) if low < t < high), middle)
            at_middle = evaluate(middle)
            pending += [(middle, at_middle, high, at_high), (low, at_low, middle, at_middle)]
    return jumps


def _looked_up(floor: sp.Expr, jumps: Jumps) -> sp.Expr:
    """The floor as a table of its jumps up to the last one, and the floor itself afterwards.

    The integrator lands on each jump, and by the table the floor has its new value from there on in every precision.
    """
    times, levels = [0.0], [jumps[0][1]]
    for time, value in jumps[1:]:
        times += [time, time]
        levels += [levels[-1], value]
    return Tabulated(TIME, sp.Float(times[-1]), Interpolated(TIME, Numbers(times), Numbers(levels)), floor)


def _plain_latex(formula: sp.Expr) -> str:
    """LaTeX of a user's formula, printed with its exponents veiled.

    Where SymPy's printer knows that an exponent is negative, it asks whether the exponent is constant. To find out, it
    simplifies, tries random numbers and evaluates text; a user's formula must never be evaluated as text.
    """

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


def scanned_settling_time(schedule: Schedule, excess: float, source: str, key: str = "schedule.expression") -> float:
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
    """The times of the checks: 0, and 640 times from 1e-6 to the horizon in equal ratios."""
    first = math.log(1e-6)
    return [0.0, *(math.exp(first + (math.log(HORIZON) - first) * i / 639) for i in range(640))]
