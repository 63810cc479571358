"""The check of every step of a derivation: both sides are evaluated at random points and compared to 30 digits."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import mpmath
import sympy as sp

from derive.checks.concrete import Meaning
from derive.checks.coordinate_numbers import DIGITS, GUARD, Point
from derive.checks.points_in_span import point_in_span
from derive.dynamics.derivation import Derivation
from derive.objects.parameters import parameters_of
from derive.objects.step import Equation, Step
from derive.objects.system import BETA
from derive.objects.vectors import VectorSymbol
from derive.rules.reduction import holds_in, least_outside, most_forms

BOUND = mpmath.mpf(10) ** -30
SMALLEST = mpmath.mpf(10) ** -3
"""A difference is relative to the value, or to SMALLEST where the value is smaller.

An average is accurate to 10^−37, and a side adds some tens of averages, so two correct sides differ by at most 10^−32.
"""


@dataclass(frozen=True)
class StepCheck:
    """The result of one step's check.

    Attributes
    ----------
    rule : str
        The step's rule.
    difference : float
        The largest relative difference over points, equations and coordinates. NaN where a difference is not a number,
        and infinite where nothing was compared.
    compared : int
        The number of comparisons: the equations that stand on both sides, times the points.
    passed : bool
        Whether the difference is at most BOUND.
    """

    rule: str
    difference: float
    compared: int
    passed: bool


def check_derivation(
    derivation: Derivation, points: int = 2, dimension: int | None = None, steps: Sequence[Step] | None = None
) -> Iterator[StepCheck]:
    """Yield the check of each step in turn, at `points` random points of R^dimension (default: `check_dimension`).

    The general steps are checked at the setting's own numbers of modes and components. steps: those to check, all of
    them by default.

    A limit d → ∞ is no equality and is left out.
    """
    place = check_dimension(derivation) if dimension is None else dimension
    meanings = {
        flag: [Meaning(sample_point(derivation, place, seed, flag)) for seed in range(points)] for flag in (False, True)
    }
    for step in derivation.written_out if steps is None else steps:
        if not step.limit:
            yield check_step(step, meanings[step.in_geometry])


def check_dimension(derivation: Derivation) -> int:
    """Return the dimension in which a derivation is checked.

    The dimension is 2 if all scales are equal. With unequal scales, whose averages cost most, it is the number of
    linear forms in a mixture's logits, but on a sphere at least 2, because means on a sphere in one dimension cannot
    move. If the equations hold only in the problem's own dimension, that dimension is returned. Where covariances
    stand in a span, it is the dimension outside the span: 1 if all scales are equal.
    """
    setting, geometry = derivation.setting, derivation.geometry
    if setting.spanned:
        return min((geometry.dimension or 0) - setting.coordinates, least_outside(setting))
    forms = most_forms(setting, geometry)
    if geometry.dimension is not None and not holds_in(setting, geometry, geometry.dimension + 1):
        return geometry.dimension
    return max(forms, 2) if setting.manifold == "sphere" else forms or 2


def check_step(step: Step, meanings: Sequence[Meaning]) -> StepCheck:
    """Compare the two sides of a step at the given points.

    A step whose sides share no label cannot be checked and is an error.
    """
    before = {e.label: e for e in step.before}
    shared = [e.label for e in step.after if e.label in before]
    if not shared:
        raise ValueError(f"{step.rule}: no equation stands on both sides")
    differences = []
    for meaning in meanings:
        for label in shared:
            old, new = (_value(side, label, meaning) for side in (step.before, step.after))
            scale = max([SMALLEST, *(abs(x) for x in old)])
            differences += [abs(a - b) / scale for a, b in zip(old, new, strict=True)]
    # `max` alone would skip a NaN.
    worst = max(differences, key=lambda x: (mpmath.isnan(x), x), default=mpmath.inf)
    return StepCheck(step.rule, float(worst), len(shared) * len(meanings), bool(worst <= BOUND))


def _value(side: tuple[Equation, ...], label: str, meaning: Meaning) -> tuple:
    definitions = {e.symbol: e.value for e in side if e.symbol is not None}
    (equation,) = (e for e in side if e.label == label)
    return meaning.evaluate(equation.value, definitions)


def sample_point(
    derivation: Derivation,
    dimension: int,
    seed: int,
    in_geometry: bool,
    lengths: tuple[float, float] = (0.05, 0.1),
    scales: tuple[float, float] = (0.998, 1.002),
    fixed: Mapping[sp.Symbol, float] | None = None,
) -> Point:
    """Draw random vectors and parameters; the length of every vector lies between the two given lengths.

    Short vectors and nearly equal scales keep the complex zeros of the densities far from the real nodes, so that 30
    digits are cheap. `scales` is the range of scales that differ within a mixture. `fixed` gives numbers for parameters
    (weights, scales, known lengths) that are not random.
    """
    rng = random.Random(f"{seed}, {dimension}, {in_geometry}")
    setting, geometry = derivation.setting, derivation.geometry
    with mpmath.workdps(DIGITS + GUARD):

        def uniform(low: float, high: float) -> mpmath.mpf:
            return mpmath.mpf(low) + (mpmath.mpf(high) - low) * mpmath.mpf(rng.getrandbits(120)) / 2**120

        def direction() -> list:
            v = [uniform(-1, 1) for _ in range(dimension)]
            return [x / mpmath.norm(v) for x in v]

        scalars: dict[sp.Symbol, mpmath.mpf] = {BETA: uniform(0.2, 0.9)}
        for mixture in (setting.proposal, setting.target):
            shares = [uniform(0.5, 2) for _ in mixture.weights]
            scalars.update({w: s / mpmath.fsum(shares) for w, s in zip(mixture.weights, shares, strict=True)})
            for symbols in parameters_of(mixture).values():
                several = len(set(symbols)) > 1  # averages are expensive only where scales differ
                free = (s for s in dict.fromkeys(symbols) if s.is_Symbol and s not in scalars)
                scalars.update({s: uniform(*(scales if several else (0.8, 1.2))) for s in free})
        scalars.update({s: uniform(0.6, 0.9) for s in setting.parameters})
        if setting.spanned:
            return point_in_span(derivation, dimension, in_geometry, scalars, uniform, lengths, scales, fixed or {})
        for length in dict.fromkeys(length for _, length in geometry.lengths):
            scalars[length] = uniform(*lengths)
        for coefficient in sorted(
            set().union(*(c.free_symbols for _, image in geometry.images for _, c in image)), key=str
        ):
            scalars[coefficient] = uniform(-1, 1)
        scalars.update({s: mpmath.mpf(value) for s, value in (fixed or {}).items() if s in scalars})
        known_lengths = dict(geometry.lengths) if in_geometry else {}
        vectors: dict[VectorSymbol, tuple] = {}
        for v in (*setting.target.means, *setting.proposal.means):
            size = scalars[known_lengths[v]] if v in known_lengths else uniform(*lengths)
            vectors[v] = tuple(size * x for x in direction())
        if in_geometry:
            for v, image in geometry.images:
                factors = [(vectors[u], scalars[c] if c in scalars else mpmath.mpf(c.p) / c.q) for u, c in image]
                vectors[v] = tuple(mpmath.fsum(factor * u[n] for u, factor in factors) for n in range(dimension))
        for inner, name in derivation.overlaps.names:
            u, v = (vectors[a] for a in inner.args)
            scalars[name] = mpmath.fdot(u, v)
        for state, inner, factor in derivation.overlaps.moving:
            unit = sp.lambdify(sorted(factor.free_symbols, key=str), factor, "mpmath")
            scalars[state] = scalars[dict(derivation.overlaps.names)[inner]] / unit(
                *(scalars[s] for s in sorted(factor.free_symbols, key=str))
            )
    return Point(dimension, vectors, scalars)
