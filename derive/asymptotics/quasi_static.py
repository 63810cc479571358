"""The adiabatic limit t0 → ∞, in which (m, s) on b = 0 follows the equilibrium of the present temperature.

The equilibria form a curve with m as its parameter. With y = (m, s), dy/dt = f(y; β) and β = B(t/t0), the formal
expansion

    y = y_0(β) + β̇ y_1(β) + O(1/t0²),    J y_1 = dy_0/dβ,    J = ∂f/∂y at y_0,

follows from f(y_0; β) = 0 by collecting the terms of order 1/t0, the order of β̇ = B'/t0. On the curve the sum of the
means is along the modes. The curve is invariant, so y_1 is tangent to the curve: m lags behind, and s stays s_0(m).
Meanwhile b grows at the rate λ of the curve.
"""

from __future__ import annotations

from dataclasses import dataclass

import sympy as sp

from derive.asymptotics.equal_weights import PULL, REPULSION
from derive.asymptotics.transverse_growth import MEAN, SymmetricPath
from derive.objects.expansion import Expansion
from derive.objects.notation import tex
from derive.objects.short_repr import short_repr
from derive.objects.system import BETA

SLOWNESS = sp.Symbol("epsilon", positive=True)
"""The slowness 1/t0 of the schedule."""

SWEEP = sp.Symbol("B'", real=True)
"""dβ/d(t/t0), so that dβ/dt = SLOWNESS · SWEEP."""

EQUILIBRIUM = sp.Symbol("m_0", real=True)
"""m_0(β), the overlap in equilibrium at the present temperature."""


@dataclass(frozen=True)
class QuasiStatic:
    """The equilibria with 0 < |m| < 1 on b = 0, as functions of m (`MEAN`), and the expansion about them.

    Attributes
    ----------
    similarity : sympy.Expr
        s_0(m).
    beta : sympy.Expr
        The β at which m is in equilibrium.
    growth : sympy.Expr
        λ, the growth rate of b on the curve.
    jacobian : sympy.ImmutableMatrix
        J on the curve, shape (2, 2).
    correction : tuple of sympy.Expr
        y_1, the corrections of m and of s.
    expansions : tuple of Expansion
        The expansions of m(t) and s(t), in `EQUILIBRIUM`.
    """

    similarity: sp.Expr
    beta: sp.Expr
    growth: sp.Expr
    jacobian: sp.ImmutableMatrix
    correction: tuple[sp.Expr, sp.Expr]
    expansions: tuple[Expansion, ...]

    __repr__ = short_repr

    def latex(self) -> dict[str, str]:
        """The LaTeX of each result by its name."""
        path = rf"s_0 = {tex(self.similarity)},\quad \beta = {tex(self.beta)}"
        growth, jacobian = rf"\lambda = {tex(self.growth)}", f"J = {tex(self.jacobian)}"
        return {
            "quasi-static path": path,
            "growth on it": growth,
            "its Jacobian": jacobian,
            **{e.name: e.latex() for e in self.expansions},
        }


def quasi_static(path: SymmetricPath) -> QuasiStatic:
    """Solve for the equilibria, linearise about them, and expand in 1/t0.

    An equilibrium is stable where the eigenvalues of J are negative; only there does a slow schedule follow the curve.
    """
    s, (dm, ds) = path.s, path.velocity
    (holding,) = sp.solve(sp.cancel(ds / (1 - s)), BETA)
    (similarity,) = sp.solve(sp.numer(sp.cancel(dm.subs(BETA, holding) / REPULSION(s))), s)
    jacobian = sp.Matrix([dm, ds]).jacobian([MEAN, s]).subs(BETA, holding)
    # On the curve of equilibria every quantity is a rational function of F, F', G and G', written as plain symbols.
    curve = sp.diff(holding, MEAN) + sp.diff(similarity, MEAN) * sp.diff(holding, s)
    functions = (sp.diff(PULL(MEAN), MEAN), PULL(MEAN), sp.diff(REPULSION(s), s), REPULSION(s))
    plain = dict(zip(functions, sp.symbols("F' F G' G", cls=sp.Dummy), strict=True))
    put_back = {dummy: function.subs(s, similarity) for function, dummy in plain.items()}

    def on_curve(expression: sp.Expr) -> sp.Expr:
        return sp.factor(expression.xreplace(plain).subs(s, similarity))

    rational = jacobian.applyfunc(on_curve)
    growth = on_curve(path.transverse.subs(BETA, holding)).xreplace(put_back)
    tangent = sp.Matrix([1, sp.diff(similarity, MEAN)]) / on_curve(curve)
    correction = (rational.adjugate() * tangent / rational.det()).applyfunc(sp.factor).xreplace(put_back)
    expansions = tuple(
        Expansion(
            f"{name} under a slow schedule",
            f"{name}(t)",
            sp.Function(name)(SLOWNESS),
            (start + SLOWNESS * SWEEP * first).subs(MEAN, EQUILIBRIUM),
            SLOWNESS,
            sp.S.Zero,
            sp.Integer(2),
            "w_1 = w_2, b = 0, J has negative eigenvalues, beta(t) = B(t/t0) smooth; after the start's transient",
        )
        for name, start, first in zip(("m", "s"), (MEAN, similarity), correction, strict=True)
    )
    exact_jacobian = sp.ImmutableMatrix(rational.xreplace(put_back))
    return QuasiStatic(
        similarity, on_curve(holding).xreplace(put_back), growth, exact_jacobian, tuple(correction), expansions
    )
