"""Why the best monotone schedule holds one temperature and then quenches: the pair of components near m_1 = m_2 = 0, s = −1.

There, for alike components, the derived flow of a = m_1 + m_2 and b = m_1 − m_2 is linear,

    da/dt = β F(0) + κ a,  κ = ½ β F'(0) − G(−1),        db/dt = ½ β F'(0) b,

and a quench at time D, from b(D) and a(D), separates the pair where b(D) > ψ(a(D)), with ψ an increasing function. So

    log b_c = log ψ(a(D)) − ½ F'(0) ∫ β dt.

Its derivative with respect to β(t) is S(t) = (ψ'/ψ) (F(0) + ½ F'(0) a(t)) e^{∫_t^D κ} − ½ F'(0), and

    dS/dt = (ψ'/ψ) F(0) G(−1) e^{∫_t^D κ},

which has the sign of F(0), here positive, under *every* β(t): β is worth more early than late. Without a constraint the best control
begins cold and ends hot; where β may not fall it can do no better than be constant, and then quench. (Wherever a nondecreasing β is not
constant, moving some of it to earlier times, which flattens it, lowers b_c.)

A long hold waits at the stationary state with m_1 = m_2 = m of its temperature, where the heavier mode's pull and the repulsion balance:
s = 2m² − 1 and β F(m) = 2 m G(s). There b grows at

    λ(m) = m G(2m² − 1) (F'(m) (1 − m²)/F(m) − m),

and the best long hold is the one with the largest λ: that is the ultimate rate at which log b_c falls with the duration. For w* → ½ it is
G(−1), at m → 0; for unequal modes it is less, as m cannot be 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.system import BETA, TIME, OdeSystem

SUM, DIFFERENCE = sp.symbols("a b", real=True)
DRIFT, SLOPE, REPULSION = sp.Symbol("F_0", positive=True), sp.Symbol("F_0'", positive=True), sp.Symbol("G", positive=True)
"""F(0) (of the heavier mode's sign), F'(0), and G(−1)."""
END = sp.Symbol("D", positive=True)
OVERLAP, PULL, PULL_SLOPE = sp.Symbol("m", real=True), sp.Symbol("F", positive=True), sp.Symbol("F'", positive=True)


@dataclass(frozen=True)
class Pair:
    """The linear flow of a protected pair: da/dt = drift + damping · a and db/dt = growth · b, in BETA and the symbols above."""

    drift: sp.Expr
    damping: sp.Expr
    growth: sp.Expr

    @property
    def critical_beta(self) -> sp.Expr:
        """Where the damping vanishes: hotter, the pair is protected."""
        (root,) = sp.solve(self.damping, BETA)
        return root

    @property
    def fastest_protected_growth(self) -> sp.Expr:
        """The growth of b at the critical temperature, so the ultimate rate at which a hold lowers b_c with its duration."""
        return sp.simplify(self.growth.subs(BETA, self.critical_beta))

    def switching_slope(self) -> sp.Expr:
        """dS/dt per (ψ'/ψ) e^{∫_t^D κ}, under any β(t): by the product rule along the flow of a."""
        beta, a = sp.Function("beta")(TIME), sp.Function("a")(TIME)

        def under(expression: sp.Expr) -> sp.Expr:
            return expression.subs(BETA, beta)

        gain = self.drift.diff(BETA) + self.damping.diff(BETA) * a  # ∂(da/dt)/∂β: what a pulse of β adds to a
        slope = gain.diff(TIME) - under(self.damping) * gain
        return sp.simplify(slope.subs(a.diff(TIME), under(self.drift) + under(self.damping) * a))

    def held_sum(self) -> sp.Expr:
        """a(D) of a hold at BETA for the time D, started from a = 0."""
        return self.drift * (sp.exp(self.damping * END) - 1) / self.damping


@dataclass(frozen=True)
class WaitingPair:
    """The stationary state m_1 = m_2 = m of alike components, in OVERLAP, PULL = F(m), PULL_SLOPE = F'(m) and REPULSION = G(s).

    s, beta: of the state. growth: of b there.
    """

    s: sp.Expr
    beta: sp.Expr
    growth: sp.Expr


def waiting_pair(system: OdeSystem) -> WaitingPair:
    """Solve the derived bimodal system at w_1 = w_2 for m_1 = m_2 with s < 1, and linearise it in b there.

    Raises ValueError for another system.
    """
    m_1, m_2, s, w_1, w_2, F_1, F_2, g = _bimodal_symbols(system)
    half = sp.Rational(1, 2)
    alike = {F_1: PULL, F_2: PULL, g: REPULSION / 2, m_1: OVERLAP, m_2: OVERLAP, w_1: half, w_2: half}
    towards, _, closer = (rate.subs(alike) for rate in system.rhs)
    (beta,) = sp.solve(towards, BETA)
    overlap = next(root for root in sp.solve(sp.numer(sp.together(closer.subs(BETA, beta))), s) if root != 1)
    apart = {F_1: PULL + PULL_SLOPE * DIFFERENCE / 2, F_2: PULL - PULL_SLOPE * DIFFERENCE / 2}
    moved = {m_1: OVERLAP + DIFFERENCE / 2, m_2: OVERLAP - DIFFERENCE / 2, g: REPULSION / 2, w_1: half, w_2: half}
    first, second = (rate.subs(apart).subs(moved) for rate in system.rhs[:2])
    growth = (first - second).diff(DIFFERENCE).subs(DIFFERENCE, 0)  # g and s change in second order
    beta = sp.simplify(beta.subs(s, overlap))
    return WaitingPair(overlap, beta, sp.simplify(growth.subs(s, overlap).subs(BETA, beta)))


def protected_pair(system: OdeSystem) -> Pair:
    """The linear flow near m_1 = m_2 = 0, s = −1, from the derived bimodal system at w_1 = w_2.

    Raises ValueError for another system, and where what is found is not of that form.
    """
    m_1, m_2, s, w_1, w_2, F_1, F_2, g = _bimodal_symbols(system)
    half = sp.Rational(1, 2)
    small = sp.Symbol("epsilon", positive=True)
    values = {m_1: small * (SUM + DIFFERENCE) / 2, m_2: small * (SUM - DIFFERENCE) / 2, s: sp.Integer(-1), w_1: half, w_2: half}
    # F_i is one function of m_i: its Taylor polynomial. Its constant part counts as small, as a is driven by β F(0).
    averages = {F_1: small * DRIFT + SLOPE * values[m_1], F_2: small * DRIFT + SLOPE * values[m_2], g: REPULSION / 2}
    first, second = (rate.subs(averages).subs(values).diff(small).subs(small, 0) for rate in system.rhs[:2])
    total, apart = sp.expand(first + second), sp.expand(first - second)
    pair = Pair(total.subs({SUM: 0}), sp.factor(total.coeff(SUM)), sp.factor(apart.coeff(DIFFERENCE)))
    if sp.expand(total - pair.drift - pair.damping * SUM) != 0 or sp.expand(apart - pair.growth * DIFFERENCE) != 0:
        raise ValueError("sum and difference do not decouple")
    return pair


def _bimodal_symbols(system: OdeSystem) -> tuple[sp.Symbol, ...]:
    """m_1, m_2, s, w_1, w_2, F_1, F_2, g of the derived bimodal system."""
    names = {s.name: s for s in (*system.states, *system.parameters, *(s for s, _ in system.subexpressions))}
    try:
        return tuple(names[n] for n in ("m_1", "m_2", "s", "w_1", "w_2", "F_1", "F_2", "g"))
    except KeyError as missing:
        raise ValueError(f"the system has no {missing}, so it is not the bimodal one") from None
