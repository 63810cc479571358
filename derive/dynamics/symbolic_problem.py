"""From a problem's numbers to the symbols that the derivation works with, and from symbols back to numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from fractions import Fraction

import mpmath
import sympy as sp

from derive.dynamics.derivation import Derivation, derive
from derive.dynamics.general import GeneralDerivation, general_derivation
from derive.objects.mixtures import DIMENSION, Mixture
from derive.objects.notation import indexed_name, indices_apart
from derive.objects.objective import Setting, along_geometric_path, tempered_reverse_kl, with_forward_kl
from derive.objects.parameters import PARAMETERS, Parameter
from derive.objects.short_repr import short_repr
from derive.objects.system import OdeSystem
from derive.objects.vectors import Inner, Vector, VectorSymbol
from derive.problem.arguments import checked
from derive.problem.objective_scope import require_tempered_reverse_kl
from derive.problem.specification import COVARIANCES, BadInput, Problem, Proposal, Target
from derive.rules.flow import gram_symbols
from derive.rules.geometry import RADIUS, Geometry, R, antipodal, in_span, overlaps_of, unrelated
from derive.rules.reduction import holds_in, least_outside
from derive.rules.span_reduction import span_law

REFERENCE_SCALE = sp.Symbol("sigma_ref", positive=True)
FORWARD_SHARE = sp.Symbol("v", positive=True)

PROPOSAL_NAMES = ("q", r"\rho", "a", "a", "")
TARGET_NAMES = (r"p^{\star}", r"\rho^{\star}", "nu", r"\nu", "_star")
"""The density, the responsibilities, the means in plain text and in LaTeX, and the star of the other symbols."""

DEPENDENT = 1e-12
"""The distance from the span of other modes, relative to a mode's own length, up to which the mode is dependent. The
distance is relative so that modes of very unequal lengths are told apart."""
WELL_APART = 1e-2
"""The relative distance from the span of other modes above which a mode is well independent."""


@dataclass(frozen=True)
class SymbolicProblem:
    """A problem in the symbols that the derivation works with; `symbolise` makes it.

    Attributes
    ----------
    setting, geometry : Setting, Geometry
        The derivation's input: the two mixtures with the objective, and what is known of their vectors.
    values : mapping of sympy.Symbol to float
        The number in this problem of every symbol that may be a parameter of the system.
    independent_modes : tuple of int
        The modes, counted from 0, whose overlaps are states. The other modes are combinations of these.
    """

    setting: Setting
    geometry: Geometry
    values: Mapping[sp.Symbol, float]
    independent_modes: tuple[int, ...]

    __repr__ = short_repr

    def derived(self, label: str) -> Derivation:
        """The derivation of this problem's summary-statistics system, whose carrier is called `label`."""
        return derive(self.setting, self.geometry, label)

    def parameter_values(self, system: OdeSystem) -> dict[sp.Symbol, float]:
        """The numbers of the system's parameters in this problem, in the system's order."""
        return {parameter: self.values[parameter] for parameter in system.parameters}


def symbolise(problem: Problem, large_dimension: bool = False) -> SymbolicProblem:
    """The problem in symbols: the parameters of its mixtures, its lengths and Gram entries.

    A scale that all components of a mixture share is one symbol, or the number one. Among unequal scales each value has
    a symbol, and among learned scales each component. Two opposite modes become an antipodal pair at distance R from
    the origin. If all proposal means lie at this distance, their radius is R, too; otherwise it is r, or r_1, r_2, …
    for unequal radii. Among modes in any other position, a largest independent subset keeps its Gram entries, and the
    other modes are combinations of the subset.

    large_dimension: take the limit d → ∞ in averages that depend on d because of unequal scales. Raises BadInput for a
    problem that the derivation does not cover.
    """
    learn = problem.flow.learn
    if large_dimension and "scales" in learn:
        raise BadInput(
            "flow.learn", "learned scales have no limit of many dimensions", "leave out --large-dimension or the scales"
        )
    if problem.has_covariances:
        return _with_covariances(problem, large_dimension)
    values: dict[sp.Symbol, float] = {DIMENSION: float(problem.space.dimension)}
    proposal = _mixture(PROPOSAL_NAMES, problem.proposal, values, learn)
    target = _mixture(TARGET_NAMES, problem.target, values)
    setting = _setting(problem, tempered_reverse_kl(proposal, target, problem.flow.manifold, learn), values)
    radii = _radius_symbols(problem, values)
    means = problem.target.means
    if len(means) == 2 and any(means[0]) and all(x == -y for x, y in zip(*means, strict=True)):
        geometry = antipodal(setting, radii)
        independent: tuple[int, ...] = (0,)
    else:
        independent, images = _independent_modes(means, target.means, values, setting.apart)
        geometry = unrelated(setting, radii, images)
        names = gram_symbols(target.means, proposal.means)
        for k in independent:
            for l in independent:
                if k <= l:
                    gram = math.fsum(x * y for x, y in zip(means[k], means[l], strict=True))
                    values[names[Inner(target.means[k], target.means[l])]] = gram
    geometry = replace(geometry, dimension=problem.space.dimension, large_dimension=large_dimension)
    _require_motion(problem, setting, geometry)
    return SymbolicProblem(setting, geometry, values, independent)


def _with_covariances(problem: Problem, large_dimension: bool) -> SymbolicProblem:
    """The problem in symbols where covariances are given or learned: coordinates in a span, and vectors outside it.

    A coordinate of a mode or an entry of a given covariance that is zero stays zero; all others are symbols.
    """
    require_tempered_reverse_kl(problem, "covariances are covered for", "leave out the covariances or the objective")
    if large_dimension:
        raise BadInput(
            "space.dimension", "with covariances there is no limit of many dimensions", "leave out --large-dimension"
        )
    learn, d, r = problem.flow.learn, problem.space.dimension, problem.coordinates
    values: dict[sp.Symbol, float] = {DIMENSION: float(d)}
    target = _in_span(_mixture(TARGET_NAMES, problem.target, values), problem, values)
    proposal = _in_span(_mixture(PROPOSAL_NAMES, problem.proposal, values, learn), problem, values)
    setting = tempered_reverse_kl(proposal, target, problem.flow.manifold, learn, problem.flow.metric)
    if 0 < d - r < least_outside(setting):
        raise BadInput(
            "space.dimension",
            f"unequal scales outside the covariances' {r} coordinates need more than {r + proposal.size} dimensions",
            f"give at least {r + proposal.size + 1}, or equal scales",
        )
    symbols = _radii_in_span(problem)
    values.update(zip(symbols, problem.proposal.radii, strict=True))
    return SymbolicProblem(setting, in_span(setting, symbols, d), values, ())


def _radii_in_span(problem: Problem) -> list[sp.Symbol]:
    """The symbols of the lengths of whole means: R, or R_1, R_2, … for different ones."""
    radii = problem.proposal.radii
    if len(set(radii)) == 1:
        return [R] * len(radii)
    return [sp.Symbol(f"R_{i}", positive=True) for i in range(1, len(radii) + 1)]


def _in_span(mixture: Mixture, problem: Problem, values: dict[sp.Symbol, float]) -> Mixture:
    """The mixture with its components' laws in the span; the numbers of their symbols join `values`."""
    of_target = mixture.means[0].name.startswith("nu")
    star = "_star" if of_target else ""
    given = problem.target.covariances if of_target else problem.proposal.covariances
    learned = not of_target and COVARIANCES in problem.flow.learn
    numbers = problem.mode_covariances if of_target else problem.component_covariances
    places = range(problem.coordinates)
    apart = indices_apart(len(problem.target.weights), len(problem.proposal.weights), len(places))

    def symbol(head: str, j: int, *index: int) -> sp.Symbol:
        groups = ((j + 1,), index) if len(index) > 1 else ((j + 1, *index),)
        return sp.Symbol(indexed_name(head + star, *groups, apart=apart), real=True)

    laws = []
    for j, scale in enumerate(mixture.scales):
        mean: list[sp.Expr] = [symbol("X", j, n + 1) for n in places]
        if of_target:
            values.update(zip(mean, problem.modes[j], strict=True))
            mean = [s if values[s] != 0 else sp.S.Zero for s in mean]
        first = j if learned else numbers.index(numbers[j])  # the components with one covariance share its symbols
        matrix = [[scale**2 if n == m else sp.S.Zero for m in places] for n in places]
        if given or learned:
            entries = [[symbol("Sigma", first, *sorted((n + 1, m + 1))) for m in places] for n in places]
            values.update((entries[n][m], numbers[j][n][m]) for n in places for m in places)
            matrix = [[e if learned or values[e] != 0 else sp.S.Zero for e in row] for row in entries]
        laws.append(span_law(mean, matrix, star, first + 1, apart))
    density, posterior, weights, means, scales = mixture.args[:5]
    if problem.space.dimension == problem.coordinates:  # nothing lies outside, and scales play no part
        scales = [sp.S.One] * mixture.size
    return Mixture(density, posterior, weights, means, scales, laws)


def _setting(problem: Problem, setting: Setting, values: dict[sp.Symbol, float]) -> Setting:
    """The setting with the problem's own path and objective."""
    if problem.target.reference_scale is not None:
        values[REFERENCE_SCALE] = problem.target.reference_scale
        setting = along_geometric_path(setting, REFERENCE_SCALE)
    if problem.objective.kind == "forward-kl":
        return with_forward_kl(setting, sp.S.One)
    if problem.objective.kind == "mixed":
        values[FORWARD_SHARE] = problem.objective.forward_share
        return with_forward_kl(setting, FORWARD_SHARE)
    return setting


def _mixture(
    names: tuple[str, ...], given: Proposal | Target, values: dict[sp.Symbol, float], learn: Sequence[str] = ()
) -> Mixture:
    density, posterior, letter, letter_tex, star = names
    vectors = [VectorSymbol(f"{letter}_{j}", f"{letter_tex}_{{{j}}}") for j in range(1, len(given.weights) + 1)]
    symbols: dict[str, list[sp.Expr]] = {}
    for parameter in PARAMETERS:
        numbers = getattr(given, parameter.name)
        found = _symbols(parameter, parameter.letter + star, numbers, parameter.name in learn)
        values.update((symbol, x) for symbol, x in zip(found, numbers, strict=True) if symbol != 1)
        symbols[parameter.name] = found
    return Mixture(sp.Symbol(density), sp.Symbol(posterior), means=vectors, **symbols)


def _symbols(parameter: Parameter, head: str, numbers: Sequence[float], learned: bool) -> list[sp.Expr]:
    """The symbols of a mixture's numbers: one each, or for a shared parameter one for each value."""
    if not parameter.shared or learned:
        return [sp.Symbol(f"{head}_{j}", positive=True) for j in range(1, len(numbers) + 1)]
    if len(set(numbers)) > 1:
        return [sp.Symbol(f"{head}_{numbers.index(value) + 1}", positive=True) for value in numbers]
    return [sp.S.One if numbers[0] == 1 else sp.Symbol(head, positive=True)] * len(numbers)


def _radius_symbols(problem: Problem, values: dict[sp.Symbol, float]) -> list[sp.Symbol]:
    """One symbol for the radius of each mean.

    The symbol is R where all means lie on the sphere of an antipodal pair of modes. Otherwise it is r for equal radii,
    and r_1, r_2, … for different ones.
    """
    means, radii = problem.target.means, problem.proposal.radii
    if len(means) == 2 and any(means[0]) and all(x == -y for x, y in zip(*means, strict=True)):
        distance = math.hypot(*means[0])
        values[R] = distance
        if all(math.isclose(radius, distance, rel_tol=1e-12) for radius in radii):
            return [R] * len(radii)
    if len(set(radii)) == 1:
        values[RADIUS] = radii[0]
        return [RADIUS] * len(radii)
    symbols = [sp.Symbol(f"r_{i}", positive=True) for i in range(1, len(radii) + 1)]
    values.update(zip(symbols, radii, strict=True))
    return symbols


def _independent_modes(
    means: Sequence[Sequence[float]], vectors: Sequence[VectorSymbol], values: dict[sp.Symbol, float], apart: bool
) -> tuple[tuple[int, ...], list[tuple[VectorSymbol, Vector]]]:
    """The indices of a largest independent subset of the modes, and every other mode as a combination of the subset.

    The modes are tried in order. A mode within DEPENDENT of the span of the modes kept so far is dependent, and so is a
    mode at the origin. A mode within WELL_APART of the span is kept only if the well independent modes do not span the
    space, since a combination of nearly parallel vectors has huge coefficients. A coefficient is a rational number of
    small denominator where that number gives the mode to the accuracy DEPENDENT; any other coefficient is a parameter
    c_kl.
    """
    lengths = [math.hypot(*row) for row in means]
    kept: list[int] = []
    directions: list[list[mpmath.mpf]] = []
    # Each direction may lose as many digits as a factor 1/DEPENDENT takes.
    with mpmath.workdps(60 + 24 * len(means)):
        for off in (WELL_APART, DEPENDENT):
            for k in (k for k in range(len(means)) if k not in kept):
                rest = [mpmath.mpf(x) for x in means[k]]
                for u in directions:
                    along = mpmath.fdot(rest, u)
                    rest = [x - along * y for x, y in zip(rest, u, strict=True)]
                distance = mpmath.norm(rest)
                if distance > off * lengths[k]:
                    kept.append(k)
                    directions.append([x / distance for x in rest])
    kept.sort()
    images: list[tuple[VectorSymbol, Vector]] = []
    for k in (k for k in range(len(means)) if k not in kept):
        terms: dict[VectorSymbol, sp.Expr] = {}
        for c, j in zip(_least_squares([means[j] for j in kept], means[k]), kept, strict=True):
            simple = Fraction(c).limit_denominator(64)
            if abs(c - simple) * lengths[j] <= DEPENDENT * lengths[k]:
                terms[vectors[j]] = sp.Rational(simple.numerator, simple.denominator)
            else:
                symbol = sp.Symbol(indexed_name("c", (k + 1, j + 1), apart=apart), real=True)
                values[symbol] = c
                terms[vectors[j]] = symbol
        images.append((vectors[k], Vector(terms)))
    return tuple(kept), images


def _least_squares(columns: Sequence[Sequence[float]], wanted: Sequence[float]) -> list[float]:
    """The coefficients of the combination of the independent `columns` that is nearest to `wanted`."""
    if not columns:
        return []
    # The normal equations square the condition number, to which each column may contribute a factor 1/DEPENDENT.
    with mpmath.workdps(60 + 24 * len(columns)):
        lengths = [mpmath.norm(column) for column in columns]
        units = [[x / length for x in column] for column, length in zip(columns, lengths, strict=True)]
        gram = mpmath.matrix([[mpmath.fdot(u, v) for v in units] for u in units])
        solution = mpmath.lu_solve(gram, mpmath.matrix([mpmath.fdot(u, wanted) for u in units]))
        return [float(c / length) for c, length in zip(solution, lengths, strict=True)]


def _require_motion(problem: Problem, setting: Setting, geometry: Geometry) -> None:
    if not overlaps_of(setting, geometry).moving and problem.flow.learn == ("means",):
        raise BadInput(
            "target.means",
            "nothing moves: every mode is at the origin",
            f"give a mode elsewhere, or learn {' or '.join(parameter.name for parameter in PARAMETERS)}",
        )


@checked
def derivation(problem: Problem | None = None) -> GeneralDerivation:
    """Derive the flow of the summary statistics for any numbers of modes and components, in index notation.

    Parameters
    ----------
    problem : Problem, optional
        Its flow and objective; the study's by default. The mixtures' own numbers play no part.

    Returns
    -------
    GeneralDerivation
        The steps from the objective to the closed flow as SymPy objects: sums over bound indices from 1 to the symbols
        `L` (components) and `K` (modes), and entries of families such as w_i, M_in and Q_in. Times and lengths have the
        units of `derive_problem`.

    Raises
    ------
    BadInput
        Where the derivation does not cover the problem.

    References
    ----------
    Soletskyi, Gabrié and Loureiro, arXiv:2410.13300; Fogliani, Loureiro and Gabrié, arXiv:2602.12923; the theory page
    of the documentation.

    Examples
    --------
    >>> general = derivation()
    >>> len(general.steps), general.closed[0].label
    (12, 'dM_in')
    """
    return general_derivation(symbolise(problem or Problem()).setting)


@checked
def derive_problem(problem: Problem, large_dimension: bool = False) -> Derivation:
    """Derive the closed system of ordinary differential equations for a problem's summary statistics.

    Parameters
    ----------
    problem : Problem
        The target, the proposal and the flow. The schedule plays no part: the equations hold for any beta(t).
    large_dimension : bool, default False
        Take the limit d → ∞ in averages that depend on the dimension d because of unequal scales. By default the
        equations are exact in every d.

    Returns
    -------
    Derivation
        The steps from the reverse KL divergence to the closed system, and the system itself: states, parameters and
        right-hand sides in SymPy. Time is the gradient flow's; the overlaps M and Q have the unit of length squared,
        and the bimodal case's m and s are cosines.

    Raises
    ------
    BadInput
        Where the derivation does not cover the problem.

    References
    ----------
    arXiv:2602.12923, and the theory page of the documentation.

    Examples
    --------
    >>> from derive.problem.built_in import BUILT_IN
    >>> derivation = derive_problem(BUILT_IN["one-component"])
    >>> derivation.system.states
    (m_1,)
    >>> derivation.equations()["dm_1"].value
    F_1*beta*w_1*(1 - m_1**2)
    """
    return symbolise(problem, large_dimension).derived(problem.name)


def derive_in_dimension(problem: Problem, dimension: int, manifold: str | None = None) -> Derivation:
    """The derivation for the problem's mixtures in R^dimension, and on another `manifold` if one is given.

    Checks in few dimensions, where the vectors may be dependent, use this derivation. The derivation differs from that
    of `derive_problem` only where the problem's own equations do not hold in R^dimension.
    """
    symbolic = symbolise(problem)
    setting = symbolic.setting if manifold is None else replace(symbolic.setting, manifold=manifold)
    geometry = symbolic.geometry
    if setting.spanned:
        if not holds_in(setting, geometry, dimension) or manifold is not None:
            geometry = in_span(setting, _radii_in_span(problem), dimension)
        return derive(setting, geometry, problem.name)
    if manifold == "euclidean":
        geometry = replace(
            geometry, lengths=tuple((v, r) for v, r in geometry.lengths if v in setting.target.means), cosines=False
        )
    if not holds_in(setting, geometry, dimension):
        geometry = replace(geometry, dimension=dimension)
    return derive(setting, geometry, problem.name)
