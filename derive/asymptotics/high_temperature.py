"""The limit β → 0: the entropy drives the components apart, and the overlaps with the target move only at order β.

Let 2θ be the angle between the means μ_1 and μ_2, s = cos 2θ, and let u_1 and u_2 be the target's overlaps with the
unit vectors along μ_1 + μ_2 and μ_1 − μ_2. Then

    m_1 = u_1 cos θ + u_2 sin θ,    m_2 = u_1 cos θ − u_2 sin θ.

Without the target u_1 and u_2 are conserved, because for components of equal weight the repulsion acts along μ_1 − μ_2,
and θ grows by an equation of its own.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.asymptotics.equal_weights import PULL, EqualWeights
from derive.objects.expansion import Expansion
from derive.objects.notation import tex
from derive.objects.short_repr import short_repr
from derive.objects.system import BETA

U = sp.symbols("u_1 u_2", real=True)
ANGLE = sp.Symbol("theta", positive=True)
"""θ, half the angle between the means, in (0, π/2)."""

INITIAL_U = sp.symbols("v_1 v_2", real=True)
INITIAL_ANGLE = sp.Symbol("theta0", positive=True)
_ALONG = sp.Symbol("vartheta", positive=True)


@dataclass(frozen=True)
class HighTemperature:
    """The results of the limit β → 0.

    Attributes
    ----------
    conserved : tuple of Expr
        u_1 and u_2 in the states.
    overlaps : tuple of Expr
        m_1 and m_2 in `U` and `ANGLE`.
    relaxation : Expr
        dθ/dt at β = 0, in θ alone.
    drift : tuple of Expr
        d(u_1, u_2)/dt divided by β, in `U` and `ANGLE`, exact at every β.
    path : tuple of Expansion
        u_1 and u_2 while half the angle grows from `INITIAL_ANGLE` to `ANGLE`, to first order in a constant β.
    """

    conserved: tuple[sp.Expr, sp.Expr]
    overlaps: tuple[sp.Expr, sp.Expr]
    relaxation: sp.Expr
    drift: tuple[sp.Expr, sp.Expr]
    path: tuple[Expansion, Expansion]

    __repr__ = short_repr

    def latex(self) -> dict[str, str]:
        """Return each result by name."""
        conserved = {f"conserved u_{i}": f"u_{i} = {tex(u)}" for i, u in enumerate(self.conserved, 1)}
        rates = {
            f"drift of u_{i}": rf"\dot u_{i} = \beta\left[{tex(drift)}\right]" for i, drift in enumerate(self.drift, 1)
        }
        relaxation = rf"\dot\theta = {tex(self.relaxation)} + \mathcal O(\beta)"
        return {**conserved, "relaxation of the angle": relaxation, **rates, **{e.name: e.latex() for e in self.path}}


def high_temperature(pair: EqualWeights) -> HighTemperature:
    """Change to (u_1, u_2, θ) in the derived rates, and split the rates by powers of β, of which there are only two."""
    m_1, m_2, s = pair.states
    along, across = sp.cos(ANGLE), sp.sin(ANGLE)
    overlaps = U[0] * along + U[1] * across, U[0] * along - U[1] * across
    conserved = (m_1 + m_2) / sp.sqrt(2 * (1 + s)), (m_1 - m_2) / sp.sqrt(2 * (1 - s))
    drift = _drift(0, conserved[0], pair), _drift(1, conserved[1], pair)
    at_angle = sp.cos(2 * ANGLE)
    relaxation = sp.simplify(pair.rates[2].subs({BETA: 0, s: at_angle}) / sp.diff(at_angle, ANGLE))
    slopes = drift[0] / relaxation, drift[1] / relaxation
    return HighTemperature(conserved, overlaps, relaxation, drift, (_path(1, slopes[0]), _path(2, slopes[1])))


def _drift(which: int, u: sp.Expr, pair: EqualWeights) -> sp.Expr:
    """Return the rate of u divided by β, in U and θ; ArithmeticError where the rate does not vanish with β."""
    m_1, m_2, s = pair.states
    rate = sp.Add(*(sp.diff(u, state) * velocity for state, velocity in zip(pair.states, pair.rates, strict=True)))
    if sp.simplify(rate.subs(BETA, 0)) != 0:
        raise ArithmeticError(f"{u} is not conserved at infinite temperature")
    per_beta = sp.expand(sp.diff(rate, BETA))
    # u_1 has the divisor 2 cos θ, and u_2 the divisor 2 sin θ. `kept` is the function in the divisor of this u; the
    # `other` function is reduced to its first power.
    kept, other = sp.symbols("kept other", positive=True, cls=sp.Dummy)
    cosine, sine = (kept, other) if which == 0 else (other, kept)
    overlaps = {m_1: U[0] * cosine + U[1] * sine, m_2: U[0] * cosine - U[1] * sine}
    similarity = 2 * kept**2 - 1 if which == 0 else 1 - 2 * kept**2
    angles = {cosine: sp.cos(ANGLE), sine: sp.sin(ANGLE)}
    total = sp.S.Zero
    for m in (m_1, m_2):
        numerator, denominator = sp.fraction(sp.together(per_beta.coeff(PULL(m)).subs({**overlaps, s: similarity})))
        reduced = sp.rem(sp.expand(numerator), other**2 + kept**2 - 1, other)
        total += (sp.factor(reduced / denominator) * PULL(overlaps[m])).xreplace(angles)
    return total


def _path(i: int, slope: sp.Expr) -> Expansion:
    """Integrate du/dθ = β drift/(relaxation + O(β)), with u at its initial value on the right-hand side."""
    integrand = slope.xreplace({ANGLE: _ALONG, **dict(zip(U, INITIAL_U, strict=True))})
    return Expansion(
        f"u_{i} along the relaxation",
        rf"u_{i}(\theta)",
        sp.Function(f"u_{i}")(ANGLE),
        INITIAL_U[i - 1] + BETA * sp.Integral(integrand, (_ALONG, INITIAL_ANGLE, ANGLE)),
        BETA,
        sp.S.Zero,
        sp.Integer(2),
        "w_1 = w_2, beta constant, (u_1, u_2, theta) starts at (v_1, v_2, theta0), 0 < theta0 <= theta < pi/2 fixed",
    )
