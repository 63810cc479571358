"""Linear stability of the bimodal system's symmetric states, from its derived forces.

Where both means lie on the line of the modes, the overlaps are poor coordinates: the states are corners of the domain
of Gram matrices. There the analysis moves the means, a_i = R(±√(1 − |x_i|²) e + x_i) with x_i orthogonal to e.
Overlaps, and with them forces, change only in second order, so that

    dx_i/dt = Σ_{j≠i} f_ij x_j − λ_i x_i,    λ_i = a_i·(f_i ν + Σ_{j≠i} f_ij a_j)/R²,

in each of the d − 1 directions of x alike. Where the means are antipodal and orthogonal to the modes, the analysis
moves them by one angle each in the plane that they span with the modes, and by the rule above across this plane.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import sympy as sp

from derive.asymptotics.equal_weights import is_bimodal
from derive.dynamics.derivation import Derivation
from derive.dynamics.forces import force_system
from derive.objects.expectation import Expectation
from derive.objects.notation import tex
from derive.objects.short_repr import short_repr
from derive.objects.system import BETA, OdeSystem

PULL = sp.symbols("p_1 p_2", positive=True)
"""p_i, how strongly mean i is held at its mode: the average F_i there times the sign of m_i."""
EXCHANGE = sp.Symbol("g", positive=True)
"""g, the repulsion w_1 E_1[ρ_2] at the state."""


@dataclass(frozen=True)
class Linearisation:
    """The flow's linearisation at one state, in each direction that is orthogonal to the modes.

    Attributes
    ----------
    name : str
        The state's name.
    state : tuple
        (overlap, value) pairs.
    matrix : ImmutableMatrix
        Shape (2, 2), in beta, the weights, `PULL` and `EXCHANGE`.
    averages : tuple
        (symbol, average) pairs: what `PULL` and `EXCHANGE` stand for at the state, in the system's parameters. The
        derivation shows that they are positive, and the pulls below one.
    conditions : tuple of Expr
        Expressions that must be positive for the pulls to be positive.
    """

    name: str
    state: tuple[tuple[sp.Symbol, sp.Expr], ...]
    matrix: sp.ImmutableMatrix
    averages: tuple[tuple[sp.Symbol, sp.Expr], ...]
    conditions: tuple[sp.Expr, ...]

    __repr__ = short_repr

    @property
    def determinant(self) -> sp.Expr:
        """The determinant, factored with w_1 + w_2 = 1."""
        return _unit_sum(self.matrix.det(), self.matrix.free_symbols)

    @property
    def trace(self) -> sp.Expr:
        """The trace, factored."""
        return sp.factor(self.matrix.trace())

    @property
    def is_saddle(self) -> bool:
        """Whether det < 0, one rate of each sign, is shown for every 0 < beta <= 1 and all pulls between 0 and 1."""
        return bool(_anywhere(self.determinant).is_negative)

    @property
    def is_stable(self) -> bool:
        """Whether trace < 0 < det, two negative rates, is shown for 0 < beta <= 1 and all pulls between 0 and 1."""
        return bool(_anywhere(self.trace).is_negative and _anywhere(self.determinant).is_positive)

    @property
    def conclusion(self) -> str:
        """The signs of the spectrum in words, as far as they are shown; scales other than one can leave them open."""
        if not (self.is_saddle or self.is_stable):
            return "undecided: the signs depend on parameters"
        where = " and ".join(f"{c} > 0" for c in self.conditions)
        return f"{'a saddle' if self.is_saddle else 'linearly stable'} for every 0 < beta <= 1 where {where}"

    def eigenvalues(self) -> tuple[sp.Expr, sp.Expr]:
        """Return the two eigenvalues, the larger one first.

        The matrix is symmetric, so the radicand is a sum of squares.
        """
        half = self.trace / 2
        root = sp.sqrt(sp.factor((self.matrix[0, 0] - self.matrix[1, 1]) ** 2 / 4 + self.matrix[0, 1] ** 2))
        return half + root, half - root

    def at(self, values: Mapping[sp.Symbol, sp.Expr]) -> sp.ImmutableMatrix:
        """Return the matrix with the averages written out, at numbers for the system's parameters and beta.

        `evalf` evaluates the result to any precision.
        """
        return sp.ImmutableMatrix(self.matrix.xreplace(dict(self.averages)).xreplace(dict(values)))

    def latex(self) -> str:
        """Return the matrix, its determinant and its averages."""
        where = ", ".join(f"{tex(s)} = {tex(v)}" for s, v in self.state)
        means = r",\quad ".join(f"{tex(s)} = {tex(v)}" for s, v in self.averages)
        return rf"J({where}) = {tex(self.matrix)},\quad \det J = {tex(self.determinant)},\quad {means}"


@dataclass(frozen=True)
class AntipodalPair:
    """The pair m_1 = m_2 = 0, s = −1 between modes of equal weight, with components of equal weight.

    Attributes
    ----------
    together : Expr
        Growth rate of m_1 − m_2: the pair turns towards the modes.
    apart : Expr
        Growth rate of m_1 + m_2: the pair is torn towards one mode.
    across : Expr
        Growth rate of motions orthogonal to the plane of pair and modes, apart from a turn of the pair as a whole.
    critical_beta : Expr
        The β at which `apart` changes sign. At colder temperatures the target tears the pair apart.
    """

    together: sp.Expr
    apart: sp.Expr
    across: sp.Expr
    critical_beta: sp.Expr

    __repr__ = short_repr

    def latex(self) -> str:
        """Return the rates and the critical β."""
        rates = (
            rf"\lambda_- = {tex(self.together)},\quad \lambda_+ = {tex(self.apart)},\quad "
            rf"\lambda_\perp = {tex(self.across)}"
        )
        return rf"{rates},\quad \beta_c = {tex(self.critical_beta)}"


@dataclass(frozen=True)
class BimodalStability:
    """The spectra at the bimodal system's symmetric states.

    Attributes
    ----------
    collapsed : Linearisation
        Both means at the first mode.
    mixed : Linearisation
        Both means at the second mode.
    separated : Linearisation
        One mean at each mode.
    pair : AntipodalPair
        Both means between the modes.
    """

    collapsed: Linearisation
    mixed: Linearisation
    separated: Linearisation
    pair: AntipodalPair

    __repr__ = short_repr

    def _repr_latex_(self) -> str:
        return "\n\n".join(f"$${formula}$$" for formula in self.latex().values())

    def latex(self) -> Mapping[str, str]:
        """Return each result by name."""
        lines = {part.name: part.latex() for part in (self.collapsed, self.mixed, self.separated)}
        return {**lines, "antipodal pair": self.pair.latex()}


def bimodal_stability(derivation: Derivation) -> BimodalStability:
    """Derive the spectra at the symmetric states.

    Raises ValueError unless the derivation is that of the bimodal case with means on the modes' sphere.
    """
    forces = force_system(derivation)
    if not is_bimodal(forces):
        raise ValueError(
            "linear stability is derived for two antipodal modes and two isotropic components of equal scales, whose "
            "means alone move on the modes' sphere"
        )
    return BimodalStability(
        _corner(forces, "collapsed", (1, 1)),
        _corner(forces, "mixed", (-1, -1)),
        _corner(forces, "separated", (1, -1)),
        _antipodal_pair(forces, (*derivation.setting.proposal.weights, *derivation.setting.target.weights)),
    )


def _anywhere(expression: sp.Expr) -> sp.Expr:
    """Write beta and the pulls by free positive numbers.

    beta = 1/(1 + u) with u ≥ 0, and p_i = 1/(1 + v_i) with v_i > 0.
    """
    free = {p: 1 / (1 + sp.Dummy(positive=True)) for p in PULL}
    return sp.factor(expression.xreplace({**free, BETA: 1 / (1 + sp.Dummy(nonnegative=True))}))


def pull_condition(pull: sp.Expr) -> sp.Expr:
    """Return the expression that must be positive for a pull E[tanh y] to be positive.

    This expression is the mean A of y = A + x, where the law of x is symmetric around 0. The pull has the sign of A,
    since

        E tanh(A + x) = ½ E[tanh(A + x) + tanh(A − x)],

    where the sum of the two tanh is sinh 2A times a positive function. Together with `unit_interval_gap` this gives
    0 < p < 1. Raises ArithmeticError where the sign of the sum or the gap is not shown.
    """
    sign, average = pull.as_coeff_Mul()
    unit_interval_gap(average)
    A, x = sp.symbols("A x", real=True)
    pair, factor = sp.tanh(A + x) + sp.tanh(A - x), sp.cosh(A + x) * sp.cosh(A - x)
    if sp.simplify((pair * factor - sp.sinh(2 * A)).rewrite(sp.exp)) != 0 or not _is_shown_positive(factor):
        raise ArithmeticError("the two halves of the average did not combine")
    (z,) = average.variables
    mean, slope = (sp.expand(average.integrand.args[0]).coeff(z, n) for n in (0, 1))
    if sign not in (1, -1) or sp.expand(average.integrand.args[0] - mean - slope * z) != 0:
        raise ArithmeticError("the average is not one of ± a Gaussian variable's hyperbolic tangent")
    return sp.factor_terms(sign * mean)


def _is_shown_positive(expression: sp.Expr) -> bool:
    """Return whether SymPy shows the expression to be positive; an average of a positive function is positive."""
    averages = expression.atoms(Expectation)
    positive = {a: sp.Dummy(positive=True) for a in averages if _is_shown_positive(a.integrand)}
    plain = expression.xreplace(positive)
    return any(form.rewrite(sp.exp).is_positive for form in (plain, sp.simplify(plain)))


def unit_interval_gap(average: Expectation) -> Expectation:
    """Return 1 − E[tanh y] as the average 2 E[1/(e^{2y} + 1)] of a positive function, which proves F < 1.

    The same at −y proves −F < 1.
    """
    if not isinstance(average, Expectation) or not isinstance(average.integrand, sp.tanh):
        raise ValueError("the average is not one of a hyperbolic tangent")
    tangent = average.integrand
    y = sp.Symbol("y", real=True)
    gap = sp.simplify((1 - sp.tanh(y)).rewrite(sp.exp))
    if not _is_shown_positive(gap):
        raise ArithmeticError("1 - tanh y did not become positive")
    return Expectation(gap.xreplace({y: tangent.args[0]}), *average.variables)


def _corner(forces: OdeSystem, name: str, signs: tuple[int, int]) -> Linearisation:
    """Linearise where both means lie on the line of the modes, on the sides `signs`."""
    at = dict(zip(forces.states, (*map(sp.Integer, signs), sp.Integer(signs[0] * signs[1])), strict=True))
    named = {s.name: s for s, _ in forces.subexpressions}
    values = {s: v.xreplace(at) for s, v in zip(named.values(), _written_out(forces), strict=True)}
    together = signs[0] == signs[1]
    pulls = (PULL[0], PULL[0]) if together else PULL
    averages = {pulls[i]: signs[i] * values[named[f"F_{i + 1}"]] for i in (0, 1)}
    conditions = tuple(dict.fromkeys(map(pull_condition, averages.values())))
    repulsion = values[named["g"]]
    known = {named[f"F_{i + 1}"]: signs[i] * pulls[i] for i in (0, 1)}
    if together:
        known[named["g"]] = _coincident(repulsion, forces)
    else:
        if not _is_shown_positive(repulsion):
            raise ArithmeticError("the repulsion did not become positive")
        known[named["g"]] = EXCHANGE
        averages[EXCHANGE] = repulsion
    first, second, between = (f.xreplace(at).xreplace(known) for f in forces.rhs)
    side = at[forces.states[2]]
    held = signs[0] * first + side * between, signs[1] * second + side * between
    matrix = sp.ImmutableMatrix([[-held[0], between], [between, -held[1]]]).applyfunc(sp.factor)
    return Linearisation(name, tuple(at.items()), matrix, tuple(averages.items()), conditions)


def _written_out(forces: OdeSystem) -> list[sp.Expr]:
    """Return the named averages in states and parameters alone."""
    known: dict[sp.Symbol, sp.Expr] = {}
    for symbol, value in forces.subexpressions:
        known[symbol] = value.xreplace(known)
    return list(known.values())


def _coincident(repulsion: sp.Expr, forces: OdeSystem) -> sp.Expr:
    """Return g where the components coincide, which contains no average."""
    plain = sp.together(sp.powsimp(sp.expand(repulsion.rewrite(sp.exp), power_exp=True)))
    return _unit_sum(plain, set(forces.parameters))


def _unit_sum(expression: sp.Expr, symbols: set[sp.Symbol]) -> sp.Expr:
    """Factor the expression with w_1 + w_2 = 1."""
    w_1, w_2 = sorted((p for p in symbols if p.name in ("w_1", "w_2")), key=lambda p: p.name)
    return sp.factor(expression).subs(w_1 + w_2, 1)


def _antipodal_pair(forces: OdeSystem, weights: Sequence[sp.Symbol]) -> AntipodalPair:
    """Linearise φ̇_i = −f_i sin φ_i + f_12 sin(φ_j − φ_i).

    φ_i is the angle of mean i from the first mode, in one plane with it.
    """
    m_1, m_2, s = forces.states
    angles = sp.symbols("phi_1 phi_2", real=True)
    there = {angles[0]: sp.pi / 2, angles[1]: -sp.pi / 2}
    equal = dict.fromkeys(weights, sp.S.Half)
    in_angles = {m_1: sp.cos(angles[0]), m_2: sp.cos(angles[1]), s: sp.cos(angles[0] - angles[1])}
    named = dict(zip((symbol for symbol, _ in forces.subexpressions), _written_out(forces), strict=True))
    f_1, f_2, between = (f.xreplace(named).xreplace(equal).xreplace(in_angles) for f in forces.rhs)
    rates = [
        -f_1 * sp.sin(angles[0]) + between * sp.sin(angles[1] - angles[0]),
        -f_2 * sp.sin(angles[1]) + between * sp.sin(angles[0] - angles[1]),
    ]
    slopes = sp.Matrix(2, 2, lambda i, j: sp.diff(rates[i], angles[j]).subs(there))
    if slopes[0, 0] != slopes[1, 1] or slopes[0, 1] != slopes[1, 0]:
        raise ArithmeticError("the two means of the pair are not equivalent")
    together, apart = slopes[0, 0] + slopes[0, 1], slopes[0, 0] - slopes[0, 1]
    repulsion = between.subs(there)
    # Across the plane λ_i = −f_12 for both means: their common turn has rate zero, and their opposite turn has 2 f_12.
    if not _is_shown_positive(sp.diff(apart, BETA)):
        raise ArithmeticError("a colder target did not come out as one that tears the pair apart more strongly")
    (critical,) = sp.solve(apart, BETA)
    return AntipodalPair(together, apart, 2 * repulsion, critical)
