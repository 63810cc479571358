"""The growth of b = m_1 − m_2 above the critical temperature, and the duration that a wanted probability takes.

While the temperature is above T_c, the pair of components is antipodal and between the modes. There the transverse rate
is λ = ½ β F'(0), exactly so as w* → ½. Nothing draws the pair to one side until T has fallen to T_c, so b grows by at
least e^{Λ_hot},

    Λ_hot = ½ F'(0) ∫_0^{t_c} β dt,    T(t_c) = T_c.

Under a slow schedule b goes on growing below T_c, while the pair waits off the middle until it is released. The growth
below T_c has no closed form; `derive.asymptotics.quasi_static` gives its rate. This growth is zero for a hold, and
large for a schedule that spends little of its time above T_c.

The integral has a closed form in T0 and t0 for each kind in `HOT_KINDS`. The substitution t = t(u) in the record of the
kind makes β dt rational in u.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.asymptotics.equal_weights import PULL
from derive.asymptotics.transverse_growth import MEAN, SymmetricPath
from derive.objects.expansion import Expansion
from derive.objects.notation import tex
from derive.objects.short_repr import short_repr
from derive.objects.system import BETA, TIME
from derive.problem.kinds import KINDS, names_of_kinds
from derive.problem.schedules import START_TEMPERATURE, TIME_SCALE, make_schedule
from derive.problem.specification import ScheduleSpec

CRITICAL_TEMPERATURE = sp.Symbol("T_c", positive=True)
"""The critical temperature, 1 < T_c <= T0: a start below T_c gives no hot growth."""

PULL_SLOPE = sp.Symbol("F'(0)", positive=True)
PREFACTOR = sp.Symbol("C", positive=True)
"""The prefactor C of b_c = C e^{−Λ}, of order one."""

PROBABILITY = sp.Symbol("p", positive=True)
DIMENSION = sp.Symbol("d", positive=True)

_u = sp.Dummy("u", positive=True)

HOT_KINDS = names_of_kinds(lambda kind: kind.growth is not None)
"""The kinds whose hot growth has a closed form: they fall through T_c by a formula in T0 and t0."""


@dataclass(frozen=True)
class HotGrowth:
    """The growth of b above T_c under one kind of schedule, for 1 < T_c <= T0.

    Attributes
    ----------
    kind : str
        The schedule kind.
    crossing : sympy.Expr
        The time t_c at which T passes T_c, in T0, t0 and `CRITICAL_TEMPERATURE`.
    exponent : sympy.Expr
        Λ_hot, in the same symbols and `PULL_SLOPE`.
    """

    kind: str
    crossing: sp.Expr
    exponent: sp.Expr

    __repr__ = short_repr

    @property
    def per_time_scale(self) -> sp.Expr:
        """Λ_hot/t0, a constant: stretching a schedule in time stretches its exponent by the same factor."""
        return self.exponent / TIME_SCALE

    def latex(self) -> str:
        return rf"t_c = {tex(self.crossing)},\quad \Lambda_\mathrm{{hot}} = {tex(self.exponent)}"


def hot_growth(kind: str, path: SymmetricPath) -> HotGrowth:
    """The hot growth of one of `HOT_KINDS`, from the transverse rate at the antipodal pair.

    Raises ValueError for another kind.
    """
    substitution = KINDS[kind].growth if kind in KINDS else None
    if substitution is None:
        raise ValueError(f"no closed form for the schedule kind {kind!r}; there is one for {', '.join(HOT_KINDS)}")
    beta = _until_end(make_schedule(ScheduleSpec(kind, 2.0, 1.0)).beta)
    slope = _hot_rate(path) / BETA
    if not beta.has(TIME):  # the schedule passes T_c in its jump at t0
        return HotGrowth(kind, TIME_SCALE, slope * beta * TIME_SCALE)
    # Positive distances tell SymPy that 1 < T_c < T0, and so which root is real and positive.
    above, below = sp.symbols("above below", positive=True, cls=sp.Dummy)
    ordered = {START_TEMPERATURE: 1 + below + above, CRITICAL_TEMPERATURE: 1 + below}
    distances = {above: START_TEMPERATURE - CRITICAL_TEMPERATURE, below: CRITICAL_TEMPERATURE - 1}
    time = substitution.time(_u, START_TEMPERATURE, TIME_SCALE)
    beta_of_u = sp.cancel(sp.powdenest(sp.expand_trig(beta.subs(TIME, time)), force=True))
    (crossing,) = sp.solve((beta_of_u - 1 / CRITICAL_TEMPERATURE).xreplace(ordered), _u)
    integral = _antiderivative(sp.cancel(beta_of_u * sp.diff(time, _u)), ordered).xreplace(distances)
    ends = crossing.xreplace(distances), sp.Integer(substitution.start)
    heat = integral.subs(_u, ends[0]) - integral.subs(_u, ends[1])
    return HotGrowth(kind, _per_time_scale(time.subs(_u, ends[0])), slope * _per_time_scale(heat))


def _antiderivative(integrand: sp.Expr, ordered: dict[sp.Symbol, sp.Expr]) -> sp.Expr:
    """An antiderivative in u, checked by differentiation.

    Where SymPy does not know that T0 > 1, it silently loses terms of some integrals. A second attempt therefore writes
    the temperatures by the positive distances in `ordered`. Raises ArithmeticError where that attempt is wrong too.
    """
    for known in ({}, ordered):
        told = integrand.xreplace(known)
        integral = sp.integrate(told, _u)
        if sp.simplify(sp.diff(integral, _u) - told) == 0:
            return integral
    raise ArithmeticError(f"SymPy finds no antiderivative of {integrand}")


def sufficient_time_scale(growth: HotGrowth) -> sp.Expr:
    """The t0 at which P(collapse) = p if b grows above T_c alone, in p, d, C, T0, T_c and F'(0).

    The equation erf(b_c √d/2) = p with b_c = C e^{−Λ} is solved for Λ and then for t0. Growth below T_c makes a shorter
    schedule sufficient. The result is the leading order in large d, where the law of b is Gaussian and m_1 + m_2 and s
    start at 0.
    """
    return sp.log(PREFACTOR / critical_difference()) / growth.per_time_scale


def critical_difference() -> sp.Expr:
    """The b_c at which P(collapse) = p, because b(0) ~ N(0, 2/d) lies within ±b_c with probability erf(b_c √d/2)."""
    b = sp.Dummy(positive=True)
    (argument,) = (e.args[0] for e in sp.erf(b * sp.sqrt(DIMENSION) / 2).atoms(sp.erf))
    (solution,) = sp.solve(argument - sp.erfinv(PROBABILITY), b)
    return solution


def small_probability(growth: HotGrowth) -> Expansion:
    """The expansion of `sufficient_time_scale` for a small wanted probability: it is logarithmic in √d/p."""
    exact = sufficient_time_scale(growth)
    first_order = sp.series(sp.erfinv(PROBABILITY), PROBABILITY, 0, 2).removeO()
    leading = exact.xreplace({sp.erfinv(PROBABILITY): first_order})
    return Expansion(
        f"{growth.kind} schedule for a small probability",
        "t_0",
        exact,
        leading,
        PROBABILITY,
        sp.S.Zero,
        sp.Integer(2),
        "d, C, T_0 >= T_c > 1 and F'(0) fixed; Lambda = Lambda_hot",
    )


def _hot_rate(path: SymmetricPath) -> sp.Expr:
    """The transverse rate at the antipodal pair, with `PULL_SLOPE` for the derivative of F at 0."""
    return path.at_pair(path.transverse).xreplace({sp.diff(PULL(MEAN), MEAN).subs(MEAN, 0): PULL_SLOPE})


def _per_time_scale(duration: sp.Expr) -> sp.Expr:
    """A duration as t0 times a function of temperatures whose logarithms are joined."""
    shape = (duration / TIME_SCALE).expand(log=False)
    plain, logarithmic = shape.as_independent(sp.log, as_Add=True)
    return TIME_SCALE * (sp.factor(plain) + sp.simplify(logarithmic))


def _until_end(expression: sp.Expr) -> sp.Expr:
    return expression.args[0][0] if isinstance(expression, sp.Piecewise) else expression
