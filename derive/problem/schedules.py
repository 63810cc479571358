"""The temperature T(t) = 1/beta(t) of each schedule kind as an expression, one formula for derivations and kernels.

`derive.problem.kinds` states the formulas of the kinds. This module turns a problem's `ScheduleSpec` into a `Schedule`,
or into an `AdaptiveRule` for the kinds that raise beta by what the proposal q has become, every t0 of the flow's time
until beta is 1.

beta is 0 (T infinite) at the start where the user gives T0 = inf, and wherever a user's formula says so. Tables and
formulas may be colder than 1 on the way (beta > 1, "cold posterior"). Every kind but "constant" ends at T = 1.

Warning: "KL warm-up", which multiplies KL(q || prior) by a beta < 1, is the opposite direction. It tempers the prior
colder, where annealing as meant here tempers the whole target hotter: L_beta = E_q[log q] - beta E_q[log p*] with
beta = 1/T.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache
from itertools import groupby, pairwise

import sympy as sp

from derive.objects.system import TIME
from derive.problem.arguments import checked
from derive.problem.field_checks import BadInput
from derive.problem.interpolation import Interpolated, Logarithms, Numbers, points_in_latex
from derive.problem.kinds import KINDS, Formula
from derive.problem.schedule_value import SETTLED_EXCESS, START_TEMPERATURE, TIME_SCALE, Schedule
from derive.problem.specification import ScheduleSpec
from derive.problem.user_formulas import expression_schedule, scanned_settling_time


@dataclass(frozen=True)
class AdaptiveRule:
    """A rule that raises beta until beta is 1.

    Attributes
    ----------
    kind : {"adaann", "ess"}
        The rule.
    start_beta : float
        beta until the rule acts for the first time.
    interval : float
        The flow's time between adjustments, positive.
    strength : float
        tau for "adaann", the level for "ess".
    """

    kind: str
    start_beta: float
    interval: float
    strength: float


def make_rule(spec: ScheduleSpec) -> AdaptiveRule | None:
    """The rule of an adaptive kind, or None for a schedule that is a function of time."""
    if not KINDS[spec.kind].adaptive:
        return None
    strength = spec.tau if spec.kind == "adaann" else spec.level
    assert strength is not None  # ScheduleSpec puts in the default
    return AdaptiveRule(spec.kind, 1 / spec.T0, spec.t0, strength)


@checked
def make_schedule(spec: ScheduleSpec, source: str = "problem") -> Schedule:
    """Return the schedule of a specification, as formulas in time.

    The schedule is made once for each specification. For an adaptive kind the schedule is the constant temperature T0
    that holds until the rule acts.

    Parameters
    ----------
    spec : ScheduleSpec
        The kind and its numbers.
    source : str
        Where the specification stands, for messages.

    Returns
    -------
    Schedule
        Temperature and inverse temperature.

    Raises
    ------
    BadInput
        If the user's own expression is not plain mathematics; if T is not positive or beta not finite at one of the
        times on a grid (640 times from 1e-6 to 1e9 in equal ratios, and 2048 equally spaced until T settles); or if T
        is not within 1e-3 of 1 at t = 1e9.

    Notes
    -----
    Misbehaviour of a user's expression between two times of the grid is not seen, nor is a jump of `floor` or `mod`
    there and back between two of them.

    Examples
    --------
    >>> from annealvi import ScheduleSpec, make_schedule
    >>> schedule = make_schedule(ScheduleSpec("linear", T0=21, t0=10))
    >>> schedule.temperature_at(5), schedule.beta_at(10)
    (11.0, 1.0)
    """
    return _made_once(spec, source)


@lru_cache(maxsize=256)
def _made_once(spec: ScheduleSpec, source: str) -> Schedule:
    if spec.kind == "table":
        return _table_schedule(spec)
    if spec.kind == "expression":
        return expression_schedule(spec, source)
    formula = KINDS[spec.kind].formula
    assert formula is not None  # the two kinds above are those without one
    return _closed_form(spec, formula)


def settling_time(schedule: Schedule, excess: float = SETTLED_EXCESS) -> float:
    """The time from which |T - 1| <= excess for good.

    Parameters
    ----------
    schedule : Schedule
        The schedule. One that belongs to no kind, such as an optimised one, settles when its duration ends.
    excess : float
        The distance of T from 1, positive and finite.

    Returns
    -------
    float
        The settling time, in the flow's time. For an expression it is the last crossing on the grid of `make_schedule`,
        refined by bisection; for every other kind it is a closed form.

    Raises
    ------
    BadInput
        For a constant T0 > 1 + excess, for an expression that is not so near 1 at t = 1e9, and for an adaptive kind.
    ValueError
        For an excess that is not positive and finite.

    Examples
    --------
    >>> from annealvi import ScheduleSpec, make_schedule, settling_time
    >>> settling_time(make_schedule(ScheduleSpec("hold", T0=21, t0=10)))
    10.0
    """
    if not 0 < excess < math.inf:
        raise ValueError(f"the excess must be positive and finite, not {excess}")
    if schedule.kind == "table":
        return _table_settling_time(schedule, excess)
    if schedule.kind == "expression":
        return scanned_settling_time(schedule, excess, "problem")
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
    """The schedule of a kind whose formula is in T0 and t0."""

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
