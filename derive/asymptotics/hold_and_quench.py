"""Why the best monotone schedule holds one temperature and then quenches.

Near m_1 = m_2 = 0, s = −1, and for components of equal weight and scale, the derived flow of a = m_1 + m_2 and
b = m_1 − m_2 is linear,

    da/dt = β F(0) + κ a,  κ = ½ β F'(0) − G(−1),        db/dt = ½ β F'(0) b,

and a quench at time D separates the pair where b(D) > ψ(a(D)), with ψ an increasing function. The least b(0) from which
the pair separates is therefore b_c with

    log b_c = log ψ(a(D)) − ½ F'(0) ∫ β dt.

The derivative of log b_c with respect to β(t) is S(t) = (ψ'/ψ) (F(0) + ½ F'(0) a(t)) e^{∫_t^D κ} − ½ F'(0), and

    dS/dt = (ψ'/ψ) F(0) G(−1) e^{∫_t^D κ},

which has the sign of F(0), here positive, under *every* β(t): β is worth more early than late. Without a constraint the
best control begins cold and ends hot. Where β may not fall, the best control is a constant β followed by a quench:
wherever a nondecreasing β is not constant, moving some of it to earlier times flattens it and lowers b_c.

A long hold waits at the equilibrium m_1 = m_2 = m of its temperature (`derive.asymptotics.quasi_static`), and b grows
at the rate λ(m) of `derive.asymptotics.quasi_static.QuasiStatic.growth`. The best long hold has the largest λ, the
ultimate rate at which log b_c falls with the duration. For w* → ½ this rate is G(−1), at m → 0. For unequal modes the
rate is smaller, because m cannot be 0.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.asymptotics.equal_weights import PULL
from derive.asymptotics.equal_weights import REPULSION as EXCHANGE
from derive.asymptotics.transverse_growth import MEAN, SymmetricPath
from derive.objects.system import BETA, TIME

SUM = sp.Symbol("a", real=True)
DRIFT, SLOPE, REPULSION = (
    sp.Symbol("F_0", positive=True),
    sp.Symbol("F_0'", positive=True),
    sp.Symbol("G", positive=True),
)
"""The symbols of F(0), F'(0) and G(−1). F(0) has the sign of the heavier mode and is taken as positive."""
END = sp.Symbol("D", positive=True)
"""The time D of the quench."""


@dataclass(frozen=True)
class Pair:
    """The linear flow of a protected pair: da/dt = drift + damping · a and db/dt = growth · b.

    Attributes
    ----------
    drift : sympy.Expr
        da/dt at a = 0, in BETA and the symbols of this module, as are the other two rates.
    damping : sympy.Expr
        The coefficient κ of a in da/dt.
    growth : sympy.Expr
        The coefficient of b in db/dt.
    """

    drift: sp.Expr
    damping: sp.Expr
    growth: sp.Expr

    @property
    def critical_beta(self) -> sp.Expr:
        """The β at which the damping vanishes. At smaller β the pair is protected."""
        (root,) = sp.solve(self.damping, BETA)
        return root

    @property
    def fastest_protected_growth(self) -> sp.Expr:
        """The growth of b at the critical temperature, the largest for a pair that stays at m = 0."""
        return sp.simplify(self.growth.subs(BETA, self.critical_beta))

    def switching_slope(self) -> sp.Expr:
        """dS/dt divided by (ψ'/ψ) e^{∫_t^D κ}, for any β(t), by the product rule along the flow of a."""
        beta, a = sp.Function("beta")(TIME), sp.Function("a")(TIME)

        def under(expression: sp.Expr) -> sp.Expr:
            return expression.subs(BETA, beta)

        gain = self.drift.diff(BETA) + self.damping.diff(BETA) * a  # ∂(da/dt)/∂β, the change of a by a pulse of β
        slope = gain.diff(TIME) - under(self.damping) * gain
        return sp.simplify(slope.subs(a.diff(TIME), under(self.drift) + under(self.damping) * a))

    def held_sum(self) -> sp.Expr:
        """a(D) after a hold at BETA for the time D that starts from a = 0."""
        return self.drift * (sp.exp(self.damping * END) - 1) / self.damping


def protected_pair(path: SymmetricPath) -> Pair:
    """The linear flow of a = 2m and b near m = 0, s = −1, from the rates about b = 0."""
    at_origin = {
        PULL(sp.S.Zero): DRIFT,
        sp.diff(PULL(MEAN), MEAN).subs(MEAN, 0): SLOPE,
        EXCHANGE(sp.S.NegativeOne): REPULSION,
    }
    drift, damping, growth = (
        path.at_pair(rate).xreplace(at_origin) for rate in (2 * path.velocity[0], path.longitudinal, path.transverse)
    )
    return Pair(drift, sp.factor(damping), growth)
